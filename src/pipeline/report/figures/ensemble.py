"""Ensembles against the number of their networks, and against what these cost."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline.report.figures import style
from pipeline.report.shown import Shown
from pipeline.report.tables.cells import places
from pipeline.report.tables.ensemble import MEASURES, read
from pipeline.results import PLACE
from pipeline.study.outputs.ensemble import EnsembleSize

__all__ = ["build", "read"]


def build(
    output: EnsembleSize, shown: Shown, ensembles: pd.DataFrame
) -> tuple[Figure, pd.DataFrame]:
    """A row per network: each measure against the number of networks, accuracy against hours."""
    points = ensembles.drop(columns=["values", "paths"])
    blocks = [*points.groupby(PLACE, sort=False, dropna=False)]
    figure, axes = style.grid(len(blocks), len(MEASURES) + 1, sharex=False, sharey=False)
    for row, (_, block) in zip(axes, blocks, strict=False):
        for method, own in block.groupby("method", sort=False):
            look = style.method_style(str(method), shown.colors)
            for panel, measure in zip(row, MEASURES, strict=False):
                spread = own[f"{measure}_std"].astype(float)
                style.band_line(panel, own["networks"], own[measure], spread, look)
            row[-1].plot(own["hours"], own["accuracy"], **look)
        row[-1].sharey(row[0])
        shown_along = [
            *((measure, "Networks") for measure in MEASURES),
            ("accuracy", "Device hours"),
        ]
        for panel, (measure, along) in zip(row, shown_along, strict=True):
            panel.set_ylabel(MEASURES[measure][0])
            style.few_y_ticks(panel)
            panel.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=along == "Networks"))
            if row is axes[-1]:
                panel.set_xlabel(along)
        first = block.iloc[0]
        at = f"{shown.at(first['sparsity'], first['model'])}, k = {first['rewind_epoch']:g}"
        row[0].set_title(f"{places(block.head(1))[0]}\n{at}")
    alone = points.drop_duplicates([*PLACE, "method"], keep="last")
    missing = int(alone["n_missing"].sum())
    note = style.missing_note(int(alone["networks"].sum()), missing, what="networks")
    style.legend(figure, style.method_handles(points["method"].unique(), shown), note)
    return figure, points
