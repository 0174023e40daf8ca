"""Prints the seconds that a run spends from the start of its process to its first step, by part."""

import sys
import time

last = float(sys.argv[1])


def part(name: str) -> None:
    """Print the time since the last part."""
    global last
    now = time.time()
    print(f"{name} {now - last:.3f}")
    last = now


part("Python")
import torch  # noqa: E402, F401

part("import torch")
import own  # noqa: E402

from pipeline.kernels.build import compiled  # noqa: E402

part("import of the package and SciPy")
compiled()
part("kernels, compiled before")
step = own.train("resnet20", 1, 32, 128, 1, sparse=True, precision="bf16")
part("data and network")
step()
part("first step, and an evaluation")
step()
part("second step, for comparison")
