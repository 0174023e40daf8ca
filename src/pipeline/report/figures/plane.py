"""The 0-1 loss on the plane through three networks: paper Figure 4b, thesis Figure 4.6."""

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
from pipeline.report.tables import names
from pipeline.results import PLACE, Results, place
from pipeline.study.outputs.plane import LossPlane

_MARKS = {"dense": "*", "lth": "o", "permuted": "^", "naive": "s", "imp": "D"}
_LEVELS = 14


def read(output: LossPlane, results: Results) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Grid points and the three networks of each experiment's plane; x and y in weight space."""
    grid: list[dict[str, Any]] = []
    points: list[dict[str, Any]] = []
    for experiment, run, found in results.measured(output):
        grid += [
            line | place(experiment)
            for line in results.lines(run, "plane.csv")
            if line["correction"] == output.correction and line["split"] == output.split
        ]
        points += [
            {"experiment": experiment.name, "name": p["model"], "x": p["x"], "y": p["y"]}
            for p in found["points"]
            if p["split"] == output.split
        ]
    return (
        pd.DataFrame(grid, columns=[*PLACE, "x", "y", "split", "error", "loss"]),
        pd.DataFrame(points, columns=["experiment", "name", "x", "y"]),
    )


def build(
    output: LossPlane, shown: Shown, data: tuple[pd.DataFrame, pd.DataFrame]
) -> tuple[Figure, pd.DataFrame]:
    """Filled contours with labelled level sets, a panel per experiment, the networks marked.

    A panel's title says network, data set, S and k.
    Returns the figure and the grid that it shows (error in %), points included (rows with a name).
    A grid point that is missing stays white.
    """
    grid, points = data
    headings = style.headings(grid)
    model = grid.drop_duplicates("experiment").set_index("experiment")["model"]
    with matplotlib.rc_context({"axes.grid": False}):
        # Panels as high as the plane is, since both axes have one scale.
        extent = grid[["x", "y"]].agg(lambda axis: axis.max() - axis.min())
        height = 2.9 * float(np.clip(extent["y"] / extent["x"], 0.4, 1.6)) if len(grid) else 2.9
        figure, axes = style.grid(1, len(headings), panel=(3.6, height), sharex=False, sharey=False)
        missing = 0
        for panel, (experiment, heading) in zip(axes[0], headings.items(), strict=False):
            own = grid[grid["experiment"] == experiment]
            values = own.pivot(index="y", columns="x", values="error").sort_index()
            missing += int(values.isna().sum().sum())
            networks = points[points["experiment"] == experiment]
            filled = _contours(panel, values, networks)
            _mark(panel, networks, shown)
            bar = figure.colorbar(filled, ax=panel, pad=0.02, format="%.1f")
            bar.set_label(f"{output.split.capitalize()} error (%)")
            bar.outline.set_linewidth(0.5)
            at = shown.at(output.sparsity, model[experiment])
            panel.set_title(f"{heading}, {at}, k = {output.rewind_epoch}")
            panel.set_xlabel("distance in weight space")
        axes[0][0].set_ylabel("distance in weight space")
        if missing:
            note = style.missing_note(len(grid), missing, what="points")
            figure.supxlabel(note, fontsize=7, color=style.GREY)
    frame = pd.concat([grid.assign(name=""), points], ignore_index=True)
    return figure, frame[["experiment", "name", "x", "y", "split", "error", "loss"]]


def _contours(panel: Axes, values: pd.DataFrame, points: pd.DataFrame) -> QuadContourSet:
    x, y = values.columns.to_numpy(float), values.index.to_numpy(float)
    z = np.ma.masked_invalid(values.to_numpy(float))
    low, high = float(z.min()), float(z.max())
    # Levels crowd near the minimum, where the basin is; the error outside it is near constant.
    share = np.linspace(0, 1, _LEVELS) ** 2
    levels = low + (max(high, low + 1e-6) - low) * share
    filled = panel.contourf(x, y, z, levels=levels, cmap="cividis", extend="neither")
    lines = panel.contour(x, y, z, levels=levels[1:-1], colors="white", linewidths=0.45, alpha=0.8)
    decimals = 1 if high - low > 2 else 2
    texts = panel.clabel(
        lines, list(lines.levels)[::3], fmt=f"%.{decimals}f", fontsize=5.5, inline_spacing=2
    )
    for text in texts:  # a level's label gives way to the name of a network
        where_x, where_y = text.get_position()
        for point in points.itertuples():
            along = (where_x - point.x) * (-1 if _left_of(panel, point.x) else 1) / np.ptp(x)
            if -0.08 < along < 0.3 and abs(where_y - point.y) < 0.1 * np.ptp(y):
                text.remove()
                break
    panel.set_aspect("equal", adjustable="box")
    return filled


def _left_of(panel: Axes, x: float) -> bool:
    """Whether the name of a network at x stands on its left: towards the middle."""
    low, high = panel.get_xlim()
    return x > (low + high) / 2


def _mark(panel: Axes, points: pd.DataFrame, shown: Shown) -> None:
    for point in points.to_dict("records"):
        name = str(point["name"])
        look = style.method_style(name)
        panel.plot(
            point["x"],
            point["y"],
            linestyle="none",
            marker=_MARKS.get(name, "o"),
            markersize=9 if name == "dense" else 7,
            color=look["color"],
            markeredgecolor="white",
            markeredgewidth=1.0,
            clip_on=False,
            zorder=5,
        )
        left = _left_of(panel, point["x"])
        text = panel.annotate(
            names.whole_method(name, shown.labels),
            (point["x"], point["y"]),
            xytext=(-7 if left else 7, 5),
            textcoords="offset points",
            ha="right" if left else "left",
            color="white",
            fontsize=8,
            fontweight="bold",
            zorder=6,
        )
        text.set_path_effects([patheffects.withStroke(linewidth=2.0, foreground="#222222")])
