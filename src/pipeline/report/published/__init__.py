"""The published numbers: paper Tables 1 and 5-15, thesis Tables 4.1, 4.2 and 4.7-4.16.

Three CSV files of these lie beside this module, and one of curves of Sharma et al. (2024). A *cell
frame* is what every formula on accuracies reads, for our own results
(`pipeline.report.tables.cells.aggregate`) and for these numbers alike: one row per cell with the
keys dataset, model, width, sparsity, method, rewind_epoch, matching_epoch, metric and the values
mean, std (both in %), n, n_diverged, n_missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Any

import numpy as np
import pandas as pd

# Epochs of a complete dense run in Table 15; its column t = 200 is matching at the end.
EPOCHS = 200
# The paper averages over 3 runs (Appendix A.1); Table 10 prints no spread: a single run.
_RUNS = 3
# Table 1 is "over five different training runs" (Section 4.2).
_DIVERSITY_RUNS = 5


def _read(name: str) -> pd.DataFrame:
    numbers = dict.fromkeys(("width", "sparsity", "rewind_epoch", "matching_epoch"), float)
    file = resources.files(__package__).joinpath(name)
    with file.open(encoding="utf-8") as stream:
        return pd.read_csv(stream, dtype={"paper_table": str, "thesis_table": str, **numbers})


def cells() -> pd.DataFrame:
    """All 718 published cells as a cell frame, with the columns paper_table and thesis_table.

    matching_epoch is NaN for matching at the end of training (also where the table says t = 200)
    and for methods that need no matching. n is 3, or 1 where no spread was printed.
    """
    frame = _read("published_results.csv")
    frame["matching_epoch"] = frame["matching_epoch"].replace(float(EPOCHS), np.nan)
    runs = np.where(frame["std"].notna(), _RUNS, 1)
    return frame.assign(n=runs, n_diverged=0, n_missing=0)


def table(label: str) -> pd.DataFrame:
    """Cells of one published table: "5" is the paper's Table 5, "4.2" the thesis' Table 4.2.

    Raises KeyError when no accuracies were published under that label.
    """
    frame = cells()
    column = "thesis_table" if "." in str(label) else "paper_table"
    found = frame[frame[column] == str(label)]
    if found.empty:
        known = sorted({*frame["paper_table"].dropna(), *frame["thesis_table"].dropna()})
        raise KeyError(f"no published table {label!r}; known: {', '.join(known)}")
    return found.reset_index(drop=True)


def cells_of(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """The cells of a further work (`pipeline.study.works`) as a cell frame."""
    numbers = dict.fromkeys(("width", "sparsity", "rewind_epoch", "matching_epoch", "std"), float)
    return pd.DataFrame(rows).astype(numbers).assign(n_diverged=0, n_missing=0)


def diversity() -> pd.DataFrame:
    """Paper Table 1: a row per (dataset, model, width, method), accuracies in %, runs = 5."""
    return _read("published_diversity.csv").assign(runs=_DIVERSITY_RUNS)


def dense() -> pd.DataFrame:
    """Dense test accuracies (%) that are known, with their source.

    n is 5 for Table 1 and NaN for the plotting notebook, which gives a bare number.
    """
    frame = _read("published_dense.csv")
    known = frame["test_accuracy_std"].notna()
    frame["n"] = np.where(known, float(_DIVERSITY_RUNS), np.nan)
    return frame


def sharma() -> pd.DataFrame:
    """Points of curves of Sharma et al. (2024), a row each; recipe with step decay, CIFAR-10.

    Read by us off the images in the notebooks of nnperm, the code of one of the authors; the paper
    prints no numbers. ``figure`` is the paper's, or the one whose twin at this recipe it is (15).
    ``value``: a barrier, of ``metric`` error as a fraction or loss in nats, on ``split``; of metric
    fixed-points the fraction of units on which two permutations agree. ``reading_error``: how far
    off it may be: half a pixel's worth where pixels were counted, 0.02 where read by eye.

    ``arm``: direct or indirect, through a third network (Figure 14; there the fixed points of the
    two); along training at ``epoch`` under the permutation of ``matching_epoch`` or at the end of
    it (Figures 15 and 21, there with the last permutation); or how layers of ``matching_epoch``
    and the end were mixed before matching, up to ``cut`` (Figures 17 and 18).
    """
    file = resources.files(__package__).joinpath("published_sharma.csv")
    with file.open(encoding="utf-8") as stream:
        return pd.read_csv(stream, dtype={"figure": str, "width": float})
