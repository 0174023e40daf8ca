"""Which runs are shared by several processes, and by how many."""

from __future__ import annotations

from pipeline.errors import UserError
from pipeline.runs import Run
from pipeline.study.graph import Graph
from pipeline.study.shares import shares


def processes(graph: Graph, run: Run) -> int:
    """Processes that share a run: ``processes`` of config.yaml for trainings on photographs.

    Others are small, and use a machine best as many runs side by side.

    Raises:
        UserError: the run's batch cannot be dealt to so many.
    """
    count = graph.config.main.processes
    if count == 1 or not run.trains or graph.info(run).kind != "image_folder":
        return 1
    try:
        shares(run.training(graph), count)
    except UserError as error:
        raise UserError(f"{run.folder}: config.yaml: processes: {count}: {error}") from None
    return count
