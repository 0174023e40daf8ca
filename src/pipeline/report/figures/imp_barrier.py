"""Barrier between dense and IMP solution against IMP iteration: Figure 4a, thesis Figure 4.5."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.report.figures import style
from pipeline.report.shown import Shown
from pipeline.report.tables import names
from pipeline.report.tables.cells import spread
from pipeline.results import Results
from pipeline.study.outputs.imp_barrier import ImpBarriers

_STYLES = {"rewind": "IMP with rewinding", "finetune": "IMP-FT (fine-tuning)"}
_LOOKS = {
    "none": style.look("#D55E00", "s"),
    "reset": style.look("#E69F00", "D"),
    "repair": style.look("#0072B2", "o"),
    "repair-blocks": style.look("#009E73", "^"),
}
_KEYS = ["style", "iteration", "sparsity", "correction", "split"]


def read(output: ImpBarriers, results: Results) -> pd.DataFrame:
    """Barriers along the IMP chains of the output's experiments."""
    rows: list[dict[str, Any]] = []
    for experiment in results.chosen(output):
        imp = results.config.recipes.resolve("imp", experiment.imp)
        for run in output.runs(experiment):
            chain = {"experiment": experiment.name, "style": imp.style, "a": run.dense.seed}
            if results.metrics(run):
                rows += [chain | line for line in results.lines(run, "barrier.csv")]
    columns = ["experiment", "a", *_KEYS, "loss_barrier", "error_barrier"]
    return pd.DataFrame(rows, columns=columns)


def build(
    output: ImpBarriers, shown: Shown, imp_barriers: pd.DataFrame
) -> tuple[Figure, pd.DataFrame]:
    """A panel per IMP style; x: IMP iteration (top: sparsity); a line without and with correction.

    Errors in percentage points, losses in nats. Lines are means over seeds with a band of ± one
    sample standard deviation.
    """
    metric, split = output.metric, output.split or "train"
    corrections = ["none", shown.correction]
    chosen = imp_barriers[imp_barriers["split"] == split]
    chosen = chosen[chosen["correction"].isin(corrections)]
    chosen = chosen.drop_duplicates([*_KEYS, "a"])
    points = spread(chosen.assign(value=chosen[f"{metric}_barrier"].astype(float)), _KEYS)
    points.insert(len(_KEYS), "metric", metric)
    kinds = sorted(points["style"].unique(), key=lambda kind: (kind != "rewind", kind))
    figure, axes = style.grid(1, len(kinds), panel=(3.2, 2.3), sharey=True)
    for panel, kind in zip(axes[0], kinds, strict=False):
        _draw(panel, points[points["style"] == kind], corrections)
        panel.set_title(_STYLES.get(kind, kind), pad=7)
        panel.set_xlabel("IMP iteration")
    unit = "error barrier (percentage points)" if metric == "error" else "loss barrier (nats)"
    axes[0][0].set_ylabel(f"{split.capitalize()} {unit}")
    missing = int(points["mean"].isna().sum())
    handles = [style.handle(_LOOKS[key], names.CORRECTIONS[key]) for key in corrections]
    style.legend(figure, handles, style.missing_note(len(points), missing))
    return figure, points


def _draw(panel: Axes, points: pd.DataFrame, corrections: Sequence[str]) -> None:
    for correction in corrections:
        own = points[points["correction"] == correction].sort_values("iteration")
        style.band_line(panel, own["iteration"], own["mean"], own["std"], _LOOKS[correction])
    panel.axhline(0, color="#888888", linewidth=0.7, zorder=1)
    at = sorted(points["iteration"].unique())
    shown = style.ticks(at, least=0.08)
    panel.set_xticks(shown, [f"{value:g}" for value in shown])
    sparsity = points.groupby("iteration")["sparsity"].mean().to_dict()
    top = panel.secondary_xaxis("top")
    few = style.ticks(at, least=0.16)
    top.set_xticks(few, [names.percent(round(sparsity[value], 3)) for value in few])
    top.set_xlabel("Sparsity")
    top.spines["top"].set_visible(True)
    style.few_y_ticks(panel)
