"""Accuracy against the rewind epoch k."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from pipeline.report.claims.judge import Found, Unit, claim, known, share
from pipeline.report.claims.numbers import Numbers, bound, groups, judged, rounded
from pipeline.report.tables import names
from pipeline.results import NETWORK

HIGH_SPARSITY = 0.95


@claim("paper, Section 4.1", "max over k > 0 of accuracy(k) > accuracy(0), for LTH and permuted")
def zero_helps_neither(numbers: Numbers) -> Found:
    """From the initialisation itself (k = 0) neither LTH nor permuted trains well; later rewind
    points do better."""
    series = _rewinding(judged(numbers.cells), ["lth", "permuted"])
    units = [Unit(one.label, one.text, above=[rounded(one.gain)]) for one in series.itertuples()]
    gains = series.dropna(subset="gain").groupby("method")["gain"].agg(["min", "max", "mean"])
    parts = [
        f"{names.method(method)} gains {least:.2f} to {most:.2f} points (mean {mean:.2f})"
        for method, least, most, mean in gains.itertuples()
    ]
    clear = (series["gain"] > series["bound"]).sum()
    evidence = f"{clear} of {len(known(units))} gains exceed their uncertainty."
    return Found(units, "; ".join([*parts, evidence]))


@claim(
    "paper, Section 4.1 (there for higher sparsity)",
    "max over k > 0 of accuracy(k) − accuracy(0) ≤ 2·√(s₁²/n₁ + s₂²/n₂) for naive, each S",
    "At 80 and 90 % the naive mask gains from a later rewind epoch in every network, beyond its "
    "uncertainty; at 95 and 97 %, of which the text speaks, in 10 of 16 cases. The gain is an "
    "early one that later rewinding takes back: over all k the slope of naive is not positive at "
    "any of these sparsities (rewinding-at-high-sparsity).",
)
def naive_gains_nothing_from_k(numbers: Numbers) -> Found:
    """The mask as it is gains nothing from a later rewind point."""
    units, by_sparsity = [], dict[float, list[Unit]]()
    for one in _rewinding(judged(numbers.cells), ["naive"]).itertuples():
        unit = Unit(one.label, one.text, at_least=[rounded(one.bound - one.gain)])
        units.append(unit)
        by_sparsity.setdefault(one.sparsity, []).append(unit)
    parts = [f"{names.at(s)}: {share(own)}" for s, own in sorted(by_sparsity.items()) if known(own)]
    return Found(units, f"gain within its uncertainty at {', '.join(parts)} networks.")


@claim(
    "paper, Section 4.1",
    "S ≥ 95%: least-squares slope of accuracy in k > 0 for LTH and permuted, ≤ 0 for naive",
    "The one exception is Table 10 (ResNet50 / ImageNet), where LTH, permuted and naive all fall "
    "with k.",
)
def rewinding_at_high_sparsity(numbers: Numbers) -> Found:
    """At higher sparsity a later rewind point improves LTH and permuted, but not naive."""
    methods = ("lth", "permuted", "naive")
    cells = judged(numbers.cells)
    cells = cells[(cells["sparsity"] > HIGH_SPARSITY - 1e-6) & cells["method"].isin(methods)]
    units = []
    for key, group in groups(cells, [*NETWORK, "sparsity"]):
        series = group.sort_values("rewind_epoch").set_index("rewind_epoch")
        slopes = [_slope(series["mean"][series["method"] == method]) for method in methods]
        values = "; ".join(
            f"{names.method(method)} {names.signed(slope, decimals=3)}"
            for method, slope in zip(methods, slopes, strict=True)
            if not math.isnan(slope)
        )
        text = names.unless_nan(sum(slopes), "slopes per 10 epochs: ") + values
        units.append(Unit(names.place(**key), text, above=slopes[:2], at_least=[-slopes[2]]))
    those = known(units)
    lth, permuted = (sum(unit.above[which] > 0 for unit in those) for which in (0, 1))
    naive = sum(unit.at_least[0] >= 0 for unit in those)
    evidence = (
        f"of {len(those)} pairs of network and sparsity, LTH rises in {lth}, permuted in "
        f"{permuted}, naive does not in {naive}."
    )
    return Found(units, evidence)


def _rewinding(cells: pd.DataFrame, methods: list[str]) -> pd.DataFrame:
    """What methods gain from a later k, a row per network, sparsity and method; NaN where unknown.

    gain: highest accuracy at k > 0 over that at k = 0, in points; bound: 2 of its standard errors.
    """
    rows = []
    for key, group in groups(cells, [*NETWORK, "sparsity"]):
        for method in methods:
            own = group[group["method"] == method].set_index("rewind_epoch").sort_index()
            if own.empty:
                continue
            later = own["mean"][own.index > 0]
            k = later.idxmax() if len(later) else math.nan
            start, best = (own.reindex([epoch]).iloc[0] for epoch in (0, k))
            before, after, slope = start["mean"], best["mean"], _slope(own["mean"])
            gain, error = after - before, bound(start, best)
            gained = f"k = 0: {before:.2f}; best k > 0: {after:.2f} (k = {k:g}); gain "
            said = {
                gained + names.signed(gain): gain,
                f"uncertainty {error:.2f}": error,
                f"slope {names.signed(slope, decimals=3)} per 10 epochs": slope,
            }
            text = "; ".join(text for text, value in said.items() if not math.isnan(value))
            label = f"{names.place(**key)}, {names.method(method)}"
            rows.append((key["sparsity"], method, label, gain, error, text))
    return pd.DataFrame(rows, columns=["sparsity", "method", "label", "gain", "bound", "text"])


def _slope(means: pd.Series) -> float:
    """Least squares over all k, in points per 10 epochs; NaN for fewer than three k."""
    return 10 * np.polyfit(means.index, means, 1)[0] if len(means) > 2 else math.nan
