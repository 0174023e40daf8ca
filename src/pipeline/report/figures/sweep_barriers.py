"""Barriers of sweeps against epoch or width: Figures 1 to 20 of Sharma et al. where barriers are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import product
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pipeline.report.figures import children, panels, roles, style
from pipeline.report.shown import Shown
from pipeline.report.tables.cells import spread
from pipeline.results import NETWORK, Results
from pipeline.study.outputs.sweep_barriers import CHILDREN, SweepBarriers

_ROW = [*NETWORK, "matcher"]
_BY_WIDTH, _BY_LEVEL = {"direct", "indirect"}, {"dense", "sparse", "one-shot"}
_KEYS = [*_ROW, "line", "matched_at", "x", "split", "metric"]


def read(output: SweepBarriers, results: Results) -> pd.DataFrame:
    """The lines of the output's sweeps."""
    return results.connections(output)


def build(
    output: SweepBarriers, shown: Shown, connections: pd.DataFrame
) -> tuple[Figure, pd.DataFrame]:
    """Columns: split and metric; rows: networks, and what else the output tells apart.

    Errors in points (percentage points), losses in nats. Lines are means over pairs with a band of
    ± one sample standard deviation.
    """
    del shown
    points = _points(output, connections)
    known = roles.authors(points)
    theirs = known if output.published else known.iloc[:0]
    rows = _rows(output, connections)
    looks = roles.in_time(points.loc[points["line"] == "fixed", "matched_at"].unique())
    shades = children.shades(points)
    wide = len(output.metrics) == len(output.splits) == 1

    def draw(panel: panels.Panel) -> None:
        roles.draw_authors(panel.axes, panel.authors, looks)
        _draw(panel.axes, panel.points, looks, shades)
        _axis(output)(panel.axes, panel.points["x"])
        if output.threshold and panel.metric == "error":
            panel.axes.axhline(output.threshold, color=style.GREY, linestyle=":", linewidth=0.9)
        if panel.lowest:
            panel.axes.set_xlabel(_x_label(output, panel.row["lines"]))
        if output.x == "spawn":
            _by_spawn(panel.axes, panel.points, output, panel.metric)

    figure = panels.of_barriers(output, rows, (points, theirs), _of_row, draw, wide=wide)
    handles = _handles(output, points, looks)
    handles += [roles.authors_handle()] if len(theirs) else []
    style.legend(figure, handles, panels.absent(connections))
    return figure, panels.with_authors(points, theirs) if output.published else points


def _points(output: SweepBarriers, connections: pd.DataFrame) -> pd.DataFrame:
    """Mean and spread over pairs of every line drawn, by `_KEYS`; ``x``: epoch or channels."""
    known = connections[
        connections["correction"].eq(output.correction) & connections["split"].isin(output.splits)
    ].drop_duplicates(
        [*NETWORK, "match", "sweep", "arm", "point", "a", "b", "evaluated_at", "split"]
    )
    keys = [*_KEYS, "spawn"] if {*CHILDREN} & {*output.lines} else _KEYS
    parts = [_chosen(known, role, output).assign(line=role) for role in output.lines]
    lines = pd.concat(parts, ignore_index=True)
    long = pd.concat(
        lines.assign(metric=m, value=pd.to_numeric(lines[f"{m}_barrier"])) for m in output.metrics
    )
    if not ({"along", "own", "end", "fixed"} & {*output.lines}):
        long["matched_at"] = float("nan")
    return spread(children.per_pair(long, keys), keys)


def _chosen(lines: pd.DataFrame, role: str, output: SweepBarriers) -> pd.DataFrame:
    """The lines that answer a role's question, with ``x``; those without π once for all matchers."""
    if role in CHILDREN:
        found = children.of_role(lines, role, output)
    else:
        found = _of_role(lines, role).assign(spawn=float("nan"))
    if role in roles.PLAIN:
        first = found.groupby(NETWORK, dropna=False)["match"].transform("first")
        found = found[found["match"] == first].assign(matcher="")
    return found


def _of_role(lines: pd.DataFrame, role: str) -> pd.DataFrame:
    """The lines between runs from their initialisation that answer a role's question, with ``x``."""
    then, now = (pd.to_numeric(lines[key]) for key in ("matched_at", "evaluated_at"))
    end = now.groupby([lines[key] for key in (*NETWORK, "sweep")]).transform("max")
    triples = lines["arm"].isin(("direct", "indirect")).any()
    chosen = {
        "none": lines["arm"].eq("none"),
        "along": lines["arm"].eq("matched") & lines["point"].eq("end"),
        "own": lines["arm"].eq("matched") & (then == now),
        "end": lines["arm"].eq("matched") & (now == end),
        "fixed": lines["arm"].eq("matched"),
        "direct": lines["arm"].eq("direct"),
        "indirect": lines["arm"].eq("indirect"),
        **{arm: lines["arm"].eq(arm) for arm in _BY_LEVEL},
    }[role]
    x = roles.channels(lines) if triples else then if role == "end" else now
    if lines["arm"].isin(_BY_LEVEL).any():
        x = roles.density(1 - (1 - lines["fraction"].astype(float)) ** now)
    found = lines.assign(x=x, matched_at=then if role == "fixed" else float("nan"))[chosen]
    if triples:
        found = found.assign(width=float("nan"))
    return found


def _rows(output: SweepBarriers, connections: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of panels: network, the matcher and lines shown in it, and the last epoch."""
    by_width = bool(_BY_WIDTH & {*output.lines})
    frame = connections.assign(width=float("nan")) if by_width else connections
    places = [*frame[NETWORK].drop_duplicates().itertuples(index=False, name=None)]
    several = "fixed" in output.lines or (
        "children" in output.lines and output.x == "epoch" and len(output.spawns) != 1
    )
    matchers = [*connections["matcher"].unique()] if several else [None]
    sets = [(line,) for line in output.lines] if output.rows == "line" else [output.lines]
    found = []
    for place, matcher, lines, until in product(places, matchers, sets, (None, *output.until)):
        title = "" if len(places) == 1 and output.rows == "line" else roles.of_network(place) + "\n"
        if matcher is not None and len(matchers) > 1:
            title += f"{roles.MATCHERS.get(matcher, (matcher,))[0]}\n"
        if output.rows == "line":
            title += f"{roles.ROLES[lines[0]][0]}\n"
        found.append(
            {
                "title": title.strip(),
                "place": place,
                "matcher": matcher,
                "lines": lines,
                "until": until,
            }
        )
    return found


def _of_row(points: pd.DataFrame, row: dict[str, Any]) -> pd.DataFrame:
    points = panels.at(points, row["place"])
    here = points["line"].isin(row["lines"])
    if row["matcher"] is not None:
        here &= points["matcher"].isin(("", row["matcher"]))
    if row["until"] is not None:
        here &= points["x"].le(row["until"])
    return points[here]


def _draw(
    panel: Axes, points: pd.DataFrame,
    looks: dict[float, style.Look], shades: dict[float, style.Look],
) -> None:  # fmt: skip
    points = points if "spawn" in points else points.assign(spawn=float("nan"))
    keys = ["line", "matcher", "matched_at", "spawn"]
    for (role, matcher, then, spawn), line in points.groupby(keys, sort=False, dropna=False):
        look = looks[then] if role == "fixed" else roles.look_of(role, matcher)
        if spawn in shades:
            look = shades[spawn] | {"linestyle": roles.ROLES[role][1]}
        line = line.sort_values("x")
        # Markers on some of many points keep the lines readable.
        look = look | {"markevery": max(1, len(line) // 9)}
        style.band_line(panel, line["x"], line["mean"], line["std"], look)
        if role == "end":
            roles.level_of_the_end(panel, line["mean"].iloc[-1], look)


def _axis(output: SweepBarriers) -> Callable[[Axes, Iterable[float]], None]:
    if _BY_LEVEL & {*output.lines}:
        return roles.density_axis
    return roles.width_axis if _BY_WIDTH & {*output.lines} else roles.epoch_axis


def _x_label(output: SweepBarriers, lines: Sequence[str]) -> str:
    if _BY_LEVEL & {*output.lines}:
        return "Weights left (%)"
    if _BY_WIDTH & {*lines}:
        return "Width (channels of the first layer)"
    return "Matching epoch t" if {*lines} <= {"own", "end"} else "Epoch"


def _by_spawn(panel: Axes, points: pd.DataFrame, output: SweepBarriers, metric: str) -> None:
    """The x axis of a panel against the epoch of the children's start; with a threshold the onset."""
    label = "Epoch t of the children's start"
    if output.threshold and metric == "error" and "instability" in output.lines:
        label += f"\n({children.draw_onset(panel, points, output.threshold)})"
    panel.set_xlabel(label)


def _handles(
    output: SweepBarriers, points: pd.DataFrame, looks: dict[float, style.Look]
) -> list[Line2D]:
    plain = points[points["spawn"].isna()] if "spawn" in points else points
    pairs = plain[["line", "matcher"]].drop_duplicates().itertuples(index=False, name=None)
    drawn = sorted(pairs, key=lambda pair: (output.lines.index(pair[0]), roles.rank(pair[1])))
    handles = [
        style.handle(roles.look_of(role, matcher), roles.words_of(role, matcher))
        for role, matcher in drawn
        if role != "fixed"
    ]
    last = max(looks, default=None)
    for epoch, look in looks.items():
        end = " (the end)" if epoch == last else ""
        handles.append(style.handle(look, f"π of epoch {epoch:g}{end}"))
    handles += children.handles(points) if "spawn" in points else []
    if output.threshold and "error" in output.metrics:
        dotted = style.look(style.GREY, "", ":") | {"linewidth": 0.9}
        handles.append(style.handle(dotted, f"{output.threshold:g} points"))
    return handles
