"""Our convolutions beside PyTorch's (oneDNN), layer by layer: ``python benchmarks/kernels.py --write``.

One thread, batch 128, the layers of ResNet20 on 32 x 32 pixels; both ways in turns on the same
tensors, medians. Errors are relative root mean squares beside double precision. Takes seconds, and
writes docs/evidence/kernels.md.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from run import machine
from torch import Tensor

from pipeline.kernels import convolve
from pipeline.kernels.build import compiled

PAGE = Path(__file__).resolve().parents[1] / "docs" / "evidence" / "kernels.md"
BATCH = 128
#: Channels in and out, side of the input, stride, and how many of these ResNet20 has.
LAYERS = (
    (16, 16, 32, 1, 6),
    (16, 32, 32, 2, 2),
    (32, 32, 16, 1, 5),
    (32, 64, 16, 2, 2),
    (64, 64, 8, 1, 5),
)
PASSES = ("forward", "data_gradient", "weight_gradient")
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def _last(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last)


def both(kind: str, layer: tuple[int, ...], name: str) -> list[Callable[[], Tensor]]:
    """One pass of one layer, by PyTorch, by us, and by PyTorch in double precision."""
    inputs, outputs, side, stride, _ = layer
    dtype, draws = TYPES[kind], torch.Generator().manual_seed(0)
    x = _last(torch.randn(BATCH, inputs, side, side, generator=draws).to(dtype))
    w = _last(torch.randn(outputs, inputs, 3, 3, generator=draws) / (9 * inputs) ** 0.5)
    w = _last(w.to(dtype).float())  # exact in both
    after = -(-side // stride)
    dy = _last(torch.randn(BATCH, outputs, after, after, generator=draws).to(dtype))
    shape = ([stride] * 2, [1, 1], [1, 1], False, [0, 0], 1)

    def theirs(x: Tensor, w: Tensor, dy: Tensor) -> Tensor:
        if name == "forward":
            return torch.ops.aten.convolution(x, w, None, *shape)  # type: ignore[no-any-return]
        mask = [name == "data_gradient", name == "weight_gradient", False]
        found = torch.ops.aten.convolution_backward(dy, x, w, None, *shape, mask)
        return found[mask.index(True)]  # type: ignore[no-any-return]

    def ours() -> Tensor:
        made = {"forward": dy, "data_gradient": x, "weight_gradient": w}[name]
        result = torch.empty_like(made)
        given = {"forward": (x, w), "data_gradient": (dy, w), "weight_gradient": (x, dy)}[name]
        convolve._call(name, x, outputs, stride, *given, result)
        return result

    narrow = w.to(dtype)
    return [
        lambda: theirs(x, narrow, dy), ours, lambda: theirs(x.double(), w.double(), dy.double()),
    ]  # fmt: skip


def measure(
    kind: str, layer: tuple[int, ...], name: str, times: int
) -> tuple[list[float], list[float]]:
    """Milliseconds and errors of (PyTorch, ours)."""
    ways = both(kind, layer, name)
    exact = ways.pop()()
    seconds: tuple[list[float], list[float]] = ([], [])
    for number in range(times + 2):
        for way, spent in zip(ways, seconds, strict=True):
            start = time.perf_counter()
            way()
            if number > 1:
                spent.append(time.perf_counter() - start)
    errors = [float((way().double() - exact).norm() / exact.norm()) for way in ways]
    return [1e3 * statistics.median(spent) for spent in seconds], errors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=21, help="calls of each way (21)")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    if compiled() is None:
        raise SystemExit("error: no compiler, or PIPELINE_KERNELS=0: nothing to measure")
    lines = [
        "# Convolution kernels\n",
        "`python benchmarks/kernels.py --write`: the 3x3 convolutions of ResNet20×1, batch 128, one "
        "thread; milliseconds a call, PyTorch's (oneDNN) → ours, medians in turns on the same "
        "tensors. In brackets the relative error beside double precision.\n",
        f"Machine: {machine()}.\n",
    ]
    for kind in TYPES:
        if not convolve._available(TYPES[kind]):
            lines.append(f"No {kind} kernels here: the processor lacks the instructions.\n")
            continue
        lines += [
            f"## {kind}\n",
            "| layer | forward | gradient of the data | gradient of the weights |",
        ]
        lines.append("|---|---|---|---|")
        totals = [0.0, 0.0]
        for layer in LAYERS:
            inputs, outputs, side, stride, count = layer
            cells = []
            for name in PASSES:
                spent, errors = measure(kind, layer, name, options.times)
                totals = [total + count * one for total, one in zip(totals, spent, strict=True)]
                cells.append(f"{spent[0]:.2f} → {spent[1]:.2f} ({errors[0]:.1e} → {errors[1]:.1e})")
            label = f"{inputs} → {outputs}, {side} × {side}, stride {stride} (× {count})"
            lines.append(f"| {label} | {' | '.join(cells)} |")
        lines.append(
            f"\nAll of a step: {totals[0]:.0f} → {totals[1]:.0f} ms, {totals[0] / totals[1]:.2f} times.\n"
        )
    text = "\n".join(lines)
    print(text)
    if options.write:
        PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
