"""How different the functions of the solutions are, and what their ensembles gain (Table 1)."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from pipeline.report.claims.judge import Case, claim
from pipeline.report.claims.measures import Measure, Profile, between, gap, of
from pipeline.report.claims.numbers import Numbers
from pipeline.report.claims.values import Values, units
from pipeline.report.tables import names
from pipeline.results import NETWORK

_DIVERSE = ["disagreement", "kl", "js"]


@claim("paper, Section 4.2, Table 1", "ensemble accuracy(permuted) − ensemble accuracy(LTH) > 0")
def permuted_ensembles_beat_lth(numbers: Numbers) -> Iterator[Case]:
    """An ensemble of permuted solutions is more accurate than one of LTH solutions."""
    for name, cells in _networks(numbers, ["ensemble_accuracy"], "permuted", "lth"):
        yield Case(name, cells, Measure(gap("permuted", "lth")))


@claim(
    "paper, Section 4.2, Table 1", "disagreement, KL and JS, each: permuted − LTH > 0", "measures"
)
def permuted_more_diverse_than_lth(numbers: Numbers) -> Iterator[Case]:
    """Permuted solutions are more diverse functions than LTH solutions."""
    yield from _each_measure(numbers, gap("permuted", "lth"), "permuted", "lth")


@claim(
    "paper, Table 1",
    "disagreement, KL and JS, each: permuted − (IMP + LTH)/2 > 0",
    "measures",
    note="Naive is more diverse than permuted in four of the six published measures.",
)
def permuted_as_diverse_as_imp(numbers: Numbers) -> Iterator[Case]:
    """Permuted solutions are about as diverse as IMP's: nearer to them than to LTH's."""
    middle = between("permuted", "imp", "lth")
    yield from _each_measure(numbers, middle, "permuted", "imp", "lth")


@claim(
    "paper, Table 1",
    "gain = ensemble accuracy − mean accuracy: gain(permuted) − (gain(IMP) + gain(LTH))/2 > 0",
    note="Naive ensembles gain as much: 2.39 and 5.10 points, permuted ones 2.37 and 5.37.",
)
def permuted_ensemble_gain_like_imp(numbers: Numbers) -> Iterator[Case]:
    """Ensembles of permuted solutions gain about as much as IMP's: a gain nearer to theirs than to
    LTH's."""

    def profile(frame: pd.DataFrame) -> pd.DataFrame:
        whole, single = (of(frame, m, "measure") for m in ("ensemble_accuracy", "test_accuracy"))
        return between("permuted", "imp", "lth")((whole - single).dropna())

    measures = ["ensemble_accuracy", "test_accuracy"]
    for name, cells in _networks(numbers, measures, "permuted", "imp", "lth"):
        yield Case(name, cells, Measure(profile))


def _each_measure(numbers: Numbers, profile: Profile, *methods: str) -> Iterator[Case]:
    for measure in _DIVERSE:
        for name, cells in _networks(numbers, [measure], *methods):
            yield Case(
                name, cells, Measure(profile), measure.upper() if len(measure) < 3 else measure
            )


def _networks(
    numbers: Numbers, measures: list[str], *methods: str
) -> Iterator[tuple[str, Values]]:  # fmt: skip
    values = numbers.diversity.where(measure=measures) if numbers.diversity else None
    for key, cells in units(values, NETWORK, methods):
        yield names.place(**key), cells
