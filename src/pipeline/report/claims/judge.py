"""How a claim is stated, what its formula gives, and the verdict on it.

A claim holds when every unit that has its cells holds, fails when one fails, and has "not enough
cells" when no unit has them. `judge` is the only place that decides.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from pipeline.report.claims.numbers import Numbers

HOLDS, FAILS, UNKNOWN = "holds", "fails", "not enough cells"


@dataclass(frozen=True)
class Unit:
    """One case of a claim: how far its numbers lie on the claim's side.

    It holds when every number of ``above`` is > 0 and every number of ``at_least`` ≥ 0. NaN, or no
    number at all, says that its cells are missing. values: a text of the numbers behind them.
    """

    name: str
    values: str = ""
    above: Sequence[float] = ()
    at_least: Sequence[float] = ()

    @property
    def verdict(self) -> str:
        margins = (*self.above, *self.at_least)
        if not margins or any(math.isnan(margin) for margin in margins):
            return UNKNOWN
        held = all(value > 0 for value in self.above) and all(value >= 0 for value in self.at_least)
        return HOLDS if held else FAILS


@dataclass(frozen=True)
class Found:
    """What a formula gives: units, and a sentence of evidence."""

    units: Sequence[Unit]
    evidence: str


Formula = Callable[[Numbers], Found]


@dataclass(frozen=True)
class Statement:
    """A claim as it is stated; meaning: what it says when it fails on the published cells."""

    id: str
    sentence: str
    section: str
    formula: str
    meaning: str
    compute: Formula = field(repr=False)


@dataclass(frozen=True)
class Claim(Statement):
    """A claim and what the cells say about it.

    counts: units by verdict. rows: one per unit, with the columns unit, verdict and values.
    """

    verdict: str
    counts: Mapping[str, int]
    evidence: str
    rows: pd.DataFrame = field(repr=False)


#: The claims of every module that states some, in the order of its text.
STATED: defaultdict[str, list[Statement]] = defaultdict(list)


def claim(section: str, formula: str, meaning: str = "") -> Callable[[Formula], Formula]:
    """State a claim: its id is the name of the function, its sentence the function's docstring."""

    def state(compute: Formula) -> Formula:
        name, sentence = compute.__name__.replace("_", "-"), " ".join(str(compute.__doc__).split())
        stated = Statement(name, sentence, section, formula, meaning, compute)
        STATED[compute.__module__].append(stated)
        return compute

    return state


_NOTHING_TO_JUDGE = "no unit has the cells that the formula needs."


def judge(stated: Statement, numbers: Numbers) -> Claim:
    """The verdict on one claim."""
    found = stated.compute(numbers)
    verdicts = [unit.verdict for unit in found.units]
    counts = {verdict: verdicts.count(verdict) for verdict in (HOLDS, FAILS, UNKNOWN)}
    verdict = FAILS if counts[FAILS] else HOLDS if counts[HOLDS] else UNKNOWN
    return Claim(
        **vars(stated),
        verdict=verdict,
        counts=counts,
        evidence=found.evidence if verdict != UNKNOWN else _NOTHING_TO_JUDGE,
        rows=pd.DataFrame(
            [(unit.name, unit.verdict, unit.values) for unit in found.units],
            columns=["unit", "verdict", "values"],
        ),
    )


def known(units: Sequence[Unit]) -> list[Unit]:
    """The units that have their cells."""
    return [unit for unit in units if unit.verdict != UNKNOWN]


def share(units: Sequence[Unit]) -> str:
    """How many of the units that have their cells hold: ``3 of 5``."""
    verdicts = [unit.verdict for unit in known(units)]
    return f"{verdicts.count(HOLDS)} of {len(verdicts)}"


def share_but(units: Sequence[Unit], what: str) -> str:
    """The share of units that hold as a sentence which names the others."""
    failing = "; ".join(unit.name for unit in units if unit.verdict == FAILS)
    return f"{share(units)} {what}" + (f"; not in {failing}." if failing else ".")
