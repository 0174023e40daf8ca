"""The 0-1 loss on the plane through three networks: paper Figure 4b, thesis Figure 4.6."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.contour import QuadContourSet
from matplotlib.figure import Figure

from pipeline.report.figures import style
from pipeline.report.tables.cells import as_list

_MARKS = {"dense": "*", "lth": "o", "permuted": "^", "naive": "s", "imp": "D"}
_LEVELS = 14


def build(
    name: str,
    spec: Mapping[str, Any],
    planes: pd.DataFrame,
    plane_points: pd.DataFrame,
) -> tuple[Figure, pd.DataFrame]:
    """Filled contours with labelled level sets, a panel per experiment, the networks marked.

    ``planes`` has columns experiment, x, y, split, error (%), loss; ``plane_points`` has name, x,
    y, and experiment where several planes are shown; x and y are distances in weight space.
    Settings: title, experiments, split (default test), metric (``error`` or ``loss``), labels (by
    the names of the points). Returns the figure and the grid that it shows, points included (rows
    with a name). A grid point that is missing stays white.
    """
    metric, split = spec.get("metric", "error"), spec.get("split", "test")
    chosen = planes[planes["split"] == split]
    if "experiments" in spec:
        chosen = chosen[chosen["experiment"].isin(as_list(spec["experiments"]))]
    experiments = list(dict.fromkeys(chosen["experiment"]))
    panels = max(1, len(experiments))
    with matplotlib.rc_context({**style.RC, "axes.grid": False}):
        # Panels as high as the plane is, since both axes have one scale.
        extent = chosen[["x", "y"]].agg(lambda axis: axis.max() - axis.min())
        height = 2.9 * float(np.clip(extent["y"] / extent["x"], 0.4, 1.6)) if len(chosen) else 2.9
        figure, axes = style.grid(1, panels, panel=(3.6, height), sharex=False)
        missing = 0
        for panel, experiment in zip(axes[0], experiments, strict=False):
            own = chosen[chosen["experiment"] == experiment]
            values = own.pivot(index="y", columns="x", values=metric).sort_index()
            missing += int(values.isna().sum().sum())
            points = _points_of(plane_points, experiment)
            filled = _contours(panel, values, points)
            _mark(panel, points, spec.get("labels"))
            bar = figure.colorbar(filled, ax=panel, pad=0.02, format="%.1f")
            bar.set_label(f"{split.capitalize()} {'error (%)' if metric == 'error' else 'loss'}")
            bar.outline.set_linewidth(0.5)
            if panels > 1:
                panel.set_title(experiment)
            panel.set_xlabel("distance in weight space")
        axes[0][0].set_ylabel("distance in weight space")
        if spec.get("title"):
            figure.suptitle(spec["title"], fontsize=9.5)
        if missing:
            figure.supxlabel(
                style.missing_note(len(chosen), missing).replace("cells", "points"),
                fontsize=7,
                color="#555555",
            )
    shown = chosen[["experiment", "x", "y", "split", "error", "loss"]].assign(name="")
    marked = pd.concat(
        [_points_of(plane_points, one).assign(experiment=one) for one in experiments]
        or [plane_points],
    )
    return figure, pd.concat([shown, marked], ignore_index=True)[
        ["experiment", "name", "x", "y", "split", "error", "loss"]
    ]


def _points_of(points: pd.DataFrame, experiment: str) -> pd.DataFrame:
    if "experiment" in points:
        points = points[points["experiment"] == experiment]
    return points[["name", "x", "y"]]


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


def _mark(panel: Axes, points: pd.DataFrame, labels: Mapping[str, str] | None) -> None:
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
            style.method_label(name, labels),
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
