"""Permutations from an early epoch, and masks from another data set."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pandas as pd

from pipeline.report.claims.accuracy import networks
from pipeline.report.claims.judge import Case, claim
from pipeline.report.claims.measures import Measure, Profile, between, gap, of
from pipeline.report.claims.numbers import END, Numbers
from pipeline.report.claims.values import Values, units
from pipeline.report.tables import names
from pipeline.results import NETWORK

EARLY = (5.0, 20.0)
_CELL = ["sparsity", "rewind_epoch"]
_EARLY_SAID = (
    "Over the four sparsities of Table 15, of the advantage over naive that the permutation of the "
    "end brings, the one of t = 5 keeps 39 % and that of t = 20 keeps 52 %."
)


@claim(
    "paper, Appendix B, Table 15; thesis, Section 4.1.4",
    "t = 5, 20, each: mean over S, k of permuted(t) − permuted(T) ≥ 0",
    note=_EARLY_SAID,
)
def early_matching_suffices(numbers: Numbers) -> Iterator[Case]:
    """A permutation from an early epoch of b (t = 5 or 20) serves as well as one from its end."""
    yield from _early(numbers, _lost, "permuted")


@claim(
    "paper, Appendix B, Table 15, by another reading",
    "t = 5, 20, each: mean over S, k of permuted(t) − (permuted(T) + naive)/2 > 0",
)
def early_matching_keeps_most(numbers: Numbers) -> Iterator[Case]:
    """A permutation from an early epoch of b (t = 5 or 20) keeps most of the advantage over naive."""

    def kept(t: float) -> Profile:
        advantage = gap("permuted", "naive")
        return lambda frame: (_lost(t)(frame) + advantage(_matched(frame, END)) / 2).dropna()

    yield from _early(numbers, kept, "permuted", "naive")


def _early(numbers: Numbers, profile: Callable[[float], Profile], *methods: str) -> Iterator[Case]:
    """A part for each early epoch, a case for each network that was matched there and at the end."""
    for t in EARLY:
        for key, cells in units(numbers.cells, NETWORK, methods):
            if {t, END} <= set(cells.where(method="permuted").places["matching_epoch"]):
                # a row of the table is there for few of the network's S and k
                chosen = cells.where(matching_epoch=(t, END))
                yield Case(
                    names.place(**key), _shared(chosen, t), Measure(profile(t)), f"t = {t:g}"
                )


def _shared(cells: Values, t: float) -> Values:
    """The cells at those S and k at which there is a matching at epoch t."""
    places = cells.places
    early = pd.MultiIndex.from_frame(places[places["matching_epoch"] == t][_CELL])
    return cells.take(pd.MultiIndex.from_frame(places[_CELL]).isin(early))


def _lost(t: float) -> Profile:
    def profile(frame: pd.DataFrame) -> pd.DataFrame:
        early, end = (of(_matched(frame, at), "permuted") for at in (t, END))
        return (early - end).dropna()

    return profile


def _matched(frame: pd.DataFrame, t: float) -> pd.DataFrame:
    return of(frame, t, "matching_epoch")


@claim("thesis, Section 4.1.5, Table 4.2", "mean over S, k of top-1(permuted) − top-1(naive) > 0")
def mask_reuse(numbers: Numbers) -> Iterator[Case]:
    """On another data set too, the permuted mask is consistently better than the mask as it is."""
    for name, cells in networks(numbers.reuse, "permuted", "naive"):
        yield Case(name, cells, Measure(gap("permuted", "naive")))


@claim(
    "thesis, Section 4.1.5, Table 4.2",
    "mean over S of permuted − naive: at k = 20 less at k = 10, > 0",
)
def mask_reuse_clearer_at_20(numbers: Numbers) -> Iterator[Case]:
    """On another data set the permuted mask is ahead more clearly at k = 20 than at k = 10."""

    def clearer(frame: pd.DataFrame) -> pd.DataFrame:
        return gap(20, 10, "rewind_epoch")(gap("permuted", "naive")(frame))

    for name, cells in networks(numbers.reuse, "permuted", "naive", rewind_epoch=(10, 20)):
        if cells.places["rewind_epoch"].nunique() == 2:
            yield Case(name, cells, Measure(clearer))


@claim("thesis, Section 4.1.5, Table 4.2", "mean over S, k of permuted − (LTH + naive)/2 > 0")
def mask_reuse_near_lth(numbers: Numbers) -> Iterator[Case]:
    """On another data set permuted closely approaches LTH: it is nearer to it than to naive."""
    for name, cells in networks(numbers.reuse, "permuted", "lth", "naive"):
        yield Case(name, cells, Measure(between("permuted", "lth", "naive")))
