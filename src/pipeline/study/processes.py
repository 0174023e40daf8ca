"""Which runs are shared by several processes, and by how many."""

from __future__ import annotations

from pipeline.artifacts.keys import Run
from pipeline.study.graph import Graph

#: The stages that train.
TRAINED = frozenset({"dense", "snapshot", "imp", "solution", "sparse"})


def processes(graph: Graph, run: Run) -> int:
    """Processes that share a run: ``processes`` of config.yaml for trainings on photographs.

    Others are small, and use a machine best as many runs side by side.
    """
    info = graph.config.datasets[graph.dataset(run)]
    shared = run.stage in TRAINED and info.kind == "image_folder"
    return graph.config.main.processes if shared else 1
