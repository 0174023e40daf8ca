"""How good each permutation is: similarity of matched units per group, beside two controls."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from pipeline.report.figures import style

_KEYS = ["experiment", "dataset", "model", "width", "similarity", "matching_epoch", "group"]
_LOOKS: dict[str, tuple[str, dict[str, Any]]] = {
    "matched": ("matched", {"color": "#009E73", "marker": "^", "linestyle": "-"}),
    "identity": ("identity", {"color": "#D55E00", "marker": "s", "linestyle": "-"}),
    "random": ("random matching (expected)", {"color": "#555555", "marker": "", "linestyle": "--"}),
}
_AXIS = {"correlation": "Mean correlation", "inner": "Mean inner product"}


def build(
    name: str, spec: Mapping[str, Any], match_groups: pd.DataFrame
) -> tuple[Figure, pd.DataFrame]:
    """A row per experiment and matching epoch; x: the permutation groups in the network's order.

    ``match_groups`` as in `pipeline.results`. Settings: title. Lines are means over pairs with a
    band of ± one sample standard deviation. Returns the figure and the points that it shows.
    """
    known = match_groups.dropna(subset=["group"])
    points = (
        known.assign(**{key: pd.to_numeric(known[key]) for key in _LOOKS})
        .groupby(_KEYS, sort=False, dropna=False)
        .agg(
            size=("size", "first"),
            n=("matched", "count"),
            **{
                f"{key}{end}": (key, how)
                for key in _LOOKS
                for end, how in (("", "mean"), ("_std", "std"))
            },
        )
        .reset_index()
    )
    points = points.sort_values(
        ["experiment", "matching_epoch", "group"],
        key=lambda column: column.map(_natural) if column.name == "group" else column,
        ignore_index=True,
    )
    headings = style.headings(match_groups)
    rows = match_groups[["experiment", "matching_epoch"]].drop_duplicates()
    with matplotlib.rc_context(style.RC):
        figure, axes = style.grid(max(1, len(rows)), 1, panel=(4.4, 2.0), sharex="none")
        for place, (experiment, epoch) in enumerate(rows.itertuples(index=False, name=None)):
            panel = axes[place][0]
            own = points[points["experiment"] == experiment]
            same = (
                own["matching_epoch"].isna() if pd.isna(epoch) else own["matching_epoch"] == epoch
            )
            own = own[same]
            for key, (_, look) in _LOOKS.items():
                style.band_line(
                    panel,
                    list(range(len(own))),
                    own[key].tolist(),
                    own[f"{key}_std"].tolist(),
                    look,
                )
            panel.axhline(0, color="#888888", linewidth=0.7, zorder=1)
            style.name_ticks(
                panel, [f"{g} ({n:g})" for g, n in zip(own["group"], own["size"], strict=True)]
            )
            at = "" if pd.isna(epoch) else f", b at epoch {epoch:g}"
            panel.set_title(f"{headings[experiment]}{at}")
            kind = own["similarity"].iloc[0] if len(own) else "correlation"
            panel.set_ylabel(_AXIS.get(kind, kind))
            style.few_y_ticks(panel)
        if spec.get("title"):
            figure.suptitle(spec["title"], fontsize=9.5)
        style.legend(
            figure,
            [style.handle(look, label) for label, look in _LOOKS.values()],
            style.absent_note(
                match_groups, ["experiment", "matching_epoch", "a", "b"], "matchings"
            ),
        )
    return figure, points


def _natural(name: str) -> str:
    """Sort key that puts conv2 before conv10 and a stage's stream before its blocks."""
    return re.sub(r"\d+", lambda digits: digits.group().zfill(6), name)
