"""Units on which permutations agree: Figures 14 (bottom) and 21 of Sharma et al."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from pipeline.report.figures import roles, style
from pipeline.report.shown import Shown
from pipeline.report.tables.cells import spread
from pipeline.results import NETWORK, Results
from pipeline.study.outputs.fixed_points import FixedPoints

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
    points = _points(output, alignments)
    places = [*points[NETWORK].drop_duplicates().itertuples(index=False, name=None)]
    figure, axes = style.grid(1, len(places), panel=(2.9, 2.1), sharex=False, sharey=True)
    for panel, place in zip(axes[0], places, strict=False):
        own = points[points["dataset"].eq(place[0]) & points["model"].eq(place[1])]
        own = own[own["width"].isna() if pd.isna(place[2]) else own["width"].eq(place[2])]
        groups = [*own["group"].unique()]
        shades = roles.in_time(range(len(groups) + 1))
        for (matcher, group), line in own.groupby(["matcher", "group"], sort=False):
            look = roles.look_of("direct", matcher)
            look = shades[groups.index(group)] if output.groups else look
            line = line.sort_values("x")
            style.band_line(panel, line["x"], line["mean"], line["std"], look)
        chance = own.sort_values("x")
        panel.plot(chance["x"], chance["chance"], color=style.GREY, linestyle=":", linewidth=0.9)
        by_width = pd.isna(place[2])
        (roles.width_axis if by_width else roles.epoch_axis)(panel, own["x"])
        panel.set_xlabel("Width (channels of the first layer)" if by_width else "Matching epoch t")
        panel.set_title(roles.of_network(place).replace("\n", " / "))
        style.few_y_ticks(panel)
    axes[0][0].set_ylim(bottom=0)
    axes[0][0].set_ylabel("Share of units alike")
    matchers = sorted(points["matcher"].unique(), key=roles.rank)
    handles = [
        style.handle(roles.look_of("direct", m), roles.MATCHERS.get(m, (m,))[0]) for m in matchers
    ]
    if output.groups:
        names = [*points["group"].unique()]
        shades = roles.in_time(range(len(names) + 1))
        handles = [style.handle(shades[number], name) for number, name in enumerate(names)]
    chance_look = style.look(style.GREY, "", ":") | {"linewidth": 0.9}
    handles.append(style.handle(chance_look, "unrelated permutations"))
    note = style.absent_note(alignments, [*NETWORK, "match", "sweep", "seeds"], "sweeps")
    style.legend(figure, handles, note)
    return figure, points


def _points(output: FixedPoints, alignments: pd.DataFrame) -> pd.DataFrame:
    """Mean and spread over pairs, or paths, of the share of units alike, and that of chance."""
    known = alignments[alignments["reference"].notna()]
    known = known[known["reference"] != known["point"]]
    known = known.drop_duplicates([*NETWORK, "match", "sweep", "seeds", "point", "group"])
    epochs = known["point"].str.startswith("t")
    epoch = pd.to_numeric(known["point"].where(epochs).str[1:])
    known = known.assign(
        x=epoch.where(epochs, roles.channels(known)),
        width=pd.to_numeric(known["width"]).where(epochs),
        group=known["group"] if output.groups else "all",
        one=1,
    )
    each = [*_KEYS, "match", "sweep", "seeds", "point"]
    sums = known.groupby(each, sort=False, dropna=False)[["alike", "size", "one"]].sum()
    sums = sums.reset_index()
    sums = sums.assign(value=sums["alike"] / sums["size"], chance=sums["one"] / sums["size"])
    return spread(sums, _KEYS, sort=False, chance=("chance", "first"))
