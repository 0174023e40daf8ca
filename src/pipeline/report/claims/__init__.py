"""The claims of paper and thesis as formulas over cells, with verdict, interval and evidence.

One formula serves our results and the published numbers (`numbers.Numbers`). Every claim is stated
where it is computed, in a module by its subject: a function under `judge.claim` gives its cases (a
network, a data set), each with its cells and a measure that the claim says is above 0, and
`judge.judge` alone makes verdicts of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

import pandas as pd

from pipeline.errors import UserError
from pipeline.report import published
from pipeline.report.claims import (
    accuracy,
    barriers,
    diversity,
    growth,
    numbers,
    reuse,
    rewinding,
    sharma,
    sharma_children,
    sharma_partial,
    sharma_sparse,
    sharma_trajectories,
    sweeps,
)
from pipeline.report.claims.judge import CONTRADICTED, STATED, SUPPORTED, UNDECIDED, Claim, judge
from pipeline.report.claims.numbers import Headline, Numbers
from pipeline.report.claims.page import (
    claims_markdown,
    claims_table,
    points_page,
    published_page,
)

__all__ = [
    "CONTRADICTED", "SUPPORTED", "UNDECIDED", "Claim", "Headline", "Numbers", "claims_markdown",
    "claims_table", "evaluate", "on_points", "on_published", "on_results", "on_sweeps", "on_work",
    "points_page", "published_numbers", "published_page",
]  # fmt: skip

#: The modules that state claims, in the order of the paper; and those of Sharma et al.
SUBJECTS = (accuracy, growth, rewinding, diversity, reuse, barriers)
OF_SWEEPS = (sharma_trajectories, sharma_children, sharma_sparse, sharma, sharma_partial)


def evaluate(found: Numbers, subjects: Iterable[ModuleType] = SUBJECTS) -> list[Claim]:
    """All claims of these modules on one set of numbers, in their order; one page of tests."""
    return judge([one for part in subjects for one in STATED[part.__name__]], found)


def subjects_of(work: str) -> Sequence[ModuleType]:
    """The module of a further work's claims; of none, those of paper and thesis.

    Raises:
        UserError: that module states none.
    """
    if not work:
        return SUBJECTS
    part = import_module(f"{__name__}.{work}")
    if not STATED[part.__name__]:
        raise UserError(f"src/pipeline/report/claims/{work}.py: states no claim")
    return [part]


def on_work(work: str, cells: pd.DataFrame) -> list[Claim]:
    """The claims of a further work on its own numbers, a cell frame."""
    top1, top5 = (numbers.of_published(cells, metric) for metric in ("top1", "top5"))
    return evaluate(Numbers(cells=top1, top5=top5), subjects_of(work))


def published_numbers(cells: pd.DataFrame, diversity: pd.DataFrame | None = None) -> Numbers:
    """Cells of a published frame; those on SVHN have masks of CIFAR-10."""
    of_other = cells["dataset"] == "svhn"
    return Numbers(
        cells=numbers.of_published(cells[~of_other]),
        top5=numbers.of_published(cells[~of_other], "top5"),
        reuse=numbers.of_published(cells[of_other]),
        diversity=numbers.of_diversity(diversity),
    )


@cache
def on_published() -> list[Claim]:
    """The claims on the published numbers; curves and barriers were not published as numbers.

    They are judged once, since nothing changes them.
    """
    return evaluate(published_numbers(published.cells(), published.diversity()))


def on_points() -> list[Claim]:
    """The claims of Sharma et al. on the points of their curves that were read."""
    return evaluate(Numbers(connections=numbers.of_points(published.sharma())), [sharma])


def on_sweeps(
    connections: pd.DataFrame,
    alignments: pd.DataFrame | None = None,
    verdicts: pd.DataFrame | None = None,
    accuracies: pd.DataFrame | None = None,
) -> list[Claim]:
    """The claims of Sharma et al. on our sweeps; frames as of `pipeline.results.Results`.

    ``verdicts`` as `pipeline.report.claims.sweeps.of_notions` wants them, ``accuracies`` of pruned
    networks as `pipeline.report.levels.accuracies` gives them.
    """
    found = Numbers(
        connections=sweeps.of_connections(connections, alignments),
        children=sweeps.of_children(connections),
        trajectories=sweeps.of_trajectories(connections),
        groups=None if alignments is None else sweeps.of_groups(alignments),
        levels=None if accuracies is None else sweeps.of_levels(connections, accuracies),
        notions=sweeps.of_notions(verdicts),
    )
    return evaluate(found, OF_SWEEPS)


def on_results(
    runs: pd.DataFrame, *, reuse: Sequence[str] = (), work: str = "", **others: Any
) -> list[Claim]:
    """The claims on our runs and what else was measured; all frames as in `pipeline.results`.

    ``reuse``: experiments whose masks come from another data set; not among the other cells.
    ``work``: as of `subjects_of`.
    ``others``: headline; diversity, curves and imp_barriers, a frame each; planes and costs, lists of
    what their outputs read.
    """
    headline = others.get("headline", Headline())
    of_other = runs["experiment"].isin(reuse)
    own = runs[~of_other]
    return evaluate(
        Numbers(
            cells=numbers.of_runs(own),
            top5=numbers.of_runs(own, "top5"),
            reuse=numbers.of_runs(runs[of_other]),
            diverged=numbers.of_failures(own),
            diversity=numbers.of_diversity(others.get("diversity")),
            barriers=numbers.of_curves(others.get("curves"), headline),
            chains=numbers.of_chains(others.get("imp_barriers")),
            planes=numbers.of_planes(others.get("planes", ())),
            seconds=numbers.of_costs(others.get("costs", ())),
            headline=headline,
        ),
        subjects_of(work),
    )
