"""Tables by kind: what a study's output of that kind is built from, and how.

The input of every kind is the runs frame (`pipeline.results`), beside it what the kind needs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pipeline.report.tables import (
    barriers,
    cost,
    diversity,
    early_matching,
    hyperparameters,
    paired,
    rewind_grid,
)
from pipeline.report.tables.render import FORMATS, to_csv, to_html, to_latex, to_markdown, write
from pipeline.report.tables.table import SPAN, Table

# Kind -> builder(name, spec, frame, *, protocol): the frame is `runs` for rewind-grid,
# early-matching, paired-difference and cost (which also takes matches=), the diversity and the
# barriers frame for those, and the (group, name, value) rows for hyperparameters.
BUILDERS: dict[str, Callable[..., Table]] = {
    "rewind-grid": rewind_grid.build,
    "early-matching": early_matching.build,
    "diversity": diversity.build,
    "hyperparameters": hyperparameters.build,
    "cost": cost.build,
    "paired-difference": paired.build,
    "barriers": barriers.build,
}


def build(kind: str, name: str, spec: dict[str, Any], *data: Any, **options: Any) -> Table:
    """Table ``name`` of a kind in `BUILDERS` from its settings and data; KeyError if unknown."""
    return BUILDERS[kind](name, spec, *data, **options)


__all__ = [
    "BUILDERS",
    "FORMATS",
    "SPAN",
    "Table",
    "build",
    "to_csv",
    "to_html",
    "to_latex",
    "to_markdown",
    "write",
]
