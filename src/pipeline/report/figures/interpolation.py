"""Loss on the path between π(a) and b, against width: paper Figure 3."""

from __future__ import annotations

from itertools import product

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pipeline.report.figures import style
from pipeline.report.shown import Shown
from pipeline.report.tables import names
from pipeline.report.tables.cells import spread
from pipeline.results import NETWORK, Results
from pipeline.study.outputs.interpolation import Interpolation

_LINE = [*NETWORK, "correction", "matched"]


def read(output: Interpolation, results: Results) -> pd.DataFrame:
    """The curves of the output's experiments."""
    return results.curves(results.chosen(output))


def build(output: Interpolation, shown: Shown, curves: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Panels: a column per data set, a row per correction; a line per width, over α in [0, 1].

    Errors in %, losses in nats. Lines are means over pairs with a band of ± one sample standard
    deviation; dashed: without π; dotted: the loss at initialisation (with metric loss).
    """
    del shown
    metric, corrections = output.metric, output.corrections
    points = _points(output, curves)
    places = list(dict.fromkeys(points[["dataset", "model"]].itertuples(index=False, name=None)))
    widths = sorted(points["width"].unique())
    figure, axes = style.grid(len(corrections), len(places), panel=(2.7, 2.0), sharey="all")
    for i, correction in enumerate(corrections):
        for j, (dataset, model) in enumerate(places):
            panel = axes[i][j]
            here = points[(points["dataset"] == dataset) & (points["model"] == model)]
            here = here[here["correction"] == correction]
            _draw(panel, here, widths, metric)
            place = names.place(dataset, model)
            panel.set_title(f"{place}, {names.CORRECTIONS[correction]}")
            if i == len(corrections) - 1:
                panel.set_xlabel(
                    "α (0: π(a) or a, 1: b)" if output.unmatched else "α (0: π(a), 1: b)"
                )
        unit = "loss (nats)" if metric == "loss" else "error (%)"
        axes[i][0].set_ylabel(f"{output.split.capitalize()} {unit}")
    handles = _handles(output, points, widths)
    style.legend(figure, handles, _absent(output, points, places, widths))
    return figure, points


def _points(output: Interpolation, curves: pd.DataFrame) -> pd.DataFrame:
    """Mean and spread over pairs of every point of the chosen curves."""
    keys, metric = [*_LINE, "alpha"], output.metric
    chosen = curves[
        curves["split"].eq(output.split) & curves["correction"].isin(output.corrections)
    ]
    if not output.unmatched:
        chosen = chosen[chosen["matched"].astype(bool)]
    chosen = chosen.drop_duplicates([*keys, "a", "b"])
    chosen = chosen.assign(value=chosen[metric].astype(float))
    points = spread(chosen, keys, loss_at_init=("loss_at_init", "mean"))
    points.insert(len(keys), "split", output.split)
    points.insert(len(keys) + 1, "metric", metric)
    return points


def _draw(panel: Axes, points: pd.DataFrame, widths: list[float], metric: str) -> None:
    for width, look in style.in_turn(widths).items():
        for matched in (True, False):
            own = points[(points["width"] == width) & (points["matched"].astype(bool) == matched)]
            own = own.sort_values("alpha")
            # Markers on every fifth of many points keep the lines readable.
            look = look | {"markevery": max(1, (len(own) - 1) // 6)}
            if not matched:
                look |= {"linestyle": "--", "marker": ""}
            style.band_line(panel, own["alpha"], own["mean"], own["std"], look)
            start = own["loss_at_init"].dropna()
            if metric == "loss" and matched and len(start):
                panel.axhline(start.iloc[0], color=look["color"], linestyle=":", linewidth=1.0)
    panel.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "0.25", "0.5", "0.75", "1"])
    panel.set_xlim(-0.03, 1.03)
    style.few_y_ticks(panel)


def _handles(output: Interpolation, points: pd.DataFrame, widths: list[float]) -> list[Line2D]:
    looks = style.in_turn(widths)
    handles = [style.handle(look, f"w = {width:g}") for width, look in looks.items()]
    if output.metric == "loss" and points["loss_at_init"].notna().any():
        start = style.look(style.GREY, "", ":") | {"linewidth": 1.0}
        handles.append(style.handle(start, "loss at initialisation"))
    if output.unmatched:
        handles.append(style.handle(style.look(style.GREY, "", "--"), "without π"))
    return handles


def _absent(
    output: Interpolation, points: pd.DataFrame, places: list[tuple[str, str]], widths: list[float]
) -> str:
    """How many of the curves of the panels nothing is known of, in words."""
    matched = (True, False) if output.unmatched else (True,)
    there = set(points.dropna(subset=["mean"])[_LINE].itertuples(index=False, name=None))
    wanted = {
        (*place, *line) for place in places for line in product(widths, output.corrections, matched)
    }
    return style.missing_note(len(wanted), len(wanted - there), what="curves")
