"""Barriers on the line between two networks before and after matching, with and without correction.

Paper, eq. (3): the largest excess of the loss (or error) over the chord between the ends.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import product
from typing import Any

import pandas as pd

from pipeline.report.shown import Shown
from pipeline.report.tables.cells import by_seeds, spread, varying
from pipeline.report.tables.table import (
    Legend,
    Table,
    arranged,
    mean_text,
    row_labels,
    runs_behind,
)
from pipeline.results import PLACE, Results
from pipeline.study.outputs.barriers import Barriers

_ROW = ["split", "at", "correction"]
_METRICS = {"loss": "Loss (nats)", "error": "Error (%)"}
_UNITS = {"loss": "nats", "error": "percentage points"}
_LEGEND = Legend(
    "Barrier, the excess over the chord between the ends, of the loss in nats and the error in "
    "percentage points", of="pairs of seeds",
)  # fmt: skip
_RULE = "At: the supremum over α (eq. 3), or α = 1/2."


def read(output: Barriers, results: Results) -> pd.DataFrame:
    """The barriers of the output's experiments."""
    return results.barriers(results.chosen(output))


def build(output: Barriers, shown: Shown, barriers: pd.DataFrame) -> Table:
    """Rows: split × where on the line × correction; columns: loss and error of a–b and π(a)–b.

    A pair whose curve is not there counts as missing.
    """
    chosen = barriers
    for column, wanted in (("split", output.splits), ("correction", output.corrections)):
        if wanted:
            chosen = chosen[chosen[column].isin(wanted)]
    by = [*PLACE, *_ROW, "metric", "matched"]
    tidy = spread(
        chosen.assign(said=by_seeds(chosen, chosen["value"])), by, sort=False,
        n_missing=("value", "size"), values=("said", "; ".join), runs=("path", tuple),
    ).assign(unit=lambda frame: frame["metric"].map(_UNITS))  # fmt: skip
    tidy["n_missing"] -= tidy["n"]
    keys = [*varying(tidy, PLACE), *_ROW]
    columns = list(product(_METRICS, (False, True)))
    rows, found = arranged(tidy, keys, ["metric", "matched"], columns)
    layout = pd.DataFrame(
        [[_text(cell) for cell in row] for row in found],
        index=row_labels(rows),
        columns=pd.MultiIndex.from_tuples(
            [(_METRICS[metric], "π(a)–b" if matched else "a–b") for metric, matched in columns]
        ),
    )
    notes = [_RULE]
    missing = int(tidy["n_missing"].max()) if len(tidy) else 0
    if missing:
        notes.append(f"Up to {missing} pairs of a cell are missing.")
    behind = runs_behind(found, layout)
    return shown.table(
        output, tidy.drop(columns="runs"), layout, notes, legend=_LEGEND, runs=behind
    )


def _text(row: Mapping[str, Any] | None) -> str:
    if row is None or math.isnan(row["mean"]):
        return "missing"
    digits = 3 if row["metric"] == "loss" else 2
    return mean_text(row["mean"], row["std"], digits)
