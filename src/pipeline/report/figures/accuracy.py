"""Accuracy against rewind point and against sparsity: paper Figures 5-11 (not 3, 4).

What goes by level is drawn by `pipeline.report.figures.levels`.
"""

from __future__ import annotations

from itertools import chain

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.report.figures import levels, style
from pipeline.report.shown import Shown
from pipeline.report.tables import names
from pipeline.report.tables.cells import aggregate, select, sort
from pipeline.report.tables.cells import read as read_runs
from pipeline.results import NETWORK, Results
from pipeline.study.outputs.accuracy import Accuracy, AccuracyVsSparsity

_Y = {
    "top1": "Test accuracy (%)", "top5": "Top-5 test accuracy (%)",
    "validation": "Validation accuracy (%)",
}  # fmt: skip
#: What runs along x -> how the axis says it.
_AXIS = {"rewind_epoch": "Rewind epoch k", "sparsity": "Sparsity (%)"}


def read(output: Accuracy, results: Results) -> pd.DataFrame:
    """The runs of the output's experiments."""
    return levels.read(output, results) if _by_level(output) else read_runs(output, results)


def _by_level(output: Accuracy) -> bool:
    return isinstance(output, AccuracyVsSparsity) and output.x == "level"


def build(output: Accuracy, shown: Shown, runs: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """A row of panels per network, as Figures 5-8 and 11 (along k) and 9 and 10 (along S).

    The dashed line is the mean of our own dense runs, with their spread. The frame holds the cells.
    """
    if _by_level(output):
        return levels.draw(output, shown, runs, _Y[output.metric])
    cells = aggregate(select(runs, output, shown.end), output.metric)
    cells = cells[cells["matching_epoch"].isna()]
    networks = cells[NETWORK].drop_duplicates()
    # The dense runs stand at no sparsity and no epoch.
    nowhere = dict.fromkeys(("sparsity", "rewind_epoch", "matching_epoch"), float("nan"))
    dense_runs = select(runs, kinds=("dense",)).assign(method="dense", **nowhere)
    dense = aggregate(dense_runs, output.metric).merge(networks)
    along = cells[output.along] * (100.0 if output.along == "sparsity" else 1.0)
    columns = sorted(cells[output.panels].unique())
    methods = sorted(cells["method"].unique(), key=names.method_key)
    figure, axes = style.grid(len(networks), len(columns))
    for row, network in zip(axes, networks.itertuples(index=False, name=None), strict=False):
        own, reference = (f[(f[NETWORK] == list(network)).all(axis=1)] for f in (cells, dense))
        for panel, value in zip(row, columns, strict=True):
            known = reference.dropna(subset=["mean"])
            for mean, std in known[["mean", "std"]].itertuples(index=False, name=None):
                style.reference(panel, mean, std)
            here = own[own[output.panels] == value].assign(x=along).sort_values("x")
            for method in methods:
                line = here[here["method"] == method]
                # Missing cells are rows with a NaN mean: they break the line.
                look = style.method_style(method, shown.colors)
                style.band_line(panel, line["x"], line["mean"], line["std"], look)
            style.few_y_ticks(panel)
            if row is axes[0]:
                at_k = output.panels == "rewind_epoch"
                panel.set_title(f"k = {value:g}" if at_k else shown.at(value))
            if row is axes[-1]:
                panel.set_xlabel(_AXIS[output.along])
        row[0].set_ylabel(f"{names.place(*network)}\n{_Y[output.metric]}")
    _x_ticks(axes, sorted(along.unique()))
    handles = style.method_handles(methods, shown)
    if dense["mean"].notna().any():
        handles.append(style.handle(style.method_style("dense"), "dense"))
    note = style.missing_note(
        len(cells), int(cells["mean"].isna().sum()), int((cells["n_diverged"] > 0).sum())
    )
    style.legend(figure, handles, note)
    shown_cells = pd.concat([cells, dense], ignore_index=True).drop(columns="runs")
    return figure, sort(shown_cells)


def _x_ticks(axes: list[list[Axes]], at: list[float]) -> None:
    if not at:
        return
    margin = 0.06 * (max(at) - min(at)) or 1.0
    for panel in chain.from_iterable(axes):
        panel.set_xticks(style.ticks(at))
        panel.set_xticks(at, minor=True)
        panel.set_xlim(min(at) - margin, max(at) + margin)
