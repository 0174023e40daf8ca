"""Differences between methods against the length of training."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from pipeline.report import published
from pipeline.report.figures import style
from pipeline.report.shown import Shown
from pipeline.report.statistics import interval
from pipeline.report.tables import names
from pipeline.report.tables.cells import select
from pipeline.report.tables.paired_difference import by_cluster, differences
from pipeline.results import NETWORK, Results
from pipeline.study.outputs.gap_vs_epochs import GapVsEpochs

#: Pair of methods -> the look of their difference: that of the one which the question is about.
_GAPS = {("permuted", "naive"): "naive", ("lth", "permuted"): "lth"}


def read(output: GapVsEpochs, results: Results) -> pd.DataFrame:
    """The runs of the output's experiments, with the epochs T of their dense runs."""
    frames = []
    for experiment in results.chosen(output):
        shown = select(results.runs([experiment]), output, experiment.horizon)
        frames.append(shown.assign(horizon=experiment.horizon))
    return pd.concat(frames, ignore_index=True)


def build(output: GapVsEpochs, shown: Shown, runs: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """x: T; y: the mean difference over pairs of seeds, in points, with its interval."""
    runs = runs[runs["matching_epoch"].isna()]
    points = pd.DataFrame(
        [
            _point(output, int(horizon), own, first, second)
            for horizon, own in runs.groupby("horizon")
            for first, second in _GAPS
        ]
    )
    theirs = _published(output, runs)
    figure, axes = style.grid(1, 1, panel=(3.4, 2.2))
    panel, handles = axes[0][0], []
    for (first, second), like in _GAPS.items():
        look = style.method_style(like, shown.colors)
        own = points[points["first"].eq(first) & points["second"].eq(second)]
        known = own.dropna(subset=["low"])
        panel.plot(own["T"], own["difference"], markersize=4.5, **look)
        reach = [known["difference"] - known["low"], known["high"] - known["difference"]]
        panel.errorbar(known["T"], known["difference"], reach, fmt="none", ecolor=look["color"],
                       elinewidth=0.9, capsize=2)  # fmt: skip
        their = theirs[theirs["first"].eq(first) & theirs["second"].eq(second)]
        mark = look | {"linestyle": "", "fillstyle": "none", "markersize": 6}
        panel.plot(their["T"], their["difference"], **mark)
        words = [names.whole_method(name, shown.labels) for name in (first, second)]
        handles.append(style.handle(look, " − ".join(words)))
    if len(theirs):
        hollow = style.look(style.GREY, "o", "") | {"fillstyle": "none"}
        k = output.published_rewind_epoch
        handles.append(style.handle(hollow, f"published, T = {published.EPOCHS}, k = {k:g}"))
    panel.axhline(0, color="#888888", linewidth=0.7, zorder=1)
    panel.set_xscale("log")
    panel.xaxis.set_minor_locator(NullLocator())
    at = sorted({*points["T"], *theirs["T"]})
    panel.set_xticks(at, [f"{value:g}" for value in at])
    panel.set_xlabel("Epochs T of a dense run")
    panel.set_ylabel("Difference (points)")
    dataset, model, width, sparsity = runs[[*NETWORK, "sparsity"]].iloc[0]
    panel.set_title(f"{names.place(dataset, model, width)}, {shown.at(sparsity, model)}")
    missing = int(points["n_missing"].sum())
    style.legend(figure, handles, style.missing_note(len(runs), missing, what="differences"))
    return figure, pd.concat([points.assign(source="ours"), theirs.assign(source="published")])


def _point(
    output: GapVsEpochs, horizon: int, runs: pd.DataFrame, first: str, second: str
) -> dict[str, Any]:
    found = differences(runs, first, second, output.metric)
    of_clusters = by_cluster(found)
    mean, low, high, p = interval(of_clusters)
    k = runs["rewind_epoch"].iloc[0]
    return {
        "T": horizon, "rewind_epoch": k, "first": first, "second": second, "difference": mean,
        "low": low, "high": high, "p": p, "n": len(of_clusters),
        "n_missing": int(found.isna().sum()),
    }  # fmt: skip


def _published(output: GapVsEpochs, runs: pd.DataFrame) -> pd.DataFrame:
    """Differences of the published means of the same network and sparsity; none where none is."""
    columns = ["T", "rewind_epoch", "first", "second", "difference"]
    cells = published.cells()
    here = runs[[*NETWORK, "sparsity"]].iloc[0]
    cells = cells[
        (cells[[*NETWORK, "sparsity"]] == here).all(axis=1)
        & cells["rewind_epoch"].eq(output.published_rewind_epoch)
        & cells["metric"].eq(output.metric) & cells["matching_epoch"].isna()
    ]  # fmt: skip
    mean = cells.drop_duplicates("method").set_index("method")["mean"]
    rows = [
        (published.EPOCHS, output.published_rewind_epoch, *gap, mean[gap[0]] - mean[gap[1]])
        for gap in _GAPS if {*gap} <= {*mean.index}
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)
