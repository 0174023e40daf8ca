"""What all stages share: settings, inputs checked before use, device, progress, the last file."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

from pipeline import models
from pipeline.artifacts import finished, record
from pipeline.artifacts.lock import LOCK, Lock
from pipeline.artifacts.store import digest as digest_of
from pipeline.artifacts.store import read_json, write_csv, write_json, write_tensors, writing
from pipeline.artifacts.unfinished import states
from pipeline.data import DataSet, load
from pipeline.errors import UserError
from pipeline.kernels.accelerate import accelerate
from pipeline.kernels.build import in_use
from pipeline.machine import baton, gpu
from pipeline.machine.gpu_slots import take_slot
from pipeline.machine.team import ALONE, Team
from pipeline.progress import job as progress
from pipeline.progress.trackers import TRACKERS, Tracker, curves
from pipeline.runs import Align, Dense, File, Match, Run
from pipeline.stages.data import compare_facts
from pipeline.study import trials
from pipeline.study.config import Config
from pipeline.study.graph import Graph
from pipeline.symmetry.permutation import PermutationSpec
from pipeline.training.loop import Keeper, Outcome, Row, Trainer, Training
from pipeline.weights import read_state

if TYPE_CHECKING:
    from pipeline.data.photographs import Photographs


class Job:
    """One run in its folder; a context that holds the folder's lock, so that only one writes.

    In a ``team`` of processes that share the run each has a job, and executes the same stage; only
    that of process 0 holds the lock, shows progress and writes.
    """

    def __init__(
        self, config: Config, run: Run, digest: str | None = None, team: Team = ALONE
    ) -> None:
        self.config, self.run, self.graph, self.team = config, run, Graph(config), team
        #: Whether this process writes.
        self.leads = team.leads
        self.settings = self.graph.settings(run)
        self.digest = digest_of(self.settings)
        if digest is not None and digest != self.digest:
            raise UserError(
                f"{run.folder}: the study or its recipes were changed since this job was "
                "submitted; start the workflow again"
            )
        self.recipe = self.graph.recipe(run)
        self.folder = config.results / run.folder
        self._checked: dict[str, str] = {}
        self._parents: dict[str, str] = {}
        self._started = time.monotonic()
        self._written: set[str] = set()
        self._volatile: dict[str, Any] = {}

    def __enter__(self) -> Self:
        if baton.seat():  # not when a property is asked: its lock would hold up the others
            with baton.aside():
                self.data = self._loaded()
        self.waited = self.leads and self._take()
        self.progress = (
            progress.Writer(self.config.results, self.run) if self.leads else progress.Silent()
        )
        if not self.team.alone:
            self.team.meet(cuda=self.device.type == "cuda")
        return self

    def _take(self) -> bool:
        """Take the folder's lock; whether that meant to wait."""
        with writing(self.folder), baton.aside():
            self._lock = Lock(self.folder / LOCK)
            # A cluster's controller that was started again submits jobs that still run: theirs wait.
            return self._lock.acquire(wait="SLURM_JOB_ID" in os.environ)

    def __exit__(self, kind: object, *details: object) -> None:
        self.progress.close()
        for tracker in self.__dict__.get("trackers", ()):
            tracker.close()
        if self.leads:
            self._lock.release()
        if kind is None:
            self.team.part()

    def complete(self) -> bool:
        """Whether the run is there, made with these settings and unchanged since."""
        found = record.record_of(self.folder)
        return found is not None and found.whole(self.folder, self.run.files, self.digest)

    # -- inputs ----------------------------------------------------------------------------

    def input(self, role: str) -> Path:
        """Path of an input, its content checked against the digest recorded when it was written."""
        file = self.graph.inputs(self.run)[role]
        return self.read(file.run, file.name)

    def read(self, run: Run, name: str) -> Path:
        """Path of any other run's file, checked as an input is, and made with today's settings."""
        path = run.path(name)
        self._parents[path] = self._check(run, name)
        return self.config.results / path

    def check_inputs(self) -> None:
        """Check every input, and how it came out: damage is told before anything is computed."""
        with baton.aside():
            for file in self.graph.inputs(self.run).values():
                self._check(file.run, file.name)
                if "metrics.json" in file.run.files:
                    self._check(file.run, "metrics.json")

    def _check(self, run: Run, name: str) -> str:
        """The digest of a run's file, which is as it was recorded, by today's settings; once."""
        path = run.path(name)
        if path not in self._checked:
            self._checked[path] = record.verify(
                self.config.results / path, self.graph.digest(run), run.files
            )
        return self._checked[path]

    def diverged(self, *runs: Run) -> bool:
        """Whether one of these parents has diverged, as its metrics say."""
        return any(
            read_json(self.read(run, "metrics.json"))["status"] == "diverged" for run in runs
        )

    def state(self, role: str, like: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """The network's state that an input holds."""
        return read_state(self.input(role), self.graph.inputs(self.run)[role].prefix, like)

    def states(self, keep: int = 2) -> Callable[[File], dict[str, Tensor]]:
        """Reads the states in files that are inputs; the last ``keep`` stay in memory, and no more."""

        @cache
        def like() -> dict[str, Tensor]:
            return self._model(self.run.home, None).state_dict()

        @lru_cache(maxsize=keep)
        def read(file: File) -> dict[str, Tensor]:
            shapes = [like()] if file.run.kind == "imp" else []  # its weights are kept sparse
            return read_state(self.read(file.run, file.name), file.prefix, *shapes)

        return read

    @cached_property
    def data(self) -> DataSet | Photographs:
        """The run's data set, on the CPU; the same as when it was first read."""
        return self._loaded()

    def _loaded(self) -> DataSet | Photographs:
        info = self.config.datasets[self.run.home.dataset]
        found = load(info, self.config.data_root, download=False)
        if self.team.local == 0:  # once on each machine
            compare_facts(self.config, found)
        return found

    # -- network ---------------------------------------------------------------------------

    @cached_property
    def device(self) -> torch.device:
        """Where the run computes, which can do it; sets the compute threads of its settings."""
        torch.set_num_threads(self.recipe.threads)
        torch.set_flush_denormal(True)
        wanted, team = self.config.main.device, self.team
        if team.alone and wanted != "cpu" and (slot := take_slot()) is not None:
            self._volatile["gpu_slot"] = slot
        cuda = gpu.usable(wanted)
        if cuda:
            settle(self.config.main.deterministic)
            if baton.seat():  # the other runs of this process go on meanwhile
                torch.cuda.set_stream(torch.cuda.Stream())  # type: ignore[no-untyped-call]
        found = self._own(torch.device("cuda" if cuda else "cpu"))
        gpu.check(found, getattr(self.recipe, "precision", "fp32"))
        return found

    def _own(self, device: torch.device) -> torch.device:
        """The device of this process: in a team, each has a GPU of its own."""
        team = self.team
        if device.type == "cpu" or team.alone:
            return device
        if (there := torch.cuda.device_count()) < team.beside:
            raise UserError(
                f"config.yaml: processes: {team.beside} on this machine, but it has {there} GPUs "
                "that can be used; one each is needed"
            )
        torch.cuda.set_device(team.local)
        return torch.device("cuda", team.local)

    def model(self, dense: Dense, generator: torch.Generator | None = None) -> nn.Module:
        """The network of a dense run, initialised from ``generator`` or waiting for a state.

        The one place where compiled kernels come in: without them it is as right, and slower.
        """
        return accelerate(self._model(dense, generator))

    def _model(self, dense: Dense, generator: torch.Generator | None) -> nn.Module:
        info, network = self.config.datasets[dense.dataset], self.config.models[dense.model]
        return models.build(network, width=float(dense.width), generator=generator, **info.shape)

    def spec(self, match: Match | Align) -> PermutationSpec:
        """The permutation groups of a matching's networks."""
        home = match.home
        return self._groups(home, self._model(home, None), self.graph.recipe(match).taps)

    def _groups(self, dense: Dense, model: nn.Module, taps: str = "last") -> PermutationSpec:
        """The permutation groups of a network; the log says which layers are in none."""
        info, network = self.config.datasets[dense.dataset], self.config.models[dense.model]
        tried = trials.known(self.config, dense)
        found = models.traced(
            network, model, taps=taps, images=(info.channels, info.size),
            proven=tried.groups if tried else "",
        )  # fmt: skip
        for layer, reason in found.stay.items():
            print(f"not permuted: {layer}: {reason}", flush=True)
        return found.spec

    # -- training --------------------------------------------------------------------------

    @cached_property
    def trainer(self) -> Trainer:
        """A trainer on the run's data set, by its training settings, in all processes of the run."""
        settings = self.run.training(self.graph)
        gpu.check(self.device, settings.precision)
        return Trainer(self.data, settings, self.device, self.team, self.config.main.recorded)

    def keeper(self, slot: int = 0) -> Keeper:
        """Where a training of the run is saved; ``slot`` tells several apart."""
        return Keeper(self.folder, self.digest, slot)

    def train(self, model: nn.Module, training: Training, slot: int = 0, begun: int = 0) -> Outcome:
        """Train ``model``, saved in the run's folder and shown in its log.

        ``slot``: the round, before which the run has trained ``begun`` epochs.
        """
        schedule = training.schedule
        course = self.progress.training(
            schedule.last, round=slot or None, batch=self.run.training(self.graph).batch_size,
            begun=begun - schedule.first, total=self.run.trained_epochs(self.graph),
        )  # fmt: skip
        keeper, trackers = self.keeper(slot), self.trackers if self.leads else []

        def report(row: Row) -> None:
            course.row(row)
            values = curves({**row, "round": slot or None})
            for tracker in trackers:
                tracker.row(int(course.begun) + int(row["epoch"] or 0), values)

        training = replace(training, keeper=keeper, report=report, step=course.step)
        outcome = self.trainer.train(model, training)
        spent = {"train_seconds": outcome.seconds, "epochs_executed": outcome.epochs_executed}
        for name, value in spent.items():
            self._volatile[name] = round(self._volatile.get(name, 0.0) + value, 3)
        return outcome

    @cached_property
    def trackers(self) -> list[Tracker]:
        """What the settings want to be told of a training while it goes on."""
        anew, found = not states(self.folder), []
        for name, tracker in TRACKERS.items():
            if getattr(self.config.main, name):
                try:
                    found.append(tracker(self.config.results, self.run, self.settings, anew))
                except OSError as error:  # for people only: the run goes on all the same
                    print(f"no events for {name}: {error.strerror}", flush=True)
        return found

    # -- outputs ---------------------------------------------------------------------------

    def path(self, name: str) -> Path:
        """Where to write a file of the run, which its record will name."""
        self._written.add(name)
        return self.folder / name

    def write_tensors(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Write a file of tensors, in process 0 alone."""
        if self.leads:
            write_tensors(self.path(name), tensors)

    def write_csv(
        self, name: str, header: Sequence[str], rows: Iterable[Mapping[str, object]]
    ) -> None:
        """Write a table in process 0 alone; what is None or not finite is left empty."""
        if self.leads:
            values = ([_cell(row[key]) for key in header] for row in rows)
            write_csv(self.path(name), header, values)

    def metrics(self, **values: object) -> None:
        """Write ``metrics.json``: the settings, their digest, and what was measured."""
        if self.leads:
            content = {"settings": self.settings, "digest": self.digest, "stage": self.run.stage}
            write_json(self.path("metrics.json"), content | values)

    def finish(self) -> None:
        """Record what was written and clear up, after all else."""
        if not self.leads:
            return
        for tracker in self.__dict__.pop("trackers", ()):
            tracker.close()
        seconds = round(time.monotonic() - self._started, 3)
        device = self.__dict__.get("device")
        if device is not None:
            self._volatile["device"] = device_name(device)
            self._volatile["threads"] = self.recipe.threads
            if device.type == "cpu":
                self._volatile["kernels"] = in_use()
        if not self.team.alone:
            self._volatile["processes"] = self.team.size
        names = {*self.run.files, *self._written}
        record.write(
            self.folder, self.settings, names, self._parents, seconds=seconds,
            job=os.environ.get("SLURM_JOB_ID"), **self._volatile,
        )  # fmt: skip
        finished.keep(self.config.results, self.run.folder, names)
        self.clear_up()

    def clear_up(self) -> None:
        """Remove resume states, finished parts, and what a kill left half-written."""
        for path in self.folder.glob(".*"):
            if path.name != LOCK:
                path.unlink(missing_ok=True)


def settle(deterministic: bool) -> None:
    """How this process computes on a GPU: fp32 is fp32, and bits repeat where that is asked for.

    Where they are to repeat, memory that is not written yet is still not filled: that doubles the
    launches of a step, and no result reads it. Must come before the first use of the GPU.
    """
    torch.backends.cudnn.allow_tf32 = False
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = not deterministic
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)


def device_name(device: torch.device) -> str:
    """Name of the hardware behind a device: the GPU's, or the instruction set of the CPU."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"cpu {torch.backends.cpu.get_cpu_capability()}"


def _cell(value: object) -> object:
    return "" if value is None or (isinstance(value, float) and not math.isfinite(value)) else value
