"""Units on which permutations agree: Figures 14 (bottom) and 21 of Sharma et al."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from pipeline.report.figures import panels, roles, style
from pipeline.report.shown import Shown
from pipeline.report.tables import names
from pipeline.report.tables.cells import spread
from pipeline.results import NETWORK, Results
from pipeline.study.outputs.fixed_points import FixedPoints

_AXES = {
    "width": (roles.width_axis, "Width (channels of the first layer)"),
    "epoch": (roles.epoch_axis, "Matching epoch t"),
    "level": (roles.density_axis, "Weights left (%)"),
}
_KEYS = [*NETWORK, "matcher", "group", "x"]


def read(output: FixedPoints, results: Results) -> pd.DataFrame:
    """The permutations of the output's sweeps."""
    return results.alignments(output)


def build(
    output: FixedPoints, shown: Shown, alignments: pd.DataFrame
) -> tuple[Figure, pd.DataFrame]:
    """A panel per network, against its width or against the epoch t; shares in [0, 1].

    The share is of all units, groups weighing as their sizes, or of each group's. The dotted line
    is what unrelated permutations give: one unit a group.
    """
    del shown
    by_level = _levels(alignments["point"]).notna().any()
    points = _points(output, alignments)
    line = points["width"].isna().map({True: "indirect", False: "end"})
    known = roles.authors(points.assign(metric="fixed-points", split="", line=line))
    theirs = known if output.published and not output.groups else known.iloc[:0]
    places = [*points[NETWORK].drop_duplicates().itertuples(index=False, name=None)]
    groups = names.from_the_input(points["group"])
    shades = roles.in_time(range(len(groups) + 1))
    # a legend of many groups needs room of its own
    size = (4.4, 2.1 + 0.06 * len(groups)) if output.groups else (2.9, 2.1)
    figure, axes = style.grid(1, len(places), panel=size, sharex=False, sharey=True)
    for panel, place in zip(axes[0], places, strict=False):
        own = panels.at(points, place)
        for (matcher, group), line in own.groupby(["matcher", "group"], sort=False):
            look = roles.look_of("direct", matcher)
            look = shades[groups.index(group)] if output.groups else look
            line = line.sort_values("x")
            style.band_line(panel, line["x"], line["mean"], line["std"], look)
        roles.draw_authors(panel, panels.at(theirs, place))
        for _, chance in own.sort_values("x").groupby("group"):
            panel.plot(
                chance["x"], chance["chance"], color=style.GREY, linestyle=":", linewidth=0.9
            )
        axis, label = _AXES["level" if by_level else "width" if pd.isna(place[2]) else "epoch"]
        axis(panel, own["x"])
        panel.set_xlabel(label)
        panel.set_title(roles.of_network(place).replace("\n", " / "))
        style.few_y_ticks(panel)
    axes[0][0].set_ylim(bottom=0)
    axes[0][0].set_ylabel("Share of units alike")
    matchers = sorted(points["matcher"].unique(), key=roles.rank)
    handles = [
        style.handle(roles.look_of("direct", m), roles.MATCHERS.get(m, (m,))[0]) for m in matchers
    ]
    if output.groups:
        handles = [style.handle(shades[number], name) for number, name in enumerate(groups)]
    chance_look = style.look(style.GREY, "", ":") | {"linewidth": 0.9}
    handles.append(style.handle(chance_look, "unrelated permutations"))
    handles += [roles.authors_handle()] if len(theirs) else []
    style.legend(figure, handles, panels.absent(alignments))
    return figure, panels.with_authors(points, theirs) if output.published else points


def _levels(points: pd.Series) -> pd.Series:
    """The levels of points of a sweep over rounds, NaN for others."""
    return pd.to_numeric(points.astype(str).str.extract(r"^r(\d+)$", expand=False))


def _points(output: FixedPoints, alignments: pd.DataFrame) -> pd.DataFrame:
    """Mean and spread over pairs, or triangles, of the share of units alike, and that of chance.

    Permutations of mixed and of pruned copies are left out. The three paths of a triangle agree with
    their direct permutations on equally many units: those that come home by way of all three. They
    count once.
    """
    known = alignments[alignments["reference"].notna()]
    known = known[known["reference"].ne(known["point"]) & known["level"].isna()]
    known = known.drop_duplicates([*NETWORK, "match", "sweep", "seeds", "point", "group"])
    point = known["point"].astype(str)  # a column of nothing but missing sweeps has no texts
    epochs = point.str.startswith("t")
    epoch = pd.to_numeric(point.where(epochs).str[1:])
    level = _levels(point)
    fraction = known["fraction"] if level.notna().any() else 0.0
    left = roles.density(1 - (1 - fraction) ** level)
    known = known.assign(
        x=epoch.where(epochs, left.where(level.notna(), roles.channels(known))),
        width=pd.to_numeric(known["width"]).where(epochs | level.notna()),
        group=known["group"] if output.groups else "all",
        one=1,
    )
    each = [*_KEYS, "match", "sweep", "seeds", "point"]
    sums = known.groupby(each, sort=False, dropna=False)[["alike", "size", "one"]].sum()
    sums = sums.reset_index()
    of = sums["point"].astype(str).str.split("[.-]").map(sorted).map(tuple)
    sums = sums.assign(of=of).drop_duplicates([*_KEYS, "match", "sweep", "seeds", "of"])
    sums = sums.assign(value=sums["alike"] / sums["size"], chance=sums["one"] / sums["size"])
    return spread(sums, _KEYS, sort=False, chance=("chance", "first"))
