"""Claims of Sharma et al. (2024) on pruned networks: their barriers, and masks carried to others.

Values are error barriers and accuracies on test images, by level of pruning.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from pipeline.report.claims.judge import Case, claim
from pipeline.report.claims.measures import Measure, Profile, gap, of
from pipeline.report.claims.numbers import Numbers
from pipeline.report.claims.values import Values, units
from pipeline.report.levels import PRUNED, UNPRUNED
from pipeline.report.tables import names
from pipeline.results import NETWORK

_U = "u: two standard errors of the difference, over pairs."
_K = (
    "K: the level up to which accuracy ≥ that of the dense network − u; where it first falls below, read "
    f"off between two levels, 0 being no pruning. {_U}"
)


@claim(
    "Section 5.2, Figures 2, 11 and 12",
    "error barrier, mean over matchings and over levels at which accuracy(IMP) ≥ accuracy(dense) − u: "
    "π of the sparse − π of the dense networks > 0, and a third of that without π − π of the dense > 0",
    "levels",
    note=_U,
)
def dense_permutations_align_sparse_networks(numbers: Numbers) -> Iterator[Case]:
    """The permutation of the dense networks connects the pruned ones better than their own does."""
    for name, cells in _networks(numbers, "weights"):
        matching = [level for level, held in _holds(cells, PRUNED).items() if held]
        barriers = cells.where(metric="barrier", level=matching)
        if len(barriers.means):
            yield Case(name, barriers, Measure(gap("sparse", "dense", "arm")), "below sparse π")
            yield Case(name, barriers, Measure(_third), "a third of no π")


def _third(frame: pd.DataFrame) -> pd.DataFrame:
    """A third of the barrier without a permutation less that under the dense one."""
    dense = of(frame, "dense", "arm")
    none = of(frame, "none", "arm").droplevel("matcher")
    return (
        none.reindex(dense.index.droplevel("matcher")).set_axis(dense.index) / 3 - dense
    ).dropna()


@claim(
    "Section 5.2, Figure 2",
    "K(π) > 1, K(π) − K(one prune) > 0, and K(no π) < 1; means over matchings",
    "matchings",
    note=_K,
)
def masks_can_be_carried_over(numbers: Numbers) -> Iterator[Case]:
    """A mask of one network, permuted, trains another to the accuracy of the dense one, to a higher
    sparsity than a mask of one prune; not permuted it does so at no sparsity."""
    for name, cells in _networks(numbers, "weights"):
        carried, none, once = (_reach(cells, arm) for arm in ("dense", "none", "one-shot"))
        if carried and once and none:
            yield Case(name, cells, Measure(_beyond_one(carried)), "carried")
            yield Case(name, cells, Measure(_minus(carried, once)), "beyond one prune")
            yield Case(name, cells, Measure(_beyond_one(none), sign=-1), "not without π")


@claim("Appendix F, Figure 13", "K(π of weights) − K(π of activations) ≥ 0", "networks", note=_K)
def weights_carry_masks_further(numbers: Numbers) -> Iterator[Case]:
    """Permutations of weight matching carry masks to higher sparsities than those of activations."""
    for name, cells in _networks(numbers, "weights"):
        one, other = (
            _reach(cells.where(matcher=["", matcher]), "dense")
            for matcher in ("weights", "activations")
        )
        if one and other:
            yield Case(name, cells, Measure(_minus(one, other), ties=True))


@claim(
    "Appendix F, Figure 13",
    "mean over matchings of K(weights rewound) − K(learning rate rewound) ≥ 0",
    "matchings",
    note=_K,
)
def rewinding_the_rate_carries_masks_less_far(numbers: Numbers) -> Iterator[Case]:
    """Where the learning rate alone is rewound, masks can be carried over to lower sparsities only."""
    for name, cells in _networks(numbers):
        weights, rate = (
            _reach(cells.where(rewound=rewound), "dense") for rewound in ("weights", "rate")
        )
        if weights and rate:
            yield Case(name, cells, Measure(_minus(weights, rate), ties=True))


def _networks(numbers: Numbers, rewound: str | None = None) -> Iterator[tuple[str, Values]]:
    """The values by level of each network, with its name."""
    if numbers.levels:
        chosen = numbers.levels.where(rewound=rewound) if rewound else numbers.levels
        for key, cells in units(chosen, NETWORK):
            yield names.place(**key), cells


def _holds(cells: Values, arm: str) -> pd.Series:
    """By level, and by matcher where the arm has several, whether an arm is as good as dense on average."""
    own, allowed = _beside_dense(cells, arm)
    return (own.mean(axis=1) >= -allowed).droplevel("matcher")


def _beside_dense(cells: Values, arm: str) -> tuple[pd.DataFrame, pd.Series]:
    """By matcher and level: an arm's accuracy less that of the dense network, pair by pair; and u."""
    table = _levels(getattr(cells, "table", cells.means))
    own, dense = of(table, arm, "arm"), of(table, UNPRUNED, "arm").iloc[:1]
    if not len(own) or not len(dense):
        return own, pd.Series(dtype=float, index=own.index)
    errors = (
        own.var(axis=1) / own.count(axis=1)
        + float(dense.var(axis=1).iloc[0]) / dense.count(axis=1).iloc[0]
    )
    return own - dense.iloc[0], 2 * np.sqrt(errors.fillna(0.0))


def _levels(frame: pd.DataFrame) -> pd.DataFrame:
    """Accuracies by arm, matcher and level alone."""
    kept = of(frame, "accuracy", "metric")
    return kept.droplevel([n for n in kept.index.names if n not in ("arm", "matcher", "level")])


def _reach(cells: Values, arm: str) -> Profile | None:
    """K of an arm, by matcher and for each column; None where the arm is not there."""
    _, allowed = _beside_dense(cells, arm)
    if not len(allowed):
        return None
    chosen = {level: {*cells.places[level]} for level in ("rewound", "matcher")}

    def profile(frame: pd.DataFrame) -> pd.DataFrame:
        for level, values in chosen.items():
            frame = frame[frame.index.get_level_values(level).isin(values)]
        table = _levels(frame)
        above = of(table, arm, "arm") - of(table, UNPRUNED, "arm").iloc[0]
        above = above.add(allowed.reindex(above.index), axis=0).sort_index(level="level")
        found = {
            matcher: own.droplevel("matcher").apply(_crossing, start=allowed[matcher].iloc[0])
            for matcher, own in above.groupby(level="matcher")
        }
        return _named(pd.DataFrame(found, frame.columns).T)

    return profile


def _crossing(above: pd.Series, start: float) -> float:
    """The level at which values by level first fall below 0, the last level where none does.

    ``start``: the value without pruning, 0 or more. Between two levels the way is a straight line.
    """
    levels, values = np.array([0.0, *above.index]), np.array([start, *above])
    fallen = np.flatnonzero(values < 0)
    if not len(fallen):
        return float(levels[-1])
    low, high = fallen[0], fallen[0] - 1
    share = values[high] / (values[high] - values[low])
    return float(levels[high] + share * (levels[low] - levels[high]))


def _named(frame: pd.DataFrame) -> pd.DataFrame:
    """A frame whose rows have a MultiIndex, of matchers alone."""
    return frame.set_axis(pd.MultiIndex.from_arrays([frame.index], names=["matcher"]), axis=0)


def _beyond_one(one: Profile) -> Profile:
    return lambda frame: one(frame) - 1


def _minus(one: Profile, other: Profile) -> Profile:
    """By matcher; what has none of its own, or one alone on both sides, stands beside each."""

    def profile(frame: pd.DataFrame) -> pd.DataFrame:
        left, right = one(frame), other(frame)
        if len(right) > 1:
            return (left - right).dropna()
        return left - right.iloc[0]

    return profile
