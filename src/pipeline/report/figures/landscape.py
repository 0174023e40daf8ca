"""Planes in weight space with trajectories of training: Figures 22 and 23 of Sharma et al."""

from __future__ import annotations

from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.contour import QuadContourSet
from matplotlib.figure import Figure

from pipeline.report.figures import style
from pipeline.report.shown import Shown
from pipeline.report.tables.cells import places
from pipeline.results import NETWORK, Results, place
from pipeline.study.outputs.landscape import Landscape

#: Networks as they are named in files: what figures call them, and their look.
_NETWORKS = {
    "b": ("b", style.look("#FFFFFF", "o")),
    "a": ("a", style.look("#E69F00", "s")),
    "π(a)": ("$\\pi_t(a)$", style.look("#FF6EB4", "^")),
    "π_T(a)": ("$\\pi_T(a)$", style.look("#56B4E9", "D")),
}
_PLANES = {
    "ends": "b, a, $\\pi_t(a)$",
    "permutations": "b, $\\pi_T(a)$, $\\pi_t(a)$",
    "start": "b, b at 0, $\\pi_t(a)$",
}
_GRID = [*NETWORK, "plane", "point", "correction", "x", "y", "split", "loss", "error"]
_PATHS = ["plane", "point", "network", "epoch", "x", "y", "distance"]
_LEVELS = 12


def read(output: Landscape, results: Results) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Grid points of the planes, and the projected epochs of their networks."""
    grid: list[dict[str, Any]] = []
    paths: list[dict[str, Any]] = []
    for experiment, run, _ in results.measured(output):
        grid += [line | place(experiment) for line in results.lines(run, "planes.csv")]
        paths += results.lines(run, "paths.csv")
    return pd.DataFrame(grid, columns=_GRID), pd.DataFrame(paths, columns=_PATHS)


def build(
    output: Landscape, shown: Shown, data: tuple[pd.DataFrame, pd.DataFrame]
) -> tuple[Figure, pd.DataFrame]:
    """A row per plane, a column per epoch t; filled contours of the error in %, one scale for all.

    The network stands above the legend.

    Returns the figure, and grid and projected epochs in one frame.
    """
    del shown
    grid, paths = data
    grid = grid[grid["split"].eq(output.split) & grid["correction"].eq(output.correction)]
    paths = paths[paths["plane"].isin(output.planes)]
    grid = grid[grid["plane"].isin(output.planes)]
    planes = [plane for plane in output.planes if plane in {*grid["plane"]}]
    times = [*grid["point"].drop_duplicates()]
    first = int(output.scheme)
    with matplotlib.rc_context({"axes.grid": False}):
        figure, axes = style.grid(
            len(planes), len(times) + first, panel=(2.25, 2.15), sharex=False, sharey=False
        )
        shades = _shades(grid)
        filled = None
        for row, plane in zip(axes, planes, strict=False):
            if first:
                _scheme(row[0], plane)
            for panel, point in zip(row[first:], times, strict=True):
                here = (f[f["plane"].eq(plane) & f["point"].eq(point)] for f in (grid, paths))
                own, tracks = here
                if own.empty:
                    panel.set_axis_off()
                    continue
                filled = _contours(panel, own, shades)
                _tracks(panel, tracks)
                if row is axes[0]:
                    panel.set_title(f"t = {int(str(point)[1:])}")
                if row is axes[len(planes) - 1]:
                    panel.set_xlabel("distance in weight space")
                panel.tick_params(labelsize=5.5)
            row[0].set_ylabel(f"plane of {_PLANES[plane]}")
        if filled is not None:
            every = [panel for row in axes for panel in row]
            bar = figure.colorbar(filled, ax=every, pad=0.01, shrink=0.8, format="%.0f")
            bar.set_label(f"{output.split.capitalize()} error (%)")
            bar.outline.set_linewidth(0.5)
        shown_networks = [name for name in _NETWORKS if name in {*paths["network"]}]
        handles = [
            style.handle(look | {"color": _ink(look)}, label)
            for label, look in (_NETWORKS[name] for name in shown_networks)
        ]
        networks = "; ".join(dict.fromkeys(places(grid)))
        style.legend(figure, handles, networks or "the sweep is missing")
    frame = pd.concat([grid.assign(network=""), paths], ignore_index=True)
    columns = ["plane", "point", "network", "epoch", "x", "y", "distance", "split", "error", "loss"]
    return figure, frame[columns]


def _ink(look: style.Look) -> str:
    """A network's colour on white paper."""
    return style.GREY if look["color"] == "#FFFFFF" else str(look["color"])


def _shades(grid: pd.DataFrame) -> np.ndarray[Any, Any]:
    """Levels that all panels share, crowded near the minimum, where the basins are."""
    error = pd.to_numeric(grid["error"])
    low, high = (float(error.min()), float(error.max())) if len(grid) else (0.0, 1.0)
    levels: np.ndarray[Any, Any] = (
        low + (max(high, low + 1e-6) - low) * np.linspace(0, 1, _LEVELS) ** 1.5
    )
    return levels


def _contours(panel: Axes, own: pd.DataFrame, levels: np.ndarray[Any, Any]) -> QuadContourSet:
    values = own.pivot(index="y", columns="x", values="error").sort_index()
    x, y = values.columns.to_numpy(float), values.index.to_numpy(float)
    z = np.ma.masked_invalid(values.to_numpy(float))
    filled = panel.contourf(x, y, z, levels=levels, cmap="cividis", extend="both")
    panel.contour(x, y, z, levels=levels[1:-1], colors="white", linewidths=0.3, alpha=0.6)
    flat = np.ptp(x) < 2.5 * np.ptp(y) and np.ptp(y) < 2.5 * np.ptp(x)
    panel.set_aspect("equal" if flat else "auto", adjustable="box")
    return filled


def _tracks(panel: Axes, tracks: pd.DataFrame) -> None:
    """The epochs of each network, joined; marks the larger the nearer to the plane."""
    outline = [patheffects.withStroke(linewidth=2.2, foreground="#222222")]
    farthest = float(tracks["distance"].max()) or 1.0
    for name, (_, look) in _NETWORKS.items():
        own = tracks[tracks["network"] == name].sort_values("epoch")
        if own.empty:
            continue
        panel.plot(own["x"], own["y"], color=look["color"], linewidth=0.9, path_effects=outline)
        near = 1 - own["distance"].to_numpy(float) / farthest
        panel.scatter(
            own["x"], own["y"], s=3 + 20 * near, color=look["color"], marker=look["marker"],
            edgecolors="#222222", linewidths=0.5, zorder=5,
        )  # fmt: skip
        end = own.iloc[-1]
        panel.scatter(
            end["x"], end["y"], s=75, facecolors="none", edgecolors=look["color"], linewidths=1.1,
            zorder=6,
        )  # fmt: skip


#: Of each plane's scheme: the corners by their names, where they are drawn.
_CORNERS = {
    "ends": {"b": (0.2, 0.2), "a": (0.85, 0.25), "$\\pi_t(a)$": (0.45, 0.75)},
    "permutations": {"b": (0.2, 0.2), "$\\pi_T(a)$": (0.8, 0.3), "$\\pi_t(a)$": (0.45, 0.75)},
    "start": {"b": (0.75, 0.2), "b at 0": (0.2, 0.3), "$\\pi_t(a)$": (0.6, 0.75)},
}


def _scheme(panel: Axes, plane: str) -> None:
    """A triangle with the names of the networks that a plane goes through."""
    corners = _CORNERS[plane]
    x, y = zip(*corners.values(), strict=True)
    panel.fill(x, y, color="#cccccc", alpha=0.5, linewidth=0)
    if plane == "start":  # training leads from one corner to the other
        panel.annotate(
            "", corners["b"], corners["b at 0"],
            arrowprops={"arrowstyle": "->", "color": style.GREY, "linewidth": 0.9},
        )  # fmt: skip
    for name, (left, bottom) in corners.items():
        panel.plot(left, bottom, "o", color="#222222", markersize=4)
        panel.annotate(
            name, (left, bottom), xytext=(0, 6), textcoords="offset points", ha="center", fontsize=8
        )
    panel.set(xlim=(0, 1), ylim=(0, 1), xticks=[], yticks=[])
    panel.spines[["left", "bottom"]].set_visible(False)
    panel.set_aspect("equal", adjustable="box")
