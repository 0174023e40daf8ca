"""Values of cells that formulas go over: one for each pair of seeds, means with printed spreads, or
means that were read off a curve.

A statistic is a function of a frame, rows being cells and columns what is to be compared alike, to
a number for each column. So one formula gives a number for every pair of seeds of our own runs, one
for the published means, and one for each draw of a simulation.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self, TypeVar

import numpy as np
import pandas as pd

from pipeline.report.statistics import Estimate, clusters, mean_of, welch
from pipeline.results import NETWORK

Statistic = Callable[[pd.DataFrame], pd.Series]
_STEP = 1e-4  # of a finite difference, in the units of the values
_NO_WEIGHT = 1e-7


@dataclass(frozen=True)
class Reading:
    """What a statistic says: the estimate that a verdict looks at, and the independent reading.

    independent: with all cells taken as independent; None where nothing had to be assumed. note: what
    stands behind the estimate, where it is not plain.
    """

    estimate: Estimate
    independent: Estimate | None = None
    note: str = ""


@dataclass(frozen=True)
class Values(ABC):
    """Values of cells. means: rows are cells (levels with names), columns what formulas go over."""

    means: pd.DataFrame

    @abstractmethod
    def read(self, statistic: Statistic) -> Reading:
        """The statistic with its standard error."""

    @abstractmethod
    def take(self, rows: Any) -> Self:
        """Some of the cells: positions, or a truth value for each."""

    @property
    def places(self) -> pd.DataFrame:
        """The keys of the cells, numbered from 0."""
        return self.means.index.to_frame(index=False)

    def where(self, **chosen: object) -> Self:
        """The cells with these keys; a collection allows several."""
        places, kept = self.places, np.ones(len(self.means), dtype=bool)
        for level, wanted in chosen.items():
            several = isinstance(wanted, Collection) and not isinstance(wanted, str)
            kept &= places[level].isin(wanted if several else [wanted]).to_numpy()
        return self.take(kept)


@dataclass(frozen=True)
class Sampled(Values):
    """A value for each pair of seeds: columns of ``table`` are (a, b), NaN where a run is missing.

    The statistic is taken pair by pair; pairs that share a dense run are averaged to one value.
    """

    table: pd.DataFrame

    def take(self, rows: Any) -> Self:
        return replace(self, means=self.means.iloc[_at(rows)], table=self.table.iloc[_at(rows)])

    def read(self, statistic: Statistic) -> Reading:
        begun = self.table.dropna(how="all").dropna(how="all", axis=1)
        whole = begun.dropna(axis=1)
        if whole.empty:
            lacking = "no pair of seeds has all cells" if len(begun.columns) else ""
            return Reading(Estimate(), note=lacking)
        values = statistic(whole).dropna()
        groups = clusters(values.index)
        estimate = mean_of(values.groupby(groups).mean())
        said = f"{_count(len(values), 'pair')}, {_count(estimate.n, 'cluster')} of shared runs"
        return Reading(estimate, note=said if len(values) > estimate.n else "")


@dataclass(frozen=True)
class Printed(Values):
    """Means with the standard errors of printed spreads (as ``means``), and runs n of each cell.

    The error of a statistic goes by its derivative to each cell. Cells of one network and method
    whose weights have one sign share dense runs, masks and permutations: they are taken as wholly
    dependent, so that their errors add up. Methods, networks, and what is added and what is taken
    off count as independent. The independent reading takes every cell so.
    """

    errors: pd.DataFrame
    n: pd.Series

    def take(self, rows: Any) -> Self:
        frames = {name: getattr(self, name).iloc[_at(rows)] for name in ("means", "errors", "n")}
        return replace(self, **frames)

    def taken(self, statistic: Statistic) -> tuple[np.ndarray, pd.Series]:
        """The statistic of each column, and its derivative to every cell at their mean."""
        means, at = self.means.to_numpy(), self.means.mean(axis=1).to_numpy()[:, None]
        columns = np.hstack([means, at, at + _STEP * np.eye(len(at))])
        found = statistic(pd.DataFrame(columns, self.means.index)).to_numpy()
        value, start, moved = np.split(found, [means.shape[1], means.shape[1] + 1])
        return value, pd.Series((moved - start) / _STEP, self.means.index)

    def read(self, statistic: Statistic) -> Reading:
        value, weights = self.taken(statistic)
        if not len(value) or np.isnan(value).any():
            return Reading(Estimate())
        counted = (weights.abs() > _NO_WEIGHT).to_numpy()
        own, weights = self.take(counted), weights[counted]
        parts = own.errors.mul(weights.abs(), axis=0)
        levels = [level for level in (*NETWORK, "method") if level in parts.index.names]
        strands = [own.places[level].to_numpy() for level in levels] + [np.sign(weights.to_numpy())]
        together = parts.groupby(strands).sum(min_count=1)
        unknown = parts.isna().to_numpy().any()
        runs = int(own.n.min())
        dfs = own.n.groupby(strands).min()
        return Reading(
            _by_error(value, together.to_numpy(), dfs, runs, unknown),
            _by_error(value, parts.to_numpy(), own.n, runs, unknown),
        )


@dataclass(frozen=True)
class ReadOff(Values):
    """Means over n runs that were read off a curve; nothing is known of their spread.

    After the first column, ``means`` has one for each cell, with it moved by its reading error.
    """

    n: int

    def take(self, rows: Any) -> Self:
        return replace(self, means=self.means.iloc[_at(rows)])

    def read(self, statistic: Statistic) -> Reading:
        value = statistic(self.means.iloc[:, :1]).to_numpy()
        return Reading(Estimate(_single(value), n=self.n))


def _by_error(
    value: np.ndarray, errors: np.ndarray, n: pd.Series, runs: int, unknown: bool
) -> Estimate:
    """A value whose error is that of independent parts, of n runs each; one column: numbers."""
    if unknown or runs < 2:
        return Estimate(_single(value), n=runs)
    variances = errors**2
    df = welch(variances, n.to_numpy()[:, None] - 1)
    return Estimate(_single(value), _single(np.sqrt(variances.sum(axis=0))), _single(df), runs)


def _single(values: np.ndarray) -> Any:
    return float(values[0]) if values.size == 1 else values


def _at(rows: Any) -> Any:
    found = np.asarray(rows)
    return np.flatnonzero(found) if found.dtype == bool else found


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def sampled(frame: pd.DataFrame, keys: Sequence[str]) -> Sampled | None:
    """Values from a frame with a row per run: the keys of its cell, a, b (NaN: of a alone), value.

    A run of a alone counts for every pair with this a. None where there is no row.
    """
    if not len(frame):
        return None
    rows, levels = frame[[*keys, "a", "b", "value"]], list(keys)
    pairs = rows[["a", "b"]].dropna().drop_duplicates()
    alone = rows["b"].isna()
    of_a = rows[alone].drop(columns="b").merge(pairs, how="left", on="a")
    of_a["b"] = of_a["b"].fillna(of_a["a"])
    every = pd.concat([rows[~alone], of_a]).astype({"value": float})
    table = every.groupby([*levels, "a", "b"])["value"].mean().unstack(["a", "b"])
    means = rows.astype({"value": float}).groupby(levels)[["value"]].mean()
    return Sampled(_indexed(means), _indexed(table.reindex(means.index)))


def printed(frame: pd.DataFrame, keys: Sequence[str]) -> Printed | None:
    """Values from a frame with a row per cell: its keys, mean, std (NaN: not printed) and n runs."""
    if not len(frame):
        return None
    rows = _indexed(frame.astype({"mean": float, "std": float}).set_index(list(keys)).sort_index())
    errors = rows["std"] / rows["n"] ** 0.5
    return Printed(rows[["mean"]], errors.to_frame("mean"), rows["n"])


def read_off(frame: pd.DataFrame, keys: Sequence[str], n: int) -> ReadOff | None:
    """Values from a frame with a row per cell: its keys, value and reading_error; means over n runs."""
    if not len(frame):
        return None
    rows = _indexed(frame.set_index(list(keys)).sort_index())
    value = rows["value"].to_numpy(dtype=float)[:, None]
    moved = np.hstack([value, value + np.diag(rows["reading_error"])])
    return ReadOff(pd.DataFrame(moved, rows.index), n)


def _indexed(frame: pd.DataFrame) -> pd.DataFrame:
    """A frame whose rows have a MultiIndex, even of one level."""
    return frame.set_axis(pd.MultiIndex.from_frame(frame.index.to_frame(index=False)), axis=0)


V = TypeVar("V", bound=Values)


def units(
    values: V | None, by: Sequence[str], need: Collection[object] = (), level: str = "method"
) -> Iterator[tuple[dict[str, Any], V]]:
    """The cells of equal keys (none: all); with ``need``, those of these methods, where all are."""
    if values is None:
        return
    chosen = values.where(**{level: need}) if need else values
    places = chosen.places
    everything = {(): np.arange(len(places))} if len(places) else {}
    for key, rows in (places.groupby(list(by)).indices if by else everything).items():
        own = chosen.take(rows)
        if set(need) <= set(own.places[level] if need else ()):
            parts = key if isinstance(key, tuple) else (key,)
            yield dict(zip(by, parts, strict=True)), own
