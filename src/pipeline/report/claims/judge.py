"""What a claim is, and the verdict on it.

A claim names cases: a network or a data set with its cells, and one number of them that the claim
says is above 0. The number is taken for each pair of seeds. With three networks or more its mean
over networks is judged, else the mean over the pairs of those that are there: by Student's 95 %
interval, and a p that is adjusted after Holm for all claims of a page.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from pipeline.report.claims.measures import Measure
from pipeline.report.claims.numbers import Numbers
from pipeline.report.claims.values import Reading, Values
from pipeline.report.statistics import FEWEST, LEVEL, Estimate, combined, holm, mean_of
from pipeline.report.tables import names

SUPPORTED, CONTRADICTED, UNDECIDED = "supported", "contradicted", "undecided"


@dataclass(frozen=True)
class Case:
    """A unit of a claim: its name, its cells, and the measure that the claim says is above 0.

    part: of a claim that says several things at once, which one; all of them must hold.
    """

    name: str
    values: Values
    measure: Measure
    part: str = ""

    @cached_property
    def reading(self) -> Reading:
        """What its cells say of the measure."""
        return self.values.read(self.measure)


Formula = Callable[[Numbers], Iterable[Case]]


@dataclass(frozen=True)
class Statement:
    """A claim as it is stated. counted: what the literal reading goes through; over: what cases are."""

    id: str
    sentence: str
    section: str
    formula: str
    counted: str
    over: str
    note: str
    compute: Formula = field(repr=False)


@dataclass(frozen=True)
class Part:
    """One thing that a claim says, judged over its cases: the reading, and over what it was taken."""

    name: str
    reading: Reading
    over: str

    @property
    def decided(self) -> bool:
        """Whether anything can be said of it."""
        return self.reading.estimate.decides


@dataclass(frozen=True)
class Claim(Statement):
    """A claim and what the cells say about it.

    p: two-sided, adjusted for the page. independent: the verdict with all published cells taken as
    independent, "" where nothing had to be assumed. held, of: how many of the ``counted`` entries of
    the means are as the claim says; unclear: of how many the points were not read well enough to tell.
    rows: one per case.
    """

    verdict: str
    independent: str
    parts: Sequence[Part]
    p: float
    held: int
    of: int
    unclear: int
    rows: pd.DataFrame = field(repr=False)


#: The claims of every module that states some, in the order of its text.
STATED: defaultdict[str, list[Statement]] = defaultdict(list)


def claim(
    section: str, formula: str, counted: str = "cells", over: str = "networks", note: str = ""
) -> Callable[[Formula], Formula]:
    """State a claim: its id is the name of the function, its sentence the function's docstring."""

    def state(compute: Formula) -> Formula:
        name, sentence = compute.__name__.replace("_", "-"), " ".join(str(compute.__doc__).split())
        stated = Statement(name, sentence, section, formula, counted, over, note, compute)
        STATED[compute.__module__].append(stated)
        return compute

    return state


def judge(stated: Sequence[Statement], numbers: Numbers) -> list[Claim]:
    """The verdicts on the claims of one page, which share the level of their tests."""
    found = [(one, list(one.compute(numbers))) for one in stated]
    parts = [gather(cases, one.over) for one, cases in found]
    verdicts, p = verdicts_on([[part.reading.estimate for part in own] for own in parts])
    others, _ = verdicts_on([[alone(part.reading) for part in own] for own in parts])
    return [
        _claim(one, cases, own, (str(verdict), str(other)), float(adjusted))
        for (one, cases), own, verdict, other, adjusted in zip(
            found, parts, verdicts, others, p, strict=True
        )
    ]


def alone(reading: Reading) -> Estimate:
    """The estimate with all cells taken as independent."""
    return reading.independent or reading.estimate


def gather(cases: Iterable[Case], over: str) -> list[Part]:
    """Every part of a claim over its cases, which are called ``over``."""
    by_part: defaultdict[str, list[Reading]] = defaultdict(list)
    for case in cases:
        by_part[case.part].append(case.reading)
    return [Part(name, *pooled(readings, over)) for name, readings in by_part.items()]


def pooled(readings: Sequence[Reading], over: str) -> tuple[Reading, str]:
    """The mean over cases, and what it is over; cases of fewer than three pairs decide nothing.

    Three cases or more are a sample themselves; fewer are combined by their own errors.
    """
    able = [one for one in readings if one.estimate.decides]
    if len(able) >= FEWEST:
        return Reading(mean_of([one.estimate.value for one in able])), f"{len(able)} {over}"
    if not able:
        return _undecided(readings)
    estimate, other = (combined(own) for own in zip(*map(_both, able), strict=True))
    assumed = any(one.independent for one in able)
    runs = f"{estimate.n} {'runs a cell' if assumed else 'clusters of pairs'}"
    reading = Reading(estimate, other if assumed else None, _notes(able))
    return reading, runs if len(able) == 1 else f"{runs}, {len(able)} {over}"


def _undecided(readings: Sequence[Reading]) -> tuple[Reading, str]:
    """The mean over cases none of which decides anything, and why."""
    there = [one for one in readings if not np.isnan(one.estimate.value).any()]
    if not there:
        return Reading(Estimate(), note=_notes(readings)), "no cells"
    most = max(one.estimate.n for one in there)
    value = np.mean([one.estimate.value for one in there], axis=0)
    why = "no spread is known" if most >= FEWEST else f"fewer than {FEWEST} independent pairs"
    return Reading(Estimate(value, n=most), note=_notes(there)), why


def _both(reading: Reading) -> tuple[Estimate, Estimate]:
    return reading.estimate, alone(reading)


def _notes(readings: Iterable[Reading]) -> str:
    return "; ".join(dict.fromkeys(one.note for one in readings if one.note))


def verdicts_on(claims: Sequence[Sequence[Estimate]]) -> tuple[np.ndarray, np.ndarray]:
    """Verdict and adjusted p of every claim, each given by the estimates of its parts.

    A claim of several parts is supported when each of them is above 0, so the largest p counts; it
    is contradicted when one is below 0, so the smallest counts, times the number of parts. Estimates
    may be arrays of draws; so are the results then, claims along the first axis.
    """
    sides = [_p(parts) for parts in claims]
    p, side = (np.array(np.broadcast_arrays(*one)) for one in zip(*sides, strict=True))
    adjusted = holm(p)
    decided = adjusted <= 1 - LEVEL
    verdict = np.where(side > 0, SUPPORTED, CONTRADICTED)
    return np.where(decided, verdict, UNDECIDED), adjusted


def _p(parts: Sequence[Estimate]) -> tuple[np.ndarray, np.ndarray]:
    """Two-sided p of a claim, NaN where a part is not known, and on which side it lies."""
    able = [part for part in parts if part.decides]
    if not able:
        return np.array(np.nan), np.array(0)
    p, value = np.array([part.p for part in able]), np.array([part.value for part in able])
    above = (value > 0).all(axis=0)
    lowest = np.where(value < 0, p, 1.0).min(axis=0) * len(parts)
    largest = p.max(axis=0) if len(able) == len(parts) else np.nan
    return np.where(above, largest, np.minimum(lowest, 1.0)), np.where(above, 1, -1)


def _claim(
    stated: Statement, cases: Sequence[Case], parts: Sequence[Part], verdicts: tuple[str, str], p: float
) -> Claim:  # fmt: skip
    literal = [case.measure.literal(case.values.means.dropna()) for case in cases]
    assumed = any(part.reading.independent for part in parts)
    return Claim(
        **vars(stated),
        verdict=verdicts[0],
        independent=verdicts[1] if assumed else "",
        parts=parts,
        p=p,
        held=sum(own.count(True) for own in literal),
        of=sum(len(own) - own.count(None) for own in literal),
        unclear=sum(own.count(None) for own in literal),
        rows=_rows(cases, literal),
    )


_ROW = [
    "unit", "estimate", "reach", "reach_independent", "n", "held", "of", "values", "note",
]  # fmt: skip


def _rows(cases: Sequence[Case], literal: Sequence[Sequence[bool | None]]) -> pd.DataFrame:
    """A row per case: estimate and interval of its own, how many entries hold, and the profile."""
    rows = []
    for case, held in zip(cases, literal, strict=True):
        reading = case.reading
        one, other = reading.estimate, alone(reading)
        values = profile_text(case.measure, case.values.means.dropna(), held)
        rows.append(
            {
                "unit": f"{case.name}, {case.part}" if case.part else case.name,
                "estimate": one.value, "reach": one.reach if one.decides else np.nan,
                "reach_independent": other.reach if other.decides else np.nan, "n": one.n,
                "held": held.count(True), "of": len(held) - held.count(None), "values": values,
                "note": reading.note,
            }
        )  # fmt: skip
    return pd.DataFrame(rows, columns=_ROW)


_FEW = 6  # entries that are shown one by one


def profile_text(measure: Measure, means: pd.DataFrame, literal: Sequence[bool | None] = ()) -> str:
    """The entries of a profile by what they go along.

    Of many, the least, the mean and the most, and those against the claim where these are few.
    ``literal`` as of `Measure.literal`, for each entry.
    """
    profile = measure.profile(means).iloc[:, 0]
    if len(profile) <= _FEW:
        return _entries(profile, profile)
    low, middle, high = (names.signed(v) for v in (profile.min(), profile.mean(), profile.max()))
    text = f"{len(profile)} values: {low} to {high}, mean {middle}"
    against = profile[[held is False for held in literal]] if len(literal) == len(profile) else ()
    return text + (f"; against: {_entries(against, profile)}" if 0 < len(against) <= _FEW else "")


def _entries(chosen: pd.Series, profile: pd.Series) -> str:
    """Chosen entries of a profile, with the levels in which its entries differ."""
    every, places = (one.index.to_frame(index=False) for one in (profile, chosen))
    told = [level for level in _FORMS if level in every and every[level].nunique() > 1]
    return "; ".join(
        ", ".join(_FORMS[level](place[level]) for level in told)
        + ": " * bool(told)
        + names.signed(value)
        for place, value in zip(places.to_dict("records"), chosen, strict=True)
    )


#: The levels that tell entries of a profile apart, and how they are written.
_FORMS: dict[str, Callable[[Any], str]] = {
    "width": "w = {:g}".format, "sparsity": names.percent, "rewind_epoch": "k = {:g}".format,
    "matching_epoch": "t = {:g}".format, "epoch": "t = {:g}".format, "cut": "cut {:g}".format,
    "matcher": str, "arm": str, "split": str,
}  # fmt: skip
