"""One look per role in all figures of sweeps: the dash says the role, colour and marker the matcher.

Lines of permutations of several epochs go from dark to light instead, the end in black.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.ticker import NullLocator

from pipeline.catalog import networks
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
    "indirect": ("by way of a third", (0, (1, 1))),
}
_MARKS = "osD^vP*X"


def look_of(role: str, matcher: str) -> style.Look:
    """Colour, marker and dash of a line; without a permutation no matcher plays a part."""
    if role == "none":
        return style.look(style.GREY, "", ROLES[role][1])
    usual = style.look("#8C6D31", "P")
    return MATCHERS.get(matcher, ("", usual))[1] | {"linestyle": ROLES[role][1]}


def words_of(role: str, matcher: str) -> str:
    """A line for the legend."""
    words = ROLES[role][0]
    return words if role == "none" else f"{MATCHERS.get(matcher, (matcher,))[0]}, {words}"


def rank(matcher: str) -> tuple[int, str]:
    """Sort key that puts matchers in the order of ``MATCHERS``."""
    known = [*MATCHERS]
    return (known.index(matcher) if matcher in known else len(known)), matcher


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
    return base * frame["width"].astype(float)


def width_axis(panel: Axes, at: Iterable[float]) -> None:
    """A logarithmic axis with a tick at each width."""
    values = sorted({*at})
    if not values:
        return
    panel.set_xscale("log", base=2)
    panel.set_xticks(values, [f"{value:g}" for value in values])
    panel.xaxis.set_minor_locator(NullLocator())
    panel.set_xlim(values[0] / 1.15, values[-1] * 1.15)


def epoch_axis(panel: Axes, at: Iterable[float]) -> None:
    """An axis with ticks at as many of the epochs as have room."""
    values = sorted({*at})
    if not values:
        return
    margin = 0.04 * (values[-1] - values[0]) or 1.0
    panel.set_xticks(style.ticks(values, least=0.14))
    panel.set_xticks(values, minor=True)
    panel.set_xlim(values[0] - margin, values[-1] + margin)


def of_network(place: tuple[Any, ...]) -> str:
    """Network, its width where it is one, and below it the data set of a row of panels."""
    dataset, model, width = place
    return f"{names.network(model, width)}\n{names.data(dataset)}"
