"""One look for every figure: colours, markers, fonts, legends, and files without dates."""

from __future__ import annotations

import hashlib
import io
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any, Literal

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from pipeline.artifacts.store import write_atomic
from pipeline.report.shown import Shown
from pipeline.report.tables import names
from pipeline.results import PLACE

Look = dict[str, Any]


def look(color: str, marker: str = "", line: str = "-") -> Look:
    """Colour, marker and line as matplotlib's keywords."""
    return {"color": color, "marker": marker, "linestyle": line}


#: Okabe and Ito's colours, distinct for all common kinds of colour vision.
METHODS = {
    "dense": look("#000000", "", "--"), "lth": look("#0072B2", "o"), "naive": look("#D55E00", "s"),
    "permuted": look("#009E73", "^"), "imp": look("#CC79A7", "D"),
}  # fmt: skip
_OTHERS = [
    look("#E69F00", "v", "-."), look("#56B4E9", "P", "-."), look("#8C6D31", "X", "-."),
    look("#7F7F7F", "p", "-."),
]  # fmt: skip

GREY = "#555555"

# Widths are ordered: dark to light, clear of the methods' colours.
_WIDTHS = [
    look("#440154", "o"), look("#31688E", "s"), look("#35B779", "^"), look("#E3A008", "D"),
    look("#B5367A", "v"),
]  # fmt: skip

RC: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 8.0,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8.0,
    "xtick.labelsize": 7.0,
    "ytick.labelsize": 7.0,
    "legend.fontsize": 8.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.grid": True,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.5,
    "axes.axisbelow": True,
    "lines.linewidth": 1.3,
    "lines.markersize": 3.6,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "pdf.fonttype": 42,
    "svg.hashsalt": "pipeline",
    "svg.fonttype": "path",
    "savefig.dpi": 200,
    "figure.dpi": 100,
}

_Share = bool | Literal["none", "all", "row", "col"]


def method_style(method: str, colours: Mapping[str, str] | None = None) -> Look:
    """Colour, marker and line of a method, the same in every figure.

    A user's own method gets the colour that the study names, else one fixed by its name.
    """
    pick = int(hashlib.sha256(method.encode()).hexdigest(), 16) % len(_OTHERS)
    usual = METHODS.get(method, _OTHERS[pick])
    return usual | {"color": (colours or {}).get(method) or usual["color"]}


def method_handles(methods: Iterable[str], shown: Shown) -> list[Line2D]:
    """Entries of a legend, one per method."""
    return [
        handle(method_style(method, shown.colors), names.whole_method(method, shown.labels))
        for method in methods
    ]


def in_turn(values: Iterable[float]) -> dict[float, Look]:
    """Colour, marker and line of each value of a scale, such as the widths."""
    return dict(zip(values, cycle(_WIDTHS)))


def grid(
    rows: int,
    columns: int,
    *,
    panel: tuple[float, float] = (1.9, 1.55),
    sharey: _Share = "row",
    sharex: _Share = True,
) -> tuple[Figure, list[list[Axes]]]:
    """A figure of rows × columns panels, one at least, laid out so that nothing overlaps.

    panel: width and height of one in inches.
    """
    rows, columns = max(1, rows), max(1, columns)
    width, height = panel
    # A single column still has room for a legend below it.
    size = (max(width * columns + 0.5, 3.4), height * rows + 0.9)
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, sharex=sharex, sharey=sharey, squeeze=False)
    return figure, [list(row) for row in axes]


def band_line(axes: Axes, x: ArrayLike, mean: ArrayLike, std: ArrayLike, style: Look) -> None:
    """A line with a band of ± one sample standard deviation.

    A missing value (NaN) breaks line and band. A point without neighbours gets a bar for a band.
    """
    position = np.asarray(x, dtype=float)
    value, spread = np.asarray(mean, dtype=float), np.asarray(std, dtype=float)
    axes.plot(position, value, markeredgecolor="white", markeredgewidth=0.4, **style)
    known = np.isfinite(value) & np.isfinite(spread)
    axes.fill_between(
        position,
        value - spread,
        value + spread,
        where=known,
        color=style["color"],
        alpha=0.18,
        linewidth=0,
    )
    alone = known & ~np.r_[False, known[:-1]] & ~np.r_[known[1:], False]
    if alone.any():
        axes.errorbar(
            position[alone],
            value[alone],
            spread[alone],
            fmt="none",
            ecolor=style["color"],
            elinewidth=1.0,
            alpha=0.6,
        )


def reference(axes: Axes, mean: float, std: float) -> None:
    """The mean of a network's dense runs across a panel, their spread as a band where it is known."""
    look = METHODS["dense"]
    axes.axhline(mean, color=look["color"], linestyle="--", linewidth=1.0, zorder=1)
    if std == std:
        axes.axhspan(mean - std, mean + std, color="#000000", alpha=0.08, linewidth=0)


def ticks(values: Iterable[float], least: float = 0.11) -> list[float]:
    """Those of the values that can stand as ticks side by side, first and last always.

    The most that fit; among equally many, the most evenly spaced. ``least``: smallest distance of
    two ticks as a share of the axis.
    """
    ordered = sorted(set(values))
    if len(ordered) < 3:
        return ordered
    first, last = ordered[0], ordered[-1]
    room = least * (last - first) * (1 - 1e-9)

    def thinned(candidates: list[float]) -> list[float]:
        kept = [first]
        for value in candidates:
            if value - kept[-1] >= room and last - value >= room:
                kept.append(value)
        return [*kept, last]

    # All values in turn, and the multiples of each value (k = 25, 50, 75, 100).
    inner = ordered[1:-1]
    multiples = [[value for value in inner if not round(value % step, 6)] for step in inner]
    choices = map(thinned, [inner, *multiples])
    return max(choices, key=lambda kept: (len(kept), -float(np.std(np.diff(kept)))))


def few_y_ticks(axes: Axes) -> None:
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, min_n_ticks=3))


def legend(figure: Figure, handles: Sequence[Line2D], note: str = "") -> None:
    """Legend below the panels, off the data, in as many rows as it needs; a note above it.

    A label that is wider than the figure goes on in a line below.
    """
    for line in handles:
        line.set_label(_wrapped(str(line.get_label()), figure.get_figwidth() - 0.51, 0.068))
    fits = (n for n in range(len(handles), 1, -1) if _width(handles, n) <= figure.get_figwidth())
    columns = next(fits, 1)
    # Panels keep their height beside a long legend.
    figure.set_figheight(figure.get_figheight() + 0.17 * max(0, -(-len(handles) // columns) - 3))
    box = figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=columns,
        frameon=False,
        handlelength=2.2,
        columnspacing=1.6,
        title=note or None,
        title_fontsize=7.0,
        alignment="center",
    )
    box.get_title().set_color(GREY)


def _width(lines: Sequence[Line2D], columns: int) -> float:
    """About how many inches a legend of that many columns takes (filled column by column)."""
    lengths = [max(map(len, str(line.get_label()).splitlines() or [""])) for line in lines]
    widest = [max(part) for part in np.array_split(lengths, columns)]
    return sum(0.51 + 0.068 * int(letters) for letters in widest)


def titled(figure: Figure, title: str) -> None:
    """The titles of panels and figure in lines that fit, the figure's over the middle of its panels.

    The layout is made once to know how wide the panels are.
    """
    figure.draw_without_rendering()
    width = figure.get_figwidth()
    panels = [one for one in figure.get_axes() if one.get_label() != "<colorbar>"]
    places = [panel.get_position() for panel in panels]
    for panel, place in zip(panels, places, strict=True):
        lines = panel.get_title().splitlines()
        fits = "\n".join(_wrapped(line, width * place.width, 0.07) for line in lines)
        panel.set_title(fits)
    if title:
        middle = (min(place.x0 for place in places) + max(place.x1 for place in places)) / 2
        room = 2 * width * min(middle, 1 - middle)
        figure.suptitle(_wrapped(title, room, 0.08), x=middle, fontsize=9.5)


def _wrapped(text: str, inches: float, letter: float) -> str:
    """A text in lines of so many inches; ``letter``: the usual width of one."""
    return textwrap.fill(text, max(12, int(inches / letter)), break_long_words=False)


def handle(style: Look, label: str) -> Line2D:
    """Entry of a legend; a hollow mark has an edge of its own colour."""
    white: Look = {"markeredgecolor": "white", "markeredgewidth": 0.4}
    edge = {} if style.get("fillstyle") == "none" else white
    return Line2D([], [], label=label, **edge, **style)


def missing_note(total: int, missing: int, diverged: int = 0, what: str = "cells") -> str:
    """What the figure cannot show: empty when all of ``what`` is there."""
    parts = []
    if missing:
        parts.append(f"{missing} of {total} {what} missing")
    if diverged:
        ends = "with diverged runs" if what == "cells" else "diverged"
        parts.append(f"{diverged} of {total} {what} {ends}")
    return "; ".join(parts)


#: What a format would write of time and software, which equal figures must not differ in.
_VOLATILE: dict[str, dict[str, Any]] = {
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
}


def save(
    figure: Figure, data: pd.DataFrame, stem: Path, formats: Iterable[str] = tuple(_VOLATILE)
) -> list[Path]:
    """Write ``stem`` + .pdf, .png, .svg (those asked for) and .csv, the data shown.

    Equal figures give equal bytes.
    """
    paths = []
    with matplotlib.rc_context(RC):
        for suffix in formats:
            content = io.BytesIO()
            figure.savefig(content, format=suffix, metadata=_VOLATILE[suffix])
            path = stem.with_name(f"{stem.name}.{suffix}")
            write_atomic(path, content.getvalue())
            paths.append(path)
    table = stem.with_name(f"{stem.name}.csv")
    text = data.to_csv(index=False, lineterminator="\n", float_format="%.10g")
    write_atomic(table, text.encode())
    return [*paths, table]


def headings(frame: pd.DataFrame) -> dict[str, str]:
    """Heading of each experiment of a frame: network and data set, its name where two share them.

    ``frame`` has the columns experiment, dataset, model, width.
    """
    places = frame[PLACE].drop_duplicates("experiment").itertuples(index=False, name=None)
    found = {str(name): names.place(*network) for name, *network in places}
    times = Counter(found.values())
    return {n: f"{text} ({n})" if times[text] > 1 else text for n, text in found.items()}


def name_ticks(axes: Axes, labels: Sequence[str]) -> None:
    """Names as ticks at 0, 1, …, upright, small enough for the axis; none left out."""
    axes.set_xticks(
        range(len(labels)), labels, rotation=90, fontsize=6 if len(labels) < 40 else 4.5
    )
    axes.set_xlim(-0.5, len(labels) - 0.5)


def absent_note(frame: pd.DataFrame, identity: Sequence[str], what: str) -> str:
    """`missing_note` of a frame with a column status and several rows for each of ``what``."""
    status = frame.drop_duplicates(list(identity))["status"]
    missing, diverged = (int((status == value).sum()) for value in ("missing", "diverged"))
    return missing_note(len(status), missing, diverged, what)
