"""What a run costs: epochs, device time, disk; from measured rates where there are any."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.artifacts import keys
from pipeline.artifacts.keys import (
    Curve,
    Dense,
    ImpBarrier,
    ImpBlock,
    Mask,
    Match,
    Plane,
    Run,
    Snapshot,
    Solution,
    Sparse,
)  # fmt: skip
from pipeline.artifacts.store import PROVENANCE
from pipeline.catalog.datasets import DataInfo
from pipeline.study.graph import Graph
from pipeline.study.processes import processes
from pipeline.study.settings import ImpSettings

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

    def epochs(self, run: Run) -> int:
        """Epochs of training in a run."""
        recipe = self.graph.recipe(run)
        match run:
            case Dense():
                return int(recipe.epochs)
            case Snapshot():
                return int(run.epoch - max(e for e in recipe.trunk if e <= run.epoch))
            case ImpBlock():
                return len(self.graph.block_rounds(run)) * self._round(run.dense, recipe)
            case Solution():
                return self._round(run.mask.dense, recipe)
            case Sparse():
                return run.epochs
            case _:
                return 0

    def _round(self, dense: Dense, recipe: ImpSettings) -> int:
        if recipe.style == "finetune":
            return recipe.epochs
        horizon: int = self.graph.recipe(dense).epochs
        return horizon - recipe.rewind_epoch

    def passes(self, run: Run) -> float:
        """Forward passes over the training set of a run that does not train, in epochs' worth."""
        recipe = self.graph.recipe(run)
        match run:
            case Match():
                share = 1.0
                if recipe.images:
                    share = min(1.0, recipe.images / self._info(run).train_images)
                return 2 * share / 3
            case Curve():
                points = 2 * recipe.points
            case ImpBarrier():
                points = run.rounds * recipe.points
            case Plane():
                points = recipe.grid**2
            case _:
                return 0.0
        share = 1.0
        if recipe.images:  # those that give statistics, and the two splits evaluated
            info = self._info(run)
            share = min(1.0, (2 * recipe.images + info.test_images) / (2 * info.train_images))
        return float(share * points * len(recipe.corrections) * 2 / 3)

    def _info(self, run: Run) -> DataInfo:
        return self.graph.config.datasets[self.graph.dataset(run)]

    def network(self, run: Run) -> Dense:
        """A dense run of the same network, for its data set, model and width."""
        match run:
            case Dense():
                return run
            case Sparse():
                return run.init
            case Match():
                return run.b
            case Curve():
                return run.match.b
            case Plane():
                return run.permuted.init
            case Solution():
                return run.mask.dense
            case _:
                return run.dense

    def rate(self, run: Run) -> Rate:
        """Seconds per epoch of a run's network: measured here before, or assumed."""
        dense = self.network(run)
        network = (dense.dataset, dense.model, dense.width)
        if network not in self._rates:
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
            self._rates[network] = Rate(seconds, "assumed" if flops else "unknown")
        return self._rates[network]

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
                dense = self.network(run)
                shared = record.get("processes", 1)
                found[dense.dataset, dense.model, dense.width].append(shared * seconds / epochs)
        for network, values in found.items():
            basis = f"measured on {len(values)} runs"
            self._rates[network] = Rate(statistics.median(values), basis)

    def provenance(self, run: Run) -> dict[str, float]:
        """The record beside a run's files; empty where there is none."""
        path = self.graph.config.results / keys.folder(run) / PROVENANCE
        try:
            record = json.loads(path.read_text())
        except (OSError, ValueError):
            return {}
        return record if isinstance(record, dict) else {}

    def seconds(self, run: Run) -> float:
        """Expected device seconds of a run, the start of its process included."""
        if isinstance(run, Mask):
            return START["cpu"]
        work = self.epochs(run) + self.passes(run)
        return START[self.device] + work * self.rate(run).seconds

    def wall(self, run: Run) -> float:
        """Expected seconds until a run is done, by all the processes that share it."""
        start = START["cpu" if isinstance(run, Mask) else self.device]
        return start + (self.seconds(run) - start) / processes(self.graph, run)

    def parameters(self, run: Run) -> int:
        """Number of parameters of a run's network."""
        dense = self.network(run)
        return self.graph.config.models[dense.model].parameters(float(dense.width))

    def disk(self, run: Run) -> float:
        """Expected bytes of a run's files."""
        size = 4.0 * self.parameters(run)
        recipe = self.graph.recipe(run)
        match run:
            case Dense():
                return float(size * (1 + 2 * len(recipe.trunk)))
            case Snapshot():
                return size
            case ImpBlock():
                kept = sum((1 - recipe.fraction) ** r for r in self.graph.block_rounds(run))
                return float(size * (kept + len(self.graph.block_rounds(run)) / 32))
            case Mask():
                return size / 32
            case Sparse() | Solution():
                target = run.mask.target
                share = 1 - float(target[1:]) if target[0] == "S" else 0.8 ** int(target[1:])
                return (
                    size * (share + 1 / 32)
                    + 2.0 * self._info(run).test_images * self._info(run).classes
                )
            case _:
                return 1e5

    def memory_mb(self, run: Run) -> int:
        """Main memory a run needs, in MB: data and its augmented copies, network, and headroom.

        Of photographs only those that a run keeps, and batches under way: some thousand images. Of
        a run that is shared, all its processes on one machine.
        """
        info = self._info(run)
        pixels = info.channels * info.size**2
        images = (info.train_images + info.test_images) * pixels
        if info.kind == "image_folder":
            kept = 8000.0  # of pixels in bytes
            recipe = self.graph.recipe(run)
            if isinstance(run, Curve | ImpBarrier | Plane):
                kept += 2 * (recipe.images or info.train_images) + info.test_images
            if isinstance(run, Match):  # the observed activations of a batch, of both networks
                kept += 270 * recipe.batch_size * max(1.0, float(run.b.width))
            here = processes(self.graph, run) // self.graph.config.main.nodes or 1
            return int(here * (4000 + kept * pixels / 1e6 + 12 * 4 * self.parameters(run) / 1e6))
        return int(2000 + 6 * images / 1e6 + 12 * 4 * self.parameters(run) / 1e6)
