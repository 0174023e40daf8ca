"""Ensembles by how their networks were made: accuracy, calibration, and what they cost."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pipeline.report.shown import Shown
from pipeline.report.tables import names
from pipeline.report.tables.cells import by_seeds, places, sort
from pipeline.report.tables.diversity import seeds_of, short_notes
from pipeline.report.tables.table import Legend, Table, mean_text
from pipeline.results import PLACE, Results, place
from pipeline.runs import Run
from pipeline.study.outputs.ensemble import Ensemble

#: What is measured on the test images -> heading of its columns and decimals.
MEASURES = {
    "accuracy": ("Accuracy (%)", 2), "nll": ("NLL (nats)", 3), "ece": ("ECE (%)", 2),
}  # fmt: skip
_COLUMNS = [
    *PLACE, "sparsity", "rewind_epoch", "method", "networks", *MEASURES,
    *(f"{measure}_std" for measure in MEASURES), "weights", "hours", "n", "n_missing", "values",
    "paths",
]  # fmt: skip
_LEGEND = Legend(
    "Accuracy, negative log-likelihood (NLL) and expected calibration error (ECE) on test images",
    "%, nats and %",
    spread="sample standard deviation of single networks",
    of="networks",
)


def read(output: Ensemble, results: Results) -> pd.DataFrame:
    """A row per method and number of networks, from one to all that there are.

    accuracy, ece (%) and nll (nats) are means over the ensembles of so many networks that follow one
    another, hours (on the device) over all that these come from; weights, kept in all networks
    together, counts one dense network as 1. Numbers are NaN for more networks than are there.
    """
    rows: list[dict[str, Any]] = []
    for experiment in results.chosen(output):
        sparsity, k = output.at(experiment)
        labels = None
        for method, runs in output.members(experiment).items():
            found = [one for run in runs if (one := _network(results, run)) is not None]
            if found and labels is None:
                labels = results.labels(experiment)
            own = place(experiment) | {
                "sparsity": sparsity, "rewind_epoch": k, "method": method,
                "n": len(found), "n_missing": len(runs) - len(found),
                "paths": tuple(run.path() for run in runs),
            }  # fmt: skip
            for size in range(1, len(runs) + 1):
                row: dict[str, Any] = own | {"networks": size}
                if size <= len(found):
                    row |= _of_size(output, found, size, labels)
                rows.append(row)
    return pd.DataFrame(rows, columns=_COLUMNS)


@dataclass(frozen=True)
class _Network:
    """A network of an ensemble: its logits, the share of weights that it keeps, and the seconds of
    every run that it comes from; NaN where they are not known."""

    run: Run
    logits: Any
    kept: float
    seconds: dict[Run, float]


def _network(results: Results, run: Run) -> _Network | None:
    logits = results.logits(run)
    if logits is None:
        return None
    kept = 1.0 - (results.metrics(run) or {}).get("sparsity", 0.0)
    spent = ((each, results.seconds(each)) for each in results.graph.closure([run]))
    seconds = {each: math.nan if at is None else at for each, at in spent}
    return _Network(run, logits, kept, seconds)


def _of_size(output: Ensemble, found: Sequence[_Network], size: int, labels: Any) -> dict[str, Any]:
    """Means over the ensembles of ``size`` of the networks; of single ones their spread, too."""
    import torch

    from pipeline.calibration import expected_calibration_error, negative_log_likelihood
    from pipeline.diversity import accuracies, average

    values: list[dict[str, float]] = []
    for members in _in_turn(found, size):
        p = average(torch.stack([one.logits for one in members]), ensemble=output.ensemble)
        together = {run: spent for one in members for run, spent in one.seconds.items()}
        values.append({
            "accuracy": float(accuracies(p[None], labels)),
            "nll": negative_log_likelihood(p, labels),
            "ece": expected_calibration_error(p, labels, bins=output.bins),
            "weights": sum(one.kept for one in members),
            "hours": sum(together.values()) / 3600,
        })  # fmt: skip
    frame = pd.DataFrame(values)
    row: dict[str, Any] = frame.mean(skipna=False).to_dict()
    if size == 1:
        row |= frame[[*MEASURES]].std().add_suffix("_std").to_dict()
        row["values"] = "; ".join(by_seeds(seeds_of([one.run for one in found]), frame["accuracy"]))
    return row


def _in_turn(items: Sequence[_Network], size: int) -> Iterator[list[_Network]]:
    """Every ``size`` items that follow one another, the first after the last; all of them once."""
    count = len(items)
    for first in range(count if size < count else 1):
        yield [items[(first + step) % count] for step in range(size)]


def build(output: Ensemble, shown: Shown, ensembles: pd.DataFrame) -> Table:
    """A block per network; rows: methods; columns: single networks beside all together, and cost."""
    ordered = sort(ensembles, [*PLACE, "method", "networks"])
    ends = [ordered.drop_duplicates([*PLACE, "method"], keep=end) for end in ("first", "last")]
    single, whole = (end.reset_index(drop=True) for end in ends)
    tidy = ordered.loc[sorted({*ends[0].index, *ends[1].index})]
    columns: dict[tuple[str, str], list[str]] = {
        ("Networks", "number"): [f"{n:g}" for n in whole["networks"]]
    }
    for measure, (heading, digits) in MEASURES.items():
        spread = single[f"{measure}_std"]
        columns[heading, "single"] = _texts(single[measure], digits, spread)
        columns[heading, "ensemble"] = _texts(whole[measure], digits)
    columns["Weights", "dense = 1"] = _texts(whole["weights"], 2)
    columns["Device hours", "in all"] = [
        "missing" if pd.isna(hours) else f"{hours:.3g}" for hours in whole["hours"]
    ]
    index = pd.MultiIndex.from_arrays(
        [places(whole), [_method(name, shown) for name in whole["method"]]],
        names=["Network", "Networks made by"],
    )
    layout = pd.DataFrame(columns, index)
    layout.columns = pd.MultiIndex.from_tuples(columns)
    behind = pd.DataFrame([[paths] * layout.shape[1] for paths in whole["paths"]],
                          layout.index, layout.columns)  # fmt: skip
    averaged = {"softmax": "probabilities", "logits": "logits"}[output.ensemble]
    notes = [
        *_at(whole, shown),
        f"Ensembles average {averaged}. ECE: in {output.bins} intervals of the probability of the "
        "predicted class. Weights: kept in all networks together, of those that pruning may remove. "
        "Device hours: of all runs that these networks come from, as they were run, shared ones once.",
        *short_notes(whole, ("n", "networks"), "networks", lambda name: _method(name, shown)),
    ]
    tidy = tidy.drop(columns=["paths", "experiment"])
    return shown.table(output, tidy, layout, notes, legend=_LEGEND, runs=behind)


def _at(whole: pd.DataFrame, shown: Shown) -> Iterator[str]:
    """Sparsity and rewind epoch of every block."""
    blocks = whole.drop_duplicates(PLACE)
    for row, where in zip(blocks.to_dict("records"), places(blocks), strict=True):
        at = f"{shown.at(row['sparsity'], row['model'])}, k = {row['rewind_epoch']:g}"
        yield f"{where}: {at}; imp: networks of own masks, lth: of one mask and one start."


def _method(name: str, shown: Shown) -> str:
    return "dense training" if name == "dense" else names.whole_method(name, shown.labels)


def _texts(means: pd.Series, digits: int, spreads: pd.Series | None = None) -> list[str]:
    stds = [math.nan] * len(means) if spreads is None else spreads
    return [
        "missing" if pd.isna(mean) else mean_text(mean, std, digits)
        for mean, std in zip(means.astype(float), stds, strict=True)
    ]
