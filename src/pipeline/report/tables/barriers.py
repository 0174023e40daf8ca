"""Barriers on the line between two networks before and after matching, with and without correction.

Paper, eq. (3): the largest excess of the loss (or error) over the chord between the ends.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from pipeline.report.tables.cells import varying
from pipeline.report.tables.rewind_grid import HEADERS
from pipeline.report.tables.table import Table, mean_text, spec_notes

_PLACE = ["experiment", "dataset", "model", "width"]
_ROW = ["split", "at", "correction"]
CORRECTIONS = {"none": "none", "reset": "BatchNorm reset", "repair": "REPAIR"}
_AT = {"sup": "sup", "half": "1/2"}
_METRICS = {"loss": "Loss (nats)", "error": "Error (%)"}
_RULE = (
    "Excess over the chord between the ends, mean ± sample standard deviation over pairs; at: the "
    "supremum over α (eq. 3), or α = 1/2."
)


def build(
    name: str, spec: Mapping[str, Any], barriers: pd.DataFrame, *, protocol: str = "paper"
) -> Table:
    """Rows: split × where on the line × correction; columns: loss and error of a–b and π(a)–b.

    ``barriers`` as `pipeline.results.Results.barriers` gives them. Settings: title, note, splits,
    corrections. A pair whose curve is not there counts as missing.
    """
    chosen = barriers
    for key, column in (("splits", "split"), ("corrections", "correction")):
        if spec.get(key):
            chosen = chosen[chosen[column].isin(spec[key])]
    keys = [*_PLACE, *_ROW, "metric", "matched"]
    tidy = (
        chosen.groupby(keys, sort=False)
        .agg(
            mean=("value", "mean"),
            std=("value", "std"),
            n=("value", "count"),
            pairs=("value", "size"),
        )
        .reset_index()
    )
    tidy["n_missing"] = tidy.pop("pairs") - tidy["n"]
    outer = varying(tidy, _PLACE)
    found = {
        (*(row[key] for key in (*outer, *_ROW)), row["metric"], bool(row["matched"])): row
        for row in tidy.to_dict("records")
    }
    rows = list(dict.fromkeys(tidy[[*outer, *_ROW]].itertuples(index=False, name=None)))
    columns = [(metric, matched) for metric in _METRICS for matched in (False, True)]
    layout = pd.DataFrame(
        [[_text(found.get((*row, *column))) for column in columns] for row in rows],
        index=pd.MultiIndex.from_tuples(
            [
                (
                    *(_label(key, value) for key, value in zip(outer, row, strict=False)),
                    row[-3], _AT[row[-2]], CORRECTIONS[row[-1]],
                )
                for row in rows
            ],
            names=[*(_heading(key) for key in outer), "Images", "At", "Correction"],
        ),
        columns=pd.MultiIndex.from_tuples(
            [(_METRICS[metric], "π(a)–b" if matched else "a–b") for metric, matched in columns]
        ),
    )  # fmt: skip
    notes = [*spec_notes(spec), _RULE]
    missing = int(tidy["n_missing"].max()) if len(tidy) else 0
    if missing:
        notes.append(f"Up to {missing} pairs of a cell are missing.")
    return Table(name, spec.get("title", name), tidy, layout, notes, protocol)


def _heading(key: str) -> str:
    return "Experiment" if key == "experiment" else HEADERS[key][0]


def _label(key: str, value: Any) -> str:
    return str(value) if key == "experiment" else HEADERS[key][1](value)


def _text(row: Mapping[str, Any] | None) -> str:
    if row is None or math.isnan(row["mean"]):
        return "missing"
    digits = 3 if row["metric"] == "loss" else 2
    return mean_text(row["mean"], row["std"], digits)
