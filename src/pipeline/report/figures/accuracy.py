"""Accuracy against rewind point and against sparsity: paper Figures 5-11 (not 3, 4)."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.report.figures import style
from pipeline.report.shown import Shown
from pipeline.report.tables import names
from pipeline.report.tables.cells import aggregate, read, select, sort
from pipeline.results import NETWORK
from pipeline.study.outputs.accuracy import Accuracy

__all__ = ["build", "read"]

_Y = {"top1": "Test accuracy (%)", "top5": "Top-5 test accuracy (%)"}
#: What runs along x or tells panels apart -> how an axis and a panel say it.
_AXIS = {"rewind_epoch": "Rewind epoch k", "sparsity": "Sparsity (%)"}
_PANEL = {
    "rewind_epoch": lambda value: f"k = {value:g}",
    "sparsity": lambda value: f"S = {names.percent(value)}",
}


def build(output: Accuracy, shown: Shown, runs: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """A row of panels per network, as Figures 5-8 and 11 (along k) and 9 and 10 (along S).

    The dashed line is the mean of our own dense runs, with their spread. Returns the figure and the
    cells that it shows.
    """
    cells = aggregate(select(runs, output, shown.end), output.metric)
    cells = cells[cells["matching_epoch"].isna()]
    dense = _dense(runs, output.metric, cells)
    networks = list(dict.fromkeys(cells[NETWORK].itertuples(index=False, name=None)))
    columns = sorted(cells[output.panels].unique())
    methods = sorted(cells["method"].unique(), key=names.method_key)
    figure, axes = style.grid(max(1, len(networks)), max(1, len(columns)))
    for i, network in enumerate(networks):
        own = cells[(cells[NETWORK] == list(network)).all(axis=1)]
        reference = dense[(dense[NETWORK] == list(network)).all(axis=1)]
        for j, value in enumerate(columns):
            panel = axes[i][j]
            here = own[own[output.panels] == value]
            _draw(panel, here, reference, output.along, methods, shown)
            if i == 0:
                panel.set_title(_PANEL[output.panels](value))
            if i == len(networks) - 1:
                panel.set_xlabel(_AXIS[output.along])
        axes[i][0].set_ylabel(f"{names.place(*network)}\n{_Y[output.metric]}")
    _x_ticks(axes, sorted(cells[output.along].unique()), output.along)
    handles = style.method_handles(methods, shown)
    if dense["mean"].notna().any():
        handles.append(style.handle(style.method_style("dense"), "dense"))
    note = style.missing_note(
        len(cells), int(cells["mean"].isna().sum()), int((cells["n_diverged"] > 0).sum())
    )
    style.legend(figure, handles, note)
    return figure, sort(pd.concat([cells, dense], ignore_index=True))


def _dense(runs: pd.DataFrame, metric: str, cells: pd.DataFrame) -> pd.DataFrame:
    """Dense cells of the networks shown."""
    found = select(runs, kinds=("dense",)).assign(
        method="dense",
        sparsity=float("nan"),
        rewind_epoch=float("nan"),
        matching_epoch=float("nan"),
    )
    dense = aggregate(found, metric)
    shown = set(cells[NETWORK].itertuples(index=False, name=None))
    keep = [key in shown for key in dense[NETWORK].itertuples(index=False, name=None)]
    return dense[np.array(keep, dtype=bool)]


def _draw(
    panel: Axes,
    cells: pd.DataFrame,
    dense: pd.DataFrame,
    x: str,
    methods: list[str],
    shown: Shown,
) -> None:
    reference = dense.dropna(subset=["mean"])
    if len(reference):
        mean, std = float(reference["mean"].iloc[0]), float(reference["std"].iloc[0])
        panel.axhline(mean, color=style.COLOURS["dense"], linestyle="--", linewidth=1.0, zorder=1)
        if std == std:
            panel.axhspan(mean - std, mean + std, color="#000000", alpha=0.08, linewidth=0)
    for method in methods:
        own = cells[cells["method"] == method].sort_values(x)
        scale = 100.0 if x == "sparsity" else 1.0
        # Missing cells are rows with a NaN mean: they break the line.
        style.band_line(
            panel,
            (own[x] * scale).tolist(),
            own["mean"].tolist(),
            own["std"].tolist(),
            style.method_style(method, shown.colors),
        )
    style.few_y_ticks(panel)


def _x_ticks(axes: list[list[Axes]], values: list[float], x: str) -> None:
    at = [100.0 * value for value in values] if x == "sparsity" else values
    if not at:
        return
    margin = 0.06 * (max(at) - min(at)) or 1.0
    for row in axes:
        for panel in row:
            panel.set_xticks(style.ticks(at))
            panel.set_xticks(at, minor=True)
            panel.set_xlim(min(at) - margin, max(at) + margin)
