"""Permutations from an early epoch, and masks from another data set."""

from __future__ import annotations

import math

from pipeline.report.claims.accuracy import above_naive
from pipeline.report.claims.judge import Found, Unit, claim, share_but
from pipeline.report.claims.numbers import Numbers, bound, groups, judged, rounded
from pipeline.report.tables import names
from pipeline.results import NETWORK

EARLY = (5.0, 20.0)


@claim(
    "paper, Appendix B, Table 15; thesis, Section 4.1.4",
    "accuracy(t) ≥ accuracy(T) − 2·√(s₁²/n₁ + s₂²/n₂) for t = 5, 20, permuted",
    "At 95 % the permutation from t = 5 loses more than the uncertainty allows. The other seven "
    "cells lie within it, and all eight means lie below that of the permutation from the end.",
)
def early_matching_suffices(numbers: Numbers) -> Found:
    """A permutation from an early epoch of b (t = 5 or 20) serves as well as one from its end."""
    cells = judged(numbers.cells, early=True)
    units, below = [], 0
    cells = cells[cells["method"] == "permuted"].fillna({"matching_epoch": math.inf})
    for key, group in groups(cells, [*NETWORK, "sparsity", "rewind_epoch"]):
        by_epoch = group.set_index("matching_epoch")[["mean", "std", "n"]]
        if list(by_epoch.index) == [math.inf]:
            continue
        end = by_epoch.reindex([math.inf]).iloc[0]
        for epoch, early in by_epoch.reindex(EARLY).iterrows():
            error, difference = bound(early, end), early["mean"] - end["mean"]
            below += rounded(difference) < 0
            text = f"t = {epoch:g}: {early['mean']:.2f}, t = T: {end['mean']:.2f}, difference "
            text += names.signed(difference) + names.unless_nan(error, f", uncertainty {error:.2f}")
            name, margin = f"{names.place(**key)}, t = {epoch:g}", rounded(difference + error)
            units.append(Unit(name, names.unless_nan(difference, text), at_least=[margin]))
    text = share_but(units, "early matchings are within the uncertainty of the last")
    return Found(units, f"{text} The mean is below that of t = T in {below} of {len(units)}.")


@claim(
    "thesis, Section 4.1.5, Table 4.2",
    "top-1(permuted) − top-1(naive) > 0 in every cell",
    "In Table 4.2 of the thesis naive is ahead of permuted in two of six cells (k = 10 at 80 and "
    "95 %), which is not consistently better.",
)
def mask_reuse(numbers: Numbers) -> Found:
    """On another data set too, the permuted mask is consistently better than the mask as it is."""
    return above_naive(judged(numbers.reuse), strict=True)
