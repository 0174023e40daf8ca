"""One tidy frame: a row per run. Every table and figure reads runs through what stands here.

>>> from pipeline import results
>>> runs = results.load("demo")  # without a name: the study of config.yaml
>>> runs.to_csv("runs.csv"), runs.to_parquet("runs.parquet")
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.artifacts.record import facts_of, recorded, verify
from pipeline.artifacts.store import read_json, read_tensors
from pipeline.errors import UserError
from pipeline.runs import Curve, ImpBlock, Mask, Run
from pipeline.runs.dense import seed_numbers
from pipeline.study.config import Config, read
from pipeline.study.experiment import Experiment
from pipeline.study.graph import Graph
from pipeline.study.outputs import Output
from pipeline.study.outputs.base import OfSweeps

#: What tells one network from another, and where it stands in a study.
NETWORK = ["dataset", "model", "width"]
PLACE = ["experiment", *NETWORK]
COLUMNS = [
    "kind", "experiment", "protocol", "dataset", "model", "width", "method", "sparsity",
    "sparsity_exact", "emptied", "rewind_epoch", "matching_epoch", "a", "b", "replicate", "status",
    "test_accuracy", "test_top5", "test_loss", "train_loss", "train_accuracy",
    "validation_accuracy", "epochs", "seconds", "device", "path",
]  # fmt: skip
#: Of a matching recipe's ``similarity``: what it looks at.
MATCHERS = {"correlation": "activations", "inner": "activations"}
_SWEEP = [
    *PLACE, "dense", "over", "match", "matcher", "sweep", "seeds", "fraction", "status", "point", "level",
]  # fmt: skip
CONNECTIONS = [
    *_SWEEP, "arm", "a", "b", "spawn", "matched_at", "evaluated_at", "distance", "correction", "split",
    "loss_barrier", "error_barrier", "loss_half", "error_half", "loss_a", "error_a", "loss_b",
    "error_b",
]  # fmt: skip
ALIGNMENTS = [*_SWEEP, "group", "size", "fixed_points", "reference", "alike"]
_MEASURED = (
    "status", "test_accuracy", "test_top5", "test_loss", "train_loss", "train_accuracy",
    "validation_accuracy", "epochs",
)  # fmt: skip


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
    """Reads what the runs of a study left behind; ``target``: what asks for them.

    A run whose recorded settings differ from what the study now declares is refused: its number
    would stand under a wrong name.
    """

    def __init__(self, config: Config, target: str = "") -> None:
        self.config, self.graph, self._target = config, Graph(config), target

    def chosen(self, output: Output) -> list[Experiment]:
        """The experiments that a table or figure names."""
        return output.chosen(self.config.experiments)

    def measured(self, output: Output) -> Iterator[tuple[Experiment, Run, dict[str, Any]]]:
        """The finished runs of an output with what they measured."""
        for experiment in self.chosen(output):
            for run in output.runs(experiment):
                if found := self.metrics(run):
                    yield experiment, run, found

    # -- single runs -----------------------------------------------------------------------

    def metrics(self, run: Run) -> dict[str, Any] | None:
        """What a run measured; None if it is not there.

        Raises:
            UserError: damaged, or made with other settings; with the command that mends it.
        """
        path = self.config.results / run.path("metrics.json")
        if not path.exists():
            return None
        verify(path)
        found: dict[str, Any] = read_json(path)
        if found.get("digest") != self.graph.digest(run):
            raise UserError(
                f"{path}: made with other settings than the study declares now; mend it: "
                f"{self.config.command(self._target)}"
            )
        return found

    def provenance(self, run: Run) -> dict[str, Any]:
        """The volatile facts of a run: time, device; empty if it is not there."""
        return facts_of(self.config.results / run.folder)

    def seconds(self, run: Run) -> float | None:
        """Seconds of a run on its device; None if it is not there."""
        return _on_device(self.provenance(run))

    def logits(self, run: Run) -> Any:
        """Logits on the test set, float16 [images, classes]; None if the run has none."""
        path = self.config.results / run.folder / "logits.safetensors"
        found = self.metrics(run)
        if found is None or found.get("status") != "ok":
            return None
        if not path.exists() and not recorded(path):
            raise UserError(f"{path}: not kept; set keep_logits: true in its recipe and run again")
        verify(path, outputs=run.files)
        return read_tensors(path)["logits"]

    def labels(self, experiment: Experiment) -> Any:
        """Labels of the test images of an experiment's data, int64 [images]."""
        from pipeline.data import load  # slow to start, and few outputs need it

        info = self.config.datasets[experiment.dataset]
        return load(info, self.config.data_root, download=False).test.labels

    def lines(self, run: Run, name: str) -> list[dict[str, Any]]:
        """The lines of one of a run's CSV files by their columns; NaN where nothing was measured.

        Raises:
            UserError: it is not there, or damaged.
        """
        path = self.config.results / run.path(name)
        verify(path)
        frame = pd.read_csv(path)
        found: list[dict[str, Any]] = frame.to_dict("records")
        return found

    def _row(self, run: Run, experiment: Experiment, **labels: Any) -> dict[str, Any]:
        found, record = self.metrics(run), self.provenance(run)
        row: dict[str, Any] = place(experiment) | {
            "protocol": self.config.main.protocol,
            "replicate": 0,
            "status": "missing",
            "path": run.path(),
            "seconds": _on_device(record),
            "device": record.get("device"),
        }
        if found is not None:
            row |= {name: found.get(name) for name in _MEASURED}
            row["sparsity_exact"] = found.get("sparsity")
            row["emptied"] = len(found.get("emptied", ()))
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
                of_b = cell.run.paired or experiment.ways[cell.method].mask == "b"
                rows.append(
                    self._row(
                        cell.run, experiment, kind="sparse", method=cell.method,
                        sparsity=cell.sparsity, rewind_epoch=cell.rewind_epoch,
                        matching_epoch=cell.matching_epoch, a=a,
                        b=b if of_b else None, replicate=cell.run.replicate,
                    )
                )  # fmt: skip
        return pd.DataFrame(rows, columns=COLUMNS)

    def _imp_rows(self, experiment: Experiment) -> list[dict[str, Any]]:
        """A row per chain and sparsity: epochs and seconds up to the mask, accuracy of the solution."""
        if experiment.levels:
            return [*self._round_rows(experiment)]
        rows = []
        for seed in dict.fromkeys(a for a, _ in experiment.pairs):
            for sparsity in experiment.sparsities:
                mask = experiment.mask(seed, sparsity)
                solution = experiment.solution(seed, sparsity)
                row = self._row(
                    solution, experiment, kind="imp", method="imp", sparsity=sparsity, a=seed,
                    dataset=experiment.mask_dataset,
                )  # fmt: skip
                epochs, seconds = self._chain(mask)
                # The row stands for the chain; the accuracy is there where its solution was trained.
                status = row["status"] if row["status"] != "missing" or seconds is None else "ok"
                rows.append(row | {"epochs": epochs, "seconds": seconds, "status": status})
        return rows

    def _round_rows(self, experiment: Experiment) -> Iterator[dict[str, Any]]:
        """The solution at a level is what the round that ends there has trained."""
        rewound = {"rewind": experiment.chain.rewind_epoch, "lr-rewind": experiment.horizon}
        for seed, sparsity, level, block in experiment.rounds():
            row = self._row(
                block, experiment, kind="imp", method="imp", sparsity=sparsity, a=seed,
                rewind_epoch=rewound.get(experiment.chain.style), dataset=experiment.mask_dataset,
            )  # fmt: skip
            for own in (self.metrics(block) or {}).get("rounds", ()):
                if own["round"] == level:
                    row |= {name: own.get(name) for name in _MEASURED if name != "epochs"}
                    row |= {
                        "sparsity_exact": own["sparsity"],
                        "emptied": len(own.get("emptied", ())),
                    }
            row["epochs"], row["seconds"] = self._chain(experiment.mask(seed, sparsity))
            yield row

    def _chain(self, mask: Mask) -> tuple[int, float | None]:
        rounds = mask.prunes(self.graph) - 1
        each = ImpBlock(mask.dense, mask.recipe, 1).round_epochs(self.graph)
        seconds, per_block = 0.0, self.graph.recipe(mask).rounds_per_block
        for before in range(0, rounds, per_block):
            block = ImpBlock(mask.dense, mask.recipe, before // per_block + 1)
            spent = self.provenance(block).get("train_seconds")
            if spent is None:
                return rounds * each, None
            seconds += min(1.0, (rounds - before) / per_block) * spent
        return rounds * each, seconds

    def curves(self, experiments: Iterable[Experiment]) -> pd.DataFrame:
        """Points of the curves between π(a) and b, and a and b."""
        rows: list[dict[str, Any]] = []
        for _, run, pair in self._curves(experiments):
            if found := self.metrics(run):
                start = found["at_initialisation"]
                rows += [
                    pair | line | {"loss_at_init": start.get(line["split"], {}).get("loss")}
                    for line in self.lines(run, "curve.csv")
                ]
        columns = [*PLACE, "a", "b", "alpha", "correction", "split", "loss", "error",
                   "loss_at_init", "matched"]  # fmt: skip
        return pd.DataFrame(rows, columns=columns)

    def barriers(self, experiments: Iterable[Experiment]) -> pd.DataFrame:
        """Barriers of the curves between π(a) and b, and a and b; NaN where a curve is missing."""
        rows: list[dict[str, Any]] = []
        for experiment, run, pair in self._curves(experiments):
            line = experiment.line
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
                    pair | {
                        "path": run.path(), "split": split, "at": at, "correction": correction,
                        "metric": metric, "matched": matched,
                        "value": float("nan") if value is None else value,
                    }
                )  # fmt: skip
        return pd.DataFrame(rows)

    def connections(self, output: OfSweeps) -> pd.DataFrame:
        """Barriers of the lines of an output's sweeps, a row per line, correction and split.

        Columns `CONNECTIONS`: where the networks stand; ``match``, the recipe, and ``matcher``, what
        it looks at; ``over``, what the sweep goes over; ``arm``, ``point``, ``a``, ``b``: the line;
        ``level``: the place of its point on the sweep's own scale; ``spawn``: of a line between children
        the epoch that they start from, and ``a`` and ``b`` are their seeds as in paths; ``matched_at``
        and ``evaluated_at``: epochs trained of the states matched and of those measured; barriers,
        excess at 1/2 and the ends' own values, losses in nats and errors in %; ``distance``, of the
        ends in weight space.
        A sweep that is not there is one row without a line.
        """
        return self._of_sweeps(output, "barriers.csv", CONNECTIONS)

    def alignments(self, output: OfSweeps) -> pd.DataFrame:
        """Permutations of an output's sweeps, a row per point and group of units.

        Columns `ALIGNMENTS`: ``alike`` counts the units of the group on which the permutation agrees
        with that of ``reference``. A sweep that is not there is one row without a point.
        """
        return self._of_sweeps(output, "align.csv", ALIGNMENTS)

    def _of_sweeps(self, output: OfSweeps, name: str, columns: list[str]) -> pd.DataFrame:
        rows: list[dict[str, Any]] = []
        for experiment in self.chosen(output):
            over = experiment.over
            assert over is not None
            runs = zip(output.sweeps(experiment), output.runs(experiment), strict=True)
            for align, run in runs:
                similarity = self.graph.recipe(align).similarity
                found = self.metrics(run)
                row = place(experiment) | {
                    "dense": experiment.dense, "over": over.over,
                    "match": align.recipe, "matcher": MATCHERS.get(similarity, similarity),
                    "sweep": align.sweep, "fraction": experiment.fraction, "seeds": align.who,
                    "status": found["status"] if found else "missing",
                }  # fmt: skip
                lines = self.lines(run, name) if found else [{}]
                levels = (over.level(str(line.get("point", ""))) for line in lines)
                rows += [
                    row | line | _ends(line) | {"level": x}
                    for line, x in zip(lines, levels, strict=True)
                ]
        return pd.DataFrame(rows, columns=columns)

    def _curves(
        self, experiments: Iterable[Experiment]
    ) -> Iterator[tuple[Experiment, Curve, dict[str, Any]]]:
        """The curve of every pair, with the columns that say where it stands."""
        for experiment in experiments:
            for a, b in experiment.pairs:
                run = Curve(experiment.matching((a, b)), experiment.connectivity)
                yield experiment, run, place(experiment) | {"a": a, "b": b}


def _on_device(record: dict[str, Any]) -> float | None:
    """Seconds that a run took on its device, without its start where they were told apart."""
    found: float | None = record.get("train_seconds", record.get("seconds"))
    return found


def _ends(line: dict[str, Any]) -> dict[str, Any]:
    """Seeds a and b of a line of a sweep as numbers; of children as they are, with ``spawn``."""
    if "t" not in str(line.get("a", "")):
        return {key: int(line[key]) for key in ("a", "b") if key in line}
    return {"spawn": seed_numbers(line["a"])[1]}


def place(experiment: Experiment) -> dict[str, Any]:
    """The columns ``PLACE`` of an experiment."""
    return {"experiment": experiment.name} | {key: getattr(experiment, key) for key in NETWORK}
