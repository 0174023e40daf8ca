"""Barriers under permutations of mixed or pruned copies: Figures 5 and 16 to 18 of Sharma et al."""

from __future__ import annotations

from itertools import product
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from pipeline.catalog.layers import KINDS
from pipeline.report.figures import panels, roles, style
from pipeline.report.shown import Shown
from pipeline.report.tables.cells import spread
from pipeline.results import NETWORK, Results
from pipeline.study.outputs.partial_barriers import PartialBarriers

_KEYS = [*NETWORK, "matcher", "line", "shade", "x", "split", "metric"]


def read(output: PartialBarriers, results: Results) -> pd.DataFrame:
    """The lines of the output's sweeps."""
    return results.connections(output)


def build(
    output: PartialBarriers, shown: Shown, connections: pd.DataFrame
) -> tuple[Figure, pd.DataFrame]:
    """Columns: split and metric; rows: networks, matchers and kinds of mixture.

    Errors in points (percentage points), losses in nats. ``shade``: k, or the epoch t of copies.
    """
    del shown
    layers = "layers" in set(connections["over"])
    points = (_mixed if layers else _pruned)(output, connections)
    known = roles.authors(points)
    theirs = (known if output.published else known.iloc[:0]).rename(columns={"cut": "shade"})
    theirs = theirs.drop(columns="matched_at")
    rows = _rows(output, connections, layers=layers)
    shades = (roles.by_rank if layers else roles.in_time)(points["shade"].dropna().unique())
    wide = len(rows) == len(output.metrics) == len(output.splits) == 1

    def draw(panel: panels.Panel) -> None:
        roles.draw_authors(panel.axes, panel.authors, shades, shade="shade")
        _draw(panel.axes, panel.points, shades)
        (_log_axis if layers else roles.share_axis)(panel.axes, panel.points["x"])
        if panel.lowest:
            label = "Rewind epoch t" if layers else "Share pruned before matching"
            panel.axes.set_xlabel(label)

    figure = panels.of_barriers(output, rows, (points, theirs), _of_row, draw, wide=wide)
    handles = [*_handles(points, shades, layers=layers)]
    handles += [roles.authors_handle()] if len(theirs) else []
    style.legend(figure, handles, panels.absent(connections))
    named = {"shade": "cut" if layers else "matched_at"}
    points, theirs = (each.rename(columns=named) for each in (points, theirs))
    return figure, panels.with_authors(points, theirs) if output.published else points


def _chosen(output: PartialBarriers, connections: pd.DataFrame) -> pd.DataFrame:
    """The lines under a permutation, each once, with numbers in the place of texts."""
    known = connections[
        connections["correction"].eq(output.correction) & connections["split"].isin(output.splits)
    ].drop_duplicates([*NETWORK, "match", "sweep", "point", "a", "b", "evaluated_at", "split"])
    times = {key: pd.to_numeric(known[key]) for key in ("matched_at", "evaluated_at", "level")}
    return known.assign(**times)[known["point"].notna()]


def _mixed(output: PartialBarriers, connections: pd.DataFrame) -> pd.DataFrame:
    """Mixtures by t, shaded by k; those of t, and that of the end, as the line ``end``."""
    lines = _chosen(output, connections)
    wanted = lines["arm"].isin(("matched", *(output.kinds or KINDS)))
    lines = lines.assign(
        line=lines["arm"].replace("matched", "end"), shade=lines["level"], x=lines["matched_at"]
    )[wanted]
    return _long(output, lines)


def _pruned(output: PartialBarriers, connections: pd.DataFrame) -> pd.DataFrame:
    """Criteria by fraction, shaded by t; without pruning they are one, at 0."""
    lines = _chosen(output, connections)
    end = lines["evaluated_at"].groupby([lines[key] for key in NETWORK]).transform("max")
    lines = lines[lines["evaluated_at"] == end] if output.last else lines
    lines = lines.assign(line=lines["arm"], shade=lines["matched_at"], x=lines["level"])
    whole, copies = (lines[lines["arm"].eq("matched") == each] for each in (True, False))
    starts = [whole.assign(line=line, x=0.0) for line in copies["line"].unique()]
    copies = copies[copies["x"] > 0]
    return _long(output, pd.concat([*starts, copies], ignore_index=True))


def _long(output: PartialBarriers, lines: pd.DataFrame) -> pd.DataFrame:
    """Mean and spread over pairs, by `_KEYS`."""
    parts = [
        lines.assign(metric=metric, value=pd.to_numeric(lines[f"{metric}_barrier"]))
        for metric in output.metrics
    ]
    return spread(pd.concat(parts, ignore_index=True), _KEYS)


def _rows(
    output: PartialBarriers, connections: pd.DataFrame, *, layers: bool
) -> list[dict[str, Any]]:
    """The rows of panels: network, matcher, and of layers the kind of mixture."""
    places = [*connections[NETWORK].drop_duplicates().itertuples(index=False, name=None)]
    matchers = [*connections["matcher"].unique()]
    kinds = [kind for kind in KINDS if kind in (output.kinds or KINDS)] if layers else [None]
    found = []
    for place, matcher, kind in product(places, matchers, kinds):
        title = [roles.of_network(place)] if len(places) > 1 or not layers else []
        title += [roles.MATCHERS.get(matcher, (matcher,))[0]] if len(matchers) > 1 else []
        title += [roles.ROLES[kind][0]] if kind else []
        found.append(
            {"title": "\n".join(title), "place": place, "matcher": matcher, "line": kind}
        )  # fmt: skip
    return found


def _of_row(points: pd.DataFrame, row: dict[str, Any]) -> pd.DataFrame:
    points = panels.at(points, row["place"])
    here = points["matcher"].eq(row["matcher"])
    return points[here & (points["line"].isin(("end", row["line"])) if row["line"] else here)]


def _draw(panel: Axes, points: pd.DataFrame, shades: dict[float, style.Look]) -> None:
    for (role, matcher, shade), line in points.groupby(
        ["line", "matcher", "shade"], sort=False, dropna=False
    ):
        look = roles.look_of(role, matcher)
        if not pd.isna(shade):
            look = shades[shade] | {"linestyle": roles.ROLES[role][1]}
        line = line.sort_values("x")
        style.band_line(panel, line["x"], line["mean"], line["std"], look)
        if role == "end":
            roles.level_of_the_end(panel, line["mean"].iloc[-1], look)


def _log_axis(panel: Axes, at: pd.Series) -> None:
    """A logarithmic axis of epochs, with a tick at as many of them as have room."""
    values = sorted({*at[at > 0]})
    if not values:
        return
    panel.set_xscale("log")
    kept = [values[0]]
    for value in values[1:]:
        kept += [value] if value / kept[-1] >= (values[-1] / values[0]) ** 0.13 else []
    panel.set_xticks(kept, [f"{value:g}" for value in kept])
    panel.xaxis.set_minor_locator(NullLocator())
    panel.set_xlim(values[0] / 1.12, values[-1] * 1.12)


def _handles(
    points: pd.DataFrame, shades: dict[float, style.Look], *, layers: bool
) -> list[Line2D]:
    found = []
    if layers:
        for matcher in sorted(points["matcher"].unique(), key=roles.rank):
            look = roles.look_of("end", matcher)
            found.append(style.handle(look, roles.words_of("end", matcher)))
            dotted = style.look(look["color"], "", ":") | {"linewidth": 0.7}
            found.append(style.handle(dotted, f"{roles.ROLES['along'][0]}, at the end"))
    else:
        for role in points["line"].unique():
            look = style.look(style.GREY, "", roles.ROLES[role][1])
            found.append(style.handle(look, roles.ROLES[role][0]))
    last = max(shades, default=None)
    for value, look in shades.items():
        end = " (the end)" if not layers and value == last else ""
        found.append(style.handle(look, f"k = {value:g}" if layers else f"t = {value:g}{end}"))
    return found
