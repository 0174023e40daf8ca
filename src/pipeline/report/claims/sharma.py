"""Claims of Sharma et al. (2024) on the points of their own curves, as far as those were read.

Two points that lie nearer to each other than they could be read decide nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from math import nan
from typing import Any

import pandas as pd

from pipeline.report.claims.judge import Found, Unit, claim, share, share_but
from pipeline.report.claims.numbers import Numbers

#: Networks as the work names them.
_NETWORKS = {"vgg16_ln": "VGG-16", "resnet20_ln": "ResNet-20"}
_MATCHERS = {"weights": "WM", "activations": "AM"}
_STEPS = {"width": "width", "matching_epoch": "t", "cut": "k"}
_LINE = ["model", "split", "metric", "matcher"]


def _lines(
    curves: pd.DataFrame | None, keys: list[str], **chosen: Any
) -> Iterator[tuple[str, Any]]:
    """The points that have these values, by all that ``keys`` tell apart, with a name."""
    if curves is None:
        return
    for key, value in chosen.items():
        curves = curves[curves[key].isin(value if isinstance(value, list) else [value])]
    for values, points in curves.groupby(keys, sort=False, dropna=False):
        yield " ".join(map(_word, keys, values)), points


def _word(key: str, value: Any) -> str:
    """A value as a part of a unit's name."""
    if isinstance(value, str):
        return _NETWORKS.get(value, _MATCHERS.get(value, value))
    return f"{'k' if key == 'cut' else 't'} = {value:g}"


def _above(high: Any, low: Any) -> float:
    """How far one point lies above another; NaN where that is less than they can be misread."""
    difference = float(high["value"] - low["value"])
    return nan if abs(difference) <= high["reading_error"] + low["reading_error"] else difference


def _text(*points: Any) -> str:
    return ", ".join(f"{point['value']:g}" for point in points)


def _steps(
    lines: Iterator[tuple[str, Any]], over: str, margin: Callable[[Any, Any], float]
) -> list[Unit]:
    """A unit for each step of ``over`` along each line."""
    units = []
    for name, points in lines:
        ordered = [row for _, row in points.sort_values(over).iterrows()]
        for before, after in pairwise(ordered):
            step = f"{name}, {_STEPS[over]} {before[over]:g} to {after[over]:g}"
            units.append(Unit(step, _text(before, after), above=[margin(before, after)]))
    return units


@claim(
    "Sections 5.3 and 6, Figures 3 and 14",
    "B(indirect) falls at each step of width",
    "The exceptions are of VGG-16: from the narrowest width to the next, where weight matching hardly "
    "aligns anything, and of activation matching from width 1 to 2, in test loss.",
)
def indirect_falls_with_width(numbers: Numbers) -> Found:
    """The barrier of networks that are aligned through a third one falls with width."""
    lines = _lines(numbers.sharma, _LINE, figure="14", arm="indirect", metric=["error", "loss"])
    units = _steps(lines, "width", _above)
    return Found(units, share_but(units, "steps fall"))


@claim(
    "Section 5.3, Figures 3 and 14",
    "B(indirect) > B(direct) at each width",
    "",
)
def indirect_stays_above_direct(numbers: Numbers) -> Found:
    """Aligned through a third network, two networks keep a higher barrier than aligned directly."""
    units = []
    chosen = {"figure": "14", "arm": ["direct", "indirect"], "metric": ["error", "loss"]}
    for name, points in _lines(numbers.sharma, _LINE, **chosen):
        for width, both in points.set_index("arm").groupby("width"):
            pair = both.loc["indirect"], both.loc["direct"]
            units.append(Unit(f"{name} at width {width:g}", _text(*pair), above=[_above(*pair)]))
    return Found(units, share_but(units, "indirect barriers are higher"))


@claim(
    "Section 6",
    "B(AM) < B(WM) in more than half of the direct alignments of each network",
    "Activation matching leaves the lower barrier in the narrow half of VGG-16 alone. In ResNet-20 "
    "weight matching does, at every width at which the two can be told apart.",
)
def activations_are_usually_better(numbers: Numbers) -> Found:
    """Activation matching usually leaves lower barriers than weight matching, though not always."""
    units = []
    found = _lines(numbers.sharma, _LINE[:3], figure="14", arm="direct", metric=["error", "loss"])
    for name, points in found:
        both = [points[points["matcher"] == each].set_index("width") for each in _MATCHERS]
        widths = both[0].index
        margins = [_above(*(each.loc[width] for each in both)) for width in widths]
        lower, higher = (sum(sign * m > 0 for m in margins) for sign in (1, -1))
        text = f"lower at {lower}, higher at {higher} of {len(widths)} widths"
        units.append(Unit(name, text, above=[lower - len(widths) / 2]))
    return Found(units, share_but(units, "lines are mostly lower with AM"))


@claim(
    "Section 6 and Appendix H.3, Figures 5, 17 and 18",
    "B(bottom-up, k) rises with k for t = 1, 3, 5, 10",
    "",
)
def lower_layers_first(numbers: Numbers) -> Found:
    """The more of the lower layers come from an early epoch, the higher the barrier at the end."""
    lines = _lines(numbers.sharma, ["model", "matching_epoch"], arm="bottom-up")
    units = _steps(lines, "cut", lambda before, after: _above(after, before))
    return Found(units, share_but(units, "steps of k rise"))


@claim(
    "Appendix H.3, Figures 17 and 18",
    "B(π_T) ≤ B(mixed) ≤ B(π_t), for t = 1, 3, 5, 10",
    "",
)
def mixed_lie_between(numbers: Numbers) -> Found:
    """Permutations of networks mixed of two epochs lie between those of either epoch."""
    units: list[Unit] = []
    ends = dict(
        _lines(numbers.sharma, ["model", "matching_epoch"], figure="15", arm="end", split="train")
    )
    kinds = ["bottom-up", "top-down", "put-in", "leave-out"]
    lines = _lines(numbers.sharma, ["model", "arm", "cut", "matching_epoch"], arm=kinds)
    for name, points in lines:
        (mixed,) = (row for _, row in points.iterrows())
        network = _NETWORKS[mixed["model"]]
        early = ends[f"{network} t = {mixed['matching_epoch']:g}"].iloc[0]
        last = min(
            (rows.iloc[0] for key, rows in ends.items() if key.startswith(network)), key=_epoch
        )
        margins = [_at_least(mixed, last), _at_least(early, mixed)]
        units.append(Unit(name, _text(last, mixed, early), at_least=margins))
    return Found(units, share_but(units, "mixtures lie between, as far as can be read"))


def _epoch(point: Any) -> float:
    """The latest first."""
    return -float(point["matching_epoch"])


def _at_least(high: Any, low: Any) -> float:
    """As ``_above``; points that cannot be told apart are equal."""
    found = _above(high, low)
    return 0.0 if found != found else found


@claim(
    "Appendix H.4, Figure 21",
    "fixed points of π_t with the last permutation rise at each t",
    "",
)
def permutations_settle(numbers: Numbers) -> Found:
    """Permutations found along training come nearer to the last one."""
    lines = _lines(numbers.sharma, ["model"], figure="21")
    units = _steps(lines, "matching_epoch", lambda before, after: _above(after, before))
    return Found(units, f"{share(units)} steps rise.")


@claim(
    "Appendix G, Figure 14",
    "fraction(widest) ≤ fraction(narrowest) < ½",
    "",
)
def direct_and_indirect_stay_unlike(numbers: Numbers) -> Found:
    """Direct permutations and those through a third network share few units, at any width."""
    units = []
    for name, points in _lines(
        numbers.sharma, ["model", "matcher"], figure="14", metric="fixed-points"
    ):
        ordered = points.sort_values("width")
        narrow, wide = ordered.iloc[0], ordered.iloc[-1]
        unit = Unit(
            name,
            _text(narrow, wide),
            above=[0.5 - narrow["value"]],
            at_least=[_at_least(narrow, wide)],
        )
        units.append(unit)
    return Found(units, share_but(units, "pairs of permutations"))
