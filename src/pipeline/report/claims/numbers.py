"""The numbers that claims are judged on, ours and the published ones alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pipeline.report.comparison import uncertainty
from pipeline.report.tables.cells import KEYS
from pipeline.results import NETWORK

_CELL = [*NETWORK, "sparsity", "rewind_epoch"]
_NOTHING = 1e-9  # differences of two-decimal numbers are exact only to rounding


@dataclass(frozen=True)
class Headline:
    """Which barrier a protocol means: correction, alpha (None: the supremum) and data."""

    correction: str = "repair"
    at: float | None = None
    split: str | None = None


@dataclass(frozen=True)
class Numbers:
    """One set of numbers; what is absent leaves its claims with "not enough cells".

    cells: a cell frame (`pipeline.report.published`) with both metrics and early matching. reuse:
    cells of sparse runs whose mask comes from another data set. diversity, curves, imp_barriers:
    frames as in `pipeline.results`. sharma: points as in `pipeline.report.published.sharma`.
    """

    cells: pd.DataFrame
    reuse: pd.DataFrame | None = None
    diversity: pd.DataFrame | None = None
    curves: pd.DataFrame | None = None
    imp_barriers: pd.DataFrame | None = None
    sharma: pd.DataFrame | None = None
    headline: Headline = Headline()


def judged(
    cells: pd.DataFrame | None, metric: str = "top1", *, early: bool = False
) -> pd.DataFrame:
    """Cells of a metric, each once, that have a mean; ``early``: matched before the end, too.

    Cells with diverged runs are not judged, since their mean leaves the failures out.
    """
    if cells is None:
        return pd.DataFrame(columns=[*KEYS, "metric", "mean", "std", "n"])
    once = cells.drop_duplicates([*KEYS, "metric"])  # Table 15 repeats cells of Table 5
    good = (once["metric"] == metric) & once["mean"].notna() & (once["n_diverged"] == 0)
    return once[good if early else good & once["matching_epoch"].isna()]


def gap(cells: pd.DataFrame, better: str, worse: str) -> pd.DataFrame:
    """dataset, model, width, sparsity, rewind_epoch, gap of two methods in points; where both are.

    variance is that of the gap, s₁²/n₁ + s₂²/n₂; NaN where a spread is unknown.
    """
    spread = cells["std"] ** 2 / cells["n"]
    one, other = (
        cells.assign(variance=spread)[cells["method"] == method].set_index(_CELL)
        for method in (better, worse)
    )
    gaps = {"gap": one["mean"] - other["mean"], "variance": one["variance"] + other["variance"]}
    return pd.DataFrame(gaps).astype(float).dropna(subset=["gap"]).sort_index().reset_index()


def bound(one: pd.Series, other: pd.Series) -> float:
    """2 standard errors of the difference of two cells, in points; NaN where a spread is unknown."""
    return float(uncertainty(one["std"], one["n"], other["std"], other["n"]))


def rounded(difference: float) -> float:
    """A difference of accuracies, 0 where it is none but for rounding."""
    return 0.0 if abs(difference) <= _NOTHING else difference


def groups(
    frame: pd.DataFrame | None, by: list[str]
) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """The rows of equal keys, sorted by the keys; the keys by their column."""
    if frame is not None and len(frame):
        for key, group in frame.groupby(by):
            yield dict(zip(by, key, strict=True)), group
