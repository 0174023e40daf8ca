"""Accuracy of sparse runs against how well their permutation aligns a with b."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.report.figures import style
from pipeline.report.shown import Shown
from pipeline.report.statistics import interval
from pipeline.report.tables import names
from pipeline.report.tables.cells import METRICS, QUANTITIES
from pipeline.report.tables.paired_difference import by_cluster
from pipeline.results import NETWORK, PLACE, Results, place
from pipeline.runs import PermutationQuality
from pipeline.study.outputs.accuracy_vs_alignment import AccuracyVsAlignment

_PAIR = ["a", "b"]
_CELL = [*NETWORK, "sparsity", "rewind_epoch"]
_UNIT = {"loss": "nat", "error": "point"}
#: Measure of alignment -> how a slope is printed: per how much of it.
_STEP = {"barrier": 1.0, "similarity": 0.1}
_COLUMNS = [
    *PLACE, "sparsity", "rewind_epoch", "method", "matching_epoch", *_PAIR, "replicate", "status",
    "accuracy", *_STEP, "path", "quality",
]  # fmt: skip


def read(output: AccuracyVsAlignment, results: Results) -> pd.DataFrame:
    """A row per sparse run: its accuracy (%), barrier (nats or points) and similarity.

    A method that does not permute has those of a as it is, which every permutation's run measures.
    """
    rows: list[dict[str, Any]] = []
    for experiment in results.chosen(output):
        cells = [*output.cells(experiment)]
        of_pair = {cell.pair: match for cell, match in cells if match}
        for cell, match in cells:
            found = results.metrics(cell.run) or {}
            row: dict[str, Any] = place(experiment) | {
                "sparsity": cell.sparsity, "rewind_epoch": cell.rewind_epoch,
                "method": cell.method, "matching_epoch": cell.matching_epoch,
                "a": cell.pair[0], "b": cell.pair[1], "replicate": cell.run.replicate,
                "status": found.get("status", "missing"), "path": cell.run.path(),
                "accuracy": found.get(METRICS[output.metric]),
            }  # fmt: skip
            if any_of_pair := match or of_pair.get(cell.pair):
                quality = output.quality(experiment, any_of_pair)
                row |= _alignment(output, results, quality, match is not None)
            rows.append(row)
    frame = pd.DataFrame(rows, columns=_COLUMNS)
    numbers = ["accuracy", *_STEP]
    return frame.assign(**{key: pd.to_numeric(frame[key], errors="coerce") for key in numbers})


def _alignment(
    output: AccuracyVsAlignment, results: Results, run: PermutationQuality, permuted: bool
) -> dict[str, Any]:
    """Barrier and similarity under a permutation, or of a as it is; empty where not measured."""
    found = results.metrics(run)
    if not found or found["status"] != "ok":
        return {}
    at = "at_half" if results.config.protocol.barrier_at == 0.5 else "barrier"
    wanted = (output.split, output.correction, output.barrier, permuted)
    groups = found["groups"].values()
    similarities = [group["matched" if permuted else "identity"] for group in groups]
    return {
        "barrier": next(
            row[at] for row in found["barriers"]
            if (row["split"], row["correction"], row["metric"], row["matched"]) == wanted
        ),
        "similarity": np.average(similarities, weights=[group["size"] for group in groups]),
        "quality": run.path(),
    }  # fmt: skip


def build(
    output: AccuracyVsAlignment, shown: Shown, alignments: pd.DataFrame
) -> tuple[Figure, pd.DataFrame]:
    """A row per network, S and k; left the barrier along x, right the similarity."""
    cells = [*alignments.groupby(_CELL, sort=False)]
    figure, axes = style.grid(len(cells), 2, panel=(2.6, 2.1), sharex="col")
    slopes = []
    for row, (cell, own) in zip(axes, cells, strict=False):
        for panel, measure in zip(row, _STEP, strict=True):
            found = slope(own, measure)
            slopes.append({**dict(zip(_CELL, cell, strict=True)), "along": measure, **found})
            _points(panel, own, measure, shown)
            panel.set_title(_said(found, measure, output), fontsize=7)
            style.few_y_ticks(panel)
            if row is axes[-1]:
                panel.set_xlabel(_axis(output, measure))
        dataset, model, width, sparsity, k = cell
        where = names.place(dataset, model, width)
        at = f"{shown.at(sparsity, model)}, k = {k:g}"
        row[0].set_ylabel(f"{where}\n{at}\n{_SHORT[output.metric]}")
    known = alignments[["method", "matching_epoch"]].drop_duplicates()
    handles = [
        style.handle(_look(method, epoch, shown), _label(method, epoch, shown))
        for method, epoch in sorted(
            known.itertuples(index=False, name=None),
            key=lambda key: (names.method_key(key[0]), 0 if pd.isna(key[1]) else key[1]),
        )
    ]
    placed = alignments["barrier"].notna() & alignments["accuracy"].notna()
    note = style.missing_note(
        len(alignments), int((~placed).sum()), int((alignments["status"] == "diverged").sum()),
        "runs",
    )  # fmt: skip
    style.legend(figure, handles, note)
    points = alignments.assign(kind="run")
    relation = pd.DataFrame(slopes).assign(kind="slope")
    return figure, pd.concat([points, relation], ignore_index=True)


_SHORT = {key: text.removesuffix(" on test images") + " (%)" for key, text in QUANTITIES.items()}


def slope(runs: pd.DataFrame, along: str) -> dict[str, float]:
    """Least-squares slope of accuracy along a measure within each pair, then its mean over pairs.

    Points of accuracy for each unit of the measure; pairs that share a dense run are one cluster
    (`pipeline.report.statistics`). A pair with fewer than two different places has none.
    """
    known = runs.dropna(subset=["accuracy", along])
    found = {}
    for pair, own in known.groupby(_PAIR):
        x, y = own[along] - own[along].mean(), own["accuracy"] - own["accuracy"].mean()
        if (square := float((x * x).sum())) > 0:
            found[pair] = float((x * y).sum()) / square
    of_clusters = by_cluster(pd.Series(found, dtype=float))
    mean, low, high, p = interval(of_clusters)
    return {"slope": mean, "low": low, "high": high, "p": p, "n": len(of_clusters)}


def _said(found: dict[str, float], measure: str, output: AccuracyVsAlignment) -> str:
    step = _STEP[measure]
    unit = _UNIT[output.barrier] if measure == "barrier" else f"{step:g}"
    if not found["n"]:
        return "no slope"
    text = f"{names.signed(found['slope'] * step)} points per {unit}"
    if found["low"] == found["low"]:
        ends = (names.signed(found[end] * step) for end in ("low", "high"))
        text += f"\n({' … '.join(ends)}, n = {found['n']})"
    return text


def _points(panel: Axes, own: pd.DataFrame, measure: str, shown: Shown) -> None:
    for _, of_pair in own.dropna(subset=["accuracy", measure]).groupby(_PAIR):
        line = of_pair.sort_values(measure)
        panel.plot(line[measure], line["accuracy"], color="#bbbbbb", linewidth=0.7, zorder=1)
    groups = own.groupby(["method", "matching_epoch"], dropna=False)
    for (method, epoch), of_method in groups:
        look = _look(str(method), epoch, shown) | {"linestyle": ""}
        panel.plot(of_method[measure], of_method["accuracy"], markersize=4.5, zorder=2, **look)


def _look(method: str, epoch: float, shown: Shown) -> style.Look:
    """The look of a method; hollow where b was matched before the end."""
    look = style.method_style(method, shown.colors) | {"linestyle": ""}
    return look if pd.isna(epoch) else look | {"fillstyle": "none"}


def _label(method: str, epoch: float, shown: Shown) -> str:
    text = names.whole_method(method, shown.labels)
    return text if pd.isna(epoch) else f"{text}, b at epoch {epoch:g}"


def _axis(output: AccuracyVsAlignment, measure: str) -> str:
    if measure == "similarity":
        return "Mean similarity of paired units"
    unit = {"loss": "nats", "error": "points"}[output.barrier]
    return f"Barrier, {output.barrier} ({unit}), {names.CORRECTIONS[output.correction or 'none']}"
