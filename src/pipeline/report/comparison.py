"""Our cells beside the published ones, with the uncertainty of their difference.

For means of n₁ and n₂ runs with sample standard deviations s₁ and s₂, a difference is *within*
when it is at most 2·√(s₁²/n₁ + s₂²/n₂). Welch's p is two-sided, from the same three numbers each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
from scipy import stats

from pipeline.errors import UserError
from pipeline.report import published
from pipeline.report.shown import Shown
from pipeline.report.tables import names
from pipeline.report.tables.cells import aggregate, filters, select, sort
from pipeline.report.tables.diversity import COLUMNS as DIVERSITY
from pipeline.report.tables.table import ABSENT, Table, mean_text
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
    "difference", "uncertainty", "within", "welch_p", "status",
]  # fmt: skip
_RULE = (
    "Within: |ours − published| ≤ 2·√(s₁²/n₁ + s₂²/n₂); p: Welch's test, two-sided. Neither is "
    "given where a spread is unknown."
)


def uncertainty(s1: float, n1: float, s2: float, n2: float) -> float | None:
    """2·√(s₁²/n₁ + s₂²/n₂), or None when a spread or a count is unknown."""
    if any(math.isnan(value) for value in (s1, n1, s2, n2)) or min(n1, n2) < 2:
        return None
    return 2 * math.sqrt(s1**2 / n1 + s2**2 / n2)


def welch_p(m1: float, s1: float, n1: float, m2: float, s2: float, n2: float) -> float | None:
    """Two-sided p of Welch's t-test, or None for n < 2, an unknown spread or no spread at all."""
    if uncertainty(s1, n1, s2, n2) in (None, 0.0):
        return None
    result = stats.ttest_ind_from_stats(m1, s1, n1, m2, s2, n2, equal_var=False)
    return float(result.pvalue)


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
    """Every cell of an output beside its published value, from the paper's table or the thesis'.

    Every published cell that the output's filters let pass has a row, also when no run of ours is
    there (status missing); cells of ours that were not published follow. Cells meet by sparsity,
    method, rewind epoch, matching epoch and metric; a note says so when data set, model or width
    differ.
    """
    label = str(output.published)
    theirs = published.table(label)
    chosen = select(runs, output, shown.end)
    ours = pd.concat([aggregate(chosen, metric) for metric in output.metrics], ignore_index=True)
    theirs = theirs[theirs["metric"].isin(output.metrics)]
    for column, wanted in filters(output).items():
        theirs = theirs[theirs[column].isin(wanted)]
    rows = [_row(*pair) for pair in _pairs(ours, theirs, _KEYS)]
    source = f"{'thesis' if '.' in label else 'paper'} Table {label}"
    notes = shown.notes(output, *_foreign(ours, theirs, source), _RULE)
    return _table(output, shown, source, sort(_frame(rows)), notes)


def _diversity(output: Diversity, shown: Shown, diversity: pd.DataFrame) -> Table:
    """The diversity frame beside Table 1: accuracy with its spread, four numbers without one."""
    keys = [*NETWORK, "method", "metric"]
    ours, theirs = _long(diversity), _long(published.diversity())
    # Published dense rows give the accuracy alone.
    theirs = theirs[theirs["mean"].notna()]
    if not set(_networks(ours)) & set(_networks(theirs)):
        theirs = theirs.iloc[:0]
    order = {metric: position for position, metric in enumerate(_metrics())}
    rows = sorted(
        (_row(*pair) for pair in _pairs(ours, theirs, keys)),
        key=lambda row: (
            *(row[key] for key in NETWORK),
            order[row["metric"]],
            names.method_key(row["method"]),
        ),
    )
    notes = shown.notes(output, _RULE)
    if theirs.empty:
        notes.insert(0, "Nothing was published for these networks and data sets.")
    return _table(output, shown, "paper Table 1", _frame(rows), notes)


def _networks(frame: pd.DataFrame) -> list[tuple[Any, ...]]:
    return list(frame[NETWORK].itertuples(index=False, name=None))


def _metrics() -> dict[str, str]:
    """Metric of a row -> column of the diversity frame, in the order of Table 1."""
    return {"test_accuracy": "test_accuracy_mean"} | {
        column: column for column in DIVERSITY if column != "test_accuracy_mean"
    }


def _long(diversity: pd.DataFrame) -> pd.DataFrame:
    """A row per (network, method, metric) with mean, std and n; single numbers have no std."""
    parts = []
    for metric, column in _metrics().items():
        part = diversity[[*NETWORK, "method"]].copy()
        accuracy = metric == "test_accuracy"
        part["metric"] = metric
        part["mean"] = diversity[column].astype(float)
        part["std"] = diversity["test_accuracy_std"].astype(float) if accuracy else float("nan")
        part["n"] = diversity["runs"].fillna(0)
        part["n_diverged"] = part["n_missing"] = 0
        parts.append(part)
    long = pd.concat(parts, ignore_index=True)
    # A dense row without an ensemble claims nothing.
    return long[long["mean"].notna() | (long["method"] != "dense")]


def _identity(cell: Mapping[str, Any], keys: list[str]) -> tuple[Any, ...]:
    values = (cell.get(key) for key in keys)
    return tuple(
        None if value is None or value != value
        else round(value, 6) if isinstance(value, float) else value
        for value in values
    )  # fmt: skip


def _pairs(
    ours: pd.DataFrame, theirs: pd.DataFrame, keys: list[str]
) -> list[tuple[dict[str, Any] | None, dict[str, Any] | None]]:
    """(ours, published) cells of equal keys; a cell alone stands beside None."""
    left: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for cell in ours.to_dict("records"):
        left.setdefault(_identity(cell, keys), []).append(cell)
    right: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for cell in theirs.to_dict("records"):
        right.setdefault(_identity(cell, keys), []).append(cell)
    pairs: list[tuple[dict[str, Any] | None, dict[str, Any] | None]] = []
    for identity, cells in right.items():
        # Several networks in one output, or two published sources: every combination is shown.
        pairs += [(own, cell) for cell in cells for own in left.get(identity, [None])]
    pairs += [(own, None) for key, cells in left.items() if key not in right for own in cells]
    return pairs


def _row(ours: dict[str, Any] | None, theirs: dict[str, Any] | None) -> dict[str, Any]:
    nan = float("nan")
    cell = ours or theirs or {}
    row = {key: cell.get(key, nan) for key in (*NETWORK, *_KEYS)}
    own = ours or {"mean": nan, "std": nan, "n": 0, "n_diverged": 0, "n_missing": 0}
    known = theirs or {"mean": nan, "std": nan, "n": nan}
    bound = uncertainty(own["std"], own["n"], known["std"], known["n"])
    difference = own["mean"] - known["mean"]
    comparable = bound is not None and not math.isnan(difference)
    return {
        **row,
        **{f"ours_{key}": own[key] for key in ("mean", "std", "n")},
        "ours_diverged": own["n_diverged"],
        "ours_missing": own["n_missing"],
        **{f"published_{key}": known[key] for key in ("mean", "std", "n")},
        "difference": difference,
        "uncertainty": bound,
        "within": abs(difference) <= bound if comparable and bound is not None else None,
        "welch_p": welch_p(
            own["mean"], own["std"], own["n"], known["mean"], known["std"], known["n"]
        ),
        "status": _status(own, theirs),
    }


def _status(own: Mapping[str, Any], theirs: Mapping[str, Any] | None) -> str:
    if not own["n"] or math.isnan(own["mean"]):
        return "diverged" if own["n_diverged"] else "missing"
    if theirs is None:
        return "not published"
    return "incomplete" if own["n_missing"] or own["n_diverged"] else "complete"


def _frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=COLUMNS)
    frame["within"] = frame["within"].astype(object)
    for column in ("uncertainty", "welch_p"):
        frame[column] = frame[column].astype(float)
    return frame


def _foreign(ours: pd.DataFrame, theirs: pd.DataFrame, source: str) -> list[str]:
    def listed(frame: pd.DataFrame) -> list[str]:
        return [names.place(*network) for network in dict.fromkeys(_networks(frame))]

    own, known = listed(ours), listed(theirs)
    if not own or own == known:
        return []
    return [
        f"Not the same experiment: ours is {', '.join(own)}, {source} is {', '.join(known)}; "
        "the differences say nothing about a reproduction."
    ]


def _summary(frame: pd.DataFrame) -> str:
    judged = frame["within"].notna()
    within = int(sum(value is True for value in frame["within"]))
    counts = frame["status"].value_counts()
    rest = ", ".join(
        f"{counts[status]} {status}"
        for status in ("incomplete", "missing", "diverged", "not published")
        if status in counts
    )
    known = int(frame["published_mean"].notna().sum())
    return f"{within} of {int(judged.sum())} judged cells within; {known} published cells" + (
        f" ({rest})." if rest else "."
    )


def _table(
    output: Output, shown: Shown, source: str, frame: pd.DataFrame, notes: list[str]
) -> Table:
    labels, text = [], []
    for row in frame.to_dict("records"):
        labels.append(_label(row))
        text.append(
            [
                _own_text(row),
                _value(row["published_mean"], row["published_std"], row["metric"]),
                ABSENT if math.isnan(row["difference"]) else _signed(row),
                f"{row['ours_n']:g}",
                {True: "yes", False: "no"}.get(row["within"], ABSENT),
                ABSENT if math.isnan(row["welch_p"]) else f"{row['welch_p']:.3f}",
                row["status"],
            ]
        )
    index = pd.MultiIndex.from_tuples(labels, names=["Network", "S", "Method", "k", "t", "Metric"])
    header = ["Ours", "Published", "Difference", "Seeds", "Within", "p", "Status"]
    layout = pd.DataFrame(text, index=index, columns=header)
    kept = [
        level
        for level in index.names
        if level == "Method" or index.get_level_values(level).nunique() > 1
    ]
    layout = layout.reset_index([level for level in index.names if level not in kept], drop=True)
    title = f"{shown.title(output)}: ours beside {source}"
    notes = [_summary(frame), *notes]
    return Table(f"{shown.name}_comparison", title, frame, layout, notes, shown.protocol)


def _label(row: Mapping[str, Any]) -> tuple[str, ...]:
    def text(key: str, form: Any) -> str:
        return ABSENT if pd.isna(row[key]) else form(row[key])

    return (
        names.place(*(row[key] for key in NETWORK)),
        text("sparsity", names.percent),
        names.method(row["method"]),
        text("rewind_epoch", names.number),
        "end" if pd.isna(row["matching_epoch"]) else names.number(row["matching_epoch"]),
        str(row["metric"]),
    )


def _digits(metric: str) -> int:
    return DIVERSITY[metric][1] if metric in DIVERSITY else 2


def _value(mean: float, std: float, metric: str) -> str:
    if math.isnan(mean):
        return ABSENT
    # Table 1 prints its spreads with three decimals.
    return mean_text(mean, std, _digits(metric), 3 if metric == "test_accuracy" else None)


def _own_text(row: Mapping[str, Any]) -> str:
    if math.isnan(row["ours_mean"]):
        return "diverged" if row["ours_diverged"] else "missing"
    return _value(row["ours_mean"], row["ours_std"], row["metric"])


def _signed(row: Mapping[str, Any]) -> str:
    digits = _digits(row["metric"])
    rounded = round(row["difference"], digits) + 0.0  # no minus before a zero
    return f"{rounded:+.{digits}f}".replace("-", "−")
