"""What ``benchmarks/first_gpu.py`` finds out on a GPU, an item a function; each in a process of its own.

Needs torch, NumPy, SciPy, safetensors and PyYAML, not Snakemake. First what is right or wrong, then
what is fast. On a CPU, the first items compare it with itself; on the stand-ins of the tests,
everything ends and no number means anything.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Barrier
from typing import Any

import beside
import own
import torch
from drawn import MEAN, STD, network
from torch import Tensor, nn

from pipeline import models, stages
from pipeline.artifacts.store import read_json
from pipeline.connectivity.barrier import curve
from pipeline.connectivity.survey import Ground
from pipeline.data.augment import Augmenter, normalise
from pipeline.errors import Interrupted
from pipeline.evaluation import evaluate
from pipeline.machine import mps
from pipeline.machine.baton import aside, hand_on
from pipeline.stages.job import device_name, settle
from pipeline.streams import generator
from pipeline.study.config import read
from pipeline.study.graph import Graph
from pipeline.study.settings import SparseSettings
from pipeline.symmetry import matching
from pipeline.training.cuda_graph import GraphedStep
from pipeline.training.loop import Keeper, Schedule, Trainer, Training, graceful
from pipeline.training.step import Step

BATCH = 128
DEVICE = torch.device(os.environ.get("FIRST_DEVICE", "cuda"))
#: In miniature, to go through the code.
QUICK = "FIRST_QUICK" in os.environ
ROOT = Path(__file__).resolve().parents[1]


def say(good: bool | None, **facts: object) -> None:
    """A finding: whether it is right (None: a measurement), and the facts."""
    print(json.dumps({"ok": good, **facts}), flush=True)


# --- pieces ----------------------------------------------------------------------------------------


class Repeated:
    """Repeats its work, where there is no graph to record."""

    def take(self, work: Callable[[], None]) -> bool:
        work()
        return False

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        return work


def step_of(
    net: nn.Module, precision: str, *, recorded: bool = True, masked: bool = True,
    device: torch.device = DEVICE,
) -> Step:  # fmt: skip
    """A step as sparse training takes it, nine of ten weights under a mask."""
    draws = torch.Generator().manual_seed(1)
    names = models.prunable_parameters(net, "all") if masked else []
    mask = {n: torch.rand(net.state_dict()[n].shape, generator=draws) > 0.9 for n in names}
    settings = SparseSettings(batch_size=BATCH, precision=precision)  # type: ignore[arg-type]
    if not recorded:
        return Step(net, settings, MEAN, STD, device, mask)
    named: dict[str, Any] = {"recorder": Repeated()} if device.type == "cpu" else {}
    return GraphedStep(net, settings, MEAN, STD, device, mask, **named)


def pixels(batches: int, device: torch.device = DEVICE) -> tuple[Tensor, Tensor]:
    found = own._data(batches * BATCH, 32).to(device).train
    return found.images, found.labels


def take(step: Step, images: Tensor, labels: Tensor, count: int) -> None:
    """Steps; the learning rate changes while a recording is in use."""
    for number in range(count):
        step.lr = 0.05 / (1 + number // 4)
        place = slice(number * BATCH % len(images), number * BATCH % len(images) + BATCH)
        step([(images[place], labels[place])])


def state(step: Step) -> dict[str, Tensor]:
    found = step.state() | {"totals": step.totals}
    return {name: tensor.detach().cpu().clone() for name, tensor in found.items()}


def apart(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float:
    """The largest distance of two tensors of one name, relative to the norm."""
    return max(
        float((a[n].double() - b[n].double()).norm() / (b[n].double().norm() + 1e-12)) for n in a
    )


def same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def wait() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def ready(deterministic: bool = False) -> None:
    torch.set_num_threads(1)
    settle(deterministic)


# --- right or wrong --------------------------------------------------------------------------------


def machine() -> None:
    """What is there."""
    facts: dict[str, object] = {"torch": torch.__version__, "cores": len(os.sched_getaffinity(0))}
    if DEVICE.type == "cuda":
        started = time.perf_counter()
        torch.ones(1, device=DEVICE).item()
        facts |= {
            "first_use_seconds": round(time.perf_counter() - started, 1),
            "capability": torch.cuda.get_device_capability(), "built": torch.cuda.get_arch_list(),
            "cudnn": torch.backends.cudnn.version(), "visible": os.environ.get("CUDA_VISIBLE_DEVICES"),
            "driver": _driver(),
        }  # fmt: skip
    say(True, device=device_name(DEVICE), **facts)


def _driver() -> str:
    query = "--query-gpu=driver_version,memory.total,compute_mode,mig.mode.current,clocks.max.sm"
    try:
        done = subprocess.run(
            ["nvidia-smi", query, "--format=csv,noheader"], capture_output=True, text=True,
            timeout=20, check=False,
        )  # fmt: skip
    except OSError as error:
        return str(error)
    return done.stdout.strip()


def recorded() -> None:
    """Recorded steps are the ordinary ones, and repeat their bits where that is asked for."""
    ready(deterministic=True)
    images, labels = pixels(4)
    for name, precision in (("resnet20", "fp32"), ("resnet20", "bf16"), ("vgg11", "bf16")):
        found = []
        for how in (False, True, True):
            step = step_of(network(name, 1, 32), precision, recorded=how)
            take(step, images, labels, 4 if QUICK else 12)
            found.append(state(step))
        held = all(
            bool((weights.detach().cpu()[mask.cpu() == 0] == 0).all())
            for weights, mask in zip(step._masked, step._masks, strict=True)
        )
        far = apart(found[1], found[0])
        say(far < 1e-5 and held, network=name, precision=precision, apart=far, masks_hold=held,
            recorded=getattr(step, "recorded", False), same_bits=same(found[0], found[1]),
            repeats=same(found[1], found[2]))  # fmt: skip


def as_the_cpu() -> None:
    """The GPU computes what the CPU computes, in fp32."""
    ready(deterministic=True)
    places = torch.device("cpu"), DEVICE
    steps = [
        step_of(network("resnet20", 1, 32), "fp32", device=p, recorded=p != places[0])
        for p in places
    ]
    for step, place in zip(steps, places, strict=True):
        take(step, *pixels(5, place), 5)
    far = apart(state(steps[1]), state(steps[0]))
    say(far < 2e-3, what="5 steps", apart=far)
    count = 100 if QUICK else 500
    data, epochs, losses, matches, curves = own._data(count, 32, count), [], [], [], []
    nets = [_measured(network("resnet20", 1, 32, seed), data.train.images) for seed in (0, 1)]
    spec = models.traced("resnet20", network("resnet20", 1, 32)).spec
    for place in places:
        there, here = data.to(place), [own._last(net.to(place)).eval() for net in nets]
        draws = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
        augmenter = Augmenter(there.train, flip=True, pad=4)
        epochs.append(augmenter.epoch(batch_size=50, order=draws[0], augmentation=draws[1]))
        losses.append(evaluate(here[0], there.test.images, there.test.labels, MEAN, STD).loss)
        pairs = own._batches(there.train.images, 100)()
        matches.append(matching.match(matching.collect(here[0], here[1], spec, pairs)))
        ground = Ground.of_images(here[0], {"test": there.test}, MEAN, STD, there.train.images, 250)
        ends = (net.state_dict() for net in here)
        curves.append(curve(ground, *ends, alphas=[0.5], corrections=("none", "reset", "repair")))
    bits = all(torch.equal(a, b.cpu()) for a, b in zip(*epochs, strict=True))
    say(bits, what="an augmented epoch, to the bit")
    say(abs(losses[0] - losses[1]) < 1e-4, what="evaluation", losses=losses)
    shares = [
        float((matches[0].permutation[n].cpu() == matches[1].permutation[n].cpu()).float().mean())
        for n in matches[0].permutation
    ]
    say(
        min(shares) > 0.9,
        what="matching, least share of a group's units that go the same way",
        share=min(shares),
    )
    off = max(
        abs(a["loss"] - b["loss"]) / (1 + abs(a["loss"])) for a, b in zip(*curves, strict=True)
    )
    say(off < 1e-2, what="a midpoint by none, reset and REPAIR", off=off)


def _measured(net: nn.Module, images: Tensor) -> nn.Module:
    """A network whose BatchNorm statistics are those of images, as training leaves them."""
    with torch.no_grad():
        for part in images.split(250) * (1 if QUICK else 8):
            net.train()(normalise(part, MEAN, STD))
    return net


def resumed() -> None:
    """A run that was stopped within an epoch ends with the bits of one that was not."""
    ready(deterministic=True)
    settings = SparseSettings(batch_size=BATCH, precision="bf16", evaluate_every=1)
    trainer = Trainer(own._data(BATCH * (6 if QUICK else 20), 32, 500), settings, DEVICE)

    class Stops(Keeper):
        left = 8

        def due(self) -> bool:
            type(self).left -= 1
            if type(self).left == 0:
                os.kill(os.getpid(), signal.SIGTERM)
            return False

    def streams(purpose: str, epoch: int) -> torch.Generator:
        return generator(0, purpose, epoch)

    found, stops = [], 0
    for stopped in (False, True):
        with tempfile.TemporaryDirectory() as folder:
            keeper = Stops(Path(folder), "d") if stopped else None
            net = network("resnet20", 1, 32)
            for _ in range(2):
                try:
                    with graceful():
                        trainer.train(net, Training(Schedule(0, 2, 2), streams, keeper=keeper))
                    break
                except Interrupted:
                    net, stops = network("resnet20", 1, 32, 9), stops + 1
        found.append({name: tensor.cpu() for name, tensor in net.state_dict().items()})
    say(same(*found) and stops == 1, stops=stops, apart=apart(found[1], found[0]))


class Plain(nn.Module):
    """A network of one convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.classifier = nn.Conv2d(3, 16, 3), nn.Linear(16, 10)

    def forward(self, images: Tensor) -> Tensor:
        self.features = self.conv(images).mean((2, 3))  # which a network of one's own may keep
        found: Tensor = self.classifier(self.features)
        return found


class Waits(Plain):
    """One that asks the device for a number."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images * 0 if images.abs().max() > 1e9 else images)


def unusual() -> None:
    """A network that keeps a tensor is recorded, one that waits is not; both train."""
    ready()
    images, labels = pixels(8)
    for kind, wanted in ((Plain, True), (Waits, DEVICE.type == "cpu")):
        step = step_of(kind(), "bf16", masked=False)
        take(step, images, labels, 8)
        loss = float(step.totals[0]) / (8 * BATCH)
        held = getattr(step, "recorded", False) is wanted
        say(0 < loss < 5 and held, network=kind.__name__, recorded=not held or wanted, loss=loss)


def jobs() -> None:
    """All jobs of study nano, from files to files."""
    with tempfile.TemporaryDirectory() as folder:
        config = read(ROOT, {"study": "nano", "device": DEVICE.type, "results": folder})
        graph = Graph(config)
        for run in graph.closure(graph.outputs(config.outputs)):
            started, standard = time.perf_counter(), sys.stdout
            sys.stdout = sys.stderr
            try:
                stages.run(config, run.stage, run.key)
            finally:
                sys.stdout = standard
            place = config.results / run.folder / "metrics.json"
            found = read_json(place) if place.exists() else {}
            took = round(time.perf_counter() - started, 2)
            say(found.get("status", "ok") == "ok", stage=run.stage, seconds=took,
                accuracy=found.get("test_accuracy"))  # fmt: skip


# --- speed -----------------------------------------------------------------------------------------


def milliseconds(step: Step, images: Tensor, labels: Tensor, seconds: float = 1.5) -> float:
    """Milliseconds of a step of one recording, without its start: the median of five stretches."""
    if QUICK:
        seconds = 0.05
    take(step, images, labels, 8)
    wait()
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < seconds / 5:
        take(step, images, labels, 5)
        wait()
        count += 5
    found = []
    for _ in range(5):
        started = time.perf_counter()
        take(step, images, labels, count)
        wait()
        found.append((time.perf_counter() - started) / count)
    return 1e3 * statistics.median(found)


def single() -> None:
    """One run by itself. The first row is what the others are compared with."""
    cases: list[tuple[str, float, str, bool, dict[str, bool]]] = [
        ("resnet20", 1, "fp32", False, {}), ("resnet20", 1, "bf16", True, {}),
        ("resnet20", 1, "tf32", True, {}), ("resnet20", 1, "fp32", True, {}),
        ("resnet20", 1, "bf16", False, {}), ("resnet20", 1, "bf16", True, {"benchmark": False}),
        ("resnet20", 1, "bf16", True, {"deterministic": True}), ("vgg11", 1, "bf16", True, {}),
        ("resnet20", 4, "bf16", True, {}), ("resnet20", 16, "bf16", True, {}),
    ]  # fmt: skip
    images, labels = pixels(4 if QUICK else 64)
    for model, width, precision, how, more in cases[
        : 2 if QUICK and DEVICE.type == "cpu" else None
    ]:
        ready(more.get("deterministic", False))
        torch.backends.cudnn.benchmark = more.get("benchmark", torch.backends.cudnn.benchmark)
        step = step_of(network(model, width, 32), precision, recorded=how)
        ms = milliseconds(step, images, labels)
        torch.use_deterministic_algorithms(False)
        memory = torch.cuda.max_memory_allocated() >> 20 if DEVICE.type == "cuda" else None
        say(None, model=model, width=width, precision=precision, mib=memory,
            recorded=getattr(step, "recorded", False), **more, ms=round(ms, 4))  # fmt: skip


def work() -> None:
    """Matching and a curve with REPAIR."""
    ready()
    images, points = (200, 3) if QUICK else (10_000, 25)
    for name, make, more in (
        ("matching", own.match, {}),
        (
            f"curve of {points} points with REPAIR",
            own.interpolate,
            {"points": points, "batch": 500},
        ),
    ):
        do = make("resnet20", 1, 32, images=images, device=DEVICE.type, **more)  # type: ignore[operator]
        do()
        started = time.perf_counter()
        do()
        wait()
        say(
            None, what=f"{name}, {images:,} images", seconds=round(time.perf_counter() - started, 3)
        )


def kernels() -> None:
    """Where the time of a step goes."""
    from torch.profiler import ProfilerActivity, profile

    ready()
    images, labels = pixels(8)
    step = step_of(network("resnet20", 1, 32), "bf16", recorded=False)
    take(step, images, labels, 8)
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        take(step, images, labels, 5)
        wait()
    rows = sorted(
        ((e.self_device_time_total / 5, e.count / 5, e.key[:80]) for e in seen.key_averages()),
        reverse=True,
    )
    say(None, microseconds=round(sum(r[0] for r in rows)), launches=round(sum(r[1] for r in rows)),
        top=[[round(time), count, name] for time, count, name in rows[:20]])  # fmt: skip


def threads() -> None:
    """Runs as threads of one process that pass a baton, a stream and a recording each.

    First that they have the bits of each by itself, then how fast they are together.
    """
    ready(deterministic=True)
    data, found = own._data(BATCH * (6 if QUICK else 20), 32, 500), list[list[dict[str, Tensor]]]()
    for together in (False, True):
        nets = [network("resnet20", 1, 32, seed) for seed in range(3)]
        works = [partial(_trained, data, net) for net in nets]
        for some in [works] if together else [[each] for each in works]:
            beside.side_by_side(*some)
        found.append([{n: t.cpu() for n, t in net.state_dict().items()} for net in nets])
    say(all(map(same, *found)), what="three runs in threads, as each by itself")
    torch.use_deterministic_algorithms(False)
    ready()
    for count in (2,) if QUICK else (1, 4, 8, 12, 16):
        rates, meet = list[float](), Barrier(count, timeout=60)
        beside.side_by_side(*(partial(_steps, meet, rates, seed) for seed in range(count)))
        memory = torch.cuda.memory_reserved() >> 20 if DEVICE.type == "cuda" else None
        say(None, runs=count, ms=round(1e3 / sum(rates), 4), mib=memory)


def _trained(data: Any, net: nn.Module) -> None:
    settings = SparseSettings(batch_size=BATCH, precision="bf16", evaluate_every=1)
    schedule = Schedule(0, 2, 2)
    Trainer(data, settings, DEVICE).train(net, Training(schedule, partial(generator, 0)))


def _steps(meet: Barrier, rates: list[float], seed: int) -> None:
    """Steps a second of one of several runs, all of them begun."""
    seconds = 0.1 if QUICK else 4
    images, labels = pixels(4 if QUICK else 64)
    step = step_of(network("resnet20", 1, 32, seed), "bf16")
    take(step, images, labels, 6 if QUICK else 50)
    wait()
    with aside():
        meet.wait()
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        take(step, images, labels, 1)
        count += 1
        hand_on()
    with aside():
        meet.wait()
    wait()
    rates.append(count / (time.perf_counter() - started))


def side_by_side() -> None:
    """Processes that train at the same time, without MPS and with it."""
    for count in (2,) if QUICK else (1, 8):
        _together(count, served=False)
    with _served() as served:
        if served:
            for count in (2,) if QUICK else (1, 4, 8, 12, 16):
                _together(count, served=True)


@contextmanager
def _served() -> Iterator[bool]:
    service = mps.start()
    try:
        if service is None:
            say(None, mps="not here")
        yield service is not None
    finally:
        if service is not None:
            asked = subprocess.run(
                [mps.CONTROL], input="get_server_list\n", capture_output=True, text=True,
                timeout=20, check=False,
            )  # fmt: skip
            servers = asked.stdout.split()
            say(bool(servers), mps="servers; without any, processes ran by turns", servers=servers)
            service.stop()


def _train(pipe: Connection, seconds: float) -> None:
    ready()
    images, labels = pixels(4 if QUICK else 64)
    step = step_of(network("resnet20", 1, 32), "bf16")
    take(step, images, labels, 6 if QUICK else 50)
    wait()
    pipe.send(None)
    pipe.recv()
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        take(step, images, labels, 5)
        wait()
        count += 5
    pipe.send(count / (time.perf_counter() - started))


def _together(count: int, *, served: bool) -> None:
    spawn = multiprocessing.get_context("spawn")
    pairs = [spawn.Pipe() for _ in range(count)]
    processes = [
        spawn.Process(target=_train, args=(theirs, 0.1 if QUICK else 4)) for _, theirs in pairs
    ]
    for process in processes:
        process.start()
    try:
        for mine, theirs in pairs:
            theirs.close()
            mine.recv()
        for mine, _ in pairs:
            mine.send(None)
        rate = sum(mine.recv() for mine, _ in pairs)
        say(None, processes=count, mps=served, ms=round(1e3 / rate, 4))
    except EOFError:
        say(False, processes=count, mps=served, error="a process ended before it was done")
    finally:
        for process in processes:
            process.join(10)
            process.kill()


if __name__ == "__main__":
    globals()[sys.argv[1]]()
