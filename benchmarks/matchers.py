"""Every matcher on trained pairs: barrier, similarity, sparse accuracy, seconds, memory, what it recovers.

    python benchmarks/matchers.py [--networks mlp] [--seeds 2] [--quick] [--output docs/evidence/matchers.md]
    python benchmarks/matchers.py --runs results/dense/.../seed0 results/dense/.../seed1

Networks are trained on the digits, or are those of finished dense runs. Each matching runs in a
forked process of one thread, which reports its processor seconds and by how much its peak memory
lies above what it began with.
"""

from __future__ import annotations

import argparse
import copy
import json
import multiprocessing
import os
import resource
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from pipeline import Alignment, align, pruning, symmetry
from pipeline.connectivity.correction import has_batch_norm
from pipeline.data import DataSet, load
from pipeline.data.augment import normalise
from pipeline.interop import network
from pipeline.models import build, prunable_parameters, traced
from pipeline.runs import Dense, parse
from pipeline.symmetry.matching import Match, collect
from pipeline.symmetry.permutation import Permutation, PermutationSpec

PAGE = Path(__file__).with_suffix(".md")
NETWORKS = {"mlp": 0.125, "vgg8_ln": 0.25, "resnet20": 0.5}
#: Name in the table, and what `align` is called with.
MATCHERS: dict[str, dict[str, Any]] = {
    "none": {},
    "random": {"matcher": "random"},
    "correlation": {"matcher": "correlation"},
    "inner": {"matcher": "inner"},
    "weights": {"matcher": "weights"},
    "weights, 10 starts": {"matcher": "weights", "starts": 10},
    "c2m3": {"matcher": "c2m3"},
    "sinkhorn, distance": {"matcher": "sinkhorn"},
    "sinkhorn, midpoint": {"matcher": "sinkhorn", "cost": "midpoint"},
    "sinkhorn, line": {"matcher": "sinkhorn", "cost": "line"},
    "straight-through": {"matcher": "straight-through"},
}
SPARSITY, EPOCHS, REWIND = 0.9, 12, 1
#: Images of each split of a finished run's data set.
IMAGES = 1200
Batches = list[tuple[Tensor, Tensor]]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@dataclass
class Bench:
    """A network of the catalog at a width, and the first images of a data set's splits."""

    name: str
    width: float
    epochs: int
    dataset: str = "digits"
    images: int | None = None

    @cached_property
    def batches(self) -> tuple[Batches, Batches]:
        """Training and test images, normalised."""
        data = load(self.dataset, os.environ.get("DATA_ROOT", "data"), download=False)
        assert isinstance(data, DataSet)
        first = slice(self.images)
        return tuple(  # type: ignore[return-value]
            [
                (normalise(x, data.mean, data.std), y)
                for x, y in zip(
                    part.images[first].split(120), part.labels[first].split(120), strict=True
                )
            ]
            for part in (data.train, data.test)
        )

    def network(self, seed: int) -> nn.Module:
        return build(
            self.name, width=self.width, classes=10, channels=1, size=8, generator=seeded(seed)
        )

    def fit(
        self, model: nn.Module, seed: int, epochs: int, mask: pruning.Mask | None = None
    ) -> nn.Module:
        """Trained by Adam with a cosine schedule, its pruned weights held at zero."""
        optimiser = torch.optim.Adam(model.parameters(), 3e-3)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
        weights, images = dict(model.named_parameters()), self.batches[0]
        model.train()
        for epoch in range(epochs):
            order = torch.randperm(len(images), generator=seeded(1000 * seed + epoch))
            for x, y in (images[i] for i in order.tolist()):
                with torch.no_grad():
                    for name, kept in (mask or {}).items():
                        weights[name].mul_(kept)
                optimiser.zero_grad()
                cross_entropy(model(x), y).backward()
                optimiser.step()
            schedule.step()
        with torch.no_grad():
            for name, kept in (mask or {}).items():
                weights[name].mul_(kept)
        return model.eval()

    @property
    def title(self) -> str:
        return f"{self.name}×{self.width:g}, {self.dataset}"

    def trained(self, seed: int) -> tuple[dict[str, Tensor], nn.Module]:
        """The state after the rewind epoch, and the network at its end."""
        model = self.fit(self.network(seed), seed, REWIND)
        early = {name: t.clone() for name, t in model.state_dict().items()}
        return early, self.fit(model, seed, self.epochs)

    def accuracy(self, model: nn.Module) -> float:
        with torch.no_grad():
            hits = [(model(x).argmax(1) == y).float() for x, y in self.batches[1]]
        return float(100 * torch.cat(hits).mean())

    def sparse(self, early: dict[str, Tensor], mask: pruning.Mask, seed: int) -> float | None:
        """Accuracy of b's rewind snapshot trained under a mask; None where it is not cheap."""
        model = self.network(seed)
        model.load_state_dict(early)
        return self.accuracy(self.fit(model, seed, self.epochs, mask))


class Finished(Bench):
    """Networks of finished dense runs, and images of their data set."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = folders
        dense = parse("dense", "/".join(folders[0].parts[-4:]))
        assert isinstance(dense, Dense)
        super().__init__(dense.model, float(dense.width), 0, dense.dataset, IMAGES)

    def trained(self, seed: int) -> tuple[dict[str, Tensor], nn.Module]:
        return {}, network(self.folders[seed])

    def sparse(self, early: dict[str, Tensor], mask: pruning.Mask, seed: int) -> float | None:
        return None


def found_by(
    bench: Bench,
    a: nn.Module,
    b: nn.Module,
    spec: PermutationSpec,
    given: dict[str, Any],
    seed: int,
) -> Alignment:
    if not given:
        return Alignment(spec, Match(symmetry.identity(spec), {}), (a, b))
    return align(a, b, bench.batches[0], groups=spec, seed=seed, **given)


def apart(work: Callable[[], Alignment]) -> tuple[Permutation, float, float]:
    """What work finds in a process of its own, its processor seconds and MB of memory."""
    here, there = multiprocessing.Pipe(duplex=False)

    def run() -> None:
        before, started = _peak(), time.process_time()
        found = work().permutation
        seconds = time.process_time() - started
        there.send(({n: p.tolist() for n, p in found.items()}, seconds, _peak() - before))

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    found, seconds, memory = here.recv()
    process.join()
    return {name: torch.tensor(p) for name, p in found.items()}, seconds, memory


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def similarity(bench: Bench, found: Alignment) -> float:
    """Mean correlation of the activations of matched live units, over all groups."""
    assert found.networks
    images = (x for x, _ in bench.batches[0])
    values = []
    for name, group in collect(*found.networks, found.spec, images).items():
        index = found.permutation[name]
        dead_a, dead_b = group.dead()
        live = ~dead_b & ~dead_a[index]
        values.append(group.similarity()[torch.arange(len(index)), index][live])
    return float(torch.cat(values).mean())


def rows(bench: Bench, count: int) -> Iterator[dict[str, Any]]:
    """A row per matcher, means over pairs."""
    pairs = [(bench.trained(2 * n), bench.trained(2 * n + 1)) for n in range(count)]
    correction = "reset" if has_batch_norm(pairs[0][0][1]) else "none"
    spec = traced(bench.name, pairs[0][0][1]).spec
    names = prunable_parameters(pairs[0][0][1], "all")
    for name, given in MATCHERS.items():
        cells: dict[str, list[Any]] = {}
        for number, ((_, a), (early, b)) in enumerate(pairs):
            index, seconds, memory = apart(partial(found_by, bench, a, b, spec, given, number))
            found = Alignment(spec, Match(index, {}), (a, b))
            line = {"correction": correction, "statistics": bench.batches[0], "points": 11}
            weights = {n: a.state_dict()[n] for n in names}
            mask = pruning.prune_to(weights, pruning.full(weights), SPARSITY)
            here = {
                "barrier": found.barrier(bench.batches[1], **line),  # type: ignore[arg-type]
                "similarity": similarity(bench, found),
                "sparse": bench.sparse(early, found.apply(mask), 2 * number + 1),
                "seconds": seconds, "memory": memory,
                "recovered": recovered(bench, b, spec, given, number),
            }  # fmt: skip
            for key, value in here.items():
                cells.setdefault(key, []).append(value)
        means = {key: None if None in each else mean(each) for key, each in cells.items()}
        yield {"matcher": name, **means}
        print(json.dumps({"network": bench.name, "matcher": name, **cells}), flush=True)


def recovered(
    bench: Bench, b: nn.Module, spec: PermutationSpec, given: dict[str, Any], seed: int
) -> float:
    """Share in % of units that a planted permutation of b puts where it is found again."""
    planted = symmetry.random(spec, seeded(500 + seed))
    a = copy.deepcopy(b)
    a.load_state_dict(symmetry.apply(spec, symmetry.inverse(planted), b.state_dict()))
    index = found_by(bench, a, b, spec, given, seed).permutation
    return 100 * sum(symmetry.fixed_points(index, planted).values()) / sum(spec.sizes.values())


def table(found: list[dict[str, Any]]) -> str:
    head = [
        "matcher", "loss barrier", "similarity", f"sparse accuracy, S = {SPARSITY} (%)",
        "processor seconds", "memory (MB)", "planted, recovered (%)",
    ]  # fmt: skip
    lines = [f"| {' | '.join(head)} |", "| --- |" + " ---: |" * (len(head) - 1)]
    shapes = {
        "barrier": ".3f", "similarity": ".3f", "sparse": ".1f", "seconds": ".2f", "memory": ".0f",
        "recovered": ".1f",
    }  # fmt: skip
    for row in found:
        values = ((row[key], shape) for key, shape in shapes.items())
        cells = [row["matcher"], *("–" if v is None else format(v, shape) for v, shape in values)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--seeds", type=int, default=2, help="pairs of each network")
    parser.add_argument("--quick", action="store_true", help="one pair of the smallest network")
    parser.add_argument("--networks", nargs="*", choices=[*NETWORKS], default=[*NETWORKS])
    parser.add_argument(
        "--runs", nargs="*", type=Path, default=[], help="a b a b ... of dense runs"
    )
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    count = 1 if options.quick else options.seeds
    names = options.networks[: 1 if options.quick else None]
    benches: list[tuple[Bench, int]] = [(Bench(n, NETWORKS[n], EPOCHS), count) for n in names]
    if options.runs:
        benches.append((Finished(options.runs), len(options.runs) // 2))
    parts = []
    for bench, pairs in benches:
        found = list(rows(bench, pairs))
        parts.append(f"### {bench.title}, {pairs} pair{'s' * (pairs > 1)}\n\n{table(found)}")
    page = PAGE.read_text(encoding="utf-8").format(
        command=shlex.join(sys.argv), epochs=EPOCHS, sparsity=SPARSITY, rewind=REWIND,
        images=IMAGES, tables="\n\n".join(parts),
        machine=f"{torch.backends.cpu.get_cpu_capability()}; torch {torch.__version__}.",
    )  # fmt: skip
    print(page)
    if options.output:
        options.output.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
