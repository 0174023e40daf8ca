"""What formulas are made of: a profile of a unit's cells, and one number of it.

A profile is a frame, rows by what the claim goes along (sparsity, width, cells), and columns as in
`pipeline.report.claims.values`. Its mean or its slope is the statistic; the literal reading of a
claim asks each entry, or each step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

Profile = Callable[[pd.DataFrame], pd.DataFrame]
_NOTHING = 1e-9  # differences of two-decimal numbers are exact only to rounding


def mean(profile: pd.DataFrame) -> pd.Series:
    """The mean of the entries; NaN where there are none."""
    return profile.mean(skipna=False)


def slope(profile: pd.DataFrame) -> pd.Series:
    """Least squares against the number of the entry, in units a step; NaN for fewer than two."""
    if len(profile) < 2:
        return pd.Series(np.nan, profile.columns)
    x = np.arange(len(profile)) - (len(profile) - 1) / 2
    return profile.mul(x / (x @ x), axis=0).sum(skipna=False)


def least(profile: pd.DataFrame) -> pd.Series:
    """The smallest entry; NaN where there are none."""
    return profile.min(skipna=False)


@dataclass(frozen=True)
class Measure:
    """A profile and the number taken of it; times ``sign``, the claim says that it is above 0.

    ties: read literally, 0 is on the claim's side.
    """

    profile: Profile
    number: Callable[[pd.DataFrame], pd.Series] = mean
    sign: int = 1
    ties: bool = False

    def __call__(self, frame: pd.DataFrame) -> pd.Series:
        """The statistic of every column; positive on the claim's side."""
        return self.sign * self.number(self.profile(frame))

    def literal(self, means: pd.DataFrame) -> list[bool | None]:
        """Whether each entry, or each step of a slope, of the means is on the claim's side.

        Columns after the first each have one cell moved by as much as it may be misread; None where
        an entry is no larger than all of these together make it.
        """
        profile = self.profile(means)
        margins = profile.diff().iloc[1:] if self.number is slope else profile
        values = self.sign * margins.to_numpy()
        found, moved = values[:, 0], np.abs(values[:, 1:] - values[:, :1]).sum(axis=1)
        held = found > (-_NOTHING if self.ties else _NOTHING)
        unclear = (moved > _NOTHING) & (np.abs(found) <= moved + _NOTHING)
        return [None if u else bool(h) for h, u in zip(held, unclear, strict=True)]


# -- profiles -------------------------------------------------------------------------------


def of(frame: pd.DataFrame, name: object, level: str = "method") -> pd.DataFrame:
    """The cells of one method (or another key), without its level; empty where there are none."""
    return frame[frame.index.get_level_values(level) == name].droplevel(level)


def gap(better: object, worse: object, level: str = "method") -> Profile:
    """The difference of two methods, where both are."""
    return lambda frame: (of(frame, better, level) - of(frame, worse, level)).dropna()


def itself(frame: pd.DataFrame) -> pd.DataFrame:
    """The cells as they are."""
    return frame


def steps(axis: str) -> Profile:
    """From each value of a level to the next, along every line of cells that are alike in all others."""

    def profile(frame: pd.DataFrame) -> pd.DataFrame:
        others = [level for level in frame.index.names if level != axis]
        return frame.sort_index(level=axis).groupby(level=others).diff().dropna()

    return profile


def between(method: str, upper: str, lower: str) -> Profile:
    """How far a method lies above the middle of two others: positive, it is nearer the upper."""

    def profile(frame: pd.DataFrame) -> pd.DataFrame:
        middle = (of(frame, upper) + of(frame, lower)) / 2
        return (of(frame, method) - middle).dropna()

    return profile


def along(axis: str, inner: Profile, rest: tuple[str, ...] = ("rewind_epoch",)) -> Profile:
    """Means by sparsity or width over what exists at every value of it, so that like is compared."""

    def profile(frame: pd.DataFrame) -> pd.DataFrame:
        found = inner(frame)
        places = found.index.to_frame(index=False)
        everywhere = places.groupby(list(rest))[axis].transform("nunique") == places[axis].nunique()
        return found[everywhere.to_numpy()].groupby(axis).mean()

    return profile


def share(frame: pd.DataFrame) -> pd.DataFrame:
    """By width: which part of the distance between naive and LTH permuted closes, over shared cells."""
    rest = ("sparsity", "rewind_epoch")
    closed, whole = (along("width", gap(one, "naive"), rest)(frame) for one in ("permuted", "lth"))
    return (closed / whole).dropna()


def later(method: str) -> Profile:
    """By sparsity: the mean accuracy over all k > 0, less that at k = 0."""

    def profile(frame: pd.DataFrame) -> pd.DataFrame:
        own = of(frame, method)
        k = own.index.get_level_values("rewind_epoch")
        start, after = (own[part].groupby("sparsity").mean() for part in (k == 0, k > 0))
        return (after - start).dropna()

    return profile


def rise(method: str) -> Profile:
    """By sparsity: least-squares slope of accuracy over the k > 0, in points per 10 epochs."""

    def profile(frame: pd.DataFrame) -> pd.DataFrame:
        own = of(frame, method)
        own = own[own.index.get_level_values("rewind_epoch") > 0]
        slopes = {s: _slope(group) for s, group in own.groupby("sparsity") if len(group) > 2}
        found = pd.DataFrame(slopes, index=own.columns, dtype=float).T
        return found.rename_axis("sparsity")

    return profile


def _slope(cells: pd.DataFrame) -> pd.Series:
    k = cells.index.get_level_values("rewind_epoch").to_numpy(dtype=float)
    x = k - k.mean()
    return 10 * cells.mul(x / (x @ x), axis=0).sum(skipna=False)


def flattens(method: str) -> Profile:
    """By sparsity: what is gained from k = 0 to the middle one of the k, less the gain from there on."""

    def profile(frame: pd.DataFrame) -> pd.DataFrame:
        bends = {}
        for s, group in of(frame, method).groupby("sparsity"):
            own = group.sort_index(level="rewind_epoch")
            if len(own) > 2 and own.index.get_level_values("rewind_epoch")[0] == 0:
                first, middle, last = (own.iloc[place] for place in (0, (len(own) - 1) // 2, -1))
                bends[s] = 2 * middle - first - last
        return pd.DataFrame(bends, index=frame.columns, dtype=float).T.rename_axis("sparsity")

    return profile
