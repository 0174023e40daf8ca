"""Loss and accuracy per epoch, from the histories of dense and sparse runs."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline.report.figures import style
from pipeline.report.shown import Shown
from pipeline.report.tables import names
from pipeline.report.tables.cells import means
from pipeline.results import PLACE, Results, place
from pipeline.runs import Run
from pipeline.study.outputs.training_curves import TrainingCurves

_KEYS = [*PLACE, "method", "matching_epoch", "epoch"]
_VALUES = ["train_loss", "train_accuracy", "test_accuracy"]


def read(output: TrainingCurves, results: Results) -> pd.DataFrame:
    """A row per epoch of the dense and sparse runs; epochs count from b's start.

    A run without a history is one row without an epoch.
    """
    rows: list[dict[str, Any]] = []
    for experiment in results.chosen(output):
        begun: dict[Run, tuple[int, dict[str, Any]]] = {
            run: (0, {"method": "dense"}) for run in experiment.dense_runs()
        }
        for cell in experiment.cells((output.sparsity,), (output.rewind_epoch,)):
            label = {"method": cell.method, "matching_epoch": cell.matching_epoch}
            begun[cell.run] = cell.run.rewind, label
        for run, (start, label) in begun.items():
            found = results.metrics(run)
            row = place(experiment) | label | {"path": run.path()}
            row["status"] = "missing" if found is None else found["status"]
            lines = [] if found is None else results.lines(run, "history.csv")
            rows += [line | row | {"epoch": start + line["epoch"]} for line in lines] or [row]
    columns = [*PLACE, "method", "matching_epoch", "status", "epoch", *_VALUES, "path"]
    return pd.DataFrame(rows, columns=columns)


def build(
    output: TrainingCurves, shown: Shown, histories: pd.DataFrame
) -> tuple[Figure, pd.DataFrame]:
    """A column per experiment; above: training loss, below: training and test accuracy.

    Lines are means over seeds with a band of ± one sample standard deviation; test accuracy has a
    marker at every epoch at which it was measured. Where a mask was permuted by matchings of several
    epochs, those at the latest epoch are shown.
    """
    sparse = f"sparse: {shown.at(output.sparsity)}, k = {output.rewind_epoch}"
    found = histories[_latest(histories)]
    points = _points(found)
    headings = style.headings(histories)
    methods = sorted(points["method"].unique(), key=names.method_key)
    figure, axes = style.grid(2, len(headings), panel=(2.7, 1.7), sharex="col")
    for column, (experiment, heading) in enumerate(headings.items()):
        own = points[points["experiment"] == experiment]
        loss, accuracy = axes[0][column], axes[1][column]
        for method in methods:
            look = style.method_style(method, shown.colors)
            lines = own[own["method"] == method].sort_values("epoch")
            _line(loss, lines, "train_loss", look | {"marker": ""})
            _line(accuracy, lines, "train_accuracy", look | {"marker": "", "linestyle": ":"})
            _line(accuracy, lines.dropna(subset=["test_accuracy"]), "test_accuracy", look)
        loss.set_title(heading)
        loss.set_ylim(bottom=0)
        accuracy.set_xlabel(f"Epoch ({sparse})")
        accuracy.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        for panel in (loss, accuracy):
            style.few_y_ticks(panel)
    axes[0][0].set_ylabel("Training loss (nats)")
    axes[1][0].set_ylabel("Accuracy (%)")
    handles = style.method_handles(methods, shown)
    handles.append(style.handle(style.look(style.GREY, "", ":"), "training images"))
    style.legend(figure, handles, style.absent_note(found, ["experiment", "path"], "runs"))
    return figure, points


def _latest(histories: pd.DataFrame) -> pd.Series:
    """Which rows belong to no matching epoch, or to the last one of their experiment."""
    epoch = pd.to_numeric(histories["matching_epoch"])
    return epoch.isna() | (epoch == epoch.groupby(histories["experiment"]).transform("max"))


def _points(found: pd.DataFrame) -> pd.DataFrame:
    """Mean and spread over runs of every method and epoch."""
    known = found.dropna(subset=["epoch"])
    numbers = known.assign(**{key: pd.to_numeric(known[key]) for key in ("epoch", *_VALUES)})
    return (
        numbers.groupby(_KEYS, sort=True, dropna=False)
        .agg(n=("train_loss", "count"), **means(_VALUES))
        .reset_index()
    )


def _line(panel: Axes, lines: pd.DataFrame, value: str, look: style.Look) -> None:
    spread = lines[f"{value}_std"]
    if look["linestyle"] == ":":  # a second band would hide the first
        spread = spread * float("nan")
    style.band_line(panel, lines["epoch"], lines[value], spread, look)
