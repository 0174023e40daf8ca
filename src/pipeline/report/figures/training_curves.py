"""Loss and accuracy per epoch, from the histories of dense and sparse runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline.report.figures import style
from pipeline.report.tables import names

_KEYS = ["experiment", "dataset", "model", "width", "method", "matching_epoch", "epoch"]
_VALUES = ["train_loss", "train_accuracy", "test_accuracy"]


def build(
    name: str, spec: Mapping[str, Any], histories: pd.DataFrame
) -> tuple[Figure, pd.DataFrame]:
    """A column per experiment; above: training loss, below: training and test accuracy.

    ``histories`` as in `pipeline.results`: epochs count from the initialisation, so a sparse run
    begins at its rewind epoch. Settings: title, sparsity and rewind_epoch (to be named below),
    labels and colors (by method). Lines are means over seeds with a band of ± one sample standard
    deviation; test accuracy has a marker at every epoch at which it was measured. Where a mask was
    permuted by matchings of several epochs, those at the latest epoch are shown. Returns the figure
    and the points that it shows.
    """
    found = histories[_latest(histories)]
    points = _points(found)
    headings = style.headings(histories)
    methods = sorted(points["method"].unique(), key=names.method_key)
    with matplotlib.rc_context(style.RC):
        figure, axes = style.grid(2, max(1, len(headings)), panel=(2.7, 1.7), sharex="col")
        for column, (experiment, heading) in enumerate(headings.items()):
            own = points[points["experiment"] == experiment]
            loss, accuracy = axes[0][column], axes[1][column]
            for method in methods:
                look = style.method_style(method, spec.get("colors"))
                lines = own[own["method"] == method].sort_values("epoch")
                _line(loss, lines, "train_loss", look | {"marker": ""})
                _line(accuracy, lines, "train_accuracy", look | {"marker": "", "linestyle": ":"})
                _line(accuracy, lines.dropna(subset=["test_accuracy"]), "test_accuracy", look)
            loss.set_title(heading)
            loss.set_ylim(bottom=0)
            accuracy.set_xlabel(f"Epoch{_which(spec)}")
            accuracy.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
            for panel in (loss, accuracy):
                style.few_y_ticks(panel)
        axes[0][0].set_ylabel("Training loss (nats)")
        axes[1][0].set_ylabel("Accuracy (%)")
        if spec.get("title"):
            figure.suptitle(spec["title"], fontsize=9.5)
        handles = [
            style.handle(
                style.method_style(method, spec.get("colors")),
                style.method_label(method, spec.get("labels")),
            )
            for method in methods
        ]
        handles.append(style.handle({"color": "#555555", "linestyle": ":"}, "training images"))
        style.legend(figure, handles, style.absent_note(found, ["experiment", "path"], "runs"))
    return figure, points


def _which(spec: Mapping[str, Any]) -> str:
    """Which sparse runs are shown, behind the name of the axis."""
    if "sparsity" not in spec:
        return ""
    return f" (sparse: S = {names.percent(spec['sparsity'])}, k = {spec['rewind_epoch']})"


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
        .agg(
            n=("train_loss", "count"),
            **{
                f"{value}{end}": (value, how)
                for value in _VALUES
                for end, how in (("", "mean"), ("_std", "std"))
            },
        )
        .reset_index()
    )


def _line(panel: Axes, lines: pd.DataFrame, value: str, look: Mapping[str, Any]) -> None:
    spread = lines[f"{value}_std"]
    if look["linestyle"] == ":":  # a second band would hide the first
        spread = spread * float("nan")
    style.band_line(
        panel, lines["epoch"].tolist(), lines[value].tolist(), spread.tolist(), dict(look)
    )
