"""Accuracy against sparsity, method and rewind epoch: paper Tables 5-14, thesis Table 4.2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Literal

import pandas as pd

from pipeline.report.shown import Shown
from pipeline.report.tables.cells import (
    DENSE,
    QUANTITIES,
    aggregate,
    dense_of,
    highest,
    read,
    select,
    varying,
)
from pipeline.report.tables.table import (
    ABSENT,
    SPAN,
    Legend,
    Table,
    arranged,
    cell_text,
    count_notes,
    row_labels,
    runs_behind,
)
from pipeline.results import NETWORK
from pipeline.study.outputs.rewind_grid import RewindGrid

__all__ = ["build", "read"]

# Starting points that a mask was made for; the best is marked among the other methods.
_REFERENCE = ("dense", "imp", "lth")
_HEADINGS = {
    "top1": "Top-1 Accuracy", "top5": "Top-5 Accuracy", "validation": "Validation Accuracy",
}  # fmt: skip
_BLOCK = [*NETWORK, "sparsity"]
_BEST = {
    "cell": "the highest mean at its S and k among the methods that start from a new initialisation",
    "block": "the highest mean of its S, over all k, among the methods that start from a new "
    "initialisation; the best of several k on test images is too good by their noise",
    "chosen": "the highest mean of its S among the methods that start from a new initialisation, each "
    "at its chosen k",
}
_EQUAL = "; equal as printed, all; a cell with a diverged run never"

_CHOSEN = (
    "k chosen: for each sparsity and method, the k of the highest mean accuracy on images that are "
    "withheld from all training; the accuracy shown there is on test images, which chose nothing."
)


def build(output: RewindGrid, shown: Shown, runs: pd.DataFrame) -> Table:
    """Rows S × method (LTH, naive, perm.), columns k; mean ± sample standard deviation in %.

    Two metrics stand side by side as in Table 10. Bold: the highest mean among the methods that
    start from a new initialisation, as ``bold`` of the output says; equal as printed, both. The
    dense networks of the same seeds have the last row of each network.

    Where runs have an accuracy on withheld images, a last column shows each method at the k that is
    best there, and bold compares the methods at these k alone.
    """
    chosen = select(runs, output, shown.end)
    # Rows of matching before the end belong to the early-matching table.
    chosen = chosen[chosen["matching_epoch"].isna()]
    shows = pd.concat([chosen, dense_of(runs, chosen)], ignore_index=True)
    cells = pd.concat([aggregate(shows, metric) for metric in output.metrics], ignore_index=True)
    sparse = cells["method"] != "dense"
    notes = count_notes(cells[sparse])
    over: Literal["cell", "block", "chosen"] = output.bold
    notes += [] if sparse.all() else [DENSE]
    if "validation_accuracy" in chosen and chosen["validation_accuracy"].notna().any():
        cells["chosen"] = choose(cells, aggregate(chosen, "validation"))
        notes.append(_CHOSEN)
        over = "chosen"
    cells["best"] = mark_best(cells, over)
    layout, bold, behind = lay_out(cells, output.metrics, shown.labels)
    quantity = ", ".join(QUANTITIES[metric] for metric in output.metrics)
    legend = Legend(quantity, "%", bold=_BEST[over] + _EQUAL)
    return shown.table(output, cells.drop(columns="runs"), layout, notes, bold, legend, behind)


def choose(cells: pd.DataFrame, validation: pd.DataFrame) -> pd.Series:
    """Whether a cell stands at the k of the highest mean validation accuracy; the first of equal ones.

    For each network, sparsity and method, from its cells without diverged runs; cells of methods
    that diverged everywhere are not chosen.
    """
    known = validation[validation["mean"].notna() & (validation["n_diverged"] == 0)]
    known = known[known["matching_epoch"].isna()].sort_values("rewind_epoch")
    at = [*_BLOCK, "method"]
    best = known.loc[known.groupby(at)["mean"].idxmax(), [*at, "rewind_epoch"]]
    return cells.merge(best.assign(chosen=True), "left", [*at, "rewind_epoch"])["chosen"].eq(True)


def mark_best(cells: pd.DataFrame, over: Literal["cell", "block", "chosen"]) -> pd.Series:
    """Whether a cell is the best of those it is compared with; ties by the two printed decimals.

    over: the cells of its S and k, of its S, or of its S at the chosen k. Cells with diverged runs
    are no candidates: their mean leaves the failures out. A candidate alone at its S and k is best
    of nothing.
    """
    candidate = ~cells["method"].isin(_REFERENCE) & (cells["n_diverged"] == 0)
    if over == "chosen":
        candidate &= cells["chosen"]
    printed = cells["mean"].round(2).where(candidate)
    block = [*_BLOCK, "metric", *(["rewind_epoch"] if over == "cell" else [])]
    best = highest(printed, cells, block)
    if over == "cell":
        best &= printed.groupby([cells[key] for key in block], dropna=False).transform("count") > 1
    return best


def lay_out(
    cells: pd.DataFrame, metrics: Sequence[str], labels: Mapping[str, str]
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Display strings, bold marks and runs; data set, model and width only where they vary."""
    row_keys = [*varying(cells, NETWORK), "sparsity", "method"]
    epochs = sorted(cells["rewind_epoch"].dropna().unique())
    columns = list(product(metrics, epochs))
    first = cells.fillna({"rewind_epoch": epochs[0]})  # a dense cell goes on over all k
    rows, found = arranged(first, row_keys, ["metric", "rewind_epoch"], columns)
    headings = _HEADINGS if list(metrics) != ["top1"] else {"top1": "Rewind Epoch k"}
    header = pd.MultiIndex.from_tuples(
        [
            (headings[metric], f"k={epoch:g}" if epoch == epochs[0] else f"{epoch:g}")
            for metric, epoch in columns
        ]
    )
    index = row_labels(rows, labels)
    gap = [SPAN if method == "dense" else ABSENT for method in rows["method"]]
    text = [
        [cell_text(cell) if cell else absent for cell in row]
        for row, absent in zip(found, gap, strict=True)
    ]
    best = [[bool(cell and cell["best"]) for cell in row] for row in found]
    layout, bold = (pd.DataFrame(values, index, header) for values in (text, best))
    behind = runs_behind(found, layout)
    if "chosen" not in cells:
        return layout, bold, behind
    for metric in metrics:
        here = [[c for c in row if c and c["metric"] == metric and c["chosen"]] for row in found]
        picked = [row[0] if row else None for row in here]
        column = headings[metric], "k chosen"
        layout[column] = [
            f"{cell_text(cell)} (k = {cell['rewind_epoch']:g})" if cell else ABSENT
            for cell in picked
        ]
        bold[column] = [bool(cell and cell["best"]) for cell in picked]
        behind[column] = [cell["runs"] if cell else () for cell in picked]
    return layout, bold, behind
