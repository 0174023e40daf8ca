"""What a run costs: epochs, device time, disk; from measured rates where there are any."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.artifacts.record import facts_of
from pipeline.runs import Run
from pipeline.study.graph import Graph

#: Assumed where nothing was measured: seconds per step that no arithmetic explains, and FLOP/s.
ASSUMED = {"cpu": (0.012, 8e10), "cuda": (0.008, 2e13)}
#: How many times as fast bf16 is assumed to be.
BF16 = {"cpu": 2.0, "cuda": 1.0}
#: Photographs decoded and cut out a second by a job's workers, assumed alike.
DECODED = {"cpu": 600, "cuda": 4000}
#: Seconds of a job that are no computation: start of Python, import of torch, reading and writing.
START = {"cpu": 2.0, "cuda": 15.0}
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
            overhead, speed = ASSUMED[self.device]
            recipe = self.graph.recipe(dense)
            batch = recipe.batch_size
            speed *= BF16[self.device] if recipe.precision == "bf16" else 1
            steps = info.train_images // batch
            seconds = steps * (overhead + 3 * flops * batch / speed)
            if info.kind == "image_folder":
                seconds = max(seconds, info.train_images / DECODED[self.device])
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
        return START[self.device if run.computes else "cpu"]

    def _work(self, run: Run) -> float:
        trained = run.trained_epochs(self.graph) * self._share(run)
        epochs = trained + run.passes(self.graph)
        return epochs * self.rate(run).seconds if epochs else 0.0

    def _share(self, run: Run) -> float:
        """The share of the training images that a run trains on."""
        images = run.training(self.graph).images if run.trains else None
        return min(1.0, images / self.graph.info(run).train_images) if images else 1.0

    def network_bytes(self, run: Run) -> float:
        """Bytes of the parameters of a run's network."""
        network = self.graph.config.models[run.home.model]
        return 4.0 * network.parameters(float(run.home.width))

    def disk(self, run: Run) -> float:
        """Expected bytes of a run's files."""
        return float(run.disk(self.graph, self.network_bytes(run)))

    def memory_mb(self, run: Run) -> int:
        """Main memory a run needs, in MB: data and its augmented copies, network, and headroom.

        Of photographs only those that a run keeps, and batches under way: some thousand images. Of
        a run that is shared, all its processes on one machine.
        """
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
