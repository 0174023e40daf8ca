"""What one GPU does: ``python benchmarks/gpu.py --write`` answers all of it within ten minutes.

One run by itself: eager fp32 steps of the training loop, and recorded steps in bf16, by width; VGG11;
matching; a curve with REPAIR. Then 1, 2, 4, 8 and 16 processes side by side, with and without MPS.
``--device cpu --quick`` goes through the same code where there is no GPU, and writes nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import own
import torch
from sides import Way, alone

from pipeline.stages.job import device_name

PAGE = Path(__file__).resolve().parents[1] / "docs" / "evidence" / "gpu.md"
BATCH = 128
CIFAR_STEPS = 390  # of an epoch
TABLE_5_EPOCHS = 57_450  # what ``python -m pipeline plan table_5 --study paper`` counts


def seconds(make: Callable[..., Any], processes: int = 1, **arguments: Any) -> float:
    """Seconds of one unit of work in fresh processes, each doing one at a time."""
    return alone(Way(make, arguments, processes, {}))[0]


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


def _bits(arguments: dict[str, Any]) -> str:
    """Digest of a network after a unit of training."""
    net, work = own.training_of(**arguments, deterministic=True)
    work()
    state = (tensor.cpu().numpy().tobytes() for tensor in net.state_dict().values())
    return hashlib.sha256(b"".join(state)).hexdigest()


def repeats(arguments: dict[str, Any]) -> bool:
    """Whether two deterministic runs, each in a process of its own, end with the same bits."""
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        first, second = pool.map(_bits, [arguments, arguments], chunksize=1)
    return bool(first == second)


def table(head: tuple[str, ...], rows: list[tuple[object, ...]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def answer(device: str, quick: bool, limit: float) -> str:
    """All measurements, as a page; what the time did not suffice for is said."""
    begin = time.monotonic()
    size, steps = (8, 4) if quick else (32, CIFAR_STEPS)
    net: dict[str, Any] = {"model": "resnet20", "width": 1, "size": size, "device": device}
    common = net | {"batch": BATCH, "steps": steps, "sparse": True}
    reference = seconds(own.train, **common, precision="fp32", eager=True)

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
        took = seconds(own.train, **arguments, precision=precision, eager=eager)
        per_epoch = took * CIFAR_STEPS / arguments["steps"]
        ratio = reference * CIFAR_STEPS / steps / per_epoch
        label = f"{name}, {precision}, {'eager' if eager else 'recorded'}"
        rows.append((label, rate(took, arguments["steps"]), f"{ratio:.1f}", f"{per_epoch:.2f}"))
        print(rows[-1], flush=True)
    parts = [table(("one run", "images/s", "x eager fp32", "s per CIFAR-10 epoch"), rows)]

    images, points = (500, 3) if quick else (10_000, 25)
    work = [
        ("matching", f"{images:,} images", seconds(own.match, **net, images=images)),
        (
            "curve with REPAIR", f"{points} points, {images:,} images",
            seconds(own.interpolate, **net, images=images, points=points, batch=500),
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
                took = seconds(own.train, count, **common, precision="bf16")
                hours = took / steps * CIFAR_STEPS * TABLE_5_EPOCHS / 3600
                rows.append(
                    (count, "MPS" if running else "no MPS", rate(took, steps),
                     f"{reference / took:.1f}", f"{hours:.1f}")
                )  # fmt: skip
                print(rows[-1], flush=True)
    parts.append(
        table(("processes", "", "images/s together", "x eager fp32", "hours for Table 5"), rows)
    )
    same = "yes" if repeats(common | {"precision": "bf16", "steps": 20}) else "NO"
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
