"""The advantage of the permuted mask, and its distance to LTH, along sparsity and width."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from pipeline.report.claims.judge import Found, Unit, claim, share, share_but
from pipeline.report.claims.numbers import Numbers, gap, groups, judged, rounded
from pipeline.report.tables import names
from pipeline.results import NETWORK


@claim(
    "paper, Section 4.1",
    "mean over k of permuted − naive rises at every step of S",
    "In Table 5 (ResNet20×1 / CIFAR-10) the advantage of the permuted over the naive mask grows "
    "from 80 to 95 % and falls from 95 to 97 %, by more than twice its standard error. In Table "
    "10 (ResNet50 / ImageNet, single runs) it falls from 90 to 95 %. The other eight networks "
    "bear the claim out.",
)
def gap_grows_with_sparsity(numbers: Numbers) -> Found:
    """The advantage of the permuted mask grows with sparsity."""
    units = _along("sparsity", NETWORK, numbers)
    return Found(units, share_but(units, "networks have a gap that grows at every step"))


@claim(
    "paper, Section 4.1, Figures 9 and 10",
    "permuted − naive rises at every step of S, for each k",
    "Taken rewind epoch by rewind epoch, the advantage falls at some step of the sparsity for "
    "nearly half of the pairs of network and k. Where the spreads are known, all of these falls "
    "but one (Table 5, k = 25, 95 to 97 %) lie within two standard errors.",
)
def gap_grows_with_sparsity_at_every_k(numbers: Numbers) -> Found:
    """The advantage of the permuted mask grows with sparsity at every rewind epoch."""
    units = _along("sparsity", [*NETWORK, "rewind_epoch"], numbers)
    return Found(units, f"{share(units)} pairs of network and k grow at every step.")


@claim(
    "paper, Section 4.1 and Figures 9 and 10",
    "mean over shared k of permuted − naive rises at every step of w, for each S",
    "For no data set and sparsity does the advantage grow with every width; the widest network "
    "has a smaller one than the network before it everywhere. What does hold is that permuted "
    "comes closer to LTH with width (lth-gap-shrinks-with-width); naive comes closer as well.",
)
def gap_grows_with_width(numbers: Numbers) -> Found:
    """The advantage of the permuted mask grows with width."""
    units = _along("width", ["dataset", "model", "sparsity"], numbers)
    return Found(units, f"{share(units)} {_PAIRS} have a gap that grows with every width.")


@claim(
    "paper, Section 4.3",
    "mean over shared k of LTH − permuted falls at every step of w, for each S",
)
def lth_gap_shrinks_with_width(numbers: Numbers) -> Found:
    """Permuted comes closer to LTH as networks get wider."""
    units = _along("width", ["dataset", "model", "sparsity"], numbers, "lth", "permuted", up=False)
    return Found(units, f"{share(units)} {_PAIRS} have a gap that shrinks with every width.")


_PAIRS = "pairs of data set and sparsity"
_FORMS = {"sparsity": names.percent, "width": "w = {:g}".format}


def _along(
    axis: str, by: list[str], numbers: Numbers, better: str = "permuted", worse: str = "naive", *,
    up: bool = True,
) -> list[Unit]:  # fmt: skip
    """A unit per group: the steps of the gap's mean over rewind epochs along an axis."""
    units = []
    for key, group in groups(gap(judged(numbers.cells), better, worse), by):
        # Only rewind epochs that exist at every value of the axis, so that means compare alike.
        known = group.groupby("rewind_epoch")[axis].transform("nunique")
        along = group[known == group[axis].nunique()].groupby(axis)
        # The variance of a mean of m independent gaps; NaN when one of them is unknown.
        variances = along["variance"].agg(lambda v: v.sum(skipna=False) / len(v) ** 2)
        units.append(steps(key, along["gap"].mean(), variances, up=up))
    return units


def steps(
    key: dict[str, Any], means: pd.Series, variances: pd.Series | None = None, *, up: bool
) -> Unit:
    """A unit whose mean must rise (or fall) with every step of its index, sparsity or width.

    With variances of the means, each step is shown ± two standard errors.
    """
    form = _FORMS[str(means.index.name)]
    text = "; ".join(f"{form(value)}: {names.signed(mean, '')}" for value, mean in means.items())
    if len(means) < 2:
        return Unit(names.place(**key), text)
    change = means.diff().iloc[1:]
    spread = pd.Series(math.nan, means.index) if variances is None else variances
    errors = 2 * ((spread + spread.shift()) ** 0.5).iloc[1:]
    shown = ", ".join(
        names.signed(step) + names.unless_nan(error, f" ± {error:.2f}")
        for step, error in zip(change, errors, strict=True)
    )
    margins = [rounded(step if up else -step) for step in change]
    return Unit(names.place(**key), f"{text}; steps {shown}", above=margins)
