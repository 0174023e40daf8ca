"""How good each permutation is: similarity of matched units per group, beside two controls."""

from __future__ import annotations

import re
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from pipeline.report.figures import style
from pipeline.report.shown import Shown
from pipeline.report.tables.cells import means
from pipeline.results import PLACE, Results, place
from pipeline.study.outputs.matching_quality import MatchingQuality

_KEYS = [*PLACE, "similarity", "matching_epoch", "group"]
_MEASURED = ["size", "dead_a", "dead_b", "matched", "identity", "random"]
_LOOKS = {
    "matched": ("matched", style.look("#009E73", "^")),
    "identity": ("identity", style.look("#D55E00", "s")),
    "random": ("random matching (expected)", style.look(style.GREY, "", "--")),
}
_AXIS = {"correlation": "Mean correlation", "inner": "Mean inner product"}


def read(output: MatchingQuality, results: Results) -> pd.DataFrame:
    """A row per permutation group of each matching.

    A matching that is not there, or that measured nothing, is one row without a group.
    """
    rows: list[dict[str, Any]] = []
    for experiment in results.chosen(output):
        recipe = results.config.recipes.resolve("match", experiment.match)
        for (a, b), epoch, match in experiment.matchings():
            found = results.metrics(match) or {}
            row = place(experiment) | {
                "similarity": recipe.similarity, "a": a, "b": b, "matching_epoch": epoch,
                "status": found.get("status", "missing"),
            }  # fmt: skip
            rows += [
                row | {"group": name, **{key: group[key] for key in _MEASURED}}
                for name, group in found.get("groups", {}).items()
            ] or [row]
    columns = [*PLACE, "similarity", "a", "b", "matching_epoch", "status", "group", *_MEASURED]
    return pd.DataFrame(rows, columns=columns)


def build(
    output: MatchingQuality, shown: Shown, match_groups: pd.DataFrame
) -> tuple[Figure, pd.DataFrame]:
    """A row per experiment and matching epoch; x: the permutation groups in the network's order.

    Lines are means over pairs with a band of ± one sample standard deviation.
    """
    del output, shown
    known = match_groups.dropna(subset=["group"])
    points = (
        known.assign(**{key: pd.to_numeric(known[key]) for key in _LOOKS})
        .groupby(_KEYS, sort=False, dropna=False)
        .agg(size=("size", "first"), n=("matched", "count"), **means(_LOOKS))
        .reset_index()
    )
    points = points.sort_values(
        ["experiment", "matching_epoch", "group"],
        key=lambda column: column.map(_natural) if column.name == "group" else column,
        ignore_index=True,
    )
    headings = style.headings(match_groups)
    rows = match_groups[["experiment", "matching_epoch"]].drop_duplicates()
    figure, axes = style.grid(len(rows), 1, panel=(4.4, 2.0), sharex="none")
    for position, (experiment, epoch) in enumerate(rows.itertuples(index=False, name=None)):
        panel = axes[position][0]
        own = points[points["experiment"] == experiment]
        same = own["matching_epoch"].isna() if pd.isna(epoch) else own["matching_epoch"] == epoch
        own = own[same]
        for key, (_, look) in _LOOKS.items():
            style.band_line(panel, range(len(own)), own[key], own[f"{key}_std"], look)
        panel.axhline(0, color="#888888", linewidth=0.7, zorder=1)
        style.name_ticks(
            panel, [f"{g} ({n:g})" for g, n in zip(own["group"], own["size"], strict=True)]
        )
        at = "" if pd.isna(epoch) else f", b at epoch {epoch:g}"
        panel.set_title(f"{headings[experiment]}{at}")
        kind = own["similarity"].iloc[0] if len(own) else "correlation"
        panel.set_ylabel(_AXIS.get(kind, kind))
        style.few_y_ticks(panel)
    style.legend(
        figure,
        [style.handle(look, label) for label, look in _LOOKS.values()],
        style.absent_note(match_groups, ["experiment", "matching_epoch", "a", "b"], "matchings"),
    )
    return figure, points


def _natural(name: str) -> str:
    """Sort key that puts conv2 before conv10 and a stage's stream before its blocks."""
    return re.sub(r"\d+", lambda digits: digits.group().zfill(6), name)
