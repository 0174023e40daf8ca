"""Whether bf16 costs accuracy: dense runs of the same seeds in both precisions, on real CIFAR-10.

``DATA_ROOT=... python benchmarks/precision.py --write`` trains ResNet20 for a few epochs by the
paper's recipe, as many runs at a time as there are cores, and writes docs/evidence/precision.md.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import time
from pathlib import Path

import torch

from pipeline import data, models
from pipeline.kernels.accelerate import accelerate
from pipeline.machine import memory as allocator
from pipeline.streams import generator
from pipeline.study.settings import DenseSettings
from pipeline.training.loop import Schedule, Trainer, Training

PAGE = Path(__file__).resolve().parents[1] / "docs" / "evidence" / "precision.md"
PRECISIONS = ("fp32", "bf16")


def run(job: tuple[int, str, int, str]) -> tuple[int, str, float, float, float]:
    """One dense run: seed, precision, test accuracy in %, training loss in nats, seconds."""
    seed, precision, epochs, root = job
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    found = data.load("cifar10", root, download=False)
    assert isinstance(found, data.DataSet)
    model = accelerate(
        models.build(
            "resnet20", width=1, classes=10, channels=3, size=32, generator=generator(seed, "init")
        )
    )
    settings = DenseSettings(epochs=epochs, precision=precision, evaluate_every=epochs)
    started = time.monotonic()
    training = Training(
        Schedule(0, epochs, epochs), lambda what, epoch: generator(seed, what, epoch)
    )
    outcome = Trainer(found, settings, torch.device("cpu")).train(model, training)
    assert outcome.final is not None
    loss = outcome.history[-1]["train_loss"]
    assert loss is not None
    return seed, precision, outcome.final.accuracy, float(loss), time.monotonic() - started


def page(rows: list[tuple[int, str, float, float, float]], epochs: int) -> str:
    by = {(seed, precision): (accuracy, loss) for seed, precision, accuracy, loss, _ in rows}
    seeds = sorted({seed for seed, _ in by})
    lines = ["| seed | fp32: test accuracy | bf16 | difference | fp32: training loss | bf16 |"]
    lines.append("|---|---|---|---|---|---|")
    differences = []
    for seed in seeds:
        (a, loss_a), (b, loss_b) = (by[seed, precision] for precision in PRECISIONS)
        differences.append(b - a)
        lines.append(f"| {seed} | {a:.2f} | {b:.2f} | {b - a:+.2f} | {loss_a:.4f} | {loss_b:.4f} |")
    spread = {
        precision: statistics.stdev(by[seed, precision][0] for seed in seeds)
        for precision in PRECISIONS
    }
    mean = statistics.mean(differences)
    error = statistics.stdev(differences) / len(seeds) ** 0.5
    verdict = "within" if abs(mean) <= max(spread.values()) else "NOT within"
    return (
        "# Precision\n\nMeasured by `DATA_ROOT=... python benchmarks/precision.py --write`, which "
        f"writes this page.\n\nResNet20 on CIFAR-10, the paper's dense recipe over {epochs} epochs, "
        "the same seeds in both precisions; test accuracy in %, loss in nats.\n\n"
        + "\n".join(lines)
        + f"\n\nMean difference {mean:+.2f} ± {error:.2f} (standard error); standard deviation over "
        f"seeds {spread['fp32']:.2f} in fp32 and {spread['bf16']:.2f} in bf16: the difference is "
        f"**{verdict}** seed noise. fp32 stays the reference setting.\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="write the page")
    options = parser.parse_args()
    root = os.environ.get("DATA_ROOT", "data")
    allocator.tune()
    # the slower precision first, so that no core waits at the end
    jobs = [(s, p, options.epochs, root) for p in PRECISIONS for s in range(options.seeds)]
    with multiprocessing.get_context("spawn").Pool(len(os.sched_getaffinity(0))) as pool:
        rows = []
        for row in pool.imap_unordered(run, jobs):
            print("seed {} {}: {:.2f} %, loss {:.4f}, {:.0f} s".format(*row), flush=True)
            rows.append(row)
    text = page(rows, options.epochs)
    print(text)
    if options.write:
        PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
