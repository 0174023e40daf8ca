"""A table: its cells as a tidy frame, and the same cells laid out as the paper prints them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from pipeline.report.tables import names

# A layout cell that belongs to the cell on its left (a value that spans several columns).
SPAN = "\u21e4"
# A place of the layout for which the study declares no run.
ABSENT = "–"


@dataclass(frozen=True)
class Legend:
    """What the numbers of a table are.

    quantity, unit: what was measured, in what; no unit where the tidy frame has a column of it.
    spread: what stands behind ±, "" where nothing does. of: what n counts. bold: what is marked,
    "" where nothing is.
    """

    quantity: str
    unit: str = ""
    spread: str = "sample standard deviation"
    of: str = "finished runs"
    bold: str = ""

    def sentences(self, tidy: pd.DataFrame) -> list[str]:
        """The legend as notes, with the n of the tidy cells, those of dense networks left out."""
        tidy = tidy[tidy["method"] != "dense"] if "method" in tidy else tidy
        said = f"{self.quantity} in {self.unit}" if self.unit else self.quantity
        said += f", mean ± {self.spread}" if self.spread else ", mean"
        counts = tidy["n"][tidy["n"] > 0] if "n" in tidy else tidy.index[:0]
        if len(counts):
            fewest, most = counts.min(), counts.max()
            number = f"{fewest:g}" if fewest == most else f"{fewest:g} to {most:g}"
            said += f" over n = {number} {self.of}"
        return [f"{said}.", *([f"Bold: {self.bold}."] if self.bold else [])]

    def columns(self) -> dict[str, str]:
        """The legend as columns of a CSV file; those that say nothing are left out."""
        every = {"unit": self.unit, "spread": self.spread, "bold": self.bold}
        return {name: text for name, text in every.items() if text}


@dataclass(frozen=True)
class Table:
    """One table.

    tidy: a row per cell. layout: display strings under (multi-)index rows and columns; `SPAN`
    continues the cell on its left. bold: booleans of the layout's shape. runs: of the layout's
    shape, the paths of the runs behind each cell, a tuple. notes: sentences below the table.
    protocol: the protocol whose runs it shows.
    """

    name: str
    title: str
    tidy: pd.DataFrame
    layout: pd.DataFrame
    notes: list[str] = field(default_factory=list)
    protocol: str = "paper"
    bold: pd.DataFrame | None = None
    legend: Legend | None = None
    runs: pd.DataFrame | None = None

    def behind(self, row: int, column: int) -> tuple[str, ...]:
        """The paths of the runs behind a cell; none where they are not known."""
        return () if self.runs is None else tuple(self.runs.iat[row, column])

    def is_bold(self, row: int, column: int) -> bool:
        return self.bold is not None and bool(self.bold.iat[row, column])


def cell_text(cell: Mapping[str, Any], decimals: int = 2) -> str:
    """Display of one cell: ``90.10 ± 0.20``, beside it what is missing, diverged or without layers."""
    counts = {"diverged": cell["n_diverged"], "missing": cell["n_missing"]}
    total = cell["n"] + sum(counts.values())
    troubles = [f"{what} {count}/{total}" for what, count in counts.items() if count]
    if not cell["n"]:
        return "missing" if not cell["n_diverged"] else ", ".join(troubles)
    if gone := cell.get("n_emptied"):
        troubles.append(f"layers gone {gone:g}/{total:g}")
    value = mean_text(cell["mean"], cell["std"], decimals)
    return f"{value} ({', '.join(troubles)})" if troubles else value


def mean_text(
    mean: float, std: float | None, decimals: int = 2, std_decimals: int | None = None
) -> str:
    """``mean ± std``, or the mean alone where there is no spread."""
    if std is None or math.isnan(std):
        return f"{mean:.{decimals}f}"
    digits = decimals if std_decimals is None else std_decimals
    return f"{mean:.{decimals}f} ± {std:.{digits}f}"


def setting_text(value: object) -> str:
    """A setting for people."""
    if value is None or value == ():
        return ABSENT
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {setting_text(item)}" for key, item in value.items())
    if isinstance(value, tuple):
        return ", ".join(map(setting_text, value))
    return str(value)


#: Key of a row -> heading of its label, and how its values are written.
HEADERS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "experiment": ("Experiment", str),
    "dataset": ("Data set", names.data),
    "model": ("Model", names.model),
    "width": ("w", names.number),
    "rewind_epoch": ("k", names.number),
    "sparsity": ("S", names.percent),
    "method": ("Method", names.method),
    "split": ("Images", str),
    "at": ("At", lambda value: "1/2" if value == "half" else str(value)),
    "correction": ("Correction", lambda v: "none" if v == "none" else names.CORRECTIONS[v]),
}


def row_labels(
    rows: pd.DataFrame, labels: Mapping[str, str] | None = None, everywhere: str = ABSENT
) -> pd.MultiIndex:
    """Index of a layout: a level per column, written as `HEADERS` says, others as they are.

    labels: a study's names of methods. everywhere: what stands for NaN.
    """

    def written(key: str, value: Any) -> str:
        if key == "method":
            return names.method(value, labels)
        return everywhere if pd.isna(value) else HEADERS.get(key, (key, str))[1](value)

    return pd.MultiIndex.from_arrays(
        [[written(key, value) for value in rows[key]] for key in rows],
        names=[HEADERS.get(key, (key, str))[0] for key in rows],
    )


def arranged(
    cells: pd.DataFrame, rows: list[str], columns: list[str], places: Iterable[tuple[Any, ...]]
) -> tuple[pd.DataFrame, list[list[dict[str, Any] | None]]]:
    """The rows of a layout by their keys, and the cell of each at every place; None: without one.

    rows, columns: keys of a cell's row and of its place. places: the values of ``columns``.
    """

    def known(*values: Any) -> tuple[Any, ...]:
        return tuple(None if pd.isna(value) else value for value in values)  # NaN is not NaN

    records = cells.to_dict("records")
    by_keys = {known(*(cell[key] for key in (*rows, *columns))): cell for cell in records}
    labels = cells[rows].drop_duplicates()
    keys = labels.itertuples(index=False, name=None)
    return labels, [[by_keys.get(known(*row, *place)) for place in places] for row in keys]


def runs_behind(
    found: Iterable[Iterable[Mapping[str, Any] | None]], layout: pd.DataFrame
) -> pd.DataFrame:
    """The runs behind the cells that `arranged` found, under a layout's rows and columns."""
    behind = [[cell["runs"] if cell else () for cell in row] for row in found]
    return pd.DataFrame(behind, layout.index, layout.columns)


def count_notes(cells: pd.DataFrame) -> list[str]:
    """What a reader must know about the runs behind the cells; nothing when all is complete."""
    notes = []
    runs = int(cells[["n", "n_diverged", "n_missing"]].to_numpy().sum())
    missing = int(cells["n_missing"].sum())
    diverged = int(cells["n_diverged"].sum())
    if missing:
        empty = int((cells["n"] + cells["n_diverged"] == 0).sum())
        notes.append(
            f"{missing} of {runs} runs are missing; {empty} of {len(cells)} cells have none."
        )
    if diverged:
        notes.append(
            f"{diverged} of {runs} runs diverged; the mean of such a cell is over the runs that "
            "finished, and it is never marked as the best."
        )
    if "n_emptied" in cells:
        notes.append(
            f"In {int(cells['n_emptied'].sum())} of {runs} runs pruning left nothing of at least one "
            "layer; their metrics name it."
        )
    if ((cells["n"] == 1) & cells["std"].isna()).any():
        notes.append("A cell without ± stands on a single run.")
    return notes
