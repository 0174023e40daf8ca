"""One tidy frame: a row per run. Every table and figure reads only what is built here.

>>> from pipeline import results
>>> runs = results.load("demo")  # without a name: the study of config.yaml
>>> runs.to_csv("runs.csv"), runs.to_parquet("runs.parquet")
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.artifacts import keys
from pipeline.artifacts.keys import Curve, Run
from pipeline.artifacts.record import facts_of, recorded, verify
from pipeline.artifacts.store import read_csv, read_json, read_tensors
from pipeline.diversity import diversity as diversity_of
from pipeline.errors import UserError
from pipeline.runs.mask import target_rounds
from pipeline.study.config import Config, read
from pipeline.study.experiment import Experiment
from pipeline.study.graph import Graph
from pipeline.study.outputs import (
    Diversity,
    ImpBarriers,
    Interpolation,
    LossPlane,
    MaskSparsity,
    MatchingQuality,
    Output,
    TrainingCurves,
)  # fmt: skip

COLUMNS = [
    "kind", "experiment", "protocol", "dataset", "model", "width", "method", "sparsity",
    "sparsity_exact", "rewind_epoch", "matching_epoch", "a", "b", "replicate", "status",
    "test_accuracy", "test_top5", "test_loss", "train_loss", "train_accuracy", "epochs", "seconds",
    "device", "path",
]  # fmt: skip
_MEASURED = (
    "status", "test_accuracy", "test_top5", "test_loss", "train_loss", "train_accuracy", "epochs",
)  # fmt: skip
_PLACE = ["experiment", "dataset", "model", "width"]
_HISTORY = [
    "learning_rate", "train_loss", "train_accuracy", "test_loss", "test_accuracy",
]  # fmt: skip
_QUALITY = ["size", "dead_a", "dead_b", "matched", "identity", "random"]


def load(
    study: str | None = None, protocol: str | None = None, root: str | Path = "."
) -> pd.DataFrame:
    """All runs that a study declares, one row each; those that are not there have status "missing".

    ``root`` is the folder with ``config.yaml``, which says which study and protocol are meant where
    none is given, and where the results lie. Columns: ``COLUMNS``.
    """
    given = {"study": study, "protocol": protocol}
    config = read(Path(root), {key: value for key, value in given.items() if value is not None})
    config.results = Path(root) / config.results  # as seen from here, such as from a notebook
    return everything(config)


def everything(config: Config) -> pd.DataFrame:
    """The rows of ``load`` for a study that was read already."""
    return Results(config).runs(config.experiments.values())


class Results:
    """Reads what the runs of a study left behind.

    A run whose recorded settings differ from what the study now declares is refused: its number
    would stand under a wrong name.
    """

    def __init__(self, config: Config) -> None:
        self.config, self.graph = config, Graph(config)

    # -- single runs -----------------------------------------------------------------------

    def metrics(self, run: Run) -> dict[str, Any] | None:
        """What a run measured; None if it is not there.

        Raises:
            UserError: damaged, or made with other settings; with the command that mends it.
        """
        path = self.config.results / keys.path(run, "metrics.json")
        if not path.exists():
            return None
        verify(path)
        found: dict[str, Any] = read_json(path)
        if found.get("digest") != self.graph.digest(run):
            raise UserError(
                f"{path}: made with other settings than the study declares now; mend it: "
                f"snakemake -c1 {self.config.results / keys.path(run)}"
            )
        return found

    def provenance(self, run: Run) -> dict[str, Any]:
        """The volatile facts of a run: time, device; empty if it is not there."""
        return facts_of(self.config.results / keys.folder(run))

    def logits(self, run: Run) -> Any:
        """Logits on the test set, float16 [images, classes]; None if the run has none."""
        path = self.config.results / keys.folder(run) / "logits.safetensors"
        found = self.metrics(run)
        if found is None or found.get("status") != "ok":
            return None
        if not path.exists() and not recorded(path):
            raise UserError(f"{path}: not kept; set keep_logits: true in its recipe and run again")
        verify(path, outputs=keys.OUTPUTS[run.stage])
        return read_tensors(path)["logits"]

    def _row(self, run: Run, experiment: Experiment, **labels: Any) -> dict[str, Any]:
        found, record = self.metrics(run), self.provenance(run)
        row: dict[str, Any] = {
            "experiment": experiment.name,
            "protocol": self.config.main.protocol,
            "dataset": experiment.dataset,
            "model": experiment.model,
            "width": experiment.width,
            "replicate": 0,
            "status": "missing",
            "path": keys.path(run),
            "seconds": record.get("train_seconds", record.get("seconds")),
            "device": record.get("device"),
        }
        if found is not None:
            row |= {name: found.get(name) for name in _MEASURED}
            row["sparsity_exact"] = found.get("sparsity")
        return row | labels

    # -- frames ----------------------------------------------------------------------------

    def runs(self, experiments: Iterable[Experiment]) -> pd.DataFrame:
        """Dense, IMP and sparse runs of experiments; columns ``COLUMNS``."""
        rows: list[dict[str, Any]] = []
        for experiment in experiments:
            for run in experiment.dense_runs():
                rows.append(self._row(run, experiment, kind="dense", method="dense", a=run.seed))
            rows += self._imp_rows(experiment)
            for cell in experiment.cells():
                a, b = cell.pair
                rows.append(
                    self._row(
                        cell.run, experiment, kind="sparse", method=cell.method,
                        sparsity=cell.sparsity, rewind_epoch=cell.rewind_epoch,
                        matching_epoch=_early(cell.matching_epoch, experiment), a=a,
                        b=b if cell.run.paired else None, replicate=cell.run.replicate,
                    )
                )  # fmt: skip
        return pd.DataFrame(rows, columns=COLUMNS)

    def _imp_rows(self, experiment: Experiment) -> list[dict[str, Any]]:
        """A row per chain and sparsity: epochs and seconds up to the mask, accuracy of the solution."""
        rows = []
        for seed in dict.fromkeys(a for a, _ in experiment.pairs):
            for sparsity in experiment.sparsities:
                mask = experiment.mask(seed, sparsity)
                solution = experiment.solution(seed, sparsity)
                row = self._row(
                    solution, experiment, kind="imp", method="imp", sparsity=sparsity, a=seed,
                    dataset=experiment.mask_dataset,
                )  # fmt: skip
                epochs, seconds = self._chain(mask, experiment)
                # The row stands for the chain; the accuracy is there where its solution was trained.
                status = row["status"] if row["status"] != "missing" or seconds is None else "ok"
                rows.append(row | {"epochs": epochs, "seconds": seconds, "status": status})
        return rows

    def _chain(self, mask: keys.Mask, experiment: Experiment) -> tuple[int, float | None]:
        rounds = target_rounds(mask.target, experiment.fraction) - 1
        recipe = self.graph.recipe(mask)
        horizon = self.graph.recipe(mask.dense).epochs
        each = recipe.epochs if recipe.style == "finetune" else horizon - recipe.rewind_epoch
        seconds: float | None = 0.0
        per_block = recipe.rounds_per_block
        for number in range(1, -(-rounds // per_block) + 1):
            block = keys.ImpBlock(mask.dense, mask.recipe, number)
            spent = self.provenance(block).get("train_seconds")
            share = min(1.0, (rounds - (number - 1) * per_block) / per_block)
            seconds = None if seconds is None or spent is None else seconds + share * spent
        return rounds * each, seconds

    def matches(self, experiments: Iterable[Experiment]) -> pd.DataFrame:
        """A row per permutation: who, when, seconds, and the quality over all groups."""
        rows = []
        for experiment in experiments:
            epochs: tuple[int | None, ...] = experiment.matching_epochs or (None,)
            for pair in experiment.pairs:
                for epoch in epochs:
                    run = experiment.matching(pair, epoch)
                    found = self.metrics(run) or {}
                    groups = list(found.get("groups", {}).values())
                    units = sum(group["size"] for group in groups) or None
                    row = {
                        "experiment": experiment.name, "dataset": experiment.dataset,
                        "model": experiment.model, "width": experiment.width, "a": pair[0],
                        "b": pair[1], "matching_epoch": _early(epoch, experiment),
                        "seconds": self.provenance(run).get("seconds"),
                        "status": found.get("status", "missing"),
                    }  # fmt: skip
                    for name in ("matched", "identity", "random"):
                        total = sum(group[name] * group["size"] for group in groups)
                        row[name] = total / units if units else None
                    rows.append(row)
        columns = ["experiment", "dataset", "model", "width", "a", "b", "matching_epoch", "seconds",
                   "status", "matched", "identity", "random"]  # fmt: skip
        return pd.DataFrame(rows, columns=columns)

    def curves(self, experiments: Iterable[Experiment]) -> pd.DataFrame:
        """Points of the curves between π(a) and b, and a and b."""
        rows: list[dict[str, Any]] = []
        for experiment in experiments:
            for pair in experiment.pairs:
                run = Curve(experiment.matching(pair), experiment.connectivity)
                found = self.metrics(run)
                if found is None:
                    continue
                for row in self._csv(run, "curve.csv"):
                    start = found["at_initialisation"].get(row["split"], {})
                    rows.append(
                        {
                            "experiment": experiment.name, "dataset": experiment.dataset,
                            "model": experiment.model, "width": experiment.width,
                            "a": pair[0], "b": pair[1], "alpha": float(row["alpha"]),
                            "correction": row["correction"], "split": row["split"],
                            "loss": _number(row["loss"]), "error": _number(row["error"]),
                            "loss_at_init": start.get("loss"), "matched": row["matched"] == "True",
                        }
                    )  # fmt: skip
        columns = ["experiment", "dataset", "model", "width", "a", "b", "alpha", "correction",
                   "split", "loss", "error", "loss_at_init", "matched"]  # fmt: skip
        return pd.DataFrame(rows, columns=columns)

    def barriers(self, experiments: Iterable[Experiment]) -> pd.DataFrame:
        """Barriers of the curves between π(a) and b, and a and b; NaN where a curve is missing."""
        rows: list[dict[str, Any]] = []
        for experiment in experiments:
            line = experiment.line
            for a, b in experiment.pairs:
                run = Curve(experiment.matching((a, b)), experiment.connectivity)
                found = {
                    (row["split"], row["correction"], row["metric"], row["matched"]): row
                    for row in (self.metrics(run) or {}).get("barriers", [])
                }
                for split, at, correction, metric, matched in product(
                    line.splits, ("sup", "half"), line.corrections, ("loss", "error"), (False, True)
                ):
                    row = found.get((split, correction, metric, matched), {})
                    value = row.get("barrier" if at == "sup" else "at_half")
                    rows.append(
                        {
                            "experiment": experiment.name, "dataset": experiment.dataset,
                            "model": experiment.model, "width": experiment.width, "a": a, "b": b,
                            "split": split, "at": at, "correction": correction, "metric": metric,
                            "matched": matched,
                            "value": float("nan") if value is None else float(value),
                        }
                    )  # fmt: skip
        return pd.DataFrame(rows)

    def imp_barriers(self, output: ImpBarriers) -> pd.DataFrame:
        """Barriers along the IMP chains of an output's experiments."""
        rows: list[dict[str, Any]] = []
        for experiment in output.chosen(self.config.experiments):
            style = self.config.recipes.resolve("imp", experiment.imp).style
            for run in output.of(experiment):
                if self.metrics(run) is None:
                    continue
                for row in self._csv(run, "barrier.csv"):
                    rows.append(
                        {
                            "experiment": experiment.name, "style": style, "a": run.dense.seed,
                            "iteration": int(row["iteration"]), "sparsity": float(row["sparsity"]),
                            "correction": row["correction"], "split": row["split"],
                            "loss_barrier": _number(row["loss_barrier"]),
                            "error_barrier": _number(row["error_barrier"]),
                        }
                    )  # fmt: skip
        columns = ["experiment", "style", "a", "iteration", "sparsity", "correction", "split",
                   "loss_barrier", "error_barrier"]  # fmt: skip
        return pd.DataFrame(rows, columns=columns)

    def planes(self, output: LossPlane) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Grid points and the three models of an output's planes."""
        grid: list[dict[str, Any]] = []
        points: list[dict[str, Any]] = []
        for experiment in output.chosen(self.config.experiments):
            for run in output.of(experiment):
                found = self.metrics(run)
                if found is None:
                    continue
                grid += [
                    {"experiment": experiment.name, "x": float(row["x"]), "y": float(row["y"]),
                     "split": row["split"], "error": _number(row["error"]), "loss": _number(row["loss"])}
                    for row in self._csv(run, "plane.csv") if row["correction"] == output.correction
                ]  # fmt: skip
                points += [
                    {"experiment": experiment.name, "name": point["model"], "x": point["x"], "y": point["y"],
                     "split": output.split, "error": point["error"]}
                    for point in found["points"] if point["split"] == output.split
                ]  # fmt: skip
        return (
            pd.DataFrame(grid, columns=["experiment", "x", "y", "split", "error", "loss"]),
            pd.DataFrame(points, columns=["experiment", "name", "x", "y", "split", "error"]),
        )

    def histories(self, output: TrainingCurves) -> pd.DataFrame:
        """A row per epoch of the dense and sparse runs of a figure; epochs count from b's start.

        A run without a history is one row without an epoch.
        """
        rows: list[dict[str, Any]] = []
        for experiment in output.chosen(self.config.experiments):
            begun: dict[Run, tuple[int, dict[str, Any]]] = {
                run: (0, {"method": "dense", "a": run.seed}) for run in experiment.dense_runs()
            }
            for cell in experiment.cells((output.sparsity,), (output.rewind_epoch,)):
                label = {
                    "method": cell.method, "sparsity": cell.sparsity,
                    "rewind_epoch": cell.rewind_epoch, "a": cell.pair[0],
                    "b": cell.pair[1] if cell.run.paired else None,
                    "matching_epoch": _early(cell.matching_epoch, experiment),
                    "replicate": cell.run.replicate,
                }  # fmt: skip
                begun[cell.run] = cell.run.rewind, label
            for run, (start, label) in begun.items():
                found = self.metrics(run)
                row = _place(experiment) | label | {"path": keys.path(run)}
                row["status"] = "missing" if found is None else found["status"]
                lines = [] if found is None else self._csv(run, "history.csv")
                rows += [
                    row | {"epoch": start + int(line["epoch"])}
                    | {name: _number(line[name]) for name in _HISTORY}
                    for line in lines
                ] or [row]  # fmt: skip
        columns = [*_PLACE, "method", "sparsity", "rewind_epoch", "matching_epoch", "a", "b",
                   "replicate", "status", "epoch", *_HISTORY, "path"]  # fmt: skip
        return pd.DataFrame(rows, columns=columns)

    def mask_layers(self, output: MaskSparsity) -> pd.DataFrame:
        """A row per layer of each mask of a figure, in the network's order.

        ``whole`` is the sparsity over all layers. A mask that is not there is one row without a
        layer.
        """
        rows: list[dict[str, Any]] = []
        for experiment in output.chosen(self.config.experiments):
            order = self._layers(experiment)
            for sparsity, mask in output.of(experiment):
                found = self.metrics(mask) or {}
                row = _place(experiment) | {
                    "dataset": experiment.mask_dataset, "sparsity": sparsity, "a": mask.dense.seed,
                    "status": found.get("status", "missing"), "whole": found.get("sparsity"),
                }  # fmt: skip
                layers = found.get("per_layer", {})
                rows += [
                    row | {"position": position, "layer": name, "pruned": layers[name]}
                    for position, name in enumerate(name for name in order if name in layers)
                ] or [row]
        columns = [*_PLACE, "sparsity", "a", "status", "position", "layer", "pruned", "whole"]
        return pd.DataFrame(rows, columns=columns)

    def _layers(self, experiment: Experiment) -> list[str]:
        """Names of the weights that can be pruned, in the network's order."""
        from pipeline import models

        model = models.build(
            self.config.models[experiment.model], width=experiment.width, generator=None,
            **self.config.datasets[experiment.mask_dataset].shape,
        )  # fmt: skip
        return models.prunable_parameters(model, "all")

    def match_groups(self, output: MatchingQuality) -> pd.DataFrame:
        """A row per permutation group of each matching of a figure.

        A matching that is not there, or that measured nothing, is one row without a group.
        """
        rows: list[dict[str, Any]] = []
        for experiment in output.chosen(self.config.experiments):
            similarity = self.config.recipes.resolve("match", experiment.match).similarity
            for (a, b), epoch, match in output.of(experiment):
                found = self.metrics(match) or {}
                row = _place(experiment) | {
                    "similarity": similarity, "a": a, "b": b,
                    "matching_epoch": _early(epoch, experiment),
                    "status": found.get("status", "missing"),
                }  # fmt: skip
                rows += [
                    row | {"group": name, **{key: group[key] for key in _QUALITY}}
                    for name, group in found.get("groups", {}).items()
                ] or [row]
        columns = [*_PLACE, "similarity", "a", "b", "matching_epoch", "status", "group", *_QUALITY]
        return pd.DataFrame(rows, columns=columns)

    def diversity(self, output: Diversity) -> pd.DataFrame:
        """Accuracy, ensembles and functional diversity per method of each block."""
        from pipeline.data import load as load_data

        rows = []
        for experiment in output.chosen(self.config.experiments):
            sparsity, k = output.at(experiment)
            labels = None
            for method, members in output.members(experiment).items():
                row: dict[str, Any] = {
                    "experiment": experiment.name, "dataset": experiment.dataset,
                    "model": experiment.model, "width": experiment.width, "method": method,
                    "sparsity": sparsity, "rewind_epoch": k, "runs": 0,
                }  # fmt: skip
                logits = [found for run in members if (found := self.logits(run)) is not None]
                if len(logits) >= 2:
                    if labels is None:
                        info = self.config.datasets[experiment.dataset]
                        labels = load_data(info, self.config.data_root, download=False).test.labels
                    import torch

                    found = diversity_of(
                        torch.stack(logits), labels, ensemble=output.ensemble, kl=output.kl
                    )
                    row |= dict(vars(found))
                rows.append(row)
        columns = ["experiment", "dataset", "model", "width", "method", "sparsity", "rewind_epoch",
                   "test_accuracy_mean", "test_accuracy_std", "ensemble_accuracy", "disagreement",
                   "kl", "js", "runs"]  # fmt: skip
        return pd.DataFrame(rows, columns=columns)

    def _csv(self, run: Run, name: str) -> list[dict[str, str]]:
        path = self.config.results / keys.path(run, name)
        verify(path)
        return read_csv(path)


def spec_of(output: Output, labels: Mapping[str, str | None]) -> dict[str, Any]:
    """An output's entry as the settings that tables and figures read; empty ones left out."""
    spec = {key: value for key, value in vars(output).items() if value not in (None, (), "")}
    spec = {key: list(value) if isinstance(value, tuple) else value for key, value in spec.items()}
    if "metrics" in spec:
        metrics = spec.pop("metrics")
        spec["metric"] = metrics[0] if len(metrics) == 1 else metrics
    if isinstance(output, Interpolation):
        spec["matched"] = [True, False] if output.unmatched else [True]
    return spec | {"labels": {name: label for name, label in labels.items() if label}}


def _early(epoch: int | None, experiment: Experiment) -> int | None:
    """The matching epoch as tables show it: nothing where b is matched at its end."""
    return (
        None
        if epoch is None or (epoch == experiment.horizon and not experiment.matching_epochs)
        else epoch
    )


def _place(experiment: Experiment) -> dict[str, Any]:
    """The columns ``_PLACE`` of an experiment."""
    return {
        "experiment": experiment.name, "dataset": experiment.dataset,
        "model": experiment.model, "width": experiment.width,
    }  # fmt: skip


def _number(text: str) -> float | None:
    return float(text) if text else None
