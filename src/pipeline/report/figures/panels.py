"""What figures of sweeps share: their panels, the place of a row of them, and the authors' own values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.report.figures import style
from pipeline.results import NETWORK
from pipeline.study.outputs.partial_barriers import PartialBarriers
from pipeline.study.outputs.sweep_barriers import SweepBarriers

_SPLITS = {"train": "Training", "test": "Test"}
_UNITS = {"error": "points", "loss": "nats"}
#: Of a row of panels: its title, and what tells its points from those of the others.
Row = dict[str, Any]
OfRow = Callable[[pd.DataFrame, Row], pd.DataFrame]


@dataclass(frozen=True)
class Panel:
    """A panel of barriers: where it is, our points and the authors', and what it is of."""

    axes: Axes
    points: pd.DataFrame
    authors: pd.DataFrame
    row: Row
    metric: str
    lowest: bool


def of_barriers(
    output: SweepBarriers | PartialBarriers,
    rows: Sequence[Row],
    frames: tuple[pd.DataFrame, pd.DataFrame],
    of_row: OfRow,
    draw: Callable[[Panel], None],
    *,
    wide: bool,
) -> Figure:
    """A row of panels for each of ``rows``, a column for each metric and split.

    ``frames``: our points and the authors'; ``of_row``: those of a row; ``draw``: what fills a panel,
    before its zero and its titles. ``wide``: few enough to be drawn larger.
    """
    columns = [*product(output.metrics, output.splits)]
    size = (3.2, 2.1) if wide else (2.05, 1.65 if len(rows) > 1 else 2.0)
    figure, axes = style.grid(
        len(rows), len(columns), panel=size, sharex=False,
        sharey="row" if len(output.metrics) == 1 else "none",
    )  # fmt: skip
    for line, row in zip(axes, rows, strict=False):
        for panel, (metric, split) in zip(line, columns, strict=True):
            own, beside = (
                of_row(frame[frame["metric"].eq(metric) & frame["split"].eq(split)], row)
                for frame in frames
            )
            draw(Panel(panel, own, beside, row, metric, line is axes[-1]))
            panel.axhline(0, color="#888888", linewidth=0.6, zorder=1)
            style.few_y_ticks(panel)
            if line is axes[0]:
                panel.set_title(f"{_SPLITS[split]} {metric}\nbarrier ({_UNITS[metric]})")
        line[0].set_ylabel(row["title"])
    return figure


def at(points: pd.DataFrame, place: tuple[Any, ...]) -> pd.DataFrame:
    """The points of a network; a place without a width is of those that have none."""
    dataset, model, width = place
    own = points[points["dataset"].eq(dataset) & points["model"].eq(model)]
    return own[own["width"].isna() if pd.isna(width) else own["width"].eq(width)]


def absent(frame: pd.DataFrame) -> str:
    """The note on sweeps that are missing or diverged."""
    return style.absent_note(frame, [*NETWORK, "match", "sweep", "seeds"], "sweeps")


def with_authors(points: pd.DataFrame, theirs: pd.DataFrame) -> pd.DataFrame:
    """Our points and the authors', told apart by ``source``."""
    return pd.concat([points.assign(source="ours"), theirs.assign(source="authors")])
