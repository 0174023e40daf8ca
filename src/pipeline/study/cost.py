"""What a run costs: epochs, device time, disk; from measured rates where there are any."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pipeline.artifacts.record import facts_of
from pipeline.runs import Dense, Run
from pipeline.runs.trial import Trial
from pipeline.study.graph import Graph
from pipeline.study.trials import known


@dataclass(frozen=True)
class Assumed:
    """What a kind of device does, where no run of the network was measured on it.

    step: seconds of a step that no arithmetic explains. speed: FLOP/s by precision. decoded:
    photographs a second that a job's workers decode and cut out. start: seconds of a job that are no
    computation: start of Python, import of torch, reading and writing.
    """

    step: float
    speed: Mapping[str, float]
    decoded: float
    start: float


#: The one place of these. Those of a GPU are guesses until docs/evidence/gpu.md has measured ones.
ASSUMED = {
    "cpu": Assumed(0.012, {"fp32": 8e10, "tf32": 8e10, "bf16": 1.6e11}, 600, 2.0),
    "cuda": Assumed(0.008, {"fp32": 2e13, "tf32": 2e13, "bf16": 2e13}, 4000, 15.0),
}
#: Processors that decode photographs for one GPU.
DECODERS = 8


@dataclass(frozen=True)
class Rate:
    """Seconds per epoch of one network on one data set, and where the number comes from."""

    seconds: float
    basis: str


class Costs:
    """Cost of the runs of a study on a kind of device, ``cpu`` or ``cuda``."""

    def __init__(self, graph: Graph, device: str) -> None:
        self.graph, self.device = graph, device
        self._rates: dict[tuple[str, str, str], Rate] = {}

    def rate(self, run: Run) -> Rate:
        """Seconds per epoch of a run's network: measured here before, or assumed."""
        dense = run.home
        if dense.network not in self._rates:
            info = self.graph.config.datasets[dense.dataset]
            model = self.graph.config.models[dense.model]
            flops = model.forward_flops(float(dense.width), info.size)
            assumed, recipe = ASSUMED[self.device], self.graph.recipe(dense)
            batch, speed = recipe.batch_size, assumed.speed[recipe.precision]
            steps = info.train_images // batch
            seconds = steps * (assumed.step + 3 * flops * batch / speed)
            if info.kind == "image_folder":
                seconds = max(seconds, info.train_images / assumed.decoded)
            self._rates[dense.network] = Rate(seconds, "assumed" if flops else "unknown")
        return self._rates[dense.network]

    def measured(self, runs: Iterable[Run]) -> None:
        """Take rates from the provenance of the runs that exist: the median per network.

        Runs on another kind of device say nothing here.
        """
        found: dict[tuple[str, str, str], list[float]] = defaultdict(list)
        for run in runs:
            record = self.provenance(run)
            epochs, seconds = record.get("epochs_executed"), record.get("train_seconds")
            device = "cpu" if str(record.get("device", self.device)).startswith("cpu") else "cuda"
            if epochs and seconds and device == self.device:
                seconds *= record.get("processes", 1) / self._share(run)
                found[run.home.network].append(seconds / epochs)
        for network, values in found.items():
            basis = f"measured on {len(values)} runs"
            self._rates[network] = Rate(statistics.median(values), basis)

    def provenance(self, run: Run) -> dict[str, float]:
        """The volatile facts of a run; empty where it is not there."""
        return facts_of(self.graph.config.results / run.folder)

    def seconds(self, run: Run) -> float:
        """Expected device seconds of a run, the start of its process included."""
        return self._start(run) + self._work(run)

    def wall(self, run: Run) -> float:
        """Expected seconds until a run is done, by all the processes that share it."""
        return self._start(run) + self._work(run) / self.graph.processes(run)

    def _start(self, run: Run) -> float:
        return ASSUMED[self.device if run.computes else "cpu"].start

    def _work(self, run: Run) -> float:
        trained = run.trained_epochs(self.graph) * self._share(run)
        epochs = trained + run.passes(self.graph)
        return epochs * self.rate(run).seconds if epochs else 0.0

    def _share(self, run: Run) -> float:
        """The share of the training images that a run trains on."""
        images = run.training(self.graph).images if run.trains else None
        return min(1.0, images / self.graph.info(run).train_images) if images else 1.0

    def network_bytes(self, run: Run) -> float:
        """Bytes of the parameters of a run's network; 0 where their number is not known."""
        network = self.graph.config.models[run.home.model]
        declared = network.parameters(float(run.home.width))
        if declared or network.tested:
            return 4.0 * declared
        tried = known(self.graph.config, run.home)
        return 4.0 * tried.parameters if tried else 0.0

    def disk(self, run: Run) -> float:
        """Expected bytes of a run's files."""
        return float(run.disk(self.graph, self.network_bytes(run)))

    def memory_mb(self, run: Run) -> int:
        """Main memory a run needs, in MB: data and its augmented copies, network, and headroom.

        Of photographs only those that a run keeps, and batches under way: some thousand images. Of
        a run that is shared, all its processes on one machine.
        """
        return max(self._work_mb(run), self._trial_mb(run))

    def _trial_mb(self, run: Run) -> int:
        """What the first dense run of a network of one's own needs to try it."""
        network, tried = (
            self.graph.config.models[run.home.model],
            known(self.graph.config, run.home),
        )
        if run.stage != Dense.stage or network.tested or (tried and tried.done):
            return 0
        return (tried or Trial(int(self.network_bytes(run) / 4), 0)).memory_mb

    def _work_mb(self, run: Run) -> int:
        info = self.graph.info(run)
        pixels = info.channels * info.size**2
        network = 12 * self.network_bytes(run) / 1e6
        if info.kind == "image_folder":
            kept = 8000 + run.images(self.graph)  # of pixels in bytes
            here = self.graph.processes(run) // self.graph.config.main.nodes or 1
            return int(here * (4000 + kept * pixels / 1e6 + network))
        images = (info.train_images + info.test_images) * pixels
        # what a run leaves is in memory at once when it is written: a long series is most of it
        return int(2000 + 6 * images / 1e6 + network + self.disk(run) / 1e6)
