"""Activation matching of two full ResNet50 at 224 pixels on the CPU: one pass against 37.

    DATA_ROOT=… python benchmarks/matching_resnet50.py [--images 200] [--output FILE.md]

One pass collects what all 37 groups need. The conventional way, layer by layer, passes over the
data once per group: both networks run up to the group, in single precision, sums are taken in
double precision, and a is permuted before the next pass. Each way runs in a process of its own with
two threads. Processor seconds compare the two whatever else the machine does; memory is the
process's peak above what it held before the first image. The networks
are untrained (BatchNorm statistics measured on a batch), which changes no time.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from pipeline import symmetry
from pipeline.catalog.datasets import parse_entry
from pipeline.connectivity import reset_batch_norm
from pipeline.data import load
from pipeline.data.augment import normalise
from pipeline.data.photographs import Photographs
from pipeline.models import build, permutation_spec
from pipeline.symmetry.matching import collect, match
from pipeline.symmetry.permutation import Group

ENTRY = {
    "kind": "image_folder", "path": "imagenette-mini", "classes": 10, "size": 224,
    "train_images": 1000, "test_images": 200, "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225], "flip": True,
}  # fmt: skip


def batches(data: Photographs, images: int, size: int) -> Iterator[Tensor]:
    """The same augmented training images at every call."""
    order, augmentation = (torch.Generator().manual_seed(seed) for seed in (1, 2))
    found = data.subset(images, batch_size=size, order=order, augmentation=augmentation)
    for part, _ in found:
        yield normalise(part, data.mean, data.std).contiguous(memory_format=torch.channels_last)


def network(seed: int, data: Photographs) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    model = build("resnet50", width=1, classes=1000, channels=3, size=224, generator=generator)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    reset_batch_norm(model, lambda: batches(data, 8, 8))
    return model.eval()


class Reached(Exception):
    """The group's activation was seen: what comes after it is not computed."""


def activation(model: nn.Module, group: Group, images: Tensor) -> Tensor:
    seen: list[Tensor] = []

    def before(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.append(inputs[0])
        raise Reached

    def after(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen.append(output)
        raise Reached

    module = model.get_submodule(group.tap)
    if group.side == "input":
        handle = module.register_forward_pre_hook(before)
    else:
        handle = module.register_forward_hook(after)
    try:
        model(images)
    except Reached:
        pass
    finally:
        handle.remove()
    return seen[0]


@torch.inference_mode()
def conventional(a: nn.Module, b: nn.Module, data: Photographs, images: int, size: int) -> Any:
    """One pass over the data per group, each on the network permuted so far."""
    spec = permutation_spec("resnet50", a)
    found = symmetry.identity(spec)
    for number, group in enumerate(spec.groups, start=1):
        started = time.perf_counter()
        units = group.size
        first, second = torch.zeros(2, units).double(), torch.zeros(2, units).double()
        cross, count = torch.zeros(units, units).double(), 0
        for part in batches(data, images, size):
            pair = [
                activation(model, group, part).movedim(1, 0).reshape(units, -1).double()
                for model in (a, b)
            ]
            first += torch.stack([values.sum(1) for values in pair])
            second += torch.stack([values.square().sum(1) for values in pair])
            cross += pair[1] @ pair[0].T
            count += pair[0].shape[1]
        mean = first / count
        std = (second / count - mean.square()).clamp(min=0).sqrt()
        covariance = cross / count - torch.outer(mean[1], mean[0])
        scores = (covariance / (torch.outer(std[1], std[0]) + 1e-4)).numpy()
        index = torch.from_numpy(linear_sum_assignment(scores, maximize=True)[1])
        found[group.name] = index
        step = symmetry.identity(spec) | {group.name: index}
        a.load_state_dict(symmetry.apply(spec, step, a.state_dict()))
        print(f"pass {number}: {time.perf_counter() - started:.1f} s", file=sys.stderr, flush=True)
    return found


def one_pass(a: nn.Module, b: nn.Module, data: Photographs, images: int, size: int) -> Any:
    spec = permutation_spec("resnet50", a)
    return match(collect(a, b, spec, batches(data, images, size))).permutation


WAYS = {"one pass": one_pass, "37 passes": conventional}


def measure(way: str, images: int, size: int) -> None:
    """In a process of its own: print seconds, megabytes and the permutation."""
    torch.set_num_threads(2)
    os.environ["PIPELINE_WORKERS"] = "0"
    root = os.environ.get("DATA_ROOT") or "data"
    data = load(parse_entry("photographs", ENTRY), root)
    assert isinstance(data, Photographs)
    a, b = network(0, data), network(1, data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started, worked = time.perf_counter(), time.process_time()
    found = WAYS[way](a, b, data, images, size)
    seconds, work = time.perf_counter() - started, time.process_time() - worked
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    permutation = {name: index.tolist() for name, index in found.items()}
    facts = {"seconds": seconds, "work": work, "megabytes": peak / 1024}
    print(json.dumps(facts | {"permutation": permutation}))


def run(way: str, images: int, size: int) -> dict[str, Any]:
    command = [
        sys.executable,
        __file__,
        "--way",
        way,
        "--images",
        str(images),
        "--batch",
        str(size),
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def agreement(left: dict[str, list[int]], right: dict[str, list[int]]) -> str:
    pairs = [(a, b) for name in left for a, b in zip(left[name], right[name], strict=True)]
    return f"{sum(a == b for a, b in pairs):,} of {len(pairs):,} units"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--batch", type=int, default=20)
    parser.add_argument("--way", choices=WAYS)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    if arguments.way:
        measure(arguments.way, arguments.images, arguments.batch)
        return
    rows = [
        (way, images, run(way, images, arguments.batch))
        for way, images in (
            ("one pass", arguments.images // 2),
            ("one pass", arguments.images),
            ("37 passes", arguments.images),
        )
    ]
    slow, fast = rows[2][2], rows[1][2]
    lines = [
        "# Matching two ResNet50",
        "",
        "`DATA_ROOT=… python benchmarks/matching_resnet50.py --output docs/evidence/matching-resnet50.md`",
        "",
        f"{os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}; torch {torch.__version__}. "
        f"Full ResNet50 (width 1, 37 groups), photographs cropped to 224 pixels, {arguments.batch} at "
        "a time; decoding included.",
        "",
        "| way | images | processor seconds | seconds | peak memory beyond the networks (MB) |",
        "|---|---|---|---|---|",
        *(
            f"| {way} | {images} | {found['work']:,.0f} | {found['seconds']:,.0f} | "
            f"{found['megabytes']:,.0f} |"
            for way, images, found in rows
        ),
        "",
        f"37 passes are {slow['work'] / fast['work']:.1f} times the work of one. The two permutations "
        f"agree on {agreement(fast['permutation'], slow['permutation'])}. Seconds depend on what "
        "else ran; processor seconds do not.",
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    if arguments.output:
        arguments.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
