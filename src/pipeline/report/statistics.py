"""Means over pairs of seeds with their intervals, and many verdicts at once.

An interval is Student's, value ± t·e with the 97.5 % quantile t for the degrees of freedom of the
standard error e. What shares a dense run varies together, so pairs are averaged within clusters
first. Sums of independent parts have the degrees of freedom of Welch and Satterthwaite.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.special import stdtr, stdtrit

LEVEL = 0.95
#: Fewer independent values than this decide nothing.
FEWEST = 3


@dataclass(frozen=True)
class Estimate:
    """A value, its standard error (NaN: unknown) and degrees of freedom, from n independent values.

    value, error and df are numbers, or arrays of one shape.
    """

    value: Any = math.nan
    error: Any = math.nan
    df: Any = math.nan
    n: int = 0

    @property
    def reach(self) -> Any:
        """Half the width of the 95 % interval; NaN where no error is known."""
        return quantile(self.df) * self.error

    @property
    def p(self) -> Any:
        """Two-sided p of "the value is 0"; NaN without an error, or where it is 0."""
        error = np.where(np.asarray(self.error) > 0, self.error, np.nan)
        return two_sided(np.abs(self.value) / error, self.df)

    @property
    def decides(self) -> bool:
        """Whether enough independent values stand behind it, and their spread is known."""
        return self.n >= FEWEST and not bool(np.isnan(self.error).any())


def quantile(df: ArrayLike) -> Any:
    """97.5 % quantile of Student's distribution."""
    return stdtrit(df, (1 + LEVEL) / 2)


def two_sided(t: ArrayLike, df: ArrayLike) -> Any:
    """Probability that a value of Student's distribution is farther from 0 than t, which is positive."""
    return 2 * stdtr(df, np.negative(t))


def welch(variances: ArrayLike, dfs: ArrayLike) -> Any:
    """Degrees of freedom of a sum of independent parts (first axis), after Welch and Satterthwaite."""
    parts = np.asarray(variances, dtype=float)
    with np.errstate(invalid="ignore", divide="ignore"):
        return parts.sum(axis=0) ** 2 / (parts**2 / dfs).sum(axis=0)


def mean_of(values: ArrayLike) -> Estimate:
    """The mean of independent values (first axis), with the error that their spread gives."""
    found = np.asarray(values, dtype=float)
    n = len(found)
    if n < 2:
        return Estimate(found.mean(axis=0) if n else math.nan, n=n)
    return Estimate(found.mean(axis=0), found.std(axis=0, ddof=1) / math.sqrt(n), n - 1, n)


def combined(parts: Sequence[Estimate]) -> Estimate:
    """The mean of independent estimates, with the error that their own errors give."""
    variances = np.array([np.square(part.error) for part in parts], dtype=float)
    dfs = np.array([np.broadcast_to(part.df, np.shape(part.error)) for part in parts], dtype=float)
    value = np.mean([part.value for part in parts], axis=0)
    error = np.sqrt(variances.sum(axis=0)) / len(parts)
    return Estimate(value, error, welch(variances, dfs), min(part.n for part in parts))


def interval(values: Iterable[float]) -> tuple[float, float, float, float]:
    """Mean, lower and upper end of its 95 % interval, and the two-sided p of a t-test.

    NaN where there is nothing to take it from: the mean of none, the rest of fewer than two, and
    p where all values are equal.
    """
    found = mean_of(list(values))
    mean, reach = float(found.value), float(found.reach)
    return mean, mean - reach, mean + reach, float(found.p)


def clusters(pairs: Iterable[tuple[object, object]]) -> np.ndarray:
    """The number of its cluster for each pair of seeds: pairs in a chain of shared runs have one."""
    ends = [tuple(pair) for pair in pairs]
    number = {seed: position for position, seed in enumerate({s for pair in ends for s in pair})}
    a, b = ([number[pair[end]] for pair in ends] for end in (0, 1))
    size = len(number)
    graph = sparse.coo_array((np.ones(len(ends)), (a, b)), shape=(size, size))
    labels = connected_components(graph, directed=False)[1] if size else np.array([], dtype=int)
    return np.asarray(labels[np.array(a, dtype=int)])


def holm(p: ArrayLike) -> Any:
    """p adjusted for all tests together (first axis) after Holm; NaN is no test and stays NaN."""
    found = np.asarray(p, dtype=float)
    order = np.argsort(found, axis=0)  # NaN comes last
    ordered = np.take_along_axis(found, order, axis=0)
    shape = (-1, *[1] * (found.ndim - 1))
    left = (~np.isnan(found)).sum(axis=0) - np.arange(len(found)).reshape(shape)
    raised = np.minimum(np.maximum.accumulate(ordered * left, axis=0), 1.0)
    adjusted = np.empty_like(found)
    np.put_along_axis(adjusted, order, raised, axis=0)
    return adjusted
