"""Ensembles and functional diversity of five runs per method: paper Table 1."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pipeline.report.shown import Shown
from pipeline.report.tables import names
from pipeline.report.tables.cells import by_seeds, highest, places
from pipeline.report.tables.table import ABSENT, Legend, Table, mean_text
from pipeline.results import NETWORK, PLACE, Results, place
from pipeline.runs import Run
from pipeline.study.outputs.diversity import Diversity

# The paper's order of rows and the methods it leaves out when it marks the best.
_ORDER = ["dense", "imp", "lth", "permuted", "naive"]
_UNMARKED = ["dense", "imp"]
#: Metric -> heading of its column and decimals: those that the paper prints.
COLUMNS = {
    "test_accuracy": ("Test Accuracy (%)", 2),
    "ensemble_accuracy": ("Ensemble Acc. (%)", 2),
    "disagreement": ("Disagreement", 3),
    "kl": ("KL", 3),
    "js": ("JS", 3),
}
#: What a table of our own has beside them.
_MORE = {
    "disagreement_per_error": ("Disagreement / Error", 2),
    "ensemble_gain": ("Ensemble Gain", 2),
}
_ALL = COLUMNS | _MORE
_LEGEND = Legend(
    "Accuracy and its gain in %, disagreement as a share of test images, divergences by pair of runs",
    spread="sample standard deviation of single networks", of="runs",
    bold="the highest of its column among the methods other than dense and IMP; equal as printed, all",
)  # fmt: skip
_STDS = {
    "test_accuracy": "sample standard deviation", "ensemble_gain": "bootstrap standard error",
}  # fmt: skip
_UNITS = {
    "test_accuracy": "%", "ensemble_accuracy": "%", "disagreement": "share of test images",
    "kl": "nats", "disagreement_per_error": "ratio", "ensemble_gain": "percentage points",
}  # fmt: skip
#: Metrics with a spread, and the column that holds it.
_SPREADS = {"test_accuracy": "test_accuracy_std", "ensemble_gain": "ensemble_gain_error"}


def read(output: Diversity, results: Results) -> pd.DataFrame:
    """Accuracy, ensembles and functional diversity per method of each block.

    runs: how many are there, of those that are ``declared``.
    """
    import torch  # slow to start: of all tables, this one alone needs it

    from pipeline.diversity import Variants, diversity

    variants = Variants(output.ensemble, output.kl, output.js, output.js_unit)
    rows = []
    for experiment in results.chosen(output):
        sparsity, k = output.at(experiment)
        labels = None
        for method, members in output.members(experiment).items():
            logits = [found for run in members if (found := results.logits(run)) is not None]
            row: dict[str, Any] = place(experiment) | {
                "method": method, "sparsity": sparsity, "rewind_epoch": k,
                "runs": len(logits), "declared": len(members),
                "values": "; ".join(by_seeds(seeds_of(members), _accuracies(members, results))),
                "paths": tuple(run.path() for run in members),
            }  # fmt: skip
            if len(logits) >= 2:
                if labels is None:
                    labels = results.labels(experiment)
                stacked = torch.stack(logits)
                row |= vars(diversity(stacked, labels, variants))
            rows.append(row)
    columns = [*PLACE, "method", "sparsity", "rewind_epoch", "test_accuracy_mean",
               "test_accuracy_std", "ensemble_accuracy", "disagreement", "kl", "js",
               "disagreement_per_error", "ensemble_gain", "ensemble_gain_error", "runs",
               "declared", "values", "paths"]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def build(output: Diversity, shown: Shown, diversity: pd.DataFrame) -> Table:
    """One block per network and data set; rows dense, IMP, LTH, permuted, naive.

    ``diversity`` has a row per (dataset, model, width, method) with test_accuracy_mean,
    test_accuracy_std, ensemble_accuracy (all %), disagreement (a share), kl (nats), js, runs and
    declared; where it has them, too, disagreement_per_error, ensemble_gain and ensemble_gain_error
    (points); values, the accuracy of each run, and paths, of these runs. Bold: the highest value of
    a column among the methods other than dense and IMP, equal as printed, all; a dense row may lack
    everything but its accuracy.
    """
    shows = {metric: _ALL[metric] for metric in _ALL if metric in COLUMNS or metric in diversity}
    blocks = [
        block.sort_values("method", key=lambda method: method.map(_rank))
        for _, block in diversity.groupby(NETWORK, sort=False)
    ]
    frame = pd.concat(blocks, ignore_index=True)
    tidy = long(frame, shows)
    printed = tidy.groupby("metric")["mean"].transform(lambda v: v.round(decimals(v.name)))
    printed = printed.where(~tidy["method"].isin(_UNMARKED))
    tidy["spread"] = tidy["metric"].map(_STDS)
    tidy["unit"] = tidy["metric"].map(_UNITS | {"js": output.js_unit})
    tidy["best"] = highest(printed, tidy, [*NETWORK, "metric"])
    text = np.array([_text(row) for row in tidy.to_dict("records")], dtype=object)
    index = pd.MultiIndex.from_arrays(
        [places(frame), frame["method"].map(_mask)], names=["Network", "Mask"]
    )
    header = [heading for heading, _ in shows.values()]
    layout, bold = (
        pd.DataFrame(values.reshape(len(index), -1), index, header)
        for values in (text, tidy["best"].to_numpy())
    )
    notes = short_notes(frame, ("runs", "declared"), "runs")
    if shows.keys() > COLUMNS.keys():
        notes += _definitions(output)
    behind = None
    if "paths" in frame:
        rows = [[paths] * len(header) for paths in frame["paths"]]
        behind = pd.DataFrame(rows, index, header)
    return shown.table(output, tidy, layout, notes, bold, _LEGEND, behind)


def long(diversity: pd.DataFrame, metrics: Iterable[str] = COLUMNS) -> pd.DataFrame:
    """A row per (network, method) and metric: mean, std (where it has a spread), counts of runs."""
    wide = diversity.rename(columns={"test_accuracy_mean": "test_accuracy"})
    spreads = [column for column in _SPREADS.values() if column in wide]
    tidy = wide.melt(
        [*NETWORK, "method", *spreads, "runs", "declared"], list(metrics), "metric",
        "mean", ignore_index=False,
    ).sort_index(kind="stable").reset_index(drop=True)  # fmt: skip
    if "values" in wide:  # of single networks; the others are of all together
        single = np.repeat(wide["values"].to_numpy(), len(list(metrics)))
        tidy["values"] = pd.Series(single).where(tidy["metric"] == "test_accuracy")
    std = pd.Series(np.nan, tidy.index)
    for metric, column in _SPREADS.items():
        if column in tidy:
            std = tidy.pop(column).astype(float).where(tidy["metric"] == metric, std)
    runs, declared = tidy.pop("runs"), tidy.pop("declared")
    return tidy.astype({"mean": float}).assign(
        std=std, n=runs, n_diverged=0, n_missing=declared - runs
    )


def decimals(metric: str) -> int:
    """How many decimals of a metric are printed, of Table 1 or another."""
    return _ALL[metric][1] if metric in _ALL else 2


def value_text(metric: str, mean: float, std: float) -> str:
    """A value with the decimals of its metric; Table 1 prints its spreads with three."""
    return mean_text(mean, std, decimals(metric), 3 if metric == "test_accuracy" else None)


def _rank(method: str) -> tuple[int, str]:
    return names.method_key(method, _ORDER)


def _mask(method: str) -> str:
    return "none (dense)" if method == "dense" else names.whole_method(method)


def _text(row: Mapping[str, Any]) -> str:
    if not pd.isna(row["mean"]):
        return value_text(row["metric"], row["mean"], row["std"])
    # Table 1 gives the accuracy alone for dense networks.
    extra = row["method"] == "dense" and row["metric"] != "test_accuracy"
    return ABSENT if extra else "missing"


def seeds_of(members: Sequence[Run]) -> pd.DataFrame:
    """The seeds of runs, as `by_seeds` wants them."""
    ends = [dict.fromkeys(one.seed for one in reversed(run.networks)) for run in members]
    seeds = [[*own, math.nan][:2] for own in ends]
    replicates = [getattr(run, "replicate", 0) for run in members]
    return pd.DataFrame(seeds, columns=["a", "b"]).assign(replicate=replicates)


def _accuracies(members: Sequence[Run], results: Results) -> pd.Series:
    found = (results.metrics(run) or {} for run in members)
    return pd.Series([one.get("test_accuracy") for one in found], dtype=float)


def _definitions(output: Diversity) -> list[str]:
    """What the columns mean, by the settings of the output."""
    averaged = {"softmax": "probabilities", "logits": "logits"}[output.ensemble]
    pairs = {"ordered": "both directions of every pair", "forward": "pairs i < j"}[output.kl]
    form = {"halved": "mean", "whole": "sum"}[output.js]
    return [
        f"Ensembles average {averaged}. KL: over {pairs}, in nats. JS: {form} of both divergences from "
        f"the middle, in {output.js_unit}. "
        "Disagreement / Error: of each pair, divided by its mean error rate.",
        "Ensemble Gain: over the mean of the members, in points, ± its standard error over test "
        "images (paired bootstrap), which says nothing of other seeds.",
    ]


def short_notes(
    frame: pd.DataFrame,
    counts: tuple[str, str],
    what: str,
    said: Callable[[str], str] = names.method,
) -> list[str]:
    """A note on every row that lacks networks; ``counts``: columns of those there and those declared."""
    found, declared = counts
    short = frame[frame[found] < frame[declared]]
    return [
        f"{place}, {said(row['method'])}: {row[found]} of {row[declared]} {what}."
        for place, row in zip(places(short), short.to_dict("records"), strict=True)
    ]
