"""Share of pruned weights per layer of the masks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from pipeline.report.figures import style
from pipeline.report.tables import names

_KEYS = ["experiment", "dataset", "model", "width", "sparsity", "position", "layer"]


def build(
    name: str, spec: Mapping[str, Any], mask_layers: pd.DataFrame
) -> tuple[Figure, pd.DataFrame]:
    """A row per experiment; x: the layers in the network's order; a line per sparsity S.

    ``mask_layers`` as in `pipeline.results`. Settings: title. Lines are means over seeds with a
    band of ± one sample standard deviation; dotted: the sparsity of the whole network. Returns the
    figure and the points that it shows.
    """
    known = mask_layers.dropna(subset=["layer"])
    points = (
        known.assign(value=100 * pd.to_numeric(known["pruned"]), all=100 * known["whole"])
        .groupby(_KEYS, sort=True)
        .agg(
            mean=("value", "mean"),
            std=("value", "std"),
            n=("value", "count"),
            whole=("all", "mean"),
        )
        .reset_index()
    )
    headings = style.headings(mask_layers)
    sparsities = sorted(mask_layers["sparsity"].unique())
    looks = {value: style.width_style(place) for place, value in enumerate(sparsities)}
    with matplotlib.rc_context(style.RC):
        figure, axes = style.grid(max(1, len(headings)), 1, panel=(5.4, 2.1), sharex="none")
        for row, (experiment, heading) in enumerate(headings.items()):
            panel = axes[row][0]
            own = points[points["experiment"] == experiment]
            for sparsity, lines in own.groupby("sparsity"):
                look = looks[sparsity]
                panel.axhline(
                    lines["whole"].iloc[0], color=look["color"], linestyle=":", linewidth=0.9
                )
                style.band_line(
                    panel,
                    lines["position"].tolist(),
                    lines["mean"].tolist(),
                    lines["std"].tolist(),
                    look,
                )
            layers = own.drop_duplicates("position").sort_values("position")["layer"]
            style.name_ticks(panel, [str(layer).removesuffix(".weight") for layer in layers])
            panel.set_title(heading)
            panel.set_ylim(0, 103)
            panel.set_ylabel("Pruned weights (%)")
        if spec.get("title"):
            figure.suptitle(spec["title"], fontsize=9.5)
        style.legend(
            figure,
            [style.handle(looks[value], f"S = {names.percent(value)}") for value in sparsities],
            style.absent_note(mask_layers, ["experiment", "sparsity", "a"], "masks"),
        )
    return figure, points
