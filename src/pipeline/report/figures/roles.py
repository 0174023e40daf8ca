"""One look per role in all figures of sweeps: the dash says the role, colour and marker the matcher.

Lines of permutations of several epochs go from dark to light instead, the end in black.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter, NullLocator

from pipeline.catalog import networks
from pipeline.report import published
from pipeline.report.figures import style
from pipeline.report.tables import names

MATCHERS = {
    "weights": ("weight matching", style.look("#0072B2", "o")),
    "activations": ("activation matching", style.look("#D55E00", "^")),
    "random": ("random matching", style.look("#CC79A7", "x")),
}
#: Of each role: what it is in words, and its dash.
ROLES: dict[str, tuple[str, Any]] = {
    "none": ("without π", "--"),
    "along": ("π of the end", "-"),
    "own": ("π of the same epoch", (0, (3, 1, 1, 1))),
    "end": ("π of epoch t, at the end", (0, (2.2, 1.0))),
    "fixed": ("π of epoch t", "-"),
    "direct": ("direct", "-"),
    "indirect": ("indirect", (0, (1, 1))),
    "instability": ("instability: children of one network", (0, (5, 1))),
    "children": ("children, π of parents", (0, (4, 1, 1, 1, 1, 1))),
    "bottom-up": ("bottom-up:\nlayers before k from t", "-"),
    "top-down": ("top-down:\nlayer k and up from t", "-"),
    "put-in": ("put-in:\nlayer k from t", "-"),
    "leave-out": ("leave-out:\nall but layer k from t", "-"),
    "magnitude": ("smallest weights pruned", "-"),
    "random": ("random weights pruned", "--"),
    "dense": ("π of the dense networks", "-"),
    "sparse": ("π of the sparse networks", (0, (3, 1, 1, 1))),
    "one-shot": ("b pruned at once", (0, (1, 2.2))),
}
#: Lines in which no permutation plays a part, so that they are the same for every matcher.
PLAIN = {"none": style.look(style.GREY, ""), "instability": style.look("#009E73", "s")}
_MARKS = "osD^vP*X"
AUTHORS: style.Look = {"color": "#8a8a8a", "linestyle": "-"}


def look_of(role: str, matcher: str) -> style.Look:
    """Colour, marker and dash of a line; without a permutation no matcher plays a part."""
    usual = style.look("#8C6D31", "P")
    own = PLAIN.get(role) or MATCHERS.get(matcher, ("", usual))[1]
    return own | {"linestyle": ROLES[role][1]}


def words_of(role: str, matcher: str) -> str:
    """A line for the legend."""
    words = ROLES[role][0]
    return (
        words
        if role in PLAIN or not matcher
        else f"{MATCHERS.get(matcher, (matcher,))[0]}, {words}"
    )


def rank(matcher: str) -> tuple[int, str]:
    """Sort key that puts matchers in the order of ``MATCHERS``."""
    known = [*MATCHERS]
    return (known.index(matcher) if matcher in known else len(known)), matcher


def by_rank(values: Sequence[float]) -> dict[float, style.Look]:
    """Looks of the values of a scale none of which is the end: dark to light."""
    highest = max(values, default=0.0)
    return {
        value: look for value, look in in_time([*values, highest + 1]).items() if value in values
    }


def in_time(epochs: Sequence[float]) -> dict[float, style.Look]:
    """Looks of permutations by the epoch that they are of: dark to light, the end black."""
    ordered = sorted({*epochs})
    shades = matplotlib.colormaps["viridis"]
    found = {}
    for place, epoch in enumerate(ordered[:-1]):
        shade = to_hex(shades(0.05 + 0.87 * place / max(1, len(ordered) - 2)))
        found[epoch] = style.look(shade, _MARKS[place % len(_MARKS)])
    return found | {epoch: style.look("#000000", "") for epoch in ordered[-1:]}


def channels(frame: pd.DataFrame) -> pd.Series:
    """Channels of the narrowest layer of each row's network: by these a work calls its widths."""
    base = frame["model"].map(
        lambda name: networks.NETWORKS[name].base if name in networks.NETWORKS else 1
    )
    return base.astype(float) * frame["width"].astype(float)


def authors(shown: pd.DataFrame) -> pd.DataFrame:
    """The authors' own values of what ``shown`` shows, in its columns, errors in points.

    ``shown`` has the columns dataset, model, width, matcher, line, split, metric and x. ``mean`` is
    the value, ``reading_error`` how far off it may be; of the same network, matcher, line and split.
    """
    found = published.sharma()
    by_width = found["arm"].isin(("direct", "indirect"))
    along = found["arm"].eq("along")
    epochs = found["epoch"].where(along, found["matching_epoch"])
    percent = found["metric"].eq("error").map({True: 100.0, False: 1.0})
    known = found.assign(
        line=found["arm"].replace("along", "fixed"),
        split=found["split"].fillna(""),
        matched_at=found["matching_epoch"].where(along),
        x=channels(found).where(by_width, epochs),
        width=found["width"].mask(by_width),
        mean=percent * found["value"],
        reading_error=percent * found["reading_error"],
    )
    same = ["dataset", "model", "width", "matcher", "line", "split", "metric"]
    known = known.merge(shown[same].drop_duplicates())
    return known[[*same, "matched_at", "cut", "x", "mean", "reading_error"]]


def draw_authors(
    panel: Axes,
    known: pd.DataFrame,
    shades: Mapping[float, style.Look] | None = None,
    shade: str = "matched_at",
) -> None:
    """Their values as hollow marks in grey, joined as the line that they are of.

    Marks are the matcher's, or where each value of ``shade`` has a line of its own, in its look of
    ``shades``; a value that is none of ours is the end.
    """
    for (role, matcher, value), line in known.groupby(["line", "matcher", shade], dropna=False):
        line = line.sort_values("x")
        own = look_of(role, matcher) | {"color": AUTHORS["color"]}
        if shades and not pd.isna(value):
            own = shades.get(value, shades[max(shades)])
        look = AUTHORS | {"marker": own["marker"] or "o", "markeredgecolor": own["color"]}
        look["linestyle"] = ROLES[role][1]
        panel.errorbar(
            line["x"], line["mean"], line["reading_error"], **look, linewidth=0.6,
            elinewidth=0.5, markerfacecolor="none", markeredgewidth=0.7, zorder=1.5,
        )  # fmt: skip


def level_of_the_end(panel: Axes, height: float, look: style.Look) -> None:
    """A dotted line at the barrier under the permutation of the end, in the colour of its line."""
    panel.axhline(height, color=look["color"], linestyle=":", linewidth=0.7, alpha=0.7)


def authors_handle() -> Line2D:
    """Their entry in a legend."""
    look = AUTHORS | {"marker": "o", "markerfacecolor": "none", "linewidth": 0.6}
    return Line2D([], [], markeredgewidth=0.7, label="the authors' values", **look)


def width_axis(panel: Axes, at: Iterable[float]) -> None:
    """A logarithmic axis with a tick at each width."""
    values = sorted({*at})
    if not values:
        return
    panel.set_xscale("log", base=2)
    panel.set_xticks(values, [f"{value:g}" for value in values])
    panel.xaxis.set_minor_locator(NullLocator())
    panel.set_xlim(values[0] / 1.15, values[-1] * 1.15)


def density(sparsity: pd.Series) -> pd.Series:
    """The share of weights left, in %."""
    return 100 * (1 - sparsity)


def density_axis(panel: Axes, at: Iterable[float]) -> None:
    """A logarithmic axis of the share of weights left, from all of them on, as many prunes go."""
    values = {math.log10(value): value for value in at}
    if not values:
        return
    shown = [values[place] for place in style.ticks(values, least=0.13)]
    panel.set_xscale("log")
    panel.set_xticks(shown, [f"{value:.0f}" if value >= 10 else f"{value:.2g}" for value in shown])
    panel.set_xticks([*values.values()], minor=True)
    panel.xaxis.set_minor_formatter(NullFormatter())
    margin = 10 ** (0.04 * (max(values) - min(values)) or 0.02)
    panel.set_xlim(max(values.values()) * margin, min(values.values()) / margin)


def epoch_axis(panel: Axes, at: Iterable[float]) -> None:
    """An axis with ticks at as many of the epochs as have room."""
    values = sorted({*at})
    if not values:
        return
    margin = 0.04 * (values[-1] - values[0]) or 1.0
    panel.set_xticks(style.ticks(values, least=0.14))
    panel.set_xticks(values, minor=True)
    panel.set_xlim(values[0] - margin, values[-1] + margin)


def share_axis(panel: Axes, at: Iterable[float]) -> None:
    """An axis of shares, with a tick at as many of them as have room."""
    values = sorted({*at})
    if values:
        kept = style.ticks(values, least=0.14)
        panel.set_xticks(kept, [f"{value:g}" for value in kept])
        panel.set_xlim(-0.03, max(values) + 0.03)


def of_network(place: tuple[Any, ...]) -> str:
    """Network, its width where it is one, and below it the data set of a row of panels."""
    dataset, model, width = place
    return f"{names.network(model, width)}\n{names.data(dataset)}"
