"""Lines of children in figures of sweeps: by the epoch of their start, or along training."""

from __future__ import annotations

import math

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from pipeline.connectivity.notions import onset
from pipeline.report.figures import roles, style
from pipeline.results import NETWORK
from pipeline.study.outputs.sweep_barriers import CHILDREN, SweepBarriers


def of_role(lines: pd.DataFrame, role: str, output: SweepBarriers) -> pd.DataFrame:
    """The lines between children that answer a role's question, with ``x``.

    ``spawn`` tells lines of a panel apart: along training, where children start at several epochs.
    """
    spawn, now = (pd.to_numeric(lines[key]) for key in ("spawn", "evaluated_at"))
    end = now.groupby([lines[key] for key in (*NETWORK, "sweep")]).transform("max")
    chosen = lines["arm"].eq(role)
    if output.spawns:
        chosen &= spawn.isin(output.spawns)
    if output.x == "spawn":
        return lines.assign(x=spawn, spawn=math.nan, matched_at=math.nan)[chosen & (now == end)]
    several = spawn[chosen].nunique() > 1
    return lines.assign(x=now, spawn=spawn if several else math.nan, matched_at=math.nan)[chosen]


def per_pair(long: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """The lines, those between children averaged over all of a pair: the pair is the replicate."""
    born = long["line"].isin(CHILDREN)
    each = long[born].groupby([*keys, "seeds"], sort=False, dropna=False)["value"].mean()
    return pd.concat([long[~born], each.reset_index()]) if born.any() else long


def shades(points: pd.DataFrame) -> dict[float, style.Look]:
    """Looks of the lines of children by the epoch of their start, dark to light."""
    spawns = points["spawn"].dropna().unique() if "spawn" in points else ()
    return {t: look for t, look in roles.in_time([*spawns, math.inf]).items() if t < math.inf}


def handles(points: pd.DataFrame) -> list[Line2D]:
    """Entries of a legend for lines by the epoch of their start: what they are, then each epoch."""
    own = points[points["spawn"].notna()]
    drawn = own[["line", "matcher"]].drop_duplicates().itertuples(index=False, name=None)
    found = [
        style.handle(style.look("#000000", "", roles.ROLES[role][1]), roles.words_of(role, matcher))
        for role, matcher in drawn
    ]
    every = shades(points).items()
    return found + [style.handle(look, f"children of epoch {epoch:g}") for epoch, look in every]


def draw_onset(panel: Axes, points: pd.DataFrame, threshold: float) -> str:
    """The onset of linear connectivity by the mean instability of a panel's network, in words."""
    own = points[points["line"] == "instability"]
    found = onset(dict(zip(own["x"].astype(int), own["mean"], strict=True)), threshold)
    if found is None:
        return "no onset"
    panel.axvline(found, color="#000000", linestyle=":", linewidth=0.9, zorder=1)
    return f"onset: t = {found}"
