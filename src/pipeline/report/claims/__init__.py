"""The claims of paper and thesis as formulas over cells, with verdict, counts and evidence.

One formula serves our results and the published numbers (`numbers.Numbers`). Every claim is stated
where it is computed, in a module by its subject: a function under `judge.claim` gives the margins
of its units (a cell, a network, a sparsity, …), and `judge.judge` alone makes verdicts of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from pipeline.report import published
from pipeline.report.claims import accuracy, barriers, diversity, growth, reuse, rewinding, sharma
from pipeline.report.claims.judge import FAILS, HOLDS, STATED, UNKNOWN, Claim, judge
from pipeline.report.claims.numbers import Headline, Numbers
from pipeline.report.claims.page import claims_markdown, claims_table, published_page
from pipeline.report.tables.cells import aggregate, select

__all__ = [
    "FAILS", "HOLDS", "UNKNOWN", "Claim", "Headline", "Numbers", "claims_markdown", "claims_table",
    "evaluate", "on_curves_of_sharma", "on_published", "on_results", "published_page",
]  # fmt: skip

#: The modules that state claims, in the order of the paper.
SUBJECTS = (accuracy, growth, rewinding, diversity, reuse, barriers)


def evaluate(numbers: Numbers) -> list[Claim]:
    """All claims on one set of numbers, in the order of the paper."""
    return [judge(one, numbers) for part in SUBJECTS for one in STATED[part.__name__]]


def on_published() -> list[Claim]:
    """The claims on the published numbers; curves and barriers were not published as numbers."""
    cells = published.cells()
    of_other = cells["dataset"] == "svhn"
    return evaluate(Numbers(cells[~of_other], cells[of_other], published.diversity()))


def on_curves_of_sharma() -> list[Claim]:
    """The claims of Sharma et al. (2024) on the points of their curves that were read."""
    numbers = Numbers(pd.DataFrame(), sharma=published.sharma())
    return [judge(one, numbers) for one in STATED[sharma.__name__]]


def on_results(runs: pd.DataFrame, *, reuse: Sequence[str] = (), **others: Any) -> list[Claim]:
    """The claims on our runs and the ``others`` of `Numbers`; all frames as in `pipeline.results`.

    ``reuse``: experiments whose masks come from another data set; not among the other cells.
    """

    def cells(chosen: pd.DataFrame) -> pd.DataFrame:
        sparse = select(chosen)
        return pd.concat([aggregate(sparse, metric) for metric in ("top1", "top5")])

    of_other = runs["experiment"].isin(reuse)
    reused = cells(runs[of_other]) if reuse else None
    return evaluate(Numbers(cells(runs[~of_other]), reused, **others))
