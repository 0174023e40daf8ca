"""Claims of Sharma et al. (2024): alignment through a third network, and how permutations settle.

Values are barriers at the end of training, by how the permutation was found, and shares of units on
which two permutations agree.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
import pandas as pd

from pipeline.catalog.layers import KINDS
from pipeline.report.claims.judge import Case, claim
from pipeline.report.claims.measures import Measure, gap, of, steps
from pipeline.report.claims.numbers import AGREEMENT, Numbers
from pipeline.report.claims.sweeps import networks


@claim(
    "Sections 5.3 and 6, Figures 3 and 14",
    "error and loss: mean step of the barrier (indirect) from a width to the next < 0",
    "steps",
)
def indirect_falls_with_width(numbers: Numbers) -> Iterator[Case]:
    """The barrier of networks that are aligned through a third one falls with width."""
    yield from _barriers(numbers, Measure(steps("width"), sign=-1), arm="indirect")


@claim(
    "Section 5.3, Figures 3 and 14",
    "error and loss: mean over widths of barrier(indirect) − barrier(direct) > 0",
)
def indirect_stays_above_direct(numbers: Numbers) -> Iterator[Case]:
    """Aligned through a third network, two networks keep a higher barrier than aligned directly."""
    measure = Measure(gap("indirect", "direct", "arm"))
    yield from _barriers(numbers, measure, arm=("direct", "indirect"))


@claim(
    "Section 6",
    "direct by width, and along training under π_t and π of the end, error and loss: mean sign of "
    "barrier(weights) − barrier(activations) > 0",
    note="Usually, the work says, not always: the estimate is the share of cells in which activations "
    "leave the lower barrier less the share in which weights do; literally asks every cell.",
)
def activations_are_usually_better(numbers: Numbers) -> Iterator[Case]:
    """Activation matching usually leaves lower barriers than weight matching, though not always."""
    measure = Measure(gap("weights", "activations", "matcher"), _balance)
    yield from _barriers(numbers, measure, arm="direct")
    for metric, (name, cells) in product(
        ("error", "loss"), networks(numbers.trajectories, arm=("own", "along"))
    ):
        yield Case(f"{name} along training", cells.where(metric=metric), measure, metric)


def _balance(profile: pd.DataFrame) -> pd.Series:
    """The share of entries above 0 less that of entries below."""
    return np.sign(profile).mean(skipna=False)


@claim(
    "Section 6 and Appendix H.3, Figures 5, 17 and 18",
    "mean step of the error barrier from a cut k to the next, layers up to k from epoch t, > 0",
    "steps",
)
def lower_layers_first(numbers: Numbers) -> Iterator[Case]:
    """The more of the lower layers come from an early epoch, the higher the barrier at the end."""
    for name, cells in networks(numbers.connections, metric="error", arm="bottom-up"):
        yield Case(name, cells, Measure(steps("cut")))


@claim(
    "Appendix H.3, Figures 17 and 18",
    "error barriers, mean over t, k and kinds of mixture: mixed − π of the latest t ≥ 0, and π of t − "
    "mixed ≥ 0",
    "differences",
)
def mixed_lie_between(numbers: Numbers) -> Iterator[Case]:
    """Permutations of networks mixed of two epochs lie between those of either epoch."""
    for name, cells in networks(numbers.connections, metric="error", arm=("end", *KINDS)):
        if cells.places["arm"].isin(KINDS).any():
            for part, profile, sign in (
                ("above the latest", _above_latest, 1), ("below that of t", _above_own, -1),
            ):  # fmt: skip
                yield Case(name, cells, Measure(profile, sign=sign, ties=True), part)


def _above_own(frame: pd.DataFrame) -> pd.DataFrame:
    """Mixed barriers less the one under the permutation of their t."""
    return _above(frame, of(frame, "end", "arm").droplevel("cut"))


def _above_latest(frame: pd.DataFrame) -> pd.DataFrame:
    """Mixed barriers less the one under the permutation of the latest t."""
    own = of(frame, "end", "arm").droplevel("cut")
    latest = own.index.get_level_values("matching_epoch").max()
    return _above(frame, of(own, latest, "matching_epoch"))


def _above(frame: pd.DataFrame, ends: pd.DataFrame) -> pd.DataFrame:
    """Mixed barriers less those of ``ends`` that have the same levels, as far as these have them."""
    mixed = frame[frame.index.get_level_values("arm") != "end"]
    keys = mixed.index.droplevel([n for n in mixed.index.names if n not in ends.index.names])
    return (mixed - ends.reindex(keys).set_axis(mixed.index)).dropna()


@claim(
    "Appendix H.4, Figure 21",
    "mean step of the share of units on which π of t and π of the end agree, from a t to the next, > 0",
    "steps",
)
def permutations_settle(numbers: Numbers) -> Iterator[Case]:
    """Permutations from later in training agree more with that of the end."""
    for name, cells in networks(numbers.connections, metric=AGREEMENT, arm="end"):
        yield Case(name, cells, Measure(steps("matching_epoch")))


@claim(
    "Appendix G, Figure 14",
    "share of units on which direct and indirect π agree: mean over widths < 50 %, and mean step from "
    "a width to the next ≤ 0",
    "shares and steps",
)
def direct_and_indirect_stay_unlike(numbers: Numbers) -> Iterator[Case]:
    """Direct permutations and those through a third network share few units, and no more with
    width."""
    agreement = {"metric": AGREEMENT, "arm": "indirect"}
    for name, cells in networks(numbers.connections, widths=True, **agreement):
        yield Case(name, cells, Measure(lambda shares: 50 - shares), "few")
        yield Case(name, cells, Measure(steps("width"), sign=-1, ties=True), "no more with width")


def _barriers(numbers: Numbers, measure: Measure, **chosen: object) -> Iterator[Case]:
    """A part for each metric, a case for each network over all its widths."""
    for metric in ("error", "loss"):
        for name, cells in networks(numbers.connections, widths=True, metric=metric, **chosen):
            yield Case(name, cells, measure, metric)
