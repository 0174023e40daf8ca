"""The numbers that claims are judged on, ours and the published ones alike, and how units name them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pipeline.report.comparison import uncertainty
from pipeline.report.tables import names
from pipeline.report.tables.cells import KEYS

NETWORK = ["dataset", "model", "width"]
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
    frames as in `pipeline.results`.
    """

    cells: pd.DataFrame
    reuse: pd.DataFrame | None = None
    diversity: pd.DataFrame | None = None
    curves: pd.DataFrame | None = None
    imp_barriers: pd.DataFrame | None = None
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
    both = one.join(other, how="inner", lsuffix="_better", rsuffix="_worse").sort_index()
    return pd.DataFrame(
        {
            "gap": both["mean_better"] - both["mean_worse"],
            "variance": both["variance_better"] + both["variance_worse"],
        }
    ).astype(float).reset_index()  # fmt: skip


def bound(one: pd.Series, other: pd.Series) -> float:
    """2 standard errors of the difference of two cells, in points; NaN where a spread is unknown."""
    found = uncertainty(one["std"], one["n"], other["std"], other["n"])
    return math.nan if found is None else found


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


def place(
    dataset: str, model: str, width: float | None = None, sparsity: float | None = None,
    rewind_epoch: float | None = None, split: str = "",
) -> str:  # fmt: skip
    """What a unit is about: ``ResNet20×1 / CIFAR-10, S = 80%, k = 10``."""
    parts = [f"{names.network(model, width)} / {names.dataset(dataset)}"]
    parts += [] if sparsity is None else [at(sparsity)]
    parts += [] if rewind_epoch is None else [f"k = {rewind_epoch:g}"]
    return ", ".join([*parts, split] if split else parts)


def at(sparsity: float) -> str:
    return f"S = {names.percent(sparsity)}"


def signed(value: float, sign: str = "+", decimals: int = 2) -> str:
    """A number with its sign, a true minus."""
    return f"{value:{sign}.{decimals}f}".replace("-", "−")
