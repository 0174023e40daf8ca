"""Share of pruned weights per layer of the masks."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from pipeline import models
from pipeline.report.figures import style
from pipeline.report.shown import Shown
from pipeline.report.tables.cells import spread
from pipeline.results import PLACE, Results, place
from pipeline.study.config import Config
from pipeline.study.experiment import Experiment
from pipeline.study.outputs.mask_sparsity import MaskSparsity

_KEYS = [*PLACE, "sparsity", "position", "layer"]


def read(output: MaskSparsity, results: Results) -> pd.DataFrame:
    """A row per layer of each mask, in the network's order.

    ``whole`` is the sparsity over all layers. A mask that is not there is one row without a layer.
    """
    rows: list[dict[str, Any]] = []
    for experiment in results.chosen(output):
        order = layers_of(results.config, experiment)
        for sparsity, mask in experiment.masks(output.sparsities):
            found = results.metrics(mask) or {}
            row = place(experiment) | {
                "dataset": experiment.mask_dataset, "sparsity": sparsity, "a": mask.dense.seed,
                "status": found.get("status", "missing"), "whole": found.get("sparsity"),
            }  # fmt: skip
            layers = found.get("per_layer", {})
            rows += [
                row | {"position": position, "layer": name, "pruned": layers[name]}
                for position, name in enumerate(name for name in order if name in layers)
            ] or [row]
    columns = [*PLACE, "sparsity", "a", "status", "position", "layer", "pruned", "whole"]
    return pd.DataFrame(rows, columns=columns)


def layers_of(config: Config, experiment: Experiment) -> list[str]:
    """Names of the weights that can be pruned, in the network's order."""
    model = models.build(
        config.models[experiment.model], width=experiment.width, generator=None,
        **config.datasets[experiment.mask_dataset].shape,
    )  # fmt: skip
    return models.prunable_parameters(model, "all")


def build(
    output: MaskSparsity, shown: Shown, mask_layers: pd.DataFrame
) -> tuple[Figure, pd.DataFrame]:
    """A row per experiment; x: the layers in the network's order; a line per sparsity S.

    Lines are means over seeds with a band of ± one sample standard deviation; dotted: the sparsity
    of the whole network.
    """
    del output
    known = mask_layers.dropna(subset=["layer"])
    shares = known.assign(value=100 * pd.to_numeric(known["pruned"]), all=100 * known["whole"])
    points = spread(shares, _KEYS, whole=("all", "mean"))
    headings = style.headings(mask_layers)
    looks = style.in_turn(sorted(mask_layers["sparsity"].unique()))
    figure, axes = style.grid(len(headings), 1, panel=(5.4, 2.1), sharex="none")
    for row, (experiment, heading) in enumerate(headings.items()):
        panel = axes[row][0]
        own = points[points["experiment"] == experiment]
        for sparsity, lines in own.groupby("sparsity"):
            look = looks[sparsity]
            panel.axhline(lines["whole"].iloc[0], color=look["color"], linestyle=":", linewidth=0.9)
            style.band_line(panel, lines["position"], lines["mean"], lines["std"], look)
        layers = own.drop_duplicates("position").sort_values("position")["layer"]
        style.name_ticks(panel, [str(layer).removesuffix(".weight") for layer in layers])
        panel.set_title(heading)
        panel.set_ylim(0, 103)
        panel.set_ylabel("Pruned weights (%)")
    style.legend(
        figure,
        [style.handle(look, shown.at(value)) for value, look in looks.items()],
        style.absent_note(mask_layers, ["experiment", "sparsity", "a"], "masks"),
    )
    return figure, points
