"""What tests/test_cuda.py lets a process with the pretended GPU do: a fork for each.

Each function returns what was counted, as JSON. No number that the device computed is looked at.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import forks
import team
import torch
from side import levels, side_by_side
from small import Tiny, few, seeded, write_study
from test_sweeps import SWEEP_RECIPES, SWEEP_STUDY, dense
from torch import Tensor, nn

from pipeline import models, stages
from pipeline.artifacts.store import read_json
from pipeline.connectivity import plane
from pipeline.data.augment import normalise
from pipeline.errors import UserError
from pipeline.evaluation import evaluate
from pipeline.machine import gpu, gpu_slots, warm
from pipeline.progress.job import running
from pipeline.report import build
from pipeline.runs import (
    Align,
    Connect,
    Curve,
    ImpBarrier,
    ImpBlock,
    Landscape,
    Mask,
    PermutationQuality,
    Plane,
    Run,
)
from pipeline.stages.job import settle
from pipeline.study.config import Config, freeze, read
from pipeline.study.graph import Graph
from pipeline.study.settings import TrainSettings
from pipeline.symmetry import matching
from pipeline.training.cuda_graph import GraphedStep
from pipeline.training.loop import Schedule, Trainer, Training
from pipeline.training.step import Step

CUDA = torch.device("cuda")
BATCH = 128
_library = ctypes.CDLL(None)


def counted() -> dict[str, dict[str, int]]:
    """What was done since the last time, by group: call, work, broken, node, memory."""
    _library.stand_in_report.restype = ctypes.c_char_p
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for line in _library.stand_in_report().decode().splitlines():
        group, count, name = line.split("\t", 2)
        found[group][name] = int(count)
    _library.stand_in_reset()
    return found


def brief(found: dict[str, dict[str, int]]) -> dict[str, Any]:
    """The counts that tests bound."""
    calls = found["call"]
    return {
        "broken": found["broken"],
        "launches": calls.get("launch", 0) + calls.get("library call", 0),
        "graphs": calls.get("graph", 0),
        "captures": calls.get("capture", 0),
        "waits": sum(n for name, n in calls.items() if name.startswith("wait for")),
        "pageable": sum(n for name, n in calls.items() if name.endswith("pageable")),
        "copies": sum(n for name, n in calls.items() if name.startswith("copy")),
        "allocations": calls.get("cudaMalloc", 0),
        "nodes": sum(found["node"].values()),
        "held": found["memory"]["held"],
    }


def pretend() -> None:
    """What the host expects of numbers that no kernel has computed.

    The totals of a network that trains, and of an image; three networks that span a plane.
    """
    real = Tensor.tolist

    def tolist(tensor: Tensor) -> Any:
        found = real(tensor)
        totals = tensor.is_cuda and tensor.dtype == torch.float64 and tensor.dim() == 1
        return {2: [1.0, 0.5], 5: [1.0, 1.0, 1.0, 0.0, 1.0]}[len(tensor)] if totals else found

    def span(*arguments: Any) -> plane.Plane:
        with contextlib.suppress(ValueError):
            return spanned(*arguments)
        return plane.Plane(1.0, 0.5, 1.0)

    Tensor.tolist = tolist  # type: ignore[method-assign, assignment]
    spanned, plane.span = plane.span, span


def step_of(
    net: nn.Module, precision: str = "fp32", *, masked: bool = True, **named: Any
) -> GraphedStep:
    names = models.prunable_parameters(net, "all") if masked else []
    mask = {name: torch.rand(net.state_dict()[name].shape) > 0.5 for name in names}
    settings = TrainSettings(precision=precision)  # type: ignore[arg-type]
    return GraphedStep(net, settings, (0.5,) * 3, (0.25,) * 3, CUDA, mask, **named)


def network(name: str = "resnet20", width: float = 1) -> nn.Module:
    return models.build(name, width=width, classes=10, channels=3, size=32, generator=seeded(0))


def batches(count: int) -> list[list[tuple[Tensor, Tensor]]]:
    images = torch.randint(256, (count * BATCH, 3, 32, 32), dtype=torch.uint8).to(CUDA)
    labels = torch.randint(10, (count * BATCH,)).to(CUDA)
    return [[(images[i : i + BATCH], labels[i : i + BATCH])] for i in range(0, len(images), BATCH)]


def steps(name: str, precision: str, deterministic: bool = False) -> list[dict[str, Any]]:
    """Counts of each of six steps."""
    settle(deterministic)
    step, found = step_of(network(name), precision), []
    for number, batch in enumerate(batches(6)):
        counted()
        step.lr = 0.1 / (number + 1)
        step(batch)
        found.append(brief(counted()) | {"recorded": step.recorded})
    return found


class Keeps(nn.Module):
    """A network that keeps a tensor of its last forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.classifier = nn.Conv2d(3, 16, 3), nn.Linear(16, 10)

    def forward(self, images: Tensor) -> Tensor:
        self.features = self.conv(images).mean((2, 3))
        found: Tensor = self.classifier(self.features)
        return found


class Waits(Keeps):
    """A network that asks the device for a number."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images * 0 if images.abs().max() > 1e9 else images)


class Fails(Keeps):
    """A network that waits, unseen while it warms up, for the first time in the capture."""

    def forward(self, images: Tensor) -> Tensor:
        if torch.cuda.is_current_stream_capturing():
            torch.cuda.current_stream().synchronize()
        return super().forward(images)


def unusual(name: str) -> dict[str, Any]:
    """Six steps of an unusual network, and what it leaves behind."""
    step, said = step_of({"keeps": Keeps, "waits": Waits, "fails": Fails}[name](), masked=False), ""
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        for batch in batches(6):
            step(batch)
    said = output.getvalue()
    torch.cuda.MemPool()  # an allocator that is still in a capture does not survive this
    return brief(counted()) | {
        "recorded": step.recorded, "said": said,
        "default": torch.cuda.current_stream() == torch.cuda.default_stream(),
    }  # fmt: skip


def rate() -> dict[str, bool]:
    """Whether a recording reads the learning rate from memory, and outlives new momentum."""
    from torch.utils._python_dispatch import TorchDispatchMode

    seen: list[bool] = []

    class Look(TorchDispatchMode):
        def __torch_dispatch__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if "fused_sgd" in str(function):
                same = kwargs["lr"].data_ptr() == step._memory.data_ptr()
                seen.append(same and not kwargs["is_first_step"])
            return function(*args, **(kwargs or {}))

    step, given = step_of(network(width=0.25)), batches(10)
    for batch in given[:3]:
        step(batch)
    with Look():
        step(given[3])
    recorded = step.recorded
    step.set_momentum(step.momentum())
    dropped = not step.recorded
    for batch in given[4:]:
        step(batch)
    return {
        "read": seen == [True],
        "recorded": recorded,
        "dropped": dropped,
        "again": step.recorded,
    }


def training(kind: str) -> list[dict[str, Any]]:
    """Counts of each of four epochs, twice: sparse, in micro-batches ("cut"), or not recorded."""
    pretend()
    settle(False)
    settings, data, rows = replace(team.WHOLE, batch_size=64), few(), []
    if kind == "cut":
        settings = replace(settings, micro_batch=32)
    net = team.network(data)
    mask = team.half_mask(net) if kind == "sparse" else None

    def report(row: Any) -> None:
        rows.append(brief(counted()))

    trainer = Trainer(data, settings, CUDA, recorded=kind != "not recorded")
    for _ in range(2):
        schedule = Schedule(0, 4, 4)
        trainer.train(
            net, Training(schedule, team.streams, mask=mask, report=report, keep_logits=True)
        )
    return rows


def passes() -> dict[str, list[int]]:
    """How often the host waits in an evaluation and in a matching, of few images and of many."""
    pretend()
    settle(False)
    nets = [network(width=0.25).to(CUDA, memory_format=torch.channels_last).eval() for _ in "ab"]
    spec = models.traced("resnet20", network(width=0.25)).spec
    images, labels = (torch.cat(parts) for parts in zip(*(b[0] for b in batches(12)), strict=True))
    found: dict[str, list[int]] = defaultdict(list)

    def match(count: int) -> None:
        parts = (normalise(part, (0.5,) * 3, (0.2,) * 3) for part in images[:count].split(BATCH))
        matching.match(matching.collect(*nets, spec, parts))

    def measure(count: int) -> None:
        evaluate(
            nets[0], images[:count], labels[:count], (0.5,) * 3, (0.2,) * 3, logits=True, top5=True
        )

    for name, work in (("matching", match), ("evaluation", measure)):
        work(4 * BATCH)  # cuDNN chooses its algorithms
        for count in (4 * BATCH, 12 * BATCH):
            counted()
            work(count)
            found[name].append(brief(counted())["waits"])
    return found


def fake(name: str, precision: str) -> dict[str, Any]:
    """A whole step, and an evaluation up to its one read by the host, on PyTorch's fake tensors.

    They raise where tensors of two devices meet, and where the host reads a number.
    """
    from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

    read, net, mode = False, network(name).to(CUDA), FakeTensorMode()
    for module in net.modules():
        for held in (module._parameters, module._buffers):
            for key, tensor in held.items():
                if tensor is not None:
                    pretended = mode.from_tensor(tensor.detach())
                    held[key] = nn.Parameter(pretended) if held is module._parameters else pretended
    net.to = lambda *_, **__: net  # type: ignore[method-assign, assignment] # it is there, and swaps real tensors
    with mode:
        step = Step(
            net, TrainSettings(precision=precision), (0.5,) * 3, (0.25,) * 3, CUDA,  # type: ignore[arg-type]
        )  # fmt: skip
        step._masked = [
            p for p in net.parameters() if p.dim() > 1
        ]  # the host counts those it is given
        step._masks = [torch.ones_like(p) for p in step._masked]
        images = torch.empty(16, 3, 32, 32, dtype=torch.uint8, device=CUDA)
        labels = torch.empty(16, dtype=torch.int64, device=CUDA)
        for _ in range(2):
            step([(images, labels)])
        tensors = [*step.state().values(), step.totals, *(p.grad for p in step.parameters.values())]
        try:
            evaluate(
                step.model, images, labels, (0.5,) * 3, (0.2,) * 3, precision=precision, top5=True
            )
        except DataDependentOutputException:
            read = True
    return {"devices": sorted({t.device.type for t in tensors if t is not None}), "read": read}


def micro_batches() -> dict[str, int]:
    """Copies on the device in a step of a ResNet50 in two micro-batches."""
    settle(False)
    net = models.build("resnet50", width=1, classes=10, channels=3, size=32, generator=seeded(0))
    step = Step(
        net,
        TrainSettings(micro_batch=8, batch_size=16),
        (0.5,) * 3,
        (0.25,) * 3,
        CUDA,
        micro_batches=2,
    )
    parts = [(images[:8], labels[:8]) for ((images, labels),) in batches(2)]
    step(parts)
    counted()
    step(parts)
    return brief(counted())


def study(kind: str, threads: bool = False, deterministic: bool = False) -> dict[str, Any]:
    """All runs of study nano with its tables and figures, or a run of every kind.

    ``threads``: what needs nothing of each other runs side by side in this process.
    ``deterministic``: cuDNN tries no algorithms, as it does anew in every thread.
    """
    pretend()
    done: Counter[str] = Counter()
    streams = noted_streams()
    with tempfile.TemporaryDirectory() as place:
        if kind == "nano":
            root = Path(__file__).parents[2]
            config = read(root, {
                "study": "nano", "device": "cuda", "results": place, "deterministic": deterministic,
            })  # fmt: skip
            graph = Graph(config)
            work = [(config, graph.closure(graph.outputs(config.outputs)))]
        else:
            tiny = tiny_on_the_device(Path(place) / "tiny")
            swept = tiny_on_the_device(Path(place) / "swept", SWEEP_RECIPES, SWEEP_STUDY)
            work = [(tiny.config, tiny.graph.closure(every(tiny)))]
            work.append((swept.config, swept.graph.closure(sweeps())))
        with contextlib.redirect_stdout(sys.stderr):
            for config, runs in work:
                for level in levels(Graph(config), runs):
                    works = [partial(stages.run, config, run.stage, run.key) for run in level]
                    if threads:
                        side_by_side(*works)
                    else:
                        for work_of in works:
                            work_of()
                    done.update(run.stage for run in level)
        written = outputs(config) if kind == "nano" else 0
    return brief(counted()) | {"runs": done, "written": written, "streams": streams}


def noted_streams() -> list[int]:
    """The stream of each training from now on."""
    found, train = list[int](), Trainer.train

    def noted(self: Trainer, model: nn.Module, training: Training) -> Any:
        found.append(torch.cuda.current_stream().cuda_stream)
        return train(self, model, training)

    Trainer.train = noted  # type: ignore[method-assign]
    return found


def tiny_on_the_device(place: Path, *content: str, **main: Any) -> Tiny:
    return Tiny(write_study(place, *content), place / "results", device="cuda", **main)


def sweeps() -> list[Run]:
    """A run of every kind that a sweep has, and of every kind of sweep over a pair."""
    kinds = ("along", "layers", "pruned", "rounds", "spawns")
    along, *others = (Align((dense(0), dense(1)), "tiny", sweep) for sweep in kinds)
    measured = [Connect(found, "all") for found in (along, *others)]
    return [*measured, Landscape(along, "planes")]


def every(tiny: Tiny) -> list[Run]:
    """Runs of every kind, of every way of pruning."""
    found: list[Run] = [ImpBlock(tiny.dense(), "tiny-rate", 1), Mask(tiny.dense(), "tiny", "O2")]
    for experiment, imp in (("tiny", "tiny"), ("rewound", "tiny-rewind")):
        permuted = tiny.cell("permuted", k=1, experiment=experiment).run
        assert permuted.match
        found += [permuted, tiny.cell("lth", experiment=experiment).run, Plane(permuted, "tiny")]
        found += [Curve(permuted.match, "tiny"), ImpBarrier(tiny.dense(), imp, "tiny", 3)]
        found.append(PermutationQuality(permuted.match, "tiny", "tiny"))
        found.append(tiny.solution(0.6, experiment))
    return found


def outputs(config: Config) -> int:
    """Write tables and figures; how many files."""
    return sum(
        len((build.write_figure if output.what == "figure" else build.write_table)(config, name))
        for name, output in config.outputs.items()
    )


def forked() -> int:
    """How a fork ends that is the first to use the device, of a process that has imported all."""
    stages.prepare()
    child = os.fork()
    if child == 0:
        settle(False)
        step = step_of(network(width=0.25))
        for batch in batches(5):
            step(batch)
        os._exit(0 if step.recorded and gpu.usable("cuda") else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def hosted() -> dict[str, Any]:
    """Two dense runs as jobs of a workflow: how they end, the processes that tell of them, where."""
    os.environ |= warm.ONE_THREAD | {gpu_slots.VISIBLE: "0"}
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    os.chdir(Path(__file__).parents[2])
    with tempfile.TemporaryDirectory() as place:
        tiny = tiny_on_the_device(Path(place), sharing="threads")
        freeze(tiny.config, Path(place))
        script, told = Path("workflow/scripts/run.py"), set[int]()
        server = warm.start(script)
        assert server is not None
        runs = [tiny.dense(seed) for seed in (0, 1)]
        jobs = [
            subprocess.Popen(
                [sys.executable, str(script), run.stage, run.key], env=os.environ,
                stdout=subprocess.DEVNULL,
            ) for run in runs
        ]  # fmt: skip
        while any(job.poll() is None for job in jobs):
            told |= {record["pid"] for record in running(tiny.results)}
            time.sleep(0.01)
        server.stop()
        where = [read_json(tiny.folder(run) / "provenance.json")["device"] for run in runs]
    own = {job.pid for job in jobs}
    return {"ends": [job.returncode for job in jobs], "hosts": len(told - own), "where": where}


def item(name: str) -> int:
    """How many findings an item of benchmarks/first_gpu.py has, in miniature."""
    os.environ["FIRST_QUICK"] = "1"
    import gpu_items

    pretend()
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        getattr(gpu_items, name)()
    return output.getvalue().count('{"ok"')


def refusal(precision: str) -> str:
    """What a run is told that takes what there is, with this precision; nothing where it may start."""
    with tempfile.TemporaryDirectory() as place:
        gpu_slots.DEVICES = Path(place)
        (gpu_slots.DEVICES / "nvidia0").touch()
        try:
            gpu.check(CUDA if gpu.usable("auto") else torch.device("cpu"), precision)
        except UserError as error:
            return str(error)
    return ""


def tf32() -> dict[str, Any]:
    """What forward and backward passes are allowed, by precision; and the state afterwards."""
    settle(False)
    seen: dict[str, Any] = {}

    class Look(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 10, 32)

        def forward(self, images: Tensor) -> Tensor:
            found: Tensor = self.conv(images).flatten(1)
            note("forward")
            found.register_hook(lambda gradient: note("backward"))
            return found

    def note(when: str) -> None:
        kinds: tuple[Any, ...] = torch.backends.cudnn, torch.backends.cuda.matmul
        seen.setdefault(f"{precision} {when}", [kind.allow_tf32 for kind in kinds])

    for precision in ("fp32", "tf32", "bf16"):
        step_of(Look(), precision, masked=False)(batches(1)[0])
    precision = "after"
    note("all")
    return seen


def answer(works: list[list[Any]], variables: dict[str, str]) -> None:
    os.environ.update(variables)
    found = [globals()[name](*arguments) for name, *arguments in works]
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    forks.serve(answer)
