"""From runs to cells: select the runs of an output, then mean and spread over seeds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from pipeline.errors import UserError
from pipeline.report.tables import names

# What tells one cell from another; seeds and replicates are what a cell averages over.
KEYS = ["dataset", "model", "width", "sparsity", "method", "rewind_epoch", "matching_epoch"]
# Metric of a cell -> column of the runs that holds it (%).
METRICS = {"top1": "test_accuracy", "top5": "test_top5"}

# Key of an output's settings -> column that it filters.
FILTERS = {
    "experiments": "experiment",
    "datasets": "dataset",
    "models": "model",
    "widths": "width",
    "sparsities": "sparsity",
    "methods": "method",
    "rewind_epochs": "rewind_epoch",
    "matching_epochs": "matching_epoch",
}
_NUMBERS = [
    "width", "sparsity", "rewind_epoch", "matching_epoch", "a", "b", "epochs", "seconds",
]  # fmt: skip
_IDENTITY = ["kind", *KEYS, "a", "b", "replicate"]


def as_list(value: Any) -> list[Any]:
    """A setting that may be one value or a list of them."""
    return list(value) if isinstance(value, (list, tuple)) else [value]


def select(
    runs: pd.DataFrame, spec: Mapping[str, Any], kinds: tuple[str, ...] = ("sparse",)
) -> pd.DataFrame:
    """Runs of the given kinds that an output's settings name, each run once.

    A run that several experiments share stands in the frame once per experiment; here it counts
    once. `FILTERS` lists the settings; a filter that is absent lets everything pass, and the
    filters on sparse runs (sparsity, method, epochs) leave dense and IMP runs alone. With the
    setting ``end`` (epochs of a complete dense run), a matching epoch equal to it is the end.
    """
    found = runs[runs["kind"].isin(kinds)].copy()
    for column in _NUMBERS:  # a column with nothing but None is no numbers yet
        found[column] = pd.to_numeric(found[column], errors="coerce").astype(float)
    if "end" in spec:
        at_end = found["matching_epoch"] == float(spec["end"])
        found.loc[at_end, "matching_epoch"] = np.nan
    of_any_kind = {"experiment", "dataset", "model", "width"}
    for key, column in FILTERS.items():
        if key not in spec:
            continue
        wanted = as_list(spec[key])
        if column in ("width", "sparsity", "rewind_epoch", "matching_epoch"):
            values = found[column].astype(float).round(6)
            keep = values.isin([round(float(value), 6) for value in wanted])
            if column == "matching_epoch":  # the end is never filtered away
                keep |= values.isna()
        else:
            keep = found[column].isin(wanted)
        if column not in of_any_kind:
            keep |= found["kind"] != "sparse"
        found = found[keep]
    identity = found[_IDENTITY].astype(object)
    identity = identity.where(identity.notna(), None)
    # Two runs of equal keys may differ in a recipe; their paths tell them apart.
    identity["path"] = found["path"].where(found["path"].notna(), None)
    return found[~identity.apply(tuple, axis=1).duplicated()].reset_index(drop=True)


def declared(
    name: str,
    runs: pd.DataFrame,
    spec: Mapping[str, Any],
    kinds: tuple[str, ...] = ("sparse",),
) -> pd.DataFrame:
    """As `select`, for an output that cannot be without sparse runs.

    Raises UserError when the study declares none under the output's filters.
    """
    found = select(runs, spec, kinds)
    if not (found["kind"] == "sparse").any():
        filters = {key: spec[key] for key in FILTERS if key in spec}
        raise UserError(f"{name}: no sparse run is declared for it; its filters: {filters}")
    return found


def aggregate(runs: pd.DataFrame, metric: str = "top1") -> pd.DataFrame:
    """Cell frame of the given runs: mean and sample standard deviation (ddof = 1) over runs.

    Columns: `KEYS`, metric, mean, std (both in %), n (finished), n_diverged, n_missing. The mean
    is over the finished runs; std is NaN for fewer than two of them. A finished run that lacks
    the metric counts as missing. Raises UserError for an unknown metric.
    """
    if metric not in METRICS:
        raise UserError(f"unknown metric {metric!r}; allowed: {', '.join(METRICS)}")
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
    by = ["dataset", "model", "width", "sparsity", "method", "rewind_epoch", "matching_epoch"]
    return cells.sort_values(
        by, key=lambda column: column.map(order) if column.name == "method" else column
    ).reset_index(drop=True)


def varying(cells: pd.DataFrame, columns: list[str]) -> list[str]:
    """Those of the columns that take more than one value."""
    return [column for column in columns if cells[column].nunique(dropna=False) > 1]
