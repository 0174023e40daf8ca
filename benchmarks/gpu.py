"""What one GPU does: ``python benchmarks/gpu.py --write`` answers all of it within ten minutes.

One run by itself: eager fp32 steps of the training loop, and recorded steps in bf16, by width; VGG11;
matching; a curve with REPAIR. Then 1, 2, 4, 8 and 16 processes side by side, with and without MPS.
``--device cpu --quick`` goes through the same code where there is no GPU, and writes nothing.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import own
import torch
from drawn import MEAN, STD, arrays, network
from sides import Side, Way

from pipeline import matching, models, training
from pipeline.connectivity import curve
from pipeline.stages.job import device_name, settle
from pipeline.step import Step
from pipeline.streams import generator
from pipeline.study.settings import SparseSettings
from pipeline.training import Schedule, Trainer

PAGE = Path(__file__).resolve().parents[1] / "docs" / "evidence" / "gpu.md"
BATCH = 128
CIFAR_STEPS = 390  # of an epoch
TABLE_5_EPOCHS = 57_450  # what ``python -m pipeline plan table_5 --study paper`` counts


def train(
    model: str, width: float, size: int, steps: int, precision: str, device: str, *,
    eager: bool = False, deterministic: bool = False, batch: int = BATCH,
) -> Callable[[], None]:  # fmt: skip
    """A unit is an epoch of ``steps`` sparse steps; the device has finished when it returns."""
    own._thread()
    place = torch.device(device)
    if place.type == "cuda":
        settle(deterministic)
    if eager:
        training.step_of = lambda device, micro_batches: Step
    net = network(model, width, size)
    settings = SparseSettings(batch_size=batch, precision=precision)
    trainer = Trainer(own._data(batch * steps, size), settings, place)
    weights, draws = net.state_dict(), torch.Generator().manual_seed(0)
    names = models.prunable_parameters(net, "all")
    mask = {name: torch.rand(weights[name].shape, generator=draws) > 0.95 for name in names}

    def work() -> None:
        trainer.train(
            net, Schedule(0, 1, 1), lambda purpose, epoch: generator(0, purpose, epoch), mask=mask
        )
        if place.type == "cuda":
            torch.cuda.synchronize()

    return work


def seconds(make: Callable[..., Any], *, times: int = 3, **arguments: Any) -> float:
    """Seconds of one unit of work in a fresh process, the median of ``times``."""
    side = Side(Way(make, arguments, 1, {}))
    try:
        return statistics.median(side.work()[0] for _ in range(times))
    finally:
        side.close()


def match(images: int, size: int, device: str) -> Callable[[], None]:
    """A unit is one activation matching of two networks."""
    place = torch.device(device)
    nets = [own._last(network("resnet20", 1, size, seed)).to(place).eval() for seed in (0, 1)]
    spec = models.permutation_spec("resnet20", nets[0])
    batches = own._batches(torch.from_numpy(arrays(images, size)[0]).to(place), BATCH)

    def work() -> None:
        matching.match(matching.collect(nets[0], nets[1], spec, batches()))

    return work


def interpolate(images: int, points: int, size: int, device: str) -> Callable[[], None]:
    """A unit is a curve with REPAIR, statistics and loss on ``images`` images each."""
    place = torch.device(device)
    ends = [network("resnet20", 1, size, seed).state_dict() for seed in (0, 1)]
    data = own._data(images, size, images).to(place)
    net = own._last(network("resnet20", 1, size)).to(place)

    def work() -> None:
        curve(
            net, *ends, alphas=[index / (points - 1) for index in range(points)],
            corrections=("repair",), statistics_batches=own._batches(data.train.images, 500),
            splits={"test": data.test}, mean=MEAN, std=STD,
        )  # fmt: skip

    return work


@contextmanager
def mps(wanted: bool) -> Iterator[bool]:
    """CUDA's multi-process service; yields whether it runs."""
    control = shutil.which("nvidia-cuda-mps-control")
    if not wanted or control is None:
        yield False
        return
    subprocess.run([control, "-d"], check=False, capture_output=True)
    time.sleep(1)
    try:
        yield True
    finally:
        subprocess.run([control], input="quit\n", text=True, check=False, capture_output=True)


def repeats(device: str, size: int) -> bool:
    """Whether two deterministic runs end with the same bits."""
    found = []
    for _ in range(2):
        code = (
            "import hashlib, sys; sys.path.insert(0, 'benchmarks'); import gpu\n"
            f"work = gpu.train('resnet20', 1, {size}, 20, 'bf16', {device!r}, deterministic=True)\n"
            "work(); net = work.__closure__\n"
            "state = [c.cell_contents for c in net if isinstance(c.cell_contents, gpu.torch.nn.Module)]\n"
            "bits = b''.join(t.cpu().numpy().tobytes() for t in state[0].state_dict().values())\n"
            "print(hashlib.sha256(bits).hexdigest())"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        found.append(done.stdout.split()[-1])
    return found[0] == found[1]


def table(head: tuple[str, ...], rows: list[tuple[object, ...]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def answer(device: str, quick: bool, limit: float) -> str:
    """All measurements, as a page; what the time did not suffice for is said."""
    begin = time.monotonic()
    size, steps = (8, 4) if quick else (32, CIFAR_STEPS)
    common = {"model": "resnet20", "width": 1, "size": size, "steps": steps, "device": device}
    reference = seconds(train, **common, precision="fp32", eager=True)

    def rate(seconds: float, epoch: int) -> str:
        return f"{BATCH * epoch / seconds:,.0f}"

    rows: list[tuple[object, ...]] = [
        (
            "ResNet20, fp32, eager",
            rate(reference, steps),
            "1.0",
            f"{reference * CIFAR_STEPS / steps:.2f}",
        )
    ]
    print(rows[-1], flush=True)
    cases = [
        ("ResNet20", {}, "bf16", True),
        ("ResNet20", {}, "fp32", False),
        ("ResNet20", {}, "bf16", False),
        ("ResNet20, deterministic", {"deterministic": True}, "bf16", False),
        ("VGG11", {"model": "vgg11"}, "bf16", False),
        ("ResNet20 x 4", {"width": 4}, "bf16", False),
    ]
    if not quick:
        cases.append(("ResNet20 x 16", {"width": 16, "steps": 100}, "bf16", False))
    for name, changes, precision, eager in cases:
        arguments: dict[str, Any] = common | changes
        took = seconds(train, **arguments, precision=precision, eager=eager)
        per_epoch = took * CIFAR_STEPS / arguments["steps"]
        ratio = reference * CIFAR_STEPS / steps / per_epoch
        label = f"{name}, {precision}, {'eager' if eager else 'recorded'}"
        rows.append((label, rate(took, arguments["steps"]), f"{ratio:.1f}", f"{per_epoch:.2f}"))
        print(rows[-1], flush=True)
    parts = [table(("one run", "images/s", "x eager fp32", "s per CIFAR-10 epoch"), rows)]

    images, points = (500, 3) if quick else (10_000, 25)
    work = [
        ("matching", f"{images:,} images", seconds(match, images=images, size=size, device=device)),
        (
            "curve with REPAIR", f"{points} points, {images:,} images",
            seconds(interpolate, images=images, points=points, size=size, device=device),
        ),
    ]  # fmt: skip
    print(work, flush=True)
    parts.append(table(("work", "size", "seconds"), [(a, b, f"{s:.2f}") for a, b, s in work]))

    rows = []
    for wanted in (False, True):
        with mps(wanted) as running:
            if wanted and not running:
                rows.append(("-", "with MPS: not available here", "", "", ""))
                continue
            for count in (1, 2) if quick else (1, 2, 4, 8, 16):
                if time.monotonic() - begin > limit:
                    rows.append((count, "time was up", "", "", ""))
                    continue
                side = Side(Way(train, {**common, "precision": "bf16"}, count, {}))
                try:
                    took = statistics.median(side.work()[0] for _ in range(3))
                finally:
                    side.close()
                hours = took / steps * CIFAR_STEPS * TABLE_5_EPOCHS / 3600
                rows.append(
                    (count, "MPS" if running else "no MPS", rate(took, steps),
                     f"{reference / took:.1f}", f"{hours:.1f}")
                )  # fmt: skip
                print(rows[-1], flush=True)
    parts.append(
        table(("processes", "", "images/s together", "x eager fp32", "hours for Table 5"), rows)
    )
    same = "yes" if repeats(device, size) else "NO"
    parts.append(f"Two deterministic runs end with the same bits: **{same}**.\n")
    return "\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="in miniature")
    parser.add_argument("--write", nargs="?", const=str(PAGE), help="write the page (to this file)")
    parser.add_argument(
        "--limit", type=float, default=420, help="seconds after which no new row starts"
    )
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("no GPU can be used here; --device cpu --quick goes through the code")
    text = answer(options.device, options.quick, options.limit)
    head = (
        "# Speed on a GPU\n\nMeasured by `python benchmarks/gpu.py --write`, which writes this page.\n\n"
        f"Machine: {device_name(torch.device(options.device))}, {os.cpu_count()} CPU cores, Python "
        f"{platform.python_version()}, torch {torch.__version__.split('+')[0]}.\n\n"
    )
    print(text)
    if options.write and not options.quick:
        Path(options.write).write_text(head + text, encoding="utf-8")


if __name__ == "__main__":
    main()
