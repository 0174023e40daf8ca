"""Claims of Sharma et al. (2024) on whole trajectories of training, and its definitions as claims.

Epochs t count from 1: untrained networks have no barrier.
"""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from pipeline.report.claims.judge import Case, claim
from pipeline.report.claims.measures import Measure, itself, least, of
from pipeline.report.claims.numbers import Numbers
from pipeline.report.claims.sweeps import networks
from pipeline.report.claims.values import Values, units

#: The dotted line of Figures 3 and 14, in points: what counts as connected.
_CONNECTED = 2.0
_EARLY = 5  # epochs


@claim(
    "Section 5.1, Figures 1, 7 and 10",
    "test error, each matching: least over 1 ≤ t < T of barrier(none, T) / 3 − barrier(t under π of T) "
    "> 0",
)
def one_permutation_lowers_the_barrier_at_all_epochs(numbers: Numbers) -> Iterator[Case]:
    """The permutation found at the end of training lowers the barrier at every epoch."""
    for name, cells, matcher in _by_matcher(numbers, ("none", "along")):
        yield Case(name, cells, Measure(_below_a_third, least), matcher)


def _below_a_third(frame: pd.DataFrame) -> pd.DataFrame:
    third = _at_the_end(of(frame, "none", "arm")) / 3
    along = _trained(of(frame, "along", "arm"))
    return (third.reindex(along.index.droplevel("epoch")).set_axis(along.index) - along).dropna()


@claim(
    "Section 5.1, Figure 1",
    "test error, each matching: least over 1 ≤ t < T of 2 points − barrier(t under π of T) > 0",
)
def one_permutation_connects_all_epochs(numbers: Numbers) -> Iterator[Case]:
    """Under the permutation of the end, the networks are linearly connected at every epoch."""
    for name, cells, matcher in _by_matcher(numbers, "along"):
        measure = Measure(lambda frame: _CONNECTED - _trained(frame), least)
        yield Case(name, cells, measure, matcher)


@claim(
    "Section 6 and Appendix H.1, Figures 4, 7 and 15",
    "test error: least over 1 ≤ t < T/2 of barrier(t under weights π of t) − 2·barrier(T under π of T) > "
    "0; of activations, largest over 1 ≤ t < T/4 of 2·barrier(T) − barrier(t) ≥ 0",
    "epochs",
)
def weight_matching_fails_early(numbers: Numbers) -> Iterator[Case]:
    """Weight matching fails early in training, where activation matching does not."""
    for name, cells, matcher in _by_matcher(numbers, "own"):
        if matcher == "weights":
            yield Case(name, cells, Measure(lambda f: _above_twice(f, 1 / 2), least), matcher)
        elif matcher == "activations":
            yield Case(name, cells, Measure(_best_early, ties=True), matcher)


def _above_twice(frame: pd.DataFrame, until: float) -> pd.DataFrame:
    """Barriers of t before a share of T, less twice that of the end."""
    own, end = of(frame, "own", "arm"), 2 * _at_the_end(of(frame, "own", "arm"))
    early = _trained(own, until * own.index.get_level_values("epoch").max())
    return (early - end.reindex(early.index.droplevel("epoch")).set_axis(early.index)).dropna()


def _best_early(frame: pd.DataFrame) -> pd.DataFrame:
    """The one early epoch at which the barrier lies the furthest below twice that of the end."""
    below = -_above_twice(frame, 1 / 4)
    if below.empty:
        return below
    best = below.max().to_frame().T
    return best.set_axis(pd.MultiIndex.from_tuples([("activations",)], names=["matcher"]))


@claim(
    "Appendix H.1, Figure 15",
    "weights, mean over 1 ≤ t ≤ 5, t < T/2: distance(π of T) − distance(π of t) > 0, and test error "
    "barrier(π of t) − barrier(π of T) > 0, all at t",
)
def nearer_in_weights_and_higher_in_error(numbers: Numbers) -> Iterator[Case]:
    """Early in training, the permutation of the same epoch brings weights nearer and errors further
    than that of the end."""
    for name, found in networks(numbers.trajectories, matcher="weights", split="test"):
        cells = found.where(arm=("own", "along"))
        near, high = cells.where(metric="distance"), cells.where(metric="error")
        yield Case(name, near, Measure(_own_above, sign=-1), "nearer")
        yield Case(name, high, Measure(_own_above), "higher")


def _own_above(frame: pd.DataFrame) -> pd.DataFrame:
    """Under π of t less under π of the end, at early t."""
    half = frame.index.get_level_values("epoch").max() / 2
    above = (of(frame, "own", "arm") - of(frame, "along", "arm")).dropna()
    return _trained(above, min(half, _EARLY + 1))


@claim(
    "Definition 1",
    "each matching: threshold − largest error barrier at the end under the best π found for a pair > 0",
)
def weakly_connected(numbers: Numbers) -> Iterator[Case]:
    """Networks at the end of training are weakly linearly connected modulo permutation."""
    yield from _notion(numbers, "weak (1)")


@claim(
    "Definition 3",
    "each matching: threshold − largest error barrier over all epochs under the best one π of a pair > 0",
)
def simultaneously_connected(numbers: Numbers) -> Iterator[Case]:
    """Whole trajectories of training are simultaneously connected by one permutation."""
    yield from _notion(numbers, "simultaneous (3)")


@claim(
    "Definition 2",
    "each matching: threshold − largest error barrier among networks under the best assignment of a π to "
    "each > 0",
)
def strongly_connected(numbers: Numbers) -> Iterator[Case]:
    """Networks are strongly linearly connected modulo permutation."""
    yield from _notion(numbers, "strong (2)")


def _notion(numbers: Numbers, notion: str) -> Iterator[Case]:
    for name, cells in networks(numbers.notions, notion=notion):
        for key, own in units(cells, ["matcher"]):
            yield Case(name, own, Measure(itself), str(key["matcher"]))


def _by_matcher(numbers: Numbers, arms: str | tuple[str, ...]) -> Iterator[tuple[str, Values, str]]:
    """Test errors along training by network and matcher."""
    for name, cells in networks(numbers.trajectories, arm=arms, split="test", metric="error"):
        for key, own in units(cells, ["matcher"]):
            yield name, own, str(key["matcher"])


def _trained(frame: pd.DataFrame, before: float = float("inf")) -> pd.DataFrame:
    """The cells of epochs from 1 to one before ``before``."""
    epochs = frame.index.get_level_values("epoch")
    return frame[(epochs >= 1) & (epochs < before)]


def _at_the_end(frame: pd.DataFrame) -> pd.DataFrame:
    """The cells of the last epoch, without its level."""
    last = frame.index.get_level_values("epoch").max()
    return of(frame, last, "epoch")
