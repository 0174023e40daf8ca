"""Accuracy against rewind point and against sparsity: paper Figures 5-11 (not 3, 4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.report.figures import style
from pipeline.report.tables import names
from pipeline.report.tables.cells import aggregate, declared, select, sort

_NETWORK = ["dataset", "model", "width"]
_Y = {"top1": "Test accuracy (%)", "top5": "Top-5 test accuracy (%)"}


def against_rewind(
    name: str, spec: Mapping[str, Any], runs: pd.DataFrame
) -> tuple[Figure, pd.DataFrame]:
    """Panels: a row per network, a column per sparsity; x: rewind epoch k (Figures 5-8, 11).

    Settings: title, metric (``top1`` or ``top5``), labels and colors (by method), and the filters
    of `pipeline.report.tables.cells.FILTERS`. The dashed line is the mean of our own dense runs, with
    their spread. Returns the figure and the cells that it shows.
    """
    return _panels(
        name,
        spec,
        runs,
        column="sparsity",
        x="rewind_epoch",
        heading=lambda value: f"S = {names.percent(value)}",
        label="Rewind epoch k",
    )


def against_sparsity(
    name: str, spec: Mapping[str, Any], runs: pd.DataFrame
) -> tuple[Figure, pd.DataFrame]:
    """Panels: a row per network, a column per rewind epoch; x: sparsity (Figures 9 and 10).

    Settings as for `against_rewind`; Figures 9 and 10 want ``rewind_epochs: [10, 25, 50, 100]``.
    """
    return _panels(
        name,
        spec,
        runs,
        column="rewind_epoch",
        x="sparsity",
        heading=lambda value: f"k = {value:g}",
        label="Sparsity (%)",
    )


def _panels(
    name: str,
    spec: Mapping[str, Any],
    runs: pd.DataFrame,
    *,
    column: str,
    x: str,
    heading: Callable[[float], str],
    label: str,
) -> tuple[Figure, pd.DataFrame]:
    metric = spec.get("metric", "top1")
    cells = aggregate(declared(name, runs, spec), metric)
    cells = cells[cells["matching_epoch"].isna()]
    dense = _dense(runs, spec, metric, cells)
    networks = list(dict.fromkeys(cells[_NETWORK].itertuples(index=False, name=None)))
    columns = sorted(cells[column].unique())
    methods = sorted(cells["method"].unique(), key=names.method_key)
    with matplotlib.rc_context(style.RC):
        figure, axes = style.grid(max(1, len(networks)), max(1, len(columns)))
        for i, network in enumerate(networks):
            own = cells[(cells[_NETWORK] == list(network)).all(axis=1)]
            reference = dense[(dense[_NETWORK] == list(network)).all(axis=1)]
            for j, value in enumerate(columns):
                panel = axes[i][j]
                _draw(panel, own[own[column] == value], reference, x, methods, spec)
                if i == 0:
                    panel.set_title(heading(value))
                if i == len(networks) - 1:
                    panel.set_xlabel(label)
            dataset, model, width = network
            place = f"{names.network(model, width)} / {names.dataset(dataset)}"
            axes[i][0].set_ylabel(f"{place}\n{_Y[metric]}")
        _x_ticks(axes, sorted(cells[x].unique()), x)
        handles = [
            style.handle(
                style.method_style(method, spec.get("colors")),
                style.method_label(method, spec.get("labels")),
            )
            for method in methods
        ]
        if dense["mean"].notna().any():
            handles.append(style.handle(style.method_style("dense"), "dense"))
        note = style.missing_note(
            len(cells), int(cells["mean"].isna().sum()), int((cells["n_diverged"] > 0).sum())
        )
        if spec.get("title"):
            figure.suptitle(spec["title"], fontsize=9.5)
        style.legend(figure, handles, note)
    return figure, sort(pd.concat([cells, dense], ignore_index=True))


def _dense(
    runs: pd.DataFrame, spec: Mapping[str, Any], metric: str, cells: pd.DataFrame
) -> pd.DataFrame:
    """Dense cells of the networks shown: of the output's experiments, else any dense run."""
    found = select(runs, spec, ("dense",))
    if not (found["status"] == "ok").any():
        rest = {key: value for key, value in spec.items() if key != "experiments"}
        found = select(runs, rest, ("dense",))
    found = found.assign(
        method="dense",
        sparsity=float("nan"),
        rewind_epoch=float("nan"),
        matching_epoch=float("nan"),
    )
    dense = aggregate(found.drop_duplicates([*_NETWORK, "a", "path"]), metric)
    shown = set(cells[_NETWORK].itertuples(index=False, name=None))
    keep = [key in shown for key in dense[_NETWORK].itertuples(index=False, name=None)]
    return dense[np.array(keep, dtype=bool)]


def _draw(
    panel: Axes,
    cells: pd.DataFrame,
    dense: pd.DataFrame,
    x: str,
    methods: list[str],
    spec: Mapping[str, Any],
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
            style.method_style(method, spec.get("colors")),
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
