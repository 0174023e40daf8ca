"""Differences between methods, seed pair by seed pair, with an interval for their mean.

Runs of two methods on the same pair of seeds share dense networks and mask, so their difference
varies less than either. Its mean over n pairs has the interval mean ± t·s/√n, with the sample
standard deviation s and the 97.5 % quantile t of Student's distribution with n − 1 degrees of freedom.
Pairs that share a dense run vary together: they are one cluster, averaged first, and n counts
clusters.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import Any

import pandas as pd

from pipeline.report.shown import Shown
from pipeline.report.statistics import clusters, interval
from pipeline.report.tables import names
from pipeline.report.tables.cells import METRICS, by_seeds, read, select, varying
from pipeline.report.tables.table import ABSENT, Legend, Table, row_labels
from pipeline.results import NETWORK
from pipeline.study.outputs.paired_difference import PairedDifference

__all__ = ["build", "interval", "read"]

_LEGEND = Legend(
    "Difference in accuracy, the first method minus the second on the same pair of seeds",
    "percentage points", spread="", of="pairs, those that share a dense run averaged first",
    bold="the interval leaves out 0",
)  # fmt: skip
_RULE = (
    "A run from a's own start (LTH) counts for every pair with this a. Interval: 95 % by Student's t; "
    "p: paired t-test, two-sided."
)


def build(output: PairedDifference, shown: Shown, runs: pd.DataFrame) -> Table:
    """Rows: cell × two methods (the later one in LTH, naive, perm. minus the earlier).

    Columns: mean difference, its interval, p, and in how many clusters of pairs it is positive. Where the
    output has several cells of a network, a row for each two methods over all of them follows: the
    cells of a pair are averaged first, so that its n is still the number of pairs. Only runs that
    are finished for both methods count; matchings before the end are left out.
    """
    chosen = select(runs, output, shown.end)
    chosen = chosen[chosen["matching_epoch"].isna()]
    tidy = pd.DataFrame(
        [
            {**dict(zip(NETWORK, network, strict=True)), **row}
            for metric in output.metrics
            for network, of_network in chosen.groupby(NETWORK, sort=True)
            for row in _rows(of_network, metric)
        ]
    )
    layout, bold = _lay_out(tidy, len(output.metrics) > 1, shown.labels)
    behind = tidy.pop("runs")
    runs_of = pd.DataFrame(
        [[own] * layout.shape[1] for own in behind], layout.index, layout.columns
    )
    notes = [_RULE]
    shared = tidy[tidy["n"] < tidy["n_pairs"]]
    if len(shared):
        least = int(shared["n"].min())
        notes.append(
            f"Pairs share dense runs: {int(shared['n_pairs'].max())} pairs are {least} "
            f"cluster{'s' if least > 1 else ''}"
            + (", and one cluster has no interval." if least == 1 else ".")
        )
    unpaired = int(tidy["n_missing"].sum())
    if unpaired:
        notes.append(f"{unpaired} differences are missing: a run is missing or diverged.")
    return shown.table(output, tidy, layout, notes, bold, _LEGEND, runs_of)


def _rows(runs: pd.DataFrame, metric: str) -> Iterable[dict[str, Any]]:
    """The rows of one network: cell by cell, then over all cells."""
    methods = sorted(runs["method"].unique(), key=names.method_key)
    of_pair: defaultdict[tuple[str, str], list[pd.Series]] = defaultdict(list)
    for cell, of_cell in runs.groupby(["sparsity", "rewind_epoch"], sort=True):
        for earlier, later in combinations(methods, 2):
            found = differences(of_cell, later, earlier, metric)
            of_pair[later, earlier].append(found)
            behind = of_cell["path"][of_cell["method"].isin([earlier, later])]
            row = _row(cell, later, earlier, metric, found)
            yield row | {"runs": tuple(behind)}
    for (later, earlier), cells in of_pair.items():
        if len(cells) > 1:
            # a pair that lacks a cell has no mean over all of them
            mean = pd.concat(cells, axis=1).mean(axis=1, skipna=False)
            behind = runs["path"][runs["method"].isin([earlier, later])]
            row = _row((math.nan, math.nan), later, earlier, metric, mean)
            yield row | {"runs": tuple(behind)}


def differences(runs: pd.DataFrame, later: str, earlier: str, metric: str) -> pd.Series:
    """``later`` minus ``earlier`` (points) by pair of seeds and replicate; NaN where a run is missing."""
    value = pd.to_numeric(runs[METRICS[metric]], errors="coerce").where(runs["status"] == "ok")
    pair = ["a", "b", "replicate"]
    first, second = (
        runs[pair].assign(**{side: value})[runs["method"] == method]
        for side, method in (("first", later), ("second", earlier))
    )
    # runs of a alone count for every pair with this a
    how = "outer"
    if second["b"].isna().all() and first["b"].notna().any():
        second, how = second.drop(columns="b"), "left"
    elif first["b"].isna().all() and second["b"].notna().any():
        first, how = first.drop(columns="b"), "right"
    both = first.merge(second, how=how).set_index(pair)
    return both["first"] - both["second"]


def by_cluster(differences: pd.Series) -> pd.Series:
    """Their means within clusters of pairs that share a dense run; by a and b (none: a alone), and more."""
    pairs = differences.dropna()
    ends = [(a, a if pd.isna(b) else b) for a, b, *_ in pairs.index]
    return pairs.groupby(clusters(ends)).mean()


def _row(
    cell: tuple[float, float], later: str, earlier: str, metric: str, found: pd.Series
) -> dict[str, Any]:
    known = by_cluster(found)
    mean, low, high, p = interval(known)
    return {
        "sparsity": cell[0], "rewind_epoch": cell[1], "first": later, "second": earlier,
        "metric": metric, "difference": mean, "low": low, "high": high, "p": p,
        "std": known.std(), "n": len(known), "n_pairs": int(found.count()),
        "n_positive": int((known > 0).sum()), "n_missing": int(found.isna().sum()),
        "values": "; ".join(by_seeds(found.index.to_frame(), found)),
    }  # fmt: skip


def _lay_out(
    tidy: pd.DataFrame, both: bool, labels: Mapping[str, str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Display strings and bold marks; ``both``: rows of top-1 and top-5."""
    methods = [
        f"{names.method(first, labels)} − {names.method(second, labels)}"
        for first, second in tidy[["first", "second"]].itertuples(index=False)
    ]
    rows = tidy[[*varying(tidy, NETWORK), "sparsity", "rewind_epoch"]]
    if both:
        rows = rows.assign(Accuracy=tidy["metric"].map({"top1": "top-1", "top5": "top-5"}))
    index = row_labels(rows.assign(Methods=methods), everywhere="all")
    text = [
        [
            names.signed(row["difference"]) if row["n"] else "missing",
            ABSENT if math.isnan(row["low"]) else _ends(row),
            ABSENT
            if math.isnan(row["p"])
            else f"{row['p']:.4f}"
            if row["p"] >= 1e-4
            else "<0.0001",
            f"{row['n_positive']} of {row['n']}",
        ]
        for row in tidy.to_dict("records")
    ]
    columns = ["Difference", "95 % interval", "p", "Positive"]
    layout = pd.DataFrame(text, index, columns)
    decided = ((tidy["low"] > 0) | (tidy["high"] < 0)).to_numpy()
    bold = pd.DataFrame(False, index, columns).assign(**dict.fromkeys(columns[:2], decided))
    return layout, bold


def _ends(row: Mapping[str, Any]) -> str:
    return f"{names.signed(row['low'])} … {names.signed(row['high'])}"
