"""Which runs are shared by several processes, and by how many."""

from __future__ import annotations

from pipeline.artifacts import keys
from pipeline.artifacts.keys import Run
from pipeline.errors import UserError
from pipeline.study.graph import Graph
from pipeline.study.settings import ImpSettings
from pipeline.study.shares import shares

#: The stages that train.
TRAINED = frozenset({"dense", "snapshot", "imp", "solution", "sparse"})


def processes(graph: Graph, run: Run) -> int:
    """Processes that share a run: ``processes`` of config.yaml for trainings on photographs.

    Others are small, and use a machine best as many runs side by side.

    Raises:
        UserError: the run's batch cannot be dealt to so many.
    """
    info = graph.config.datasets[graph.dataset(run)]
    count = graph.config.main.processes
    if count == 1 or run.stage not in TRAINED or info.kind != "image_folder":
        return 1
    settings = graph.recipe(run)
    if isinstance(settings, ImpSettings) and settings.style == "rewind":
        settings = graph.recipe(graph.networks(run)[0])
    try:
        shares(settings, count)
    except UserError as error:
        raise UserError(f"{keys.folder(run)}: config.yaml: processes: {count}: {error}") from None
    return count
