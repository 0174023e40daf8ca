"""Accuracy against sparsity, method and rewind epoch: paper Tables 5-14, thesis Table 4.2."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from pipeline.report.tables import names
from pipeline.report.tables.cells import aggregate, as_list, declared, varying
from pipeline.report.tables.table import ABSENT, Table, cell_text, count_notes, spec_notes

# Starting points that a mask was made for; the best is marked among the other methods.
_REFERENCE = ("dense", "imp", "lth")
_HEADINGS = {"top1": "Top-1 Accuracy", "top5": "Top-5 Accuracy"}
# Key of a cell -> heading of its row label, and how to write the value.
HEADERS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "dataset": ("Data set", names.dataset),
    "model": ("Model", names.model),
    "width": ("w", names.number),
    "rewind_epoch": ("k", names.number),
}


def build(
    name: str, spec: Mapping[str, Any], runs: pd.DataFrame, *, protocol: str = "paper"
) -> Table:
    """Rows S × method (LTH, naive, perm.), columns k; mean ± sample standard deviation in %.

    Settings: title, note, metric (``top1``, ``top5`` or a list of both: side by side as in Table
    10), labels (method -> name to print), and the filters of `pipeline.report.tables.cells.FILTERS`.
    Bold: the highest mean among the methods that start from a new initialisation, per sparsity
    and metric; equal as printed, both.
    """
    chosen = declared(name, runs, spec)
    metrics = as_list(spec.get("metric", "top1"))
    cells = pd.concat([aggregate(chosen, metric) for metric in metrics], ignore_index=True)
    # Rows of matching before the end belong to the early-matching table.
    cells = cells[cells["matching_epoch"].isna()].reset_index(drop=True)
    cells["best"] = mark_best(cells)
    layout, bold = lay_out(cells, metrics, spec.get("labels"))
    notes = [*spec_notes(spec), *count_notes(cells)]
    return Table(name, spec.get("title", name), cells, layout, notes, protocol, bold)


def mark_best(cells: pd.DataFrame) -> pd.Series:
    """Whether a cell is the best of its sparsity block; ties by the two printed decimals.

    Cells with diverged runs are no candidates: their mean leaves the failures out.
    """
    candidate = ~cells["method"].isin(_REFERENCE) & (cells["n_diverged"] == 0)
    printed = cells["mean"].round(2).where(candidate)
    block = ["dataset", "model", "width", "sparsity", "metric"]
    highest = printed.groupby([cells[key] for key in block], dropna=False).transform("max")
    return (printed == highest) & printed.notna()


def lay_out(
    cells: pd.DataFrame, metrics: list[str], labels: Mapping[str, str] | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Display strings and bold marks; data set, model and width only where they vary."""
    outer = varying(cells, ["dataset", "model", "width"])
    row_keys = [*outer, "sparsity", "method"]
    epochs = sorted(cells["rewind_epoch"].unique())
    rows = list(dict.fromkeys(cells[row_keys].itertuples(index=False, name=None)))
    by_place = {
        (tuple(cell[key] for key in row_keys), cell["metric"], cell["rewind_epoch"]): cell
        for cell in cells.to_dict("records")
    }
    columns = [(metric, epoch) for metric in metrics for epoch in epochs]
    found = [[by_place.get((row, *column)) for column in columns] for row in rows]
    index = pd.MultiIndex.from_tuples(
        [
            (
                *(HEADERS[key][1](value) for key, value in zip(outer, row, strict=False)),
                names.percent(row[-2]),
                names.method(row[-1], labels),
            )
            for row in rows
        ],
        names=[*(HEADERS[key][0] for key in outer), "S", "Method"],
    )
    headings = {metric: _HEADINGS[metric] for metric in metrics}
    if metrics == ["top1"]:
        headings = {"top1": "Rewind Epoch k"}
    header = pd.MultiIndex.from_tuples(
        [
            (headings[metric], f"k={epoch:g}" if epoch == epochs[0] else f"{epoch:g}")
            for metric, epoch in columns
        ]
    )
    text = [[cell_text(cell) if cell else ABSENT for cell in row] for row in found]
    best = [[bool(cell and cell["best"]) for cell in row] for row in found]
    return (
        pd.DataFrame(text, index=index, columns=header),
        pd.DataFrame(best, index=index, columns=header),
    )
