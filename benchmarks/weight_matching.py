"""Weight matching: when a planted permutation is found again, and what the search costs.

    python benchmarks/weight_matching.py [--cases 100] [--output docs/evidence/weight-matching.md]

One thread. Times are processor seconds, so that what else the machine does matters little.
``--quick``: few cases and a narrow network.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from pipeline import symmetry
from pipeline.models import build, traced
from pipeline.symmetry import weight_matching
from pipeline.symmetry.permutation import Group, Permutation, PermutationSpec
from pipeline.symmetry.weight_matching import Problem

#: Built-in networks whose planted permutations are looked for, and widths that fit a minute.
NETWORKS = {
    "mlp": 0.125, "vgg8_ln": 0.25, "vgg16_ln": 0.25, "resnet20_ln": 0.5, "resnet20_ln3": 0.5,
    "resnet20": 0.5, "vgg11": 0.25,
}  # fmt: skip
#: The page, with gaps for numbers.
PAGE = Path(__file__).with_suffix(".md")


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# -- planted permutations ----------------------------------------------------------------------

#: Units of the stream, inside of the block, and that do not move.
STREAM, INNER, FIXED = 30, 50, 10


def toy(
    seed: int, anchors: str, weights: str
) -> tuple[PermutationSpec, dict[str, Tensor], Permutation]:
    """A block around a stream, with those of the anchors "in" and "out" that are named."""
    tensors: dict[str, tuple[tuple[str | None, ...], tuple[int, int]]] = {
        "up": (("inner", "stream"), (INNER, STREAM)), "down": (("stream", "inner"), (STREAM, INNER)),
        "in": (("stream", None), (STREAM, FIXED)), "out": ((None, "stream"), (FIXED, STREAM)),
    }  # fmt: skip
    kept = ["up", "down", *anchors.split()]
    groups = Group("stream", STREAM, ""), Group("inner", INNER, "")
    spec = PermutationSpec(groups, {name: tensors[name][0] for name in kept})
    draws = seeded(seed)
    draw = torch.randn if weights == "Gaussian" else torch.rand
    a = {name: draw(tensors[name][1], generator=draws) for name in kept}
    if weights == "uniform":
        a = {name: 2 * tensor - 1 for name, tensor in a.items()}
    return spec, a, symmetry.random(spec, draws)


def starts(spec: PermutationSpec, count: int, seed: int) -> Iterator[Permutation]:
    draws = seeded(seed)
    for number in range(count):
        yield symmetry.random(spec, draws) if number else symmetry.identity(spec)


def recovered(
    spec: PermutationSpec, a: dict[str, Tensor], names: list[str], there: Permutation, count: int
) -> bool:
    """Whether the best of so many ascents is the planted permutation."""
    problem = Problem(spec, a, symmetry.apply(spec, there, a), names)
    ascents = [
        problem.climb(start, seeded(number))
        for number, start in enumerate(starts(spec, count, seed=1))
    ]
    found = ascents[weight_matching.best(ascents)].permutation
    return symmetry.fixed_points(found, there) == spec.sizes


def toys(cases: int, many: int) -> str:
    lines = ["| anchors | weights | one start | ten starts | a hundred |"]
    lines.append("| --- | --- | ---: | ---: | ---: |")
    rows = ("none", ""), ("input", "in"), ("input and head", "in out")
    for weights, (named, anchors) in itertools.product(("uniform", "Gaussian"), rows):
        cells = []
        for count in (1, 10, 100):
            tried = many if count == 100 else cases
            drawn = (toy(seed, anchors, weights) for seed in range(tried))
            hits = sum(recovered(spec, a, list(a), there, count) for spec, a, there in drawn)
            cells.append(f"{hits} of {tried}")
        lines.append(f"| {named} | {weights} | {' | '.join(cells)} |")
    return "\n".join(lines)


def networks(cases: int) -> str:
    lines = ["| network | groups | recovered |", "| --- | ---: | ---: |"]
    for name, width in NETWORKS.items():
        hits = 0
        for seed in range(cases):
            model = build(name, width=width, classes=10, channels=1, size=8, generator=seeded(seed))
            spec = traced(name, model).spec
            there = symmetry.random(spec, seeded(100 + seed))
            names = [n for n, _ in model.named_parameters()]
            hits += recovered(spec, model.state_dict(), names, there, 1)
        lines.append(f"| {name}×{width:g} | {len(spec.groups)} | {hits} of {cases} |")
    return "\n".join(lines)


# -- cost --------------------------------------------------------------------------------------


@dataclass
class Spent:
    """Processor seconds of what the algorithm cannot do without, measured beside it."""

    grams: float = 0.0
    assignments: float = 0.0
    solved: int = 0
    #: Of the measuring itself.
    beside: float = 0.0


class Watched(weight_matching.Place):
    """A place that does each Gram product and assignment a second time, alone, on a stopwatch."""

    spent = Spent()

    def scores(self, group: str) -> Tensor:
        found = super().scores(group)
        spent, began = self.spent, time.process_time()
        total = torch.zeros_like(found)
        for operands in list(self.operands(group)):
            b, a = (operand.contiguous() for operand in operands)
            started = time.process_time()
            total.addmm_(b, a.mT)
            spent.grams += time.process_time() - started
        scores = found.numpy()
        started = time.process_time()
        linear_sum_assignment(scores, maximize=True)
        ended = time.process_time()
        spent.assignments += ended - started
        spent.solved += 1
        spent.beside += ended - began
        return found


def cost(name: str, width: float) -> dict[str, object]:
    a, b = (
        build(name, width=width, classes=10, channels=3, size=32, generator=seeded(seed))
        for seed in (0, 1)
    )
    spec = traced(name, a).spec
    names = [n for n, _ in a.named_parameters()]
    weight_matching.Place = Watched  # type: ignore[misc]
    started = time.process_time()
    problem = Problem(spec, a.state_dict(), b.state_dict(), names)
    found = problem.climb(symmetry.identity(spec), seeded(0))
    spent = Watched.spent
    climbed = time.process_time() - started - spent.beside
    needed, solved = spent.grams + spent.assignments, spent.solved
    rows = [("Gram products", spent.grams), ("assignments", spent.assignments), ("search", climbed)]
    before, started = spent.beside, time.process_time()
    problem.quality(found.permutation)
    told = time.process_time() - started - (spent.beside - before)
    rows += [("bounds and quality, told once", told)]
    lines = ["| | processor seconds |", "| --- | ---: |", *(f"| {n} | {s:.2f} |" for n, s in rows)]
    return {
        "name": f"{name}×{width:g}", "groups": len(spec.groups), "units": sum(spec.sizes.values()),
        "sweeps": len(found.moved), "solved": solved, "times": "\n".join(lines),
        "ratio": (climbed + told) / needed,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cases, many = (3, 1) if options.quick else (options.cases, max(1, options.cases * 3 // 10))
    page = PAGE.read_text().format(
        stream=STREAM, inner=INNER, cases=cases, many=many, toys=toys(cases, many),
        networks=networks(2 if options.quick else 10),
        **cost("vgg16_ln", 0.125 if options.quick else 1),
        machine=f"{torch.backends.cpu.get_cpu_capability()}; torch {torch.__version__}.",
    )  # fmt: skip
    print(page)
    if options.output:
        options.output.write_text(page)


if __name__ == "__main__":
    main()
