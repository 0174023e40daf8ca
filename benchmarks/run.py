"""Speed beside the conventional way, as ratios: ``make bench``.

Every row is measured in interleaved pairs. Conventional: one process with PyTorch's default number
of threads, and a DataLoader worker a core. Own: as many processes of one thread as there are cores,
which is how ``snakemake -cN`` runs cells.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import conventional
import own
import torch
from sides import Pairs, Way, alone, compare

from pipeline.catalog.networks import NETWORKS
from pipeline.machine import memory as allocator

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "evidence" / "performance.md"
CORES = len(os.sched_getaffinity(0))
BATCH = 128


@dataclass(frozen=True)
class Row:
    """One comparison; ``work`` is how many ``unit`` one unit of work is, ``flops`` of each."""

    name: str
    kind: str
    arguments: dict[str, Any]
    own: dict[str, Any]
    work: int
    unit: str
    flops: float = 0.0
    precision: str = "fp32"
    aim: float | None = None


def training(
    name: str, model: str, width: float, size: int, steps: int, *, sparse: bool, precision: str,
    aim: float | None = None,
) -> Row:  # fmt: skip
    arguments = {
        "model": model, "width": width, "size": size, "batch": BATCH, "steps": steps,
        "sparse": sparse,
    }  # fmt: skip
    flops = 3 * NETWORKS[model].forward_flops(width, size)
    images = BATCH * steps
    return Row(
        name, "train", arguments, {"precision": precision}, images, "images", flops, precision, aim
    )


def rows(quick: bool) -> list[Row]:
    """What is compared; ``quick`` is the same in miniature."""
    size = 8 if quick else 32
    steps = 2 if quick else 16
    few = 2 if quick else 3
    many = 250 if quick else 10_000
    net = {"model": "resnet20", "width": 1, "size": size}
    once = NETWORKS["resnet20"].forward_flops(1, size)
    some = 200 if quick else 1000
    points, ends = (3, 125) if quick else (25, 250)
    found = [
        training(
            "dense training", "resnet20", 1, size, steps, sparse=False, precision="fp32", aim=2.0
        ),
        training(
            "dense training", "resnet20", 1, size, steps, sparse=False, precision="bf16", aim=3.3
        ),
        training("sparse training", "resnet20", 1, size, steps, sparse=True, precision="fp32"),
        training(
            "sparse training", "resnet20", 1, size, steps, sparse=True, precision="bf16", aim=3.5
        ),
    ]
    for precision, aim in (("fp32", None), ("bf16", 3.0)):
        found.append(
            Row("evaluation on the test set", "evaluate", {**net, "images": many},
                {"precision": precision}, many, "images", once, precision, aim)
        )  # fmt: skip
    found += [
        Row("activation matching, whole network", "match", {**net, "images": some}, {}, some,
            "images", 2 * once, aim=8.0),
        Row(f"{points} interpolation points with REPAIR", "interpolate",
            {**net, "images": ends, "points": points}, {}, points, "points", 2 * ends * once, aim=3.0),
        training("dense training, VGG11", "vgg11", 1, size, few, sparse=False, precision="fp32"),
        training("dense training, VGG11", "vgg11", 1, size, few, sparse=False, precision="bf16"),
        training("dense training, width 2", "resnet20", 2, size, few, sparse=False, precision="bf16"),
        training("dense training, width 4", "resnet20", 4, size, 2, sparse=False, precision="fp32"),
        training("dense training, width 4", "resnet20", 4, size, 2, sparse=False, precision="bf16"),
        training("dense training, width 8", "resnet20", 8, size, 1, sparse=False, precision="bf16"),
        training("dense training, 8 x 8 pixels", "resnet20", 1, 8, steps, sparse=False, precision="fp32"),
        training("sparse training, 8 x 8 pixels", "resnet20", 1, 8, steps, sparse=True, precision="fp32"),
    ]  # fmt: skip
    if quick:  # one of each kind
        return list({row.kind: row for row in found if "width" not in row.name}.values())
    return found


def measure(row: Row, pairs: int) -> Pairs:
    return compare(
        Way(getattr(conventional, row.kind), row.arguments, 1, {}),
        Way(
            getattr(own, row.kind), {**row.arguments, **row.own}, CORES,
            {allocator.VARIABLE: allocator.TUNABLES},
        ),
        pairs,
    )  # fmt: skip


def matmul_rate(precision: str) -> float:
    """FLOP/s of one core in square products, the best of several sizes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    rates = []
    for size in (512, 1024, 2048):
        a, b = (torch.randn(size, size).to(kind) for _ in range(2))
        a @ b
        for _ in range(5):
            start = time.perf_counter()
            a @ b
            rates.append(2 * size**3 / (time.perf_counter() - start))
    torch.set_num_threads(before)
    return max(rates)


def growth(quick: bool) -> list[tuple[str, list[tuple[str, float, float]]]]:
    """Seconds and MB of the own way, in fresh processes, as one size grows."""
    size = 8 if quick else 32
    net = {"model": "resnet20", "width": 1, "size": size}

    def own_way(make: Callable[..., Any], **arguments: Any) -> tuple[float, float]:
        return alone(Way(make, arguments, 1, {allocator.VARIABLE: allocator.TUNABLES}))

    images = (100, 200) if quick else (500, 1000, 2000, 4000)
    widths = (1, 2) if quick else (1, 2, 4, 8)
    points = (3, 5) if quick else (7, 13, 25, 49)
    few = 100 if quick else 500
    return [
        ("matching: images", [
            (str(n), *own_way(own.match, **net, images=n, held=max(images))) for n in images
        ]),
        ("matching: width", [
            (str(w), *own_way(own.match, **(net | {"width": w}), images=few // 5)) for w in widths
        ]),
        ("training step (bf16): width", [
            (str(w), *own_way(
                own.train, **(net | {"width": w}), batch=BATCH, steps=1, sparse=False, precision="bf16"
            )) for w in widths
        ]),
        ("interpolation with REPAIR: points", [
            (str(n), *own_way(own.interpolate, **net, images=few // 4 * 2, points=n)) for n in points
        ]),
    ]  # fmt: skip


def same_permutation() -> bool:
    """Whether both ways of matching find the same permutation.

    At 32 pixels even in miniature: at 8 these untrained networks have two dead units in one group,
    which both ways give a partner, but not the same one, as no choice is better.
    """
    net: dict[str, Any] = {"model": "resnet20", "width": 1, "size": 32, "images": 200}
    ours, theirs = own.match(**net)(), conventional.match(**net)()
    return all(torch.equal(ours[name], theirs[name]) for name in theirs)


def startup() -> list[tuple[str, float]]:
    """Seconds from the start of a process to its first step, by part."""
    code = Path(__file__).with_name("startup.py")
    found: dict[str, list[float]] = {}
    for _ in range(5):
        begin = time.time()
        out = subprocess.run(
            [sys.executable, str(code), repr(begin)], capture_output=True, text=True, check=True,
            env=os.environ | {allocator.VARIABLE: allocator.TUNABLES},
        ).stdout  # fmt: skip
        for line in out.splitlines():
            part, seconds = line.rsplit(" ", 1)
            found.setdefault(part, []).append(float(seconds))
    return [(part, statistics.median(seconds)) for part, seconds in found.items()]


def machine() -> str:
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}"
        for name in ("torch", "torchvision", "numpy", "scipy")
    )
    capability = torch.backends.cpu.get_cpu_capability()
    flags = Path("/proc/cpuinfo")
    bf16 = flags.exists() and "avx512_bf16" in flags.read_text()
    return (
        f"{CORES} cores, {capability}{' with bf16' if bf16 else ''}, {platform.system()} "
        f"{platform.machine()}, Python {platform.python_version()}, {versions}"
    )


def table(found: list[tuple[Row, Pairs]], rates: dict[str, float]) -> str:
    """Markdown: both throughputs, ratio, spread, aim, distance from the arithmetic, memory."""
    lines = [
        "| work | precision | conventional | own | ratio (spread) | aim | x arithmetic | MB, own |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row, pairs in found:
        theirs, ours = (row.work / statistics.median(s) for s in (pairs.conventional, pairs.own))
        low, high = pairs.spread
        floor = rates[row.precision] * CORES / row.flops / ours if row.flops else float("nan")
        aim = f">= {row.aim}" if row.aim else ""
        lines.append(
            f"| {row.name} | {row.precision} | {theirs:,.4g} {row.unit}/s | {ours:,.4g} {row.unit}/s "
            f"| **{pairs.ratio:.2f}** ({low:.2f}-{high:.2f}) | {aim} | {floor:.1f} | {pairs.own_mb:,.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=7, help="interleaved pairs a row (7)")
    parser.add_argument("--quick", action="store_true", help="in miniature; writes no page")
    parser.add_argument("--only", default="", help="only rows whose name contains this; no page")
    options = parser.parse_args()
    rates = {precision: matmul_rate(precision) for precision in ("fp32", "bf16")}
    found = []
    for row in rows(options.quick):
        if options.only in row.name:
            pairs = measure(row, options.pairs)
            found.append((row, pairs))
            print(table(found[-1:], rates).splitlines()[-1], flush=True)
    if options.only:
        return
    same = same_permutation()
    sizes = growth(options.quick)
    start = startup()
    text = page(found, rates, same, sizes, start, options.pairs)
    print(text)
    if not options.quick:
        PAGE.parent.mkdir(parents=True, exist_ok=True)
        PAGE.write_text(text, encoding="utf-8")
        print(f"written: {PAGE.relative_to(ROOT)}")


def page(
    found: list[tuple[Row, Pairs]], rates: dict[str, float], same: bool,
    sizes: list[tuple[str, list[tuple[str, float, float]]]], start: list[tuple[str, float]], pairs: int,
) -> str:  # fmt: skip
    notes = Path(__file__).with_name("notes.md").read_text(encoding="utf-8")
    parts = [
        "# Performance\n\nMeasured by `make bench`, which writes this page.\n",
        f"Machine: {machine()}.\n",
        f"Each ratio is the median of {pairs} interleaved pairs; its spread is the least and the "
        "greatest of them. Matrix products reach "
        + " and ".join(f"{rate / 1e9:.0f} GFLOP/s in {name}" for name, rate in rates.items())
        + ' on one core; "x arithmetic" is the time taken over the time that the multiplications '
        "alone would take at this rate on all cores.\n",
        table(found, rates) + "\n",
        f"Both ways of matching find the same permutation: **{'yes' if same else 'NO'}**.\n",
        "## Growth\n\nOne process of one thread, in a fresh process each; median of three. The images of "
        "matching are so many of those in memory, the most that the table names.\n",
    ]
    for name, values in sizes:
        head, what = name.split(": ")
        parts.append(
            f"| {head}, {what} | seconds | peak MB |\n|---|---|---|\n"
            + "\n".join(f"| {size} | {seconds:.3g} | {mb:,.0f} |" for size, seconds, mb in values)
            + "\n"
        )
    parts.append(
        "## From the start of a process to the first step\n\n| part | seconds |\n|---|---|\n"
        + "\n".join(f"| {part} | {seconds:.2f} |" for part, seconds in start)
        + "\n"
    )
    return "\n".join(parts) + "\n" + notes


if __name__ == "__main__":
    main()
