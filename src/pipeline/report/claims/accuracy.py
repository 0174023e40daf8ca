"""Permuted beside naive, cell by cell."""

from __future__ import annotations

import pandas as pd
from scipy.stats import binom

from pipeline.report.claims.judge import Found, Unit, claim
from pipeline.report.claims.numbers import Numbers, gap, judged, rounded
from pipeline.report.tables import names


@claim("paper, Section 4.1, Tables 5–14", "top-1(permuted) − top-1(naive) ≥ 0 in every cell")
def permuted_at_least_naive(numbers: Numbers) -> Found:
    """With the permuted mask, sparse training reaches at least the accuracy of the mask as it is,
    at every width, sparsity and rewind epoch."""
    return above_naive(judged(numbers.cells))


@claim("paper, Figure 7, Table 10", "top-5(permuted) − top-5(naive) ≥ 0 in every cell")
def permuted_at_least_naive_top5(numbers: Numbers) -> Found:
    """The same in top-5 accuracy."""
    return above_naive(judged(numbers.cells, "top5"))


def above_naive(cells: pd.DataFrame, *, strict: bool = False) -> Found:
    """A unit per cell; ``strict``: a tie fails. The sign test leaves ties out."""
    gaps = gap(cells, "permuted", "naive")
    margins = [rounded(value) for value in gaps["gap"]]
    places = gaps.drop(columns=["gap", "variance"]).to_dict("records")
    units = [
        Unit(
            names.place(**key),
            f"permuted − naive = {names.signed(value)}",
            above=[margin] if strict else [],
            at_least=[margin],
        )
        for key, value, margin in zip(places, gaps["gap"], margins, strict=True)
    ]
    wins, losses = sum(margin > 0 for margin in margins), sum(margin < 0 for margin in margins)
    one, other = (binom.sf(count - 1, wins + losses, 0.5) for count in (wins, losses))
    two = min(1.0, 2 * min(one, other))
    evidence = (
        f"permuted above naive in {wins} cells, equal in {margins.count(0)}, below in {losses}; sign test "
        f"without ties p = {two:.2g} two-sided, {one:.2g} one-sided; mean gap "
        f"{names.signed(gaps['gap'].mean())} points."
    )
    return Found(units, evidence)
