"""What each source of kernels is worth in a step, and layer by layer beside PyTorch (oneDNN).

``python benchmarks/kernels.py --write`` takes minutes and writes docs/evidence/kernels.md.

Steps: a training step of ResNet20 with all kernels, without one of the sources, and without any, in
turns in one process; CPU time, medians of the ratios within a turn, so that work beside it matters
little. Layers: the convolutions of ResNet20 on 32 x 32 pixels, both ways in turns on the same tensors,
medians; errors are relative root mean squares beside double precision. All of it on one thread.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from drawn import MEAN, STD, arrays
from own import network
from run import machine
from torch import Tensor, nn

from pipeline.kernels import build, convolve, normalise
from pipeline.machine import memory
from pipeline.study.settings import DenseSettings
from pipeline.training.step import Step

PAGE = Path(__file__).resolve().parents[1] / "docs" / "evidence" / "kernels.md"
#: Precision, width, side of the images, batch.
STEPS = [
    (precision, *size)
    for precision in ("fp32", "bf16")
    for size in ((0.25, 8, 64), (0.25, 32, 128), (1, 8, 64), (1, 32, 128), (4, 8, 64), (4, 32, 64))
]
#: What the studies of the paper train, and how much longer their step must be without a source for
#: its lines to be worth it.
STUDIED, EARNED = (1, 32, 128), 1.1
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


def _never(*given: object) -> bool:
    return False


def _ways() -> dict[str, dict[str, Callable[..., object]]]:
    """What stands in for `convolve._fits`, `convolve._kernel` and `normalise._fits`.

    Without Winograd's kernels, bfloat16 has the direct ones everywhere and fp32 has PyTorch's;
    without the direct ones, bfloat16 has Winograd's with stride 1 and PyTorch's with stride 2.
    """
    fits = convolve._fits

    def half(module: nn.Conv2d, inputs: Tensor) -> bool:
        return inputs.dtype == torch.bfloat16 and fits(module, inputs)

    def but_strided(module: nn.Conv2d, inputs: Tensor) -> bool:
        return (inputs.dtype == torch.float32 or module.stride == (1, 1)) and fits(module, inputs)

    def winograd(inputs: Tensor, outputs: int, stride: int) -> str:
        return "winograd_fp32" if inputs.dtype == torch.float32 else "winograd_bf16"

    return {
        "all": {},
        "winograd.cpp": {"fits": half, "kernel": lambda *given: "direct_bf16"},
        "direct.cpp": {"fits": but_strided, "kernel": winograd},
        "batch_norm.cpp": {"normalises": _never},
        "any": {"fits": _never, "normalises": _never},
    }


def steps(
    precision: str, width: float, size: int, batch: int, seconds: float
) -> dict[str, list[float]]:
    """CPU seconds of a training step, turn by turn, without each of the sources."""
    pixels, labels = map(torch.from_numpy, arrays(batch, size))
    net = network("resnet20", width, size).train()
    settings = DenseSettings(batch_size=batch, precision=precision, lr=1e-3)
    step = Step(net, settings, MEAN, STD, torch.device("cpu"))
    own = {"fits": convolve._fits, "kernel": convolve._kernel, "normalises": normalise._fits}
    ways = _ways()
    spent: dict[str, list[float]] = {name: [] for name in ways}
    names, started = list(ways), time.process_time()
    try:
        while len(spent["all"]) < 6 or time.process_time() - started < seconds:
            for name in names:
                chosen = own | ways[name]
                convolve._fits, convolve._kernel = chosen["fits"], chosen["kernel"]
                normalise._fits = chosen["normalises"]
                start = time.process_time()
                step([(pixels, labels)])
                spent[name].append(time.process_time() - start)
            names = names[1:] + names[:1]
    finally:
        convolve._fits, convolve._kernel = own["fits"], own["kernel"]
        normalise._fits = own["normalises"]
    return {name: times[1:] for name, times in spent.items()}  # the first turn warms up


def page_of_steps(seconds: float) -> list[str]:
    """The table of steps, and what follows from it for each source."""
    ways = [name for name in _ways() if name != "all"]
    lines = [
        "## Whether a source earns its lines\n",
        "A training step of ResNet20: the time with all kernels, and how many times as long it takes "
        "without one source, and without any: medians over the turns, in brackets the quartiles. "
        "Without `winograd.cpp`, bf16 has the direct kernels everywhere and fp32 PyTorch's; without "
        "`direct.cpp`, bf16 has Winograd's method with stride 1 and PyTorch's with stride 2. Below 1: "
        "the choice between the two (`WIDE` in `convolve.py`) was made on 32 x 32 pixels, and is not "
        "the faster one there.\n",
        "| step | turns | all | " + " | ".join(f"without {f'`{n}`' if '.' in n else n}" for n in ways) + " |",
        "|---" * (len(ways) + 3) + "|",
    ]  # fmt: skip
    longer: dict[str, dict[str, float]] = {name: {} for name in ways}
    for precision, width, size, batch in STEPS:
        spent = steps(precision, width, size, batch, seconds)
        step, cells = f"{precision}, width {width}, {size} x {size}, batch {batch}", []
        for name in ways:
            ratios = [b / a for a, b in zip(spent["all"], spent[name], strict=True)]
            low, middle, high = statistics.quantiles(ratios, n=4)
            longer[name][step] = middle
            cells.append(f"{middle:.2f} ({low:.2f}–{high:.2f})")
        milliseconds = 1e3 * statistics.median(spent["all"])
        row = [step, str(len(spent["all"])), f"{milliseconds:.1f} ms", *cells]
        lines.append(f"| {' | '.join(row)} |")
        print(lines[-1], flush=True)
    width, size, batch = STUDIED
    lines += [
        f"\nA source stays if without it a step of the size that the studies train (width {width}, "
        f"{size} x {size}, batch {batch}) is at least {EARNED} times as long in one of the precisions.\n",
        "| source | lines | fp32, that size | bf16, that size | most, and where | |",
        "|---|---|---|---|---|---|",
    ]
    for source in build.SOURCES:
        count = len((Path(build.__file__).parent / source).read_text(encoding="utf-8").splitlines())
        found = longer[source]
        those = [found[f"{p}, width {width}, {size} x {size}, batch {batch}"] for p in TYPES]
        most = max(found, key=lambda step: found[step])
        verdict = "earns them" if max(those) >= EARNED else "does not earn them"
        ratios = f"{those[0]:.2f} | {those[1]:.2f} | {found[most]:.2f}: {most}"
        lines.append(f"| `{source}` | {count} | {ratios} | {verdict} |")
    return lines


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
            start = time.process_time()
            way()
            if number > 1:
                spent.append(time.process_time() - start)
    errors = [float((way().double() - exact).norm() / exact.norm()) for way in ways]
    return [1e3 * statistics.median(spent) for spent in seconds], errors


def page_of_layers(times: int) -> list[str]:
    """The tables of convolutions, one for each type that this processor has kernels for."""
    lines = [
        "\n## Convolutions, layer by layer\n",
        "The 3x3 convolutions of ResNet20×1, batch 128; milliseconds a call, PyTorch's (oneDNN) → "
        "ours, medians in turns on the same tensors. In brackets the relative error beside double "
        "precision.\n",
    ]
    for kind in TYPES:
        if not convolve._available(TYPES[kind]):
            lines.append(f"No {kind} kernels here: the processor lacks the instructions.\n")
            continue
        lines += [
            f"### {kind}\n",
            "| layer | forward | gradient of the data | gradient of the weights |",
            "|---|---|---|---|",
        ]
        totals = [0.0, 0.0]
        for layer in LAYERS:
            inputs, outputs, side, stride, count = layer
            cells = []
            for name in PASSES:
                spent, errors = measure(kind, layer, name, times)
                totals = [total + count * one for total, one in zip(totals, spent, strict=True)]
                cells.append(f"{spent[0]:.2f} → {spent[1]:.2f} ({errors[0]:.1e} → {errors[1]:.1e})")
            label = f"{inputs} → {outputs}, {side} × {side}, stride {stride} (× {count})"
            lines.append(f"| {label} | {' | '.join(cells)} |")
        ratio = totals[0] / totals[1]
        lines.append(f"\nAll of a step: {totals[0]:.0f} → {totals[1]:.0f} ms, {ratio:.2f} times.\n")
    return lines


def page(seconds: float, times: int) -> str:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    if build.compiled() is None:
        raise SystemExit("error: no compiler, or PIPELINE_KERNELS=0: nothing to measure")
    head = [
        "# Kernels\n",
        "`python benchmarks/kernels.py --write` measures and writes this page: one thread, CPU time.\n",
        f"Machine: {machine()}.\n",
    ]
    return "\n".join([*head, *page_of_steps(seconds), *page_of_layers(times)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=21, help="calls of each way of a layer (21)")
    parser.add_argument("--seconds", type=float, default=15, help="CPU time of a row of steps (15)")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    options = parser.parse_args()
    memory.tune()  # for the process that measures
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        text = pool.apply(page, (options.seconds, options.times))
    print(text)
    if options.write:
        PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
