"""Accuracy against sparsity, method and rewind epoch: paper Tables 5-14, thesis Table 4.2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

import pandas as pd

from pipeline.report.shown import Shown
from pipeline.report.tables.cells import aggregate, highest, read, select, varying
from pipeline.report.tables.table import ABSENT, Table, arranged, cell_text, count_notes, row_labels
from pipeline.results import NETWORK
from pipeline.study.outputs.rewind_grid import RewindGrid

__all__ = ["build", "read"]

# Starting points that a mask was made for; the best is marked among the other methods.
_REFERENCE = ("dense", "imp", "lth")
_HEADINGS = {
    "top1": "Top-1 Accuracy", "top5": "Top-5 Accuracy", "validation": "Validation Accuracy",
}  # fmt: skip
_BLOCK = [*NETWORK, "sparsity"]


_CHOSEN = (
    "k chosen: for each sparsity and method, the k of the highest mean accuracy on images that are "
    "withheld from all training; the accuracy shown there is on test images, which chose nothing."
)


def build(output: RewindGrid, shown: Shown, runs: pd.DataFrame) -> Table:
    """Rows S × method (LTH, naive, perm.), columns k; mean ± sample standard deviation in %.

    Two metrics stand side by side as in Table 10. Bold: the highest mean among the methods that
    start from a new initialisation, per sparsity and metric; equal as printed, both.

    Where runs have an accuracy on withheld images, a last column shows each method at the k that is
    best there, and bold compares the methods at these k alone.
    """
    chosen = select(runs, output, shown.end)
    cells = pd.concat([aggregate(chosen, metric) for metric in output.metrics], ignore_index=True)
    # Rows of matching before the end belong to the early-matching table.
    cells = cells[cells["matching_epoch"].isna()].reset_index(drop=True)
    notes = count_notes(cells)
    if "validation_accuracy" in chosen and chosen["validation_accuracy"].notna().any():
        cells["chosen"] = choose(cells, aggregate(chosen, "validation"))
        notes.append(_CHOSEN)
    cells["best"] = mark_best(cells)
    layout, bold = lay_out(cells, output.metrics, shown.labels)
    return shown.table(output, cells, layout, notes, bold)


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


def mark_best(cells: pd.DataFrame) -> pd.Series:
    """Whether a cell is the best of its sparsity block; ties by the two printed decimals.

    Cells with diverged runs are no candidates: their mean leaves the failures out. Nor are cells at
    a k that was not chosen, where k was chosen.
    """
    candidate = ~cells["method"].isin(_REFERENCE) & (cells["n_diverged"] == 0)
    if "chosen" in cells:
        candidate &= cells["chosen"]
    printed = cells["mean"].round(2).where(candidate)
    return highest(printed, cells, [*_BLOCK, "metric"])


def lay_out(
    cells: pd.DataFrame, metrics: Sequence[str], labels: Mapping[str, str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Display strings and bold marks; data set, model and width only where they vary."""
    row_keys = [*varying(cells, NETWORK), "sparsity", "method"]
    epochs = sorted(cells["rewind_epoch"].unique())
    columns = list(product(metrics, epochs))
    rows, found = arranged(cells, row_keys, ["metric", "rewind_epoch"], columns)
    headings = _HEADINGS if list(metrics) != ["top1"] else {"top1": "Rewind Epoch k"}
    header = pd.MultiIndex.from_tuples(
        [
            (headings[metric], f"k={epoch:g}" if epoch == epochs[0] else f"{epoch:g}")
            for metric, epoch in columns
        ]
    )
    index = row_labels(rows, labels)
    text = [[cell_text(cell) if cell else ABSENT for cell in row] for row in found]
    best = [[bool(cell and cell["best"]) for cell in row] for row in found]
    layout, bold = (pd.DataFrame(values, index, header) for values in (text, best))
    if "chosen" not in cells:
        return layout, bold
    for metric in metrics:
        here = [[c for c in row if c and c["metric"] == metric and c["chosen"]] for row in found]
        picked = [row[0] if row else None for row in here]
        column = headings[metric], "k chosen"
        layout[column] = [
            f"{cell_text(cell)} (k = {cell['rewind_epoch']:g})" if cell else ABSENT
            for cell in picked
        ]
        bold[column] = [bool(cell and cell["best"]) for cell in picked]
    return layout, bold
