"""Loss on the path between π(a) and b, against width: paper Figure 3."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pipeline.report.figures import style
from pipeline.report.tables import names
from pipeline.report.tables.cells import FILTERS, as_list

_KEYS = ["dataset", "model", "width", "correction", "matched", "alpha"]
_CORRECTIONS = {
    "none": "no correction",
    "reset": "BatchNorm reset",
    "repair": "REPAIR",
}


def build(name: str, spec: Mapping[str, Any], curves: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Panels: a column per data set, a row per correction; a line per width, over α in [0, 1].

    ``curves`` as in `pipeline.results`. Settings: title, corrections (default none and repair),
    split (default test), metric (``loss`` or ``error``, in %), matched (default true; a list of
    both adds the paths without π, dashed), and the filters experiments, datasets, models, widths.
    Lines are means over pairs with a band of ± one sample standard deviation; dotted: the loss at
    initialisation (with metric loss). Returns the figure and the points that it shows.
    """
    metric, split = spec.get("metric", "loss"), spec.get("split", "test")
    corrections = as_list(spec.get("corrections", ["none", "repair"]))
    matched = [bool(value) for value in as_list(spec.get("matched", True))]
    points = _points(curves, spec, metric, split, corrections, matched)
    places = list(dict.fromkeys(points[["dataset", "model"]].itertuples(index=False, name=None)))
    widths = sorted(points["width"].unique())
    with matplotlib.rc_context(style.RC):
        figure, axes = style.grid(
            len(corrections), max(1, len(places)), panel=(2.7, 2.0), sharey="col"
        )
        for i, correction in enumerate(corrections):
            for j, (dataset, model) in enumerate(places):
                panel = axes[i][j]
                here = points[(points["dataset"] == dataset) & (points["model"] == model)]
                here = here[here["correction"] == correction]
                _draw(panel, here, widths, metric)
                place = f"{names.model(model)} / {names.dataset(dataset)}"
                panel.set_title(f"{place}, {_CORRECTIONS.get(correction, correction)}")
                if i == len(corrections) - 1:
                    panel.set_xlabel(
                        "α (0: π(a), 1: b)" if all(matched) else "α (0: π(a) or a, 1: b)"
                    )
            unit = "loss (nats)" if metric == "loss" else "error (%)"
            axes[i][0].set_ylabel(f"{split.capitalize()} {unit}")
        if spec.get("title"):
            figure.suptitle(spec["title"], fontsize=9.5)
        absent = _absent(points, places, widths, corrections, matched)
        total = len(places) * len(widths) * len(corrections) * len(matched)
        note = f"{absent} of {total} curves missing" if absent else ""
        style.legend(figure, _handles(points, widths, metric, matched), note)
    return figure, points


def _points(
    curves: pd.DataFrame,
    spec: Mapping[str, Any],
    metric: str,
    split: str,
    corrections: list[str],
    matched: list[bool],
) -> pd.DataFrame:
    """Mean and spread over pairs of every point of the chosen curves."""
    chosen = curves[(curves["split"] == split) & curves["correction"].isin(corrections)]
    chosen = chosen[chosen["matched"].astype(bool).isin(matched)]
    for key in ("experiments", "datasets", "models", "widths"):
        if key in spec:
            chosen = chosen[chosen[FILTERS[key]].isin(as_list(spec[key]))]
    chosen = chosen.drop_duplicates([*_KEYS, "a", "b"])
    points = (
        chosen.assign(value=chosen[metric].astype(float))
        .groupby(_KEYS, sort=True)
        .agg(
            mean=("value", "mean"),
            std=("value", "std"),
            n=("value", "count"),
            loss_at_init=("loss_at_init", "mean"),
        )
        .reset_index()
    )
    points.insert(len(_KEYS), "split", split)
    points.insert(len(_KEYS) + 1, "metric", metric)
    return points


def _draw(panel: Axes, points: pd.DataFrame, widths: list[float], metric: str) -> None:
    for position, width in enumerate(widths):
        for matched in (True, False):
            own = points[(points["width"] == width) & (points["matched"].astype(bool) == matched)]
            own = own.sort_values("alpha")
            look = style.width_style(position)
            # Markers on every fifth of many points keep the lines readable.
            look["markevery"] = max(1, (len(own) - 1) // 6)
            if not matched:
                look["linestyle"], look["marker"] = "--", ""
            style.band_line(
                panel, own["alpha"].tolist(), own["mean"].tolist(), own["std"].tolist(), look
            )
            start = own["loss_at_init"].dropna()
            if metric == "loss" and matched and len(start):
                panel.axhline(start.iloc[0], color=look["color"], linestyle=":", linewidth=1.0)
    panel.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "0.25", "0.5", "0.75", "1"])
    panel.set_xlim(-0.03, 1.03)
    style.few_y_ticks(panel)


def _handles(
    points: pd.DataFrame, widths: list[float], metric: str, matched: list[bool]
) -> list[Line2D]:
    handles = [
        style.handle(style.width_style(position), f"w = {width:g}")
        for position, width in enumerate(widths)
    ]
    grey = "#555555"
    if metric == "loss" and points["loss_at_init"].notna().any():
        look = {"color": grey, "linestyle": ":", "linewidth": 1.0}
        handles.append(style.handle(look, "loss at initialisation"))
    if False in matched:
        handles.append(style.handle({"color": grey, "linestyle": "--"}, "without π"))
    return handles


def _absent(
    points: pd.DataFrame,
    places: list[tuple[Any, ...]],
    widths: list[float],
    corrections: list[str],
    matched: list[bool],
) -> int:
    keys = ["dataset", "model", "width", "correction", "matched"]
    there = set(points.dropna(subset=["mean"])[keys].itertuples(index=False, name=None))
    wanted = {
        (*place, width, correction, flag)
        for place in places
        for width in widths
        for correction in corrections
        for flag in matched
    }
    return len(wanted - there)
