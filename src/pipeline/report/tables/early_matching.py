"""Accuracy against the epoch at which b is matched: paper Table 15, thesis Table 4.1."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from pipeline.report.tables import names
from pipeline.report.tables.cells import aggregate, declared, varying
from pipeline.report.tables.rewind_grid import HEADERS
from pipeline.report.tables.table import ABSENT, SPAN, Table, cell_text, count_notes, spec_notes


def build(
    name: str, spec: Mapping[str, Any], runs: pd.DataFrame, *, protocol: str = "paper"
) -> Table:
    """Rows S × method, columns t: a at the end of training is matched with b at epoch t.

    Settings: title, note, metric (``top1`` or ``top5``), ``end`` (epochs of a complete dense run:
    the last column's label, and a matching epoch equal to it is the end), labels (method -> name
    to print), and the filters of
    `pipeline.report.tables.cells.FILTERS`; Table 15 wants ``rewind_epochs: [20]``. A method without any
    early matching (LTH, naive) spans all columns. Nothing is marked as the best, as in the paper.
    """
    cells = aggregate(declared(name, runs, spec), spec.get("metric", "top1"))
    cells["best"] = False
    end = names.number(float(spec["end"])) if "end" in spec else "T"
    layout = lay_out(cells, end, spec.get("labels"))
    notes = [*spec_notes(spec), *count_notes(cells)]
    bold = pd.DataFrame(False, index=layout.index, columns=layout.columns)
    return Table(name, spec.get("title", name), cells, layout, notes, protocol, bold)


def lay_out(
    cells: pd.DataFrame, end: str, methods: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """Display strings; the last column is matching at the end of training."""
    outer = varying(cells, ["dataset", "model", "width", "rewind_epoch"])
    row_keys = [*outer, "sparsity", "method"]
    early = sorted(cells["matching_epoch"].dropna().unique())
    text, labels = [], []
    for row, group in cells.groupby(row_keys, sort=False):
        by_epoch = {
            None if math.isnan(cell["matching_epoch"]) else cell["matching_epoch"]: cell
            for cell in group.to_dict("records")
        }
        if set(by_epoch) == {None} and early:
            text.append([cell_text(by_epoch[None])] + [SPAN] * len(early))
        else:
            places = [by_epoch.get(epoch) for epoch in [*early, None]]
            text.append([cell_text(cell) if cell else ABSENT for cell in places])
        values = row if isinstance(row, tuple) else (row,)
        labels.append(
            (
                *(HEADERS[key][1](value) for key, value in zip(outer, values, strict=False)),
                names.percent(values[-2]),
                names.method(values[-1], methods),
            )
        )
    columns = [names.number(epoch) for epoch in early] + [end]
    columns[0] = f"t={columns[0]}"
    header = pd.MultiIndex.from_tuples([("Early Matching Point t", column) for column in columns])
    index = pd.MultiIndex.from_tuples(
        labels, names=[*(HEADERS[key][0] for key in outer), "S", "Method"]
    )
    return pd.DataFrame(text, index=index, columns=header)
