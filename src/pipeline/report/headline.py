"""What a study found, in a sentence for each network of its tables of paired differences."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import pandas as pd

from pipeline.report.tables import Table, names
from pipeline.results import NETWORK
from pipeline.study.config import Config
from pipeline.study.outputs.paired_difference import PairedDifference

_CELL = ["sparsity", "rewind_epoch"]


def sentences(config: Config, tables: Mapping[str, Table]) -> list[str]:
    """Permuted methods against naive, by each table of paired differences among ``tables``."""
    methods = config.recipes.methods
    labels = {name: method.label for name, method in methods.items() if method.label}
    permuted = {name for name, method in methods.items() if method.permute}
    found: list[str] = []
    for name, output in config.outputs.items():
        if isinstance(output, PairedDifference) and name in tables:
            rows = tables[name].tidy
            found += _of(rows[rows["first"].isin(permuted) & (rows["second"] == "naive")], labels)
    return found


def _of(rows: pd.DataFrame, labels: Mapping[str, str]) -> Iterator[str]:
    """A sentence for each network, method and metric: over all its cells, or on the only one."""
    for _, of_method in rows.groupby([*NETWORK, "first", "metric"], sort=False):
        over_all = of_method[of_method[_CELL].isna().all(axis=1)]
        row = (over_all if len(over_all) else of_method).iloc[0]
        if not row["n"]:
            continue
        method = names.whole_method(row["first"], labels)
        top = ", top-5" if row["metric"] == "top5" else ""
        yield f"{_place(row)}: {method} − naive{top}: {_difference(row)}"


def _place(row: pd.Series) -> str:
    cell = {} if math.isnan(row["sparsity"]) else {key: row[key] for key in _CELL}
    where = names.place(row["dataset"], row["model"], row["width"], **cell)
    return where if cell else f"{where}, all cells"


def _difference(row: pd.Series) -> str:
    pairs = f"{row['n']} pair{'' if row['n'] == 1 else 's'} of seeds"
    mean = f"{names.signed(row['difference'])} points"
    if math.isnan(row["low"]):
        return f"{mean} ({pairs})"
    within = row["low"] <= 0 <= row["high"]
    low, high = names.signed(row["low"]), names.signed(row["high"])
    holds = "which holds zero" if within else "which leaves out zero"
    return f"{mean} (95 % interval {low} … {high}, {holds}; {pairs})"
