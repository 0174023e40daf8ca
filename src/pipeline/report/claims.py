"""The claims of paper and thesis as formulas over cells, with verdict, counts and evidence.

One formula serves our results and the published numbers: both come as a cell frame (see
`pipeline.report.published`), a diversity frame and, for ours only, interpolation curves and barriers.
A claim is judged unit by unit (a cell, a network, a sparsity, …): it holds when every unit that
has its cells holds, fails when one fails, and has "not enough cells" when no unit has them.
Cells with diverged runs are not judged, since their mean leaves the failures out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from pipeline.report import published
from pipeline.report.comparison import uncertainty
from pipeline.report.shown import Shown
from pipeline.report.tables import names
from pipeline.report.tables.cells import KEYS, aggregate, select
from pipeline.report.tables.table import Table
from pipeline.study.outputs import Output

HOLDS, FAILS, UNKNOWN = "holds", "fails", "not enough cells"
HIGH_SPARSITY = 0.95
EARLY = (5.0, 20.0)

_NETWORK = ["dataset", "model", "width"]
_NOTHING = 1e-9  # differences of two-decimal numbers are exact only to rounding


@dataclass(frozen=True)
class Claim:
    """One claim and what the cells say about it.

    counts: units by verdict, and what else the formula counts. rows: one per unit, with the
    columns unit, verdict and values (a text of the numbers behind the verdict).
    """

    id: str
    sentence: str
    section: str
    formula: str
    verdict: str
    counts: dict[str, int]
    evidence: str
    rows: pd.DataFrame = field(repr=False)


@dataclass(frozen=True)
class _Unit:
    name: str
    holds: bool | None  # None: not enough cells
    values: str


@dataclass(frozen=True)
class Headline:
    """Which barrier a protocol means: correction, alpha (None: the supremum) and data."""

    correction: str = "repair"
    at: float | None = None
    split: str | None = None


@dataclass(frozen=True)
class _Data:
    cells: pd.DataFrame
    reuse: pd.DataFrame
    diversity: pd.DataFrame
    curves: pd.DataFrame
    imp_barriers: pd.DataFrame
    headline: Headline

    def judged(self, metric: str = "top1") -> pd.DataFrame:
        """Cells of a metric, matched at the end, that have a mean and no diverged run."""
        return _judged(self.cells, metric)


def evaluate(
    cells: pd.DataFrame,
    *,
    reuse: pd.DataFrame | None = None,
    diversity: pd.DataFrame | None = None,
    curves: pd.DataFrame | None = None,
    imp_barriers: pd.DataFrame | None = None,
    headline: Headline | None = None,
) -> list[Claim]:
    """All claims on one set of numbers, in the order of the paper.

    ``cells``: a cell frame with both metrics and early matching. ``reuse``: cells of sparse runs
    whose mask comes from another data set. ``diversity``, ``curves``, ``imp_barriers``: frames as
    in `pipeline.results`. A frame that is absent leaves its claims with "not enough cells".
    """
    empty = pd.DataFrame()
    data = _Data(
        _distinct(cells),
        empty if reuse is None else _distinct(reuse),
        empty if diversity is None else diversity,
        empty if curves is None else curves,
        empty if imp_barriers is None else imp_barriers,
        headline or Headline(),
    )
    return [_judge(definition, data) for definition in _DEFINITIONS]


def on_published() -> list[Claim]:
    """The claims on the published numbers; curves and barriers were not published as numbers."""
    cells = published.cells()
    reuse = cells["dataset"] == "svhn"
    return evaluate(cells[~reuse], reuse=cells[reuse], diversity=published.diversity())


def on_results(
    runs: pd.DataFrame,
    *,
    reuse: Collection[str] = (),
    diversity: pd.DataFrame | None = None,
    curves: pd.DataFrame | None = None,
    imp_barriers: pd.DataFrame | None = None,
    headline: Headline | None = None,
) -> list[Claim]:
    """The claims on our runs.

    ``reuse``: experiments whose masks come from another data set; not among the other cells.
    """
    elsewhere = runs["experiment"].isin(reuse)
    return evaluate(
        _both_metrics(select(runs[~elsewhere])),
        reuse=_both_metrics(select(runs[elsewhere])) if reuse else None,
        diversity=diversity,
        curves=curves,
        imp_barriers=imp_barriers,
        headline=headline,
    )


def claims_table(
    output: Output, shown: Shown, claims: Iterable[Claim], *, beside: Iterable[Claim] | None = None
) -> Table:
    """Claims as a table: a row per claim; the tidy frame has a row per unit of every claim.

    ``beside``: the same claims on other numbers (the published ones), whose verdicts get a column.
    """
    claims = list(claims)
    tidy = pd.concat(
        [claim.rows.assign(claim=claim.id, claim_verdict=claim.verdict) for claim in claims],
        ignore_index=True,
    )[["claim", "claim_verdict", "unit", "verdict", "values"]]
    layout = pd.DataFrame(
        {
            "Claim": [f"{claim.sentence} ({claim.section})" for claim in claims],
            "Verdict": [claim.verdict for claim in claims],
            "Units": [_counts_text(claim.counts) for claim in claims],
            "Formula": [claim.formula for claim in claims],
            "Evidence": [claim.evidence for claim in claims],
        },
        index=pd.Index([claim.id for claim in claims], name="Id"),
    )
    if beside is not None:
        known = {claim.id: claim.verdict for claim in beside}
        layout.insert(2, "On the published numbers", [known[claim.id] for claim in claims])
    return shown.table(output, tidy, layout, [_READING])


def claims_markdown(claims: Iterable[Claim], title: str) -> str:
    """The claims as a page: a summary table, then every claim with formula and evidence."""
    claims = list(claims)
    lines = [f"# {title}", "", _READING, "", "| claim | verdict | units |", "| --- | --- | --- |"]
    lines += [
        f"| [{claim.id}](#{claim.id}) | {claim.verdict} | {_counts_text(claim.counts)} |"
        for claim in claims
    ]
    for claim in claims:
        lines += ["", f"## {claim.id}", "", f"{claim.sentence} ({claim.section})", ""]
        lines += [f"- Formula: {claim.formula}", f"- Verdict: **{claim.verdict}**"]
        lines += [f"- Units: {_counts_text(claim.counts)}", f"- Evidence: {claim.evidence}"]
        shown = claim.rows
        if len(shown) > _LONG:  # the units that hold are in the CSV; the others are the news
            shown = shown[shown["verdict"] != HOLDS]
        if len(shown):
            lines += ["", "| unit | verdict | values |", "| --- | --- | --- |"]
            lines += [
                f"| {row.unit} | {row.verdict} | {row.values_} |"
                for row in shown.rename(columns={"values": "values_"}).itertuples()
            ]
    return "\n".join([*lines, ""])


_READING = (
    "A claim holds when every unit that has its cells holds, and fails when one fails. Units share "
    "dense runs, masks and permutations and are not independent: a p of a sign test describes, it "
    "does not prove. A step is shown ± two standard errors where the spreads are known; the "
    "verdict looks at its sign alone."
)
_LONG = 40


# --- cells -----------------------------------------------------------------------------------


def _both_metrics(runs: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([aggregate(runs, metric) for metric in ("top1", "top5")], ignore_index=True)


def _distinct(cells: pd.DataFrame) -> pd.DataFrame:
    """Every cell once: Table 15 repeats cells of Table 5."""
    return cells.drop_duplicates([*KEYS, "metric"]).reset_index(drop=True)


def _judged(cells: pd.DataFrame, metric: str = "top1", early: bool = False) -> pd.DataFrame:
    if cells.empty:
        return pd.DataFrame(columns=[*KEYS, "metric", "mean", "std", "n"])
    good = (cells["metric"] == metric) & cells["mean"].notna() & (cells["n_diverged"] == 0)
    return cells[good if early else good & cells["matching_epoch"].isna()]


def _network(key: tuple[Any, ...]) -> str:
    dataset, model, width = key
    return f"{names.network(model, width)} / {names.dataset(dataset)}"


def _at(sparsity: float) -> str:
    return f"S = {names.percent(sparsity)}"


def _by_method(cells: pd.DataFrame, value: str = "mean") -> pd.DataFrame:
    """Cells with methods as columns; index: network, sparsity, rewind_epoch."""
    index = [*_NETWORK, "sparsity", "rewind_epoch"]
    wide = cells.pivot(index=index, columns="method", values=value)
    return wide.reindex(columns=sorted({*wide.columns, "lth", "naive", "permuted"})).astype(float)


def _gap(cells: pd.DataFrame, better: str, worse: str) -> pd.DataFrame:
    """network, sparsity, rewind_epoch, gap of two methods in points; pairs that exist.

    variance is that of the gap, s₁²/n₁ + s₂²/n₂; NaN where a spread is unknown.
    """
    if cells.empty:
        return pd.DataFrame(columns=[*_NETWORK, "sparsity", "rewind_epoch", "gap", "variance"])
    wide = _by_method(cells)
    spread = _by_method(cells.assign(variance=cells["std"] ** 2 / cells["n"]), "variance")
    gap = pd.DataFrame(
        {"gap": wide[better] - wide[worse], "variance": spread[better] + spread[worse]}
    )
    return gap.dropna(subset=["gap"]).reset_index()


def _groups(frame: pd.DataFrame, by: list[str]) -> Iterator[tuple[tuple[Any, ...], pd.DataFrame]]:
    if len(frame):
        for key, group in frame.groupby(by, sort=True):
            yield key if isinstance(key, tuple) else (key,), group


def _width(width: float) -> str:
    return f"w = {width:g}"


def _signed(value: float, sign: str = "+", decimals: int = 2) -> str:
    return f"{value:{sign}.{decimals}f}".replace("-", "−")


def _points(value: float) -> str:
    return _signed(value)


# --- formulas: each yields units, and may return a sentence of evidence ----------------------

Formula = Callable[[_Data], tuple[list[_Unit], str, dict[str, int]]]


def _at_least_naive(cells: pd.DataFrame, strict: bool) -> tuple[list[_Unit], str, dict[str, int]]:
    gaps = _gap(cells, "permuted", "naive")
    units = [
        _Unit(
            f"{_network((row.dataset, row.model, row.width))}, {_at(row.sparsity)}, "
            f"k = {row.rewind_epoch:g}",
            row.gap > _NOTHING if strict else row.gap > -_NOTHING,
            f"permuted − naive = {_points(row.gap)}",
        )
        for row in gaps.itertuples()
    ]
    if not units:
        return units, "", {}
    wins = int((gaps["gap"] > _NOTHING).sum())
    losses = int((gaps["gap"] < -_NOTHING).sum())
    ties = len(gaps) - wins - losses
    two = one = 1.0
    if wins + losses:
        two = float(stats.binomtest(wins, wins + losses).pvalue)
        one = float(stats.binomtest(wins, wins + losses, alternative="greater").pvalue)
    evidence = (
        f"permuted above naive in {wins} cells, equal in {ties}, below in {losses}; sign test "
        f"without ties p = {two:.2g} two-sided, {one:.2g} one-sided; mean gap "
        f"{_points(gaps['gap'].mean())} points."
    )
    return units, evidence, {"above": wins, "equal": ties, "below": losses}


def _permuted_at_least_naive(data: _Data) -> tuple[list[_Unit], str, dict[str, int]]:
    return _at_least_naive(data.judged(), strict=False)


def _permuted_at_least_naive_top5(data: _Data) -> tuple[list[_Unit], str, dict[str, int]]:
    return _at_least_naive(data.judged("top5"), strict=False)


def _mask_reuse(data: _Data) -> tuple[list[_Unit], str, dict[str, int]]:
    return _at_least_naive(_judged(data.reuse), strict=True)


def _steps(
    label: str,
    means: Mapping[float, float],
    form: Callable[[float], str],
    up: bool,
    variances: Mapping[float, float] | None = None,
) -> _Unit:
    """A unit whose mean must rise (or fall) with every step of its key.

    With variances of the means, each step is shown ± two standard errors.
    """
    ordered = sorted(means.items())
    text = "; ".join(f"{form(key)}: {_signed(value, '')}" for key, value in ordered)
    if len(ordered) < 2:
        return _Unit(label, None, text)
    good, shown = True, []
    for (low, before), (high, after) in pairwise(ordered):
        step = after - before
        good = good and (step > _NOTHING if up else step < -_NOTHING)
        variance = variances[low] + variances[high] if variances else math.nan
        bound = "" if math.isnan(variance) else f" ± {2 * math.sqrt(variance):.2f}"
        shown.append(_points(step) + bound)
    return _Unit(label, good, f"{text}; steps {', '.join(shown)}")


def _mean_gaps(
    label: str, gaps: pd.DataFrame, axis: str, form: Callable[[float], str], up: bool
) -> _Unit:
    """Steps of the gap's mean over rewind epochs along an axis (sparsity or width)."""
    groups = _with_complete_epochs(gaps, axis).groupby(axis)
    # The variance of a mean of m independent gaps; NaN when one of them is unknown.
    variances = groups["variance"].agg(lambda v: v.sum(skipna=False) / len(v) ** 2)
    return _steps(label, groups["gap"].mean().to_dict(), form, up, variances.to_dict())


def _with_complete_epochs(gaps: pd.DataFrame, axis: str) -> pd.DataFrame:
    """Only rewind epochs that exist at every value of the axis, so that means compare alike."""
    shared = None
    for _, group in gaps.groupby(axis):
        epochs = set(group["rewind_epoch"])
        shared = epochs if shared is None else shared & epochs
    return gaps[gaps["rewind_epoch"].isin(shared or set())]


def _step_count(units: list[_Unit], what: str) -> str:
    judged = [unit for unit in units if unit.holds is not None]
    failing = [unit.name for unit in judged if not unit.holds]
    text = f"{len(judged) - len(failing)} of {len(judged)} {what}"
    return text + (f"; not in {'; '.join(failing)}." if failing else ".")


def _gap_with_sparsity(data: _Data) -> tuple[list[_Unit], str, dict[str, int]]:
    units = []
    for key, group in _groups(_gap(data.judged(), "permuted", "naive"), _NETWORK):
        units.append(_mean_gaps(_network(key), group, "sparsity", names.percent, up=True))
    return units, _step_count(units, "networks have a gap that grows at every step"), {}


def _gap_with_sparsity_at_every_k(data: _Data) -> tuple[list[_Unit], str, dict[str, int]]:
    units = []
    by = [*_NETWORK, "rewind_epoch"]
    for key, group in _groups(_gap(data.judged(), "permuted", "naive"), by):
        label = f"{_network(key[:3])}, k = {key[3]:g}"
        units.append(_mean_gaps(label, group, "sparsity", names.percent, up=True))
    judged = [unit for unit in units if unit.holds is not None]
    good = sum(unit.holds is True for unit in judged)
    return units, f"{good} of {len(judged)} pairs of network and k grow at every step.", {}


def _along_width(
    gaps: pd.DataFrame, up: bool, what: str
) -> tuple[list[_Unit], str, dict[str, int]]:
    units = []
    for (dataset, model), group in _groups(gaps, ["dataset", "model"]):
        for (sparsity,), at in _groups(group, ["sparsity"]):
            label = f"{names.model(model)} / {names.dataset(dataset)}, {_at(sparsity)}"
            units.append(_mean_gaps(label, at, "width", _width, up))
    judged = [unit for unit in units if unit.holds is not None]
    good = sum(unit.holds is True for unit in judged)
    return units, f"{good} of {len(judged)} pairs of data set and sparsity {what}.", {}


def _gap_with_width(data: _Data) -> tuple[list[_Unit], str, dict[str, int]]:
    gaps = _gap(data.judged(), "permuted", "naive")
    return _along_width(gaps, up=True, what="have a gap that grows with every width")


def _lth_gap_with_width(data: _Data) -> tuple[list[_Unit], str, dict[str, int]]:
    gaps = _gap(data.judged(), "lth", "permuted")
    return _along_width(gaps, up=False, what="have a gap that shrinks with every width")


@dataclass(frozen=True)
class _Rewinding:
    """Accuracy of one method against k, at one network and sparsity."""

    network: tuple[Any, ...]
    sparsity: float
    method: str
    start: float | None  # accuracy at k = 0
    best: float | None  # highest accuracy at k > 0
    best_epoch: float
    bound: float | None  # 2 standard errors of best − start
    slope: float | None  # least squares, points per 10 epochs, all k

    @property
    def label(self) -> str:
        method = names.method(self.method)
        return f"{_network(self.network)}, {_at(self.sparsity)}, {method}"

    @property
    def gain(self) -> float | None:
        return None if self.start is None or self.best is None else self.best - self.start

    @property
    def values(self) -> str:
        parts = []
        if self.gain is not None and self.start is not None:
            parts.append(
                f"k = 0: {self.start:.2f}; best k > 0: {self.best:.2f} (k = {self.best_epoch:g}); "
                f"gain {_points(self.gain)}"
            )
        if self.bound is not None:
            parts.append(f"uncertainty {self.bound:.2f}")
        if self.slope is not None:
            parts.append(f"slope {_signed(self.slope, decimals=3)} per 10 epochs")
        return "; ".join(parts)


def _rewinding(cells: pd.DataFrame, methods: Iterable[str]) -> Iterator[_Rewinding]:
    for key, group in _groups(cells, [*_NETWORK, "sparsity"]):
        for method in methods:
            own = group[group["method"] == method].sort_values("rewind_epoch")
            if own.empty:
                continue
            first, later = own[own["rewind_epoch"] == 0], own[own["rewind_epoch"] > 0]
            start = best = bound = slope = None
            best_epoch = math.nan
            if len(first):
                start = float(first["mean"].iloc[0])
            if len(later):
                top = later.loc[later["mean"].idxmax()]
                best, best_epoch = float(top["mean"]), float(top["rewind_epoch"])
                if len(first):
                    at = first.iloc[0]
                    bound = uncertainty(at["std"], at["n"], top["std"], top["n"])
            if len(own) > 2:
                slope = 10 * float(np.polyfit(own["rewind_epoch"], own["mean"], 1)[0])
            yield _Rewinding(key[:3], key[3], method, start, best, best_epoch, bound, slope)


def _zero_helps_neither(data: _Data) -> tuple[list[_Unit], str, dict[str, int]]:
    series = list(_rewinding(data.judged(), ("lth", "permuted")))
    units = [
        _Unit(one.label, None if one.gain is None else one.gain > _NOTHING, one.values)
        for one in series
    ]
    judged = [one for one in series if one.gain is not None]
    clear = sum(one.bound is not None and (one.gain or 0) > one.bound for one in judged)
    parts = []
    for method in ("lth", "permuted"):
        gains = [one.gain for one in judged if one.method == method and one.gain is not None]
        if gains:
            parts.append(
                f"{names.method(method)} gains {min(gains):.2f} to {max(gains):.2f} points "
                f"(mean {np.mean(gains):.2f})"
            )
    evidence = f"{'; '.join(parts)}; {clear} of {len(judged)} gains exceed their uncertainty."
    return units, evidence if judged else "", {}


def _naive_gains_nothing(data: _Data) -> tuple[list[_Unit], str, dict[str, int]]:
    series = list(_rewinding(data.judged(), ("naive",)))
    units = [
        _Unit(
            one.label,
            None if one.gain is None or one.bound is None else one.gain <= one.bound + _NOTHING,
            one.values,
        )
        for one in series
    ]
    parts = []
    for sparsity in sorted({one.sparsity for one in series}):
        at = [u for one, u in zip(series, units, strict=True) if one.sparsity == sparsity]
        at = [unit for unit in at if unit.holds is not None]
        if at:
            good = sum(unit.holds is True for unit in at)
            parts.append(f"{_at(sparsity)}: {good} of {len(at)}")
    text = f"gain within its uncertainty at {', '.join(parts)} networks." if parts else ""
    return units, text, {}


def _rewinding_at_high_sparsity(data: _Data) -> tuple[list[_Unit], str, dict[str, int]]:
    cells = data.judged()
    cells = cells[cells["sparsity"] > HIGH_SPARSITY - 1e-6] if len(cells) else cells
    units, right = [], {"lth": 0, "permuted": 0, "naive": 0}
    by_place: dict[tuple[Any, ...], dict[str, _Rewinding]] = {}
    for one in _rewinding(cells, right):
        by_place.setdefault((*one.network, one.sparsity), {})[one.method] = one
    judged = 0
    for place, methods in by_place.items():
        label = f"{_network(place[:3])}, {_at(place[3])}"
        slopes = {m: methods[m].slope for m in right if m in methods}
        values = "; ".join(
            f"{names.method(m)} {_signed(slope, decimals=3)}"
            for m, slope in slopes.items()
            if slope is not None
        )
        if len(slopes) < len(right) or None in slopes.values():
            units.append(_Unit(label, None, values))
            continue
        judged += 1
        good = {m: ((slope or 0) > 0) != (m == "naive") for m, slope in slopes.items()}
        right = {m: right[m] + good[m] for m in right}
        units.append(_Unit(label, all(good.values()), f"slopes per 10 epochs: {values}"))
    evidence = (
        f"of {judged} pairs of network and sparsity, LTH rises in {right['lth']}, permuted in "
        f"{right['permuted']}, naive does not in {right['naive']}."
    )
    return units, evidence if judged else "", {}


def _ensembles(data: _Data) -> tuple[list[_Unit], str, dict[str, int]]:
    units = []
    for key, row in _diversity_blocks(data.diversity):
        ours, theirs = row("permuted", "ensemble_accuracy"), row("lth", "ensemble_accuracy")
        units.append(
            _Unit(
                _network(key),
                None if ours is None or theirs is None else ours - theirs > _NOTHING,
                ""
                if ours is None or theirs is None
                else f"permuted {ours:.2f}, LTH {theirs:.2f}, difference {_points(ours - theirs)}",
            )
        )
    return units, _step_count(units, "networks have the better permuted ensemble"), {}


def _more_diverse(data: _Data) -> tuple[list[_Unit], str, dict[str, int]]:
    units = []
    for key, row in _diversity_blocks(data.diversity):
        for measure, label in (("disagreement", "disagreement"), ("kl", "KL"), ("js", "JS")):
            ours, theirs = row("permuted", measure), row("lth", measure)
            known = ours is not None and theirs is not None
            text = f"permuted {ours:.3f}, LTH {theirs:.3f}" if known else ""
            upper = row("imp", measure)
            if known and upper is not None:
                text += f", IMP {upper:.3f}"
            good = ours > theirs if ours is not None and theirs is not None else None
            units.append(_Unit(f"{_network(key)}, {label}", good, text))
    return units, _step_count(units, "measures are higher for permuted"), {}


def _diversity_blocks(
    frame: pd.DataFrame,
) -> Iterator[tuple[tuple[Any, ...], Callable[[str, str], float | None]]]:
    for key, group in _groups(frame, _NETWORK):
        rows = {row["method"]: row for row in group.to_dict("records")}

        def value(method: str, column: str, rows: dict[str, Any] = rows) -> float | None:
            found = rows.get(method, {}).get(column)
            return None if found is None or math.isnan(found) else float(found)

        yield key, value


def _early_matching(data: _Data) -> tuple[list[_Unit], str, dict[str, int]]:
    cells = _judged(data.cells, early=True)
    cells = cells[cells["method"] == "permuted"] if len(cells) else cells
    units, below = [], 0
    for key, group in _groups(cells, [*_NETWORK, "sparsity", "rewind_epoch"]):
        if group["matching_epoch"].notna().sum() == 0:
            continue
        end = group[group["matching_epoch"].isna()]
        for epoch in EARLY:
            early = group[group["matching_epoch"] == epoch]
            label = f"{_network(key[:3])}, {_at(key[3])}, k = {key[4]:g}, t = {epoch:g}"
            if early.empty or end.empty:
                units.append(_Unit(label, None, ""))
                continue
            one, other = early.iloc[0], end.iloc[0]
            bound = uncertainty(one["std"], one["n"], other["std"], other["n"])
            difference = one["mean"] - other["mean"]
            below += int(difference < -_NOTHING)
            units.append(
                _Unit(
                    label,
                    None if bound is None else difference >= -bound - _NOTHING,
                    f"t = {epoch:g}: {one['mean']:.2f}, t = T: {other['mean']:.2f}, difference "
                    f"{_points(difference)}"
                    + ("" if bound is None else f", uncertainty {bound:.2f}"),
                )
            )
    text = _step_count(units, "early matchings are within the uncertainty of the last")
    if units:
        text += f" The mean is below that of t = T in {below} of {len(units)}."
    return units, text, {}


def barriers(curves: pd.DataFrame, measure: str = "loss", at: float | None = None) -> pd.DataFrame:
    """Barrier of eq. (3) of every curve: the largest height over the chord of its end points.

    ``at``: the height at this alpha alone, as the authors' code takes it at 1/2.

    ``curves`` as in `pipeline.results`; returns a row per (dataset, model, width, a, b,
    correction, split, matched) with barrier (in the measure's unit), highest (the curve's largest
    value) and loss_at_init.
    """
    keys = [*_NETWORK, "a", "b", "correction", "split", "matched"]
    rows = []
    if len(curves):  # a curve that several experiments share counts once
        curves = curves.drop_duplicates([*keys, "alpha"])
    for key, curve in _groups(curves, keys):
        curve = curve.sort_values("alpha")
        alpha, value = curve["alpha"].to_numpy(float), curve[measure].to_numpy(float)
        if len(alpha) < 3 or alpha[0] != 0.0 or alpha[-1] != 1.0 or not np.isfinite(value).all():
            continue
        height = value - ((1 - alpha) * value[0] + alpha * value[-1])
        if at is not None and at not in alpha:
            continue
        rows.append(
            {
                **dict(zip(keys, key, strict=True)),
                "barrier": float(height.max() if at is None else height[alpha == at][0]),
                "highest": float(value.max()),
                "loss_at_init": float(curve["loss_at_init"].iloc[0]),
            }
        )
    return pd.DataFrame(rows, columns=[*keys, "barrier", "highest", "loss_at_init"])


def _matched_barriers(data: _Data, *, corrected: bool = False) -> pd.DataFrame:
    """Barriers between π(a) and b as the headline says; ``corrected``: of its correction only."""
    headline = data.headline
    found = barriers(data.curves if len(data.curves) else pd.DataFrame(), at=headline.at)
    found = found[found["matched"].astype(bool)]
    if headline.split is not None:
        found = found[found["split"] == headline.split]
    return found[found["correction"] == headline.correction] if corrected else found


def _barrier_with_width(data: _Data) -> tuple[list[_Unit], str, dict[str, int]]:
    units = []
    for key, group in _groups(
        _matched_barriers(data, corrected=True), ["dataset", "model", "split"]
    ):
        means = group.groupby("width")["barrier"].mean()
        label = f"{names.model(key[1])} / {names.dataset(key[0])}, {key[2]}"
        units.append(_steps(label, means.to_dict(), _width, up=False))
    return units, _step_count(units, "barriers fall with every width"), {}


def _below_initialisation(data: _Data) -> tuple[list[_Unit], str, dict[str, int]]:
    units = []
    found = _matched_barriers(data, corrected=True).dropna(subset=["loss_at_init"])
    for key, group in _groups(found, [*_NETWORK, "split"]):
        highest, start = group["highest"].mean(), group["loss_at_init"].mean()
        text = f"highest loss on the path {highest:.3f}, at initialisation {start:.3f}"
        units.append(_Unit(f"{_network(key[:3])}, {key[3]}", bool(highest < start), text))
    return units, _step_count(units, "paths stay below the loss at initialisation"), {}


def _lowered(label: str, found: Mapping[str, float], unit: str) -> _Unit:
    known = {"none", "repair"} <= set(found)
    if not known:
        return _Unit(label, None, "")
    text = f"{found['none']:.3f}{unit} without, {found['repair']:.3f}{unit} with REPAIR"
    return _Unit(label, bool(found["repair"] < found["none"]), text)


def _repair_lowers(data: _Data) -> tuple[list[_Unit], str, dict[str, int]]:
    units = []
    for key, group in _groups(_matched_barriers(data), [*_NETWORK, "split"]):
        means = group.groupby("correction")["barrier"].mean().to_dict()
        units.append(_lowered(f"π(a) to b, {_network(key[:3])}, {key[3]}", means, ""))
    by = ["experiment", "style", "split", "iteration"]
    for key, group in _groups(data.imp_barriers, by):
        means = group.dropna(subset=["error_barrier"]).groupby("correction")["error_barrier"].mean()
        label = f"dense to {key[1]} IMP ({key[0]}), {key[2]}, iteration {key[3]:g}"
        units.append(_lowered(label, means.to_dict(), " %"))
    return units, _step_count(units, "barriers are lower with REPAIR"), {}


# --- the claims ------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Definition:
    id: str
    sentence: str
    section: str
    formula: str
    run: Formula


_DEFINITIONS = [
    _Definition(
        "permuted-at-least-naive",
        "With the permuted mask, sparse training reaches at least the accuracy of the mask as it "
        "is, at every width, sparsity and rewind epoch.",
        "paper, Section 4.1, Tables 5–14",
        "top-1(permuted) − top-1(naive) ≥ 0 in every cell",
        _permuted_at_least_naive,
    ),
    _Definition(
        "permuted-at-least-naive-top5",
        "The same in top-5 accuracy.",
        "paper, Figure 7, Table 10",
        "top-5(permuted) − top-5(naive) ≥ 0 in every cell",
        _permuted_at_least_naive_top5,
    ),
    _Definition(
        "gap-grows-with-sparsity",
        "The advantage of the permuted mask grows with sparsity.",
        "paper, Section 4.1",
        "mean over k of permuted − naive rises at every step of S",
        _gap_with_sparsity,
    ),
    _Definition(
        "gap-grows-with-sparsity-at-every-k",
        "The advantage of the permuted mask grows with sparsity at every rewind epoch.",
        "paper, Section 4.1, Figures 9 and 10",
        "permuted − naive rises at every step of S, for each k",
        _gap_with_sparsity_at_every_k,
    ),
    _Definition(
        "gap-grows-with-width",
        "The advantage of the permuted mask grows with width.",
        "paper, Section 4.1 and Figures 9 and 10",
        "mean over shared k of permuted − naive rises at every step of w, for each S",
        _gap_with_width,
    ),
    _Definition(
        "lth-gap-shrinks-with-width",
        "Permuted comes closer to LTH as networks get wider.",
        "paper, Section 4.3",
        "mean over shared k of LTH − permuted falls at every step of w, for each S",
        _lth_gap_with_width,
    ),
    _Definition(
        "zero-helps-neither",
        "From the initialisation itself (k = 0) neither LTH nor permuted trains well; later "
        "rewind points do better.",
        "paper, Section 4.1",
        "max over k > 0 of accuracy(k) > accuracy(0), for LTH and permuted",
        _zero_helps_neither,
    ),
    _Definition(
        "naive-gains-nothing-from-k",
        "The mask as it is gains nothing from a later rewind point.",
        "paper, Section 4.1 (there for higher sparsity)",
        "max over k > 0 of accuracy(k) − accuracy(0) ≤ 2·√(s₁²/n₁ + s₂²/n₂) for naive, each S",
        _naive_gains_nothing,
    ),
    _Definition(
        "rewinding-at-high-sparsity",
        "At higher sparsity a later rewind point improves LTH and permuted, but not naive.",
        "paper, Section 4.1",
        "S ≥ 95%: least-squares slope of accuracy in k > 0 for LTH and permuted, ≤ 0 for naive",
        _rewinding_at_high_sparsity,
    ),
    _Definition(
        "permuted-ensembles-beat-lth",
        "An ensemble of permuted solutions is more accurate than one of LTH solutions.",
        "paper, Section 4.2, Table 1",
        "ensemble accuracy(permuted) > ensemble accuracy(LTH)",
        _ensembles,
    ),
    _Definition(
        "permuted-more-diverse-than-lth",
        "Permuted solutions are more diverse functions than LTH solutions.",
        "paper, Section 4.2, Table 1",
        "disagreement, KL and JS, each: permuted > LTH",
        _more_diverse,
    ),
    _Definition(
        "early-matching-suffices",
        "A permutation from an early epoch of b (t = 5 or 20) serves as well as one from its end.",
        "paper, Appendix B, Table 15; thesis, Section 4.1.4",
        "accuracy(t) ≥ accuracy(T) − 2·√(s₁²/n₁ + s₂²/n₂) for t = 5, 20, permuted",
        _early_matching,
    ),
    _Definition(
        "mask-reuse",
        "On another data set too, the permuted mask is consistently better than the mask as it is.",
        "thesis, Section 4.1.5, Table 4.2",
        "top-1(permuted) − top-1(naive) > 0 in every cell",
        _mask_reuse,
    ),
    _Definition(
        "barrier-falls-with-width",
        "The barrier between π(a) and b falls with width.",
        "paper, Section 4.3, Figure 3",
        "mean over pairs of the loss barrier (eq. 3, with REPAIR) falls at every step of w",
        _barrier_with_width,
    ),
    _Definition(
        "barrier-below-initialisation",
        "After matching and REPAIR, the loss between π(a) and b stays below that of an untrained "
        "network.",
        "paper, Section 3, Figure 3",
        "mean over pairs of the largest loss on the path (REPAIR) < loss at initialisation",
        _below_initialisation,
    ),
    _Definition(
        "repair-lowers-the-barrier",
        "REPAIR lowers the barrier, between π(a) and b and between dense and IMP solutions.",
        "paper, Section 3, Figures 3 and 4a",
        "mean barrier(REPAIR) < mean barrier(no correction)",
        _repair_lowers,
    ),
]


def _judge(definition: _Definition, data: _Data) -> Claim:
    units, evidence, extra = definition.run(data)
    judged = [bool(unit.holds) for unit in units if unit.holds is not None]
    verdict = UNKNOWN if not judged else HOLDS if all(judged) else FAILS
    counts = {
        HOLDS: sum(judged),
        FAILS: len(judged) - sum(judged),
        UNKNOWN: len(units) - len(judged),
        **extra,
    }
    words = {True: HOLDS, False: FAILS, None: UNKNOWN}
    rows = pd.DataFrame(
        [
            (unit.name, words[None if unit.holds is None else bool(unit.holds)], unit.values)
            for unit in units
        ],
        columns=["unit", "verdict", "values"],
    )
    return Claim(
        definition.id,
        definition.sentence,
        definition.section,
        definition.formula,
        verdict,
        counts,
        evidence if judged else "no unit has the cells that the formula needs.",
        rows,
    )


def _counts_text(counts: Mapping[str, int]) -> str:
    main = [f"{counts[HOLDS]} hold", f"{counts[FAILS]} fail"]
    if counts[UNKNOWN]:
        main.append(f"{counts[UNKNOWN]} without cells")
    return ", ".join(main)
