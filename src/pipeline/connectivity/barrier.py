"""Loss and error along the line between two networks, and the barrier (paper, eq. 3 and Fig. 3)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from pipeline.connectivity.merge import StateDict
    from pipeline.connectivity.survey import Ground, Row


def curve(
    ground: Ground,
    theta_a: StateDict,
    theta_b: StateDict,
    *,
    alphas: Iterable[float],
    corrections: Sequence[str],
) -> list[Row]:
    """Loss and error of (1 - alpha) a + alpha b for every alpha, correction and split.

    theta_a, theta_b: state dicts; alpha = 0 is the first, usually pi(a) (paper, Fig. 3).
    alphas: in [0, 1]; 0 and 1 are added where missing, for the barrier needs them.
    corrections: of "none", "reset", "repair"; those after the first need the ground's batches.

    Returns rows (alpha, correction, split, loss in nats, error in %), sorted by alpha. Every merged
    network is evaluated once per split and correction; the end points once, uncorrected. A merged
    network whose logits are not finite has an infinite loss.
    """
    # They bring torch; who reads a curve that was measured does without.
    from pipeline.connectivity.merge import interpolate
    from pipeline.connectivity.survey import Surveyor

    surveyor = Surveyor(ground, (theta_a, theta_b), corrections)
    a, b = surveyor.endpoints
    rows = []
    for alpha in sorted({0.0, 1.0, *map(float, alphas)}):
        merged = interpolate(a, b, alpha)
        rows += [{"alpha": alpha, **row} for row in surveyor.survey(merged, (1.0 - alpha, alpha))]
    return rows


def alphas(points: int) -> list[float]:
    """``points`` evenly spaced values of alpha in [0, 1], ends included."""
    return [index / (points - 1) for index in range(points)]


def barrier(
    rows: Iterable[Mapping[str, Any]],
    correction: str,
    split: str,
    metric: Literal["loss", "error"],
    at: float | None = None,
) -> float:
    """Barrier of eq. 3 from the rows of ``curve``: of the loss in nats, or of the error in %.

    The largest excess over the line between the end points, L(alpha) - [(1 - alpha) L(0) +
    alpha L(1)], over the alphas of the curve; at least 0, the excess at alpha = 0 and 1. With
    ``at`` it is the excess at that alpha alone, which can be negative (the authors' code: 0.5).
    Infinite if a merged loss is; NaN if an end point's own loss is not finite.
    """
    values = {
        float(row["alpha"]): float(row[metric])
        for row in rows
        if row["correction"] == correction and row["split"] == split
    }
    if 0.0 not in values or 1.0 not in values:
        raise ValueError(f"no rows of both end points for {correction!r} on {split!r}")
    first, last = values[0.0], values[1.0]
    if not (math.isfinite(first) and math.isfinite(last)):
        return math.nan
    excess = {alpha: v - ((1.0 - alpha) * first + alpha * last) for alpha, v in values.items()}
    if at is None:
        # Rounding of the line must not make the ends' excess anything but 0.
        return max([0.0, *(value for alpha, value in excess.items() if 0.0 < alpha < 1.0)])
    chosen = [v for alpha, v in excess.items() if math.isclose(alpha, at, abs_tol=1e-9)]
    if not chosen:
        raise ValueError(f"alpha {at} is not on the curve: {sorted(values)}")
    return chosen[0]
