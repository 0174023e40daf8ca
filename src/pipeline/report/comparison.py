"""Our cells beside the published ones, with the uncertainty of their difference.

For means of n₁ and n₂ runs with sample standard deviations s₁ and s₂, a difference is *within*
when it is at most t·√(s₁²/n₁ + s₂²/n₂), t being the 97.5 % quantile of Student's distribution with
Welch's degrees of freedom: of two equal processes, about 5 % of the cells miss that. Two standard
errors in its place, an older rule, are missed by 11.6 % at three runs each (docs/evidence/verdicts.md).
Welch's p is two-sided, from the same three numbers each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from pipeline.errors import UserError
from pipeline.report import published
from pipeline.report.shown import Shown
from pipeline.report.statistics import LEVEL, clusters, quantile, two_sided, welch
from pipeline.report.tables import names
from pipeline.report.tables.cells import KEYS, aggregate, filters, places, select, sort, varying
from pipeline.report.tables.diversity import COLUMNS as DIVERSITY
from pipeline.report.tables.diversity import decimals, long, value_text
from pipeline.report.tables.table import ABSENT, Table, row_labels
from pipeline.results import NETWORK
from pipeline.study.outputs import Output
from pipeline.study.outputs.diversity import Diversity
from pipeline.study.outputs.early_matching import EarlyMatching
from pipeline.study.outputs.rewind_grid import RewindGrid

# What names a cell inside one published table, which has one data set, model and width.
_KEYS = ["sparsity", "method", "rewind_epoch", "matching_epoch", "metric"]
COLUMNS = [
    *NETWORK,
    *_KEYS,
    "ours_mean", "ours_std", "ours_n", "ours_diverged", "ours_missing",
    "published_mean", "published_std", "published_n",
    "difference", "uncertainty", "within", "within_two_errors", "welch_p", "status",
]  # fmt: skip
_OURS = {
    "mean": "ours_mean", "std": "ours_std", "n": "ours_n", "n_diverged": "ours_diverged",
    "n_missing": "ours_missing",
}  # fmt: skip
_PUBLISHED = {"mean": "published_mean", "std": "published_std", "n": "published_n"}
_WITHIN = {"within": "Within", "within_two_errors": "2 SE"}
_RULE = (
    "Within: |ours − published| ≤ t·√(s₁²/n₁ + s₂²/n₂) with the 97.5 % quantile t of Student's "
    "distribution (Welch's degrees of freedom); 2 SE: 2 in place of t; p: Welch's test, two-sided. "
    "None is given where a spread is unknown."
)


_ONE_MASK = (
    "Runs of LTH, permuted and naive share one mask here: their spread leaves out that between masks, "
    "and so does what is judged by it."
)


def standard_error(s1: ArrayLike, n1: ArrayLike, s2: ArrayLike, n2: ArrayLike) -> Any:
    """√(s₁²/n₁ + s₂²/n₂); NaN where a spread is unknown, or a count unknown or below 2."""
    first, second = (np.where(np.less(n, 2), np.nan, n) for n in (n1, n2))
    return np.sqrt(np.square(s1) / first + np.square(s2) / second)


def uncertainty(s1: ArrayLike, n1: ArrayLike, s2: ArrayLike, n2: ArrayLike) -> Any:
    """t·√(s₁²/n₁ + s₂²/n₂) with Student's quantile t; NaN as `standard_error`."""
    error = standard_error(s1, n1, s2, n2)
    return np.where(error > 0, quantile(_freedom(error, s1, n1, s2, n2)) * error, error)


def _freedom(error: Any, s1: ArrayLike, n1: ArrayLike, s2: ArrayLike, n2: ArrayLike) -> Any:
    """Welch's degrees of freedom of a difference with this standard error; 1 without one."""
    parts = np.array(np.broadcast_arrays(s1, s2, n1, n2), dtype=float)
    spreads, counts = parts[:2], np.where(parts[2:] < 2, np.nan, parts[2:])
    return np.where(error > 0, welch(spreads**2 / counts, counts - 1), 1.0)


def welch_p(
    m1: ArrayLike, s1: ArrayLike, n1: ArrayLike, m2: ArrayLike, s2: ArrayLike, n2: ArrayLike
) -> Any:
    """Two-sided p of Welch's t-test; NaN for n < 2, an unknown spread or no spread at all."""
    error = standard_error(s1, n1, s2, n2)
    t = np.abs(np.subtract(m1, m2)) / np.where(error > 0, error, np.nan)
    return two_sided(t, _freedom(error, s1, n1, s2, n2))


def build(output: Output, shown: Shown, data: pd.DataFrame) -> Table:
    """A table beside its published numbers, from the frame that its builder reads.

    Raises:
        UserError: a kind of table that was not published.
    """
    if isinstance(output, Diversity):
        return _diversity(output, shown, data)
    if isinstance(output, RewindGrid | EarlyMatching):
        return _cells(output, shown, data)
    raise UserError(f"{shown.name}: a table of kind {output.kind} has no published numbers")


def _cells(output: RewindGrid | EarlyMatching, shown: Shown, runs: pd.DataFrame) -> Table:
    """Every cell of an output beside its published value, from the paper's table, the thesis' or another's.

    Every published cell that the output's filters let pass has a row, also when no run of ours is
    there (status missing); cells of ours that were not published follow. Cells meet by sparsity,
    method, rewind epoch, matching epoch and metric; a note says so when data set, model or width
    differ.
    """
    theirs, source = _published(str(output.published), shown)
    chosen = select(runs, output, shown.end)
    ours = pd.concat([aggregate(chosen, metric) for metric in output.metrics], ignore_index=True)
    theirs = theirs[theirs["metric"].isin(output.metrics)]
    for column, wanted in filters(output).items():
        theirs = theirs[theirs[column].isin(wanted)]
    shared = _shared(chosen)
    if shared:  # a spread over runs that vary together says nothing of the mean's uncertainty
        ours = ours.assign(std=math.nan)
    frame = sort(_beside(ours, theirs, _KEYS), [*KEYS, "metric"])
    notes = shown.notes(output, *_foreign(ours, theirs, source), *shared, _RULE)
    return _table(output, shown, source, frame, notes)


def _published(label: str, shown: Shown) -> tuple[pd.DataFrame, str]:
    """The published cells that a label names, and what it names."""
    if rows := shown.works.rows(label):
        return published.cells_of(rows), f"{rows[0]['work']} Table {rows[0]['table']}"
    return published.table(label), f"{'thesis' if '.' in label else 'paper'} Table {label}"


def _diversity(output: Diversity, shown: Shown, diversity: pd.DataFrame) -> Table:
    """The diversity frame beside Table 1: accuracy with its spread, four numbers without one."""
    ours, theirs = (
        long(frame.assign(declared=frame["runs"])) for frame in (diversity, published.diversity())
    )
    # A dense row without an ensemble claims nothing; published ones give the accuracy alone.
    ours = ours[ours["mean"].notna() | (ours["method"] != "dense")]
    theirs = theirs[theirs["mean"].notna()]
    notes = shown.notes(output, _ONE_MASK, _RULE)
    if ours.merge(theirs, on=NETWORK).empty:
        theirs = theirs.iloc[:0]
        notes.insert(0, "Nothing was published for these networks and data sets.")
    frame = _beside(ours, theirs, [*NETWORK, "method", "metric"])
    in_order = pd.Categorical(frame["metric"], list(DIVERSITY))
    frame = sort(frame.assign(metric=in_order), [*NETWORK, "metric", "method"])
    return _table(output, shown, "paper Table 1", frame, notes)


def _beside(ours: pd.DataFrame, theirs: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Our and the published cells of equal keys in one row, with the columns `COLUMNS`.

    A cell alone has a row, too. Several networks in one output, or two published sources: every
    combination is shown.
    """
    both = ours.rename(columns=_OURS).merge(
        theirs.rename(columns=_PUBLISHED), how="outer", on=keys, suffixes=("", "_published")
    )
    for key in set(NETWORK) - set(keys):
        both[key] = both[key].fillna(both[f"{key}_published"])
    counts = ["ours_n", "ours_diverged", "ours_missing"]
    both[counts] = both[counts].fillna(0)
    sides = [f"{side}_{key}" for side in ("ours", "published") for key in ("mean", "std", "n")]
    mean, s1, n1, known, s2, n2 = both[sides].astype(float).to_numpy().T
    both["difference"] = mean - known
    both["uncertainty"] = uncertainty(s1, n1, s2, n2)
    both["welch_p"] = welch_p(mean, s1, n1, known, s2, n2)
    judged = (both["difference"] + both["uncertainty"]).notna()
    two_errors = 2 * standard_error(s1, n1, s2, n2)
    for column, bound in (("within", both["uncertainty"]), ("within_two_errors", two_errors)):
        both[column] = (both["difference"].abs() <= bound).astype(object).where(judged, None)
    missing = np.isnan(mean)
    troubles = {
        "diverged": missing & (both["ours_diverged"] > 0),
        "missing": missing,
        "not published": np.isnan(known),
        "incomplete": both["ours_missing"] + both["ours_diverged"] > 0,
    }
    both["status"] = np.select(list(troubles.values()), list(troubles), "complete")
    return both.reindex(columns=COLUMNS)


def _shared(runs: pd.DataFrame) -> list[str]:
    """Why nothing is judged: pairs of a network that share a dense run."""
    pairs = runs[[*NETWORK, "a", "b"]].dropna().drop_duplicates()
    return [
        f"{names.place(*network)}: {len(own)} pairs are {found} cluster{'s' if found > 1 else ''} of "
        "shared dense runs, so that their spread is not that of independent runs; cells are not judged."
        for network, own in pairs.groupby(NETWORK)
        if (found := len(set(clusters(own[["a", "b"]].itertuples(index=False))))) < len(own)
    ]  # fmt: skip


def _foreign(ours: pd.DataFrame, theirs: pd.DataFrame, source: str) -> list[str]:
    own, known = (places(frame[NETWORK].drop_duplicates()) for frame in (ours, theirs))
    if not own or own == known:
        return []
    return [
        f"Not the same experiment: ours is {', '.join(own)}, {source} is {', '.join(known)}; "
        "the differences say nothing about a reproduction."
    ]


def _summary(frame: pd.DataFrame, judged: pd.DataFrame) -> str:
    counts = frame["status"].value_counts()
    rest = ", ".join(
        f"{counts[status]} {status}"
        for status in ("incomplete", "missing", "diverged", "not published")
        if status in counts
    )
    known = int(frame["published_mean"].notna().sum())
    return (
        f"{int(judged['within'].sum())} of {len(judged)} judged cells within; {known} published "
        "cells" + (f" ({rest})." if rest else ".")
    )


def _together(judged: pd.DataFrame) -> list[str]:
    """Misses found beside those expected of equal processes, and all cells of a table in one test."""
    cells = len(judged)
    columns = ["ours_std", "ours_n", "published_std", "published_n"]
    s1, n1, s2, n2 = judged[columns].astype(float).to_numpy().T
    outside, outside_two = (
        cells - int(judged[rule].sum()) for rule in ("within", "within_two_errors")
    )
    expected_two = float(two_sided(2.0, n1 + n2 - 2).sum())
    errors = np.array([(s1 / n1**0.5).mean(), (s2 / n2**0.5).mean()])
    df = welch(errors**2, np.array([n1.min(), n2.min()]) - 1)
    mean, reach = judged["difference"].mean(), quantile(df) * math.hypot(*errors)
    smallest = judged["welch_p"].min()
    least = ABSENT if math.isnan(smallest) else f"{min(1.0, cells * smallest):.2g}"
    ends = " … ".join(names.signed(mean + side * reach) for side in (-1, 1))
    return [
        f"Outside: {outside} found, {(1 - LEVEL) * cells:.1f} expected of two equal processes; "
        f"by 2 SE: {outside_two} found, {expected_two:.1f} expected.",
        f"All cells in one test: p = {least} that ours and the published are equal everywhere (the "
        "smallest p times the number of cells, which holds however cells depend on each other); mean "
        f"difference {names.signed(mean)} ({ends}, cells taken as wholly dependent).",
    ]


def _table(
    output: Output, shown: Shown, source: str, frame: pd.DataFrame, notes: list[str]
) -> Table:
    text = [
        [
            _value(row, "ours", row["status"]),
            _value(row, "published", ABSENT),
            ABSENT if math.isnan(row["difference"]) else _signed(row),
            f"{row['ours_n']:g}",
            *({True: "yes", False: "no"}.get(row[rule], ABSENT) for rule in _WITHIN),
            ABSENT if math.isnan(row["welch_p"]) else f"{row['welch_p']:.3f}",
            row["status"],
        ]
        for row in frame.to_dict("records")
    ]
    matched = ["end" if pd.isna(t) else names.number(t) for t in frame["matching_epoch"]]
    rows = frame[["sparsity", "method", "rewind_epoch"]].assign(t=matched, Metric=frame["metric"])
    rows.insert(0, "Network", places(frame))
    index = row_labels(rows[[key for key in rows if key in ("method", *varying(rows, [*rows]))]])
    header = ["Ours", "Published", "Difference", "Seeds", *_WITHIN.values(), "p", "Status"]
    layout = pd.DataFrame(text, shown.said(index), header)
    title = f"{shown.title(output)}: ours beside {source}"
    judged = frame[frame["within"].notna()]
    notes = [_summary(frame, judged), *notes, *(_together(judged) if len(judged) else [])]
    return Table(f"{shown.name}_comparison", title, frame, layout, notes, shown.protocol)


def _value(row: Mapping[str, Any], side: str, unknown: str) -> str:
    mean, std = row[f"{side}_mean"], row[f"{side}_std"]
    return unknown if math.isnan(mean) else value_text(row["metric"], mean, std)


def _signed(row: Mapping[str, Any]) -> str:
    digits = decimals(row["metric"])
    rounded = round(row["difference"], digits) + 0.0  # no minus before a zero
    return names.signed(rounded, decimals=digits)
