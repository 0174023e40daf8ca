"""What a study found, in a sentence for each network of its tables of paired differences."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

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
        yield f"{_place(row, of_method)}: {method} − naive{top}: {_difference(row)}"


def _place(row: pd.Series, cells: pd.DataFrame) -> str:
    """The network, and the one cell of a row or those over which it is a mean."""
    where = names.place(row["dataset"], row["model"], row["width"])
    sparsities, epochs = (sorted(cells[key].dropna().unique()) for key in _CELL)
    at = f"S = {_listed([names.percent(each) for each in sparsities])}"
    return f"{where}, {at}, k = {_listed([f'{each:g}' for each in epochs])}"


def _listed(words: Sequence[str]) -> str:
    return " and ".join([*([", ".join(words[:-1])] if words[1:] else []), words[-1]])


def _difference(row: pd.Series) -> str:
    pairs = f"{row['n']} pair{'' if row['n'] == 1 else 's'} of seeds"
    mean = f"{names.signed(row['difference'])} points"
    if math.isnan(row["low"]):
        return f"{mean} ({pairs})"
    within = row["low"] <= 0 <= row["high"]
    low, high = names.signed(row["low"]), names.signed(row["high"])
    holds = "which holds zero" if within else "which leaves out zero"
    return f"{mean} (95 % interval {low} … {high}, {holds}; {pairs})"
