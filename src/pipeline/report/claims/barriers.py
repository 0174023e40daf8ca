"""Barriers between π(a) and b, and between dense and IMP solutions."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from pipeline.connectivity.barrier import barrier
from pipeline.report.claims.growth import steps
from pipeline.report.claims.judge import Found, Unit, claim, share_but
from pipeline.report.claims.numbers import Numbers, groups
from pipeline.report.tables import names
from pipeline.results import NETWORK

_CURVE = [*NETWORK, "a", "b", "correction", "split", "matched"]


@claim(
    "paper, Section 4.3, Figure 3",
    "mean over pairs of the loss barrier (eq. 3, with REPAIR) falls at every step of w",
)
def barrier_falls_with_width(numbers: Numbers) -> Found:
    """The barrier between π(a) and b falls with width."""
    units = [
        steps(key, group.groupby("width")["barrier"].mean(), up=False)
        for key, group in groups(_matched(numbers, corrected=True), ["dataset", "model", "split"])
    ]
    return Found(units, share_but(units, "barriers fall with every width"))


@claim(
    "paper, Section 3, Figure 3",
    "mean over pairs of the largest loss on the path (REPAIR) < loss at initialisation",
)
def barrier_below_initialisation(numbers: Numbers) -> Found:
    """After matching and REPAIR, the loss between π(a) and b stays below that of an untrained
    network."""
    units = []
    found = _matched(numbers, corrected=True).dropna(subset=["loss_at_init"])
    for key, group in groups(found, [*NETWORK, "split"]):
        highest, start = group["highest"].mean(), group["loss_at_init"].mean()
        text = f"highest loss on the path {highest:.3f}, at initialisation {start:.3f}"
        units.append(Unit(names.place(**key), text, above=[start - highest]))
    return Found(units, share_but(units, "paths stay below the loss at initialisation"))


@claim("paper, Section 3, Figures 3 and 4a", "mean barrier(REPAIR) < mean barrier(no correction)")
def repair_lowers_the_barrier(numbers: Numbers) -> Found:
    """REPAIR lowers the barrier, between π(a) and b and between dense and IMP solutions."""
    units = []
    for key, group in groups(_matched(numbers), [*NETWORK, "split"]):
        units.append(_lowered(f"π(a) to b, {names.place(**key)}", group, "barrier", ""))
    by = ["experiment", "style", "split", "iteration"]
    for key, group in groups(numbers.imp_barriers, by):
        label = (
            f"dense to {key['style']} IMP ({key['experiment']}), {key['split']}, "
            f"iteration {key['iteration']:g}"
        )
        units.append(_lowered(label, group, "error_barrier", " %"))
    return Found(units, share_but(units, "barriers are lower with REPAIR"))


def _lowered(name: str, rows: pd.DataFrame, column: str, unit: str) -> Unit:
    means = rows.groupby("correction")[column].mean()
    without, repaired = (float(means.get(key, math.nan)) for key in ("none", "repair"))
    less = without - repaired
    text = f"{without:.3f}{unit} without, {repaired:.3f}{unit} with REPAIR"
    return Unit(name, names.unless_nan(less, text), above=[less])


def _matched(numbers: Numbers, *, corrected: bool = False) -> pd.DataFrame:
    """Barriers between π(a) and b as the headline says; ``corrected``: of its correction only."""
    headline = numbers.headline
    found = barriers(numbers.curves, headline.at)
    found = found[found["matched"].astype(bool)]
    if headline.split is not None:
        found = found[found["split"] == headline.split]
    return found[found["correction"] == headline.correction] if corrected else found


def barriers(curves: pd.DataFrame | None, at: float | None = None) -> pd.DataFrame:
    """Barrier in the loss of every curve that has its ends and, with ``at``, that alpha.

    ``curves`` as in `pipeline.results`; ``at`` as in `pipeline.connectivity.barrier`. Returns a row
    per (dataset, model, width, a, b, correction, split, matched) with barrier, highest (the largest
    loss) and loss_at_init, all in nats.
    """
    rows = []
    for key, group in groups(curves, _CURVE):
        curve = group.drop_duplicates("alpha")  # experiments may share a curve
        alphas, losses = set(curve["alpha"]), curve["loss"]
        wanted = {0.0, 1.0} if at is None else {0.0, 1.0, at}
        if len(alphas) < 3 or not wanted <= alphas or not np.isfinite(losses).all():
            continue
        height = barrier(curve.to_dict("records"), key["correction"], key["split"], "loss", at)
        start = curve.sort_values("alpha")["loss_at_init"].iloc[0]
        rows.append({**key, "barrier": height, "highest": losses.max(), "loss_at_init": start})
    return pd.DataFrame(rows, columns=[*_CURVE, "barrier", "highest", "loss_at_init"])
