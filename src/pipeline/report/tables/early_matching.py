"""Accuracy against the epoch at which b is matched: paper Table 15, thesis Table 4.1."""

from __future__ import annotations

import math

import pandas as pd

from pipeline.report.shown import Shown
from pipeline.report.tables import names
from pipeline.report.tables.cells import (
    DENSE,
    QUANTITIES,
    aggregate,
    dense_of,
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
from pipeline.study.outputs.early_matching import EarlyMatching

__all__ = ["build", "read"]


def build(output: EarlyMatching, shown: Shown, runs: pd.DataFrame) -> Table:
    """Rows S × method, columns t: a at the end of training is matched with b at epoch t.

    Table 15 wants ``rewind_epochs: [20]``. A method without any early matching (LTH, naive) spans
    all columns, and so do the dense networks of the same seeds, in the last row of each network.
    Nothing is marked as the best, as in the paper.
    """
    chosen = select(runs, output, shown.end)
    cells = aggregate(pd.concat([chosen, dense_of(runs, chosen)]), output.metric)
    sparse = cells["method"] != "dense"
    notes = count_notes(cells[sparse]) + ([] if sparse.all() else [DENSE])
    cells["best"] = False
    end = "T" if shown.end is None else names.number(float(shown.end))
    row_keys = [*varying(cells[sparse], [*NETWORK, "rewind_epoch"]), "sparsity", "method"]
    early = sorted(cells["matching_epoch"].dropna().unique())
    rows, found = arranged(
        cells.fillna({"matching_epoch": math.inf}), row_keys, ["matching_epoch"],
        [(epoch,) for epoch in (*early, math.inf)],
    )  # fmt: skip
    text = [
        [cell_text(last)] + [SPAN] * len(early)
        if last and not any(before)
        else [cell_text(cell) if cell else ABSENT for cell in (*before, last)]
        for *before, last in found
    ]
    columns = [names.number(epoch) for epoch in early] + [end]
    columns[0] = f"t={columns[0]}"
    header = pd.MultiIndex.from_tuples([("Early Matching Point t", column) for column in columns])
    layout = pd.DataFrame(text, index=row_labels(rows, shown.labels), columns=header)
    behind = runs_behind(
        [
            [last, *before] if last and not any(before) else [*before, last]
            for *before, last in found
        ],
        layout,
    )
    legend = Legend(QUANTITIES[output.metric], "%")
    return shown.table(
        output, cells.drop(columns="runs"), layout, notes, legend=legend, runs=behind
    )
