"""From runs to cells: select the runs of an output, then mean and spread over seeds."""

from __future__ import annotations

from collections.abc import Iterable
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
METRICS = {"top1": "test_accuracy", "top5": "test_top5", "validation": "validation_accuracy"}
#: What a metric is, in words.
QUANTITIES = {
    "top1": "Top-1 accuracy on test images", "top5": "Top-5 accuracy on test images",
    "validation": "Top-1 accuracy on withheld images",
}  # fmt: skip
#: What a note says of the runs of `dense_of`.
DENSE = "dense: the unpruned networks of the same seeds, trained to their end."

_NUMBERS = [
    "width", "sparsity", "rewind_epoch", "matching_epoch", "a", "b", "epochs", "seconds",
]  # fmt: skip
# Two runs of equal keys may differ in a recipe; their paths tell them apart.
_IDENTITY = ["kind", *KEYS, "a", "b", "replicate", "path"]


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
    return found.drop_duplicates(_IDENTITY, ignore_index=True)


def aggregate(runs: pd.DataFrame, metric: str = "top1") -> pd.DataFrame:
    """Cell frame of the given runs: mean and sample standard deviation (ddof = 1) over runs.

    Columns: `KEYS`, metric, mean, std (both in %), n (finished), n_diverged, n_missing. The mean
    is over the finished runs; std is NaN for fewer than two of them. A finished run that lacks
    the metric counts as missing. Where whole layers of any run were pruned away, n_emptied counts
    these runs. values: each run's own, by its seeds; runs: their paths.
    """
    value = pd.to_numeric(runs[METRICS[metric]], errors="coerce")
    frame = runs[KEYS].astype({key: float for key in KEYS if key in _NUMBERS}).round(6)
    diverged = runs["status"] == "diverged"
    finished = (runs["status"] == "ok") & value.notna()
    frame["value"] = value.where(finished)
    frame["n_diverged"] = diverged.astype(int)
    frame["n_missing"] = (~finished & ~diverged).astype(int)
    counts: dict[str, Any] = {key: (key, "sum") for key in ("n_diverged", "n_missing")}
    emptied = pd.to_numeric(runs["emptied"], errors="coerce").fillna(0) > 0
    if emptied.any():
        frame["n_emptied"] = emptied.astype(int)
        counts["n_emptied"] = ("n_emptied", "sum")
    frame["path"] = runs["path"]
    frame["said"] = by_seeds(runs, frame["value"].where(~diverged, "diverged"))
    counts |= {"values": ("said", "; ".join), "runs": ("path", tuple)}
    cells = spread(frame, KEYS, sort=False, **counts)
    cells.insert(len(KEYS), "metric", metric)
    return sort(cells)


def by_seeds(runs: pd.DataFrame, values: pd.Series) -> list[str]:
    """A value of each run with the seeds that it belongs to: ``0-1: 90.41``, ``0.2: missing``.

    ``runs`` has columns a and b, NaN for a run of a alone, and may have replicate, 0 for the first.
    """
    replicates = runs["replicate"] if "replicate" in runs else [0] * len(runs)
    found = []
    for a, b, replicate, value in zip(runs["a"], runs["b"], replicates, values, strict=True):
        seeds = f"{a:g}" if pd.isna(b) else f"{a:g}-{b:g}"
        seeds += f".{replicate:g}" if replicate else ""
        shown = (
            value if isinstance(value, str) else "missing" if pd.isna(value) else f"{value:.10g}"
        )
        found.append(f"{seeds}: {shown}")
    return found


def dense_of(runs: pd.DataFrame, chosen: pd.DataFrame) -> pd.DataFrame:
    """The dense runs of the networks and seeds of ``chosen`` sparse runs, at no S, k and epoch."""
    dense = select(runs, kinds=("dense",))
    nowhere = dict.fromkeys(("sparsity", "rewind_epoch", "matching_epoch"), np.nan)
    ends = [chosen[[*NETWORK, end]].set_axis([*NETWORK, "a"], axis=1) for end in ("a", "b")]
    return dense.assign(**nowhere).merge(pd.concat(ends).dropna(subset="a").drop_duplicates())


def spread(
    frame: pd.DataFrame, keys: list[str], *, sort: bool = True, **more: tuple[str, Any]
) -> pd.DataFrame:
    """Mean, sample standard deviation (ddof = 1) and number ``n`` of the values of equal keys.

    ``frame`` has a column value, NaN where it is unknown. ``more``: further columns of the result,
    each with the column that it comes from and how, as in pandas' ``agg``.
    """
    groups = frame.groupby(keys, sort=sort, dropna=False)
    shown = {"mean": ("value", "mean"), "std": ("value", "std"), "n": ("value", "count")}
    return groups.agg(**shown, **more).reset_index()


def means(columns: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Mean and sample standard deviation (``…_std``) of several columns, for pandas' ``agg``."""
    ends = (("", "mean"), ("_std", "std"))
    return {f"{column}{end}": (column, how) for column in columns for end, how in ends}


def sort(cells: pd.DataFrame, keys: list[str] = KEYS) -> pd.DataFrame:
    """Cells in a fixed order: by the keys, methods in the paper's order."""

    def rank(column: pd.Series) -> pd.Series:
        ordered = sorted(column.unique(), key=names.method_key)
        return column.map({name: position for position, name in enumerate(ordered)})

    return cells.sort_values(
        keys, key=lambda column: rank(column) if column.name == "method" else column,
        ignore_index=True,
    )  # fmt: skip


def highest(printed: pd.Series, cells: pd.DataFrame, block: list[str]) -> pd.Series:
    """Whether a cell's value is the highest of its block; equal ones all, NaN never."""
    best = printed.groupby([cells[key] for key in block], dropna=False).transform("max")
    return printed == best


def places(frame: pd.DataFrame) -> list[str]:
    """The network and data set of each row, as tables write them."""
    return [names.place(*network) for network in frame[NETWORK].itertuples(index=False)]


def varying(cells: pd.DataFrame, columns: list[str]) -> list[str]:
    """Those of the columns that take more than one value."""
    return [column for column in columns if cells[column].nunique(dropna=False) > 1]
