"""Which runs of a study can be side by side, and how: as threads of this process."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from small import REPOSITORY

from pipeline.runs import Run
from pipeline.study.graph import Graph

sys.path.insert(0, str(REPOSITORY / "benchmarks"))
from beside import side_by_side

__all__ = ["levels", "side_by_side"]


def levels(graph: Graph, runs: Sequence[Run]) -> Iterator[list[Run]]:
    """Runs that nothing but those before them is needed for, of a list that is closed under needs."""
    left = list(runs)
    while left:
        ready = [
            run for run in left
            if not any(file.run in left for file in graph.inputs(run).values())
        ]  # fmt: skip
        yield ready
        left = [run for run in left if run not in ready]
