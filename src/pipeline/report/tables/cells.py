"""From runs to cells: select the runs of an output, then mean and spread over seeds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from pipeline.report.tables import names
from pipeline.results import NETWORK, Results
from pipeline.study.outputs import Output
from pipeline.study.outputs.base import Cells

# What tells one cell from another; seeds and replicates are what a cell averages over.
KEYS = [*NETWORK, "sparsity", "method", "rewind_epoch", "matching_epoch"]
# Metric of a cell -> column of the runs that holds it (%).
METRICS = {"top1": "test_accuracy", "top5": "test_top5"}

_NUMBERS = [
    "width", "sparsity", "rewind_epoch", "matching_epoch", "a", "b", "epochs", "seconds",
]  # fmt: skip
_IDENTITY = ["kind", *KEYS, "a", "b", "replicate"]


def read(output: Output, results: Results) -> pd.DataFrame:
    """The runs of an output's experiments."""
    return results.runs(results.chosen(output))


def filters(output: Cells) -> dict[str, tuple[Any, ...]]:
    """Column -> the only values that an output shows, where it does not show all."""
    every = {
        "sparsity": output.sparsities,
        "rewind_epoch": output.rewind_epochs,
        "method": output.methods,
    }
    return {column: values for column, values in every.items() if values}


def select(
    runs: pd.DataFrame,
    output: Cells | None = None,
    end: int | None = None,
    kinds: tuple[str, ...] = ("sparse",),
) -> pd.DataFrame:
    """Runs of the given kinds that an output shows (None: all), each run once.

    A run that several experiments share stands in the frame once per experiment; here it counts
    once. What an output leaves out are sparse runs; dense and IMP runs stay. A matching at epoch
    ``end`` (epochs of a complete dense run) is one at the end, as one without an epoch.
    """
    found = runs[runs["kind"].isin(kinds)].copy()
    for column in _NUMBERS:  # a column with nothing but None is no numbers yet
        found[column] = pd.to_numeric(found[column], errors="coerce").astype(float)
    if end is not None:
        found.loc[found["matching_epoch"] == float(end), "matching_epoch"] = np.nan
    for column, wanted in filters(output).items() if output else ():
        values = found[column] if column == "method" else found[column].round(6)
        found = found[values.isin(wanted) | (found["kind"] != "sparse")]
    identity = found[_IDENTITY].astype(object)
    identity = identity.where(identity.notna(), None)
    # Two runs of equal keys may differ in a recipe; their paths tell them apart.
    identity["path"] = found["path"].where(found["path"].notna(), None)
    return found[~identity.apply(tuple, axis=1).duplicated()].reset_index(drop=True)


def aggregate(runs: pd.DataFrame, metric: str = "top1") -> pd.DataFrame:
    """Cell frame of the given runs: mean and sample standard deviation (ddof = 1) over runs.

    Columns: `KEYS`, metric, mean, std (both in %), n (finished), n_diverged, n_missing. The mean
    is over the finished runs; std is NaN for fewer than two of them. A finished run that lacks
    the metric counts as missing.
    """
    value = pd.to_numeric(runs[METRICS[metric]], errors="coerce")
    frame = runs[KEYS].copy()
    for column in ("width", "sparsity", "rewind_epoch", "matching_epoch"):
        frame[column] = frame[column].astype(float).round(6)
    diverged = runs["status"] == "diverged"
    finished = (runs["status"] == "ok") & value.notna()
    frame["value"] = value.where(finished)
    frame["n"] = finished.astype(int)
    frame["n_diverged"] = diverged.astype(int)
    frame["n_missing"] = (~finished & ~diverged).astype(int)
    groups = frame.groupby(KEYS, dropna=False, sort=False)
    cells = groups.agg(
        mean=("value", "mean"),
        std=("value", "std"),
        n=("n", "sum"),
        n_diverged=("n_diverged", "sum"),
        n_missing=("n_missing", "sum"),
    ).reset_index()
    cells.insert(len(KEYS), "metric", metric)
    return sort(cells)


def sort(cells: pd.DataFrame) -> pd.DataFrame:
    """Cells in a fixed order: by the keys, methods in the paper's order."""
    rank = {name: names.method_key(name) for name in cells["method"].unique()}
    order = {name: position for position, name in enumerate(sorted(rank, key=rank.__getitem__))}
    return cells.sort_values(
        KEYS, key=lambda column: column.map(order) if column.name == "method" else column
    ).reset_index(drop=True)


def varying(cells: pd.DataFrame, columns: list[str]) -> list[str]:
    """Those of the columns that take more than one value."""
    return [column for column in columns if cells[column].nunique(dropna=False) > 1]
