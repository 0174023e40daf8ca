"""What a run's job asks of the machine that runs it: processors, GPUs, memory, time."""

from __future__ import annotations

import math
import shutil
from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from pipeline.machine.gpu_slots import visible
from pipeline.runs import Run
from pipeline.study.cost import DECODERS, Costs
from pipeline.study.graph import Graph


def device() -> str:
    """Kind of device that jobs will find, without importing torch."""
    return "cuda" if visible() or Path("/dev/nvidiactl").exists() else "cpu"


class Jobs:
    """The resources of the runs of a study.

    ``elsewhere``: how many run at once on a cluster; None where this machine runs them.
    """

    def __init__(self, graph: Graph, elsewhere: int | None = None) -> None:
        self.graph = graph
        self.main = graph.config.main
        self.cluster = elsewhere if elsewhere and shutil.which("sbatch") else None
        kind = "cuda" if self.cluster else device()  # a submit host has no GPU, its nodes do
        self.costs = Costs(graph, "cpu" if self.main.device == "cpu" else kind)

    def threads(self, run: Run) -> int:
        """Processors of a job on one machine: of its compute threads, or those that decode."""
        each = int(getattr(self.graph.recipe(run), "threads", 1))
        kind = self.graph.info(run).kind
        if kind == "image_folder" and self.costs.device == "cuda" and run.computes:
            each = max(each, DECODERS)
        return each * max(1, self.graph.processes(run) // self.main.nodes)

    def gpus(self, run: Run) -> int:
        """GPUs of a job, one for each process: none where the CPU computes, as it does masks."""
        if self.costs.device == "cpu" or not run.computes:
            return 0
        return self.graph.processes(run)

    def nodes(self, run: Run) -> int | None:
        """Machines of a job that is spread over several; None for all others."""
        shared = self.graph.processes(run) > 1
        return self.main.nodes if shared and self.main.nodes > 1 else None

    def runtime(self, run: Run) -> int:
        """Minutes to ask for: three times the estimate, at least ten."""
        costs = self.rates if self.cluster else self.costs
        return max(10, math.ceil(3 * costs.wall(run) / 60))

    @cached_property
    def rates(self) -> Costs:
        """Costs by rates measured here, where there are any."""
        self.costs.measured(self._sample())
        return self.costs

    def _sample(self, per_network: int = 30) -> Iterator[Run]:
        """The first trainings of each network: enough for a rate, and few files to look at."""
        seen: Counter[tuple[str, str, str]] = Counter()
        for run in self.graph.closure(self.graph.outputs(self.graph.config.outputs)):
            network = run.home.network
            if run.trained_epochs(self.graph) and seen[network] < per_network:
                seen[network] += 1
                yield run
