"""One call of Snakemake from its start to its end: what it takes over, checks, reserves and tells."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from pipeline import snakemake_internals
from pipeline.artifacts import finished, slices
from pipeline.artifacts.reservation import Reservation
from pipeline.catalog import datasets
from pipeline.errors import UserError
from pipeline.machine import mps, warm
from pipeline.progress.workflow import Watch
from pipeline.runs import STAGES, Run, parse
from pipeline.snakemake_internals import Job
from pipeline.study.config import Config, freeze, read
from pipeline.study.graph import Graph
from pipeline.study.jobs import Jobs

#: What the rules call, and from how many runs on a server pays its own start.
SCRIPT, SERVED = Path("workflow/scripts/run.py"), 3


def begin(root: str | Path, overrides: Mapping[str, Any]) -> Config:
    """The study that is asked for, checked, and frozen for the jobs of this call.

    Raises:
        UserError: config.yaml, the study or what it names is wrong.
    """
    config = read(Path(root), overrides)
    config.outputs  # noqa: B018 (checked before any job)
    freeze(config, snakemake_internals.NOTES / "pipeline")
    return config


class Call:
    """A call that works on a study."""

    def __init__(self, graph: Graph, jobs: Jobs) -> None:
        self.graph, self.jobs, self.config = graph, jobs, graph.config
        self._watch: Watch | None = None
        self._served: list[mps.Mps | warm.Server] = []
        self._reservation: Reservation | None = None
        self._runs: list[str] = []

    def settle(self) -> None:
        """Take Snakemake's mark of an unfinished job from checks of data that are there.

        A check is written in one piece, so what is there is whole. Snakemake would run the marked
        job again and, since nothing depends on its time, none of the jobs after it.
        """
        results = self.config.main.results
        names = (file.parent.name for file in Path(results).glob("data/*/facts.json"))
        there = [f"{results}/data/{name}/facts.json" for name in names]
        snakemake_internals.forget(there, "incomplete")

    def data(self, dataset: str, dry: bool) -> list[str]:
        """Make sure that a data set can be read before any job starts.

        What torchvision can download is downloaded here. Nothing is looked at in a dry run, or once
        the data set was checked. Returns what a rule has to make first.

        Raises:
            UserError: missing or damaged; one line with where, what and how.
        """
        results, root = self.config.main.results, self.config.data_root
        info = self.config.datasets.get(dataset)
        if info is None:
            raise UserError(f"unknown data set {dataset!r}")
        turned = f"{results}/data/digits-turned.npz"
        made = [turned for path, _, _ in info.files if Path(path) == Path(turned).resolve()]
        if dry or made or Path(f"{results}/data/{dataset}/facts.json").exists():
            return made
        problem = datasets.status(info, root)
        if problem and info.kind == "torchvision":
            command = [sys.executable, "-m", "pipeline", "data", dataset]
            subprocess.run(command, check=False, stdout=sys.stderr)
            problem = datasets.status(info, root)
        if problem:
            raise UserError(problem)
        return []

    def take_over(self, dry: bool) -> None:
        """Take over what slices have made of the study; before any job is looked for.

        In a dry run only say so.

        Raises:
            UserError: a folder of slices is missing, another workflow is working on their runs, or
                the results cannot be written.
        """
        if not self.config.main.slices:
            return
        places = slices.folders(self.config.main.slices, STAGES)
        if not places or dry:
            where = ", ".join(self.config.main.slices)
            why = "a dry run takes nothing over" if places else "no results folder of a slice there"
            print(f"slices: {where}: {why}", file=sys.stderr)
            return
        runs = self.graph.closure(self.graph.outputs(self.config.outputs))
        asked = wanted(self.graph, runs)
        taken = slices.take_over(self.config.results, places, asked, self._forget)
        print(taken, file=sys.stderr, flush=True)

    def _forget(self, names: Collection[str]) -> None:
        """Take Snakemake's memory of files that are about to be replaced.

        It would run again what an earlier call was killed in, or had made with other settings.
        """
        files = [f"{self.config.main.results}/{name}" for name in names]
        snakemake_internals.forget(files, "incomplete", "metadata")

    def started(self, jobs: list[Job], cores: int) -> None:
        """Reserve the files of all jobs, let them share GPUs, show progress and the time left.

        Raises:
            UserError: another workflow is working on these files.
        """
        self._reserve(jobs)
        self._watch = Watch(self.config.results)
        for job in jobs:
            stage, key = job.wildcards.get("stage"), job.wildcards.get("key")
            seconds = self.jobs.costs.wall(parse(stage, key)) if stage and key else 3.0
            self._watch.expect(next(iter(job.outputs), None), seconds, next(iter(job.logs), None))
        if self.jobs.cluster:
            self._watch.start(self.jobs.cluster, "jobs at a time")
        else:
            self._serve(sum("stage" in job.wildcards for job in jobs))
            self._watch.start(cores)

    def ended(self, fine: bool, stopped: bool = False) -> bool:
        """The end of all jobs; ``stopped``: SIGTERM came, and no further one was started.

        Returns whether that is the only reason why targets are missing: nothing failed.
        """
        saved = stopped and self._watch is not None and self._watch.saved()
        if self._watch:
            self._watch.stop(fine or saved)
        for service in reversed(self._served):
            service.stop()
        if fine:
            finished.forget(self.config.results, self._runs)
        if self._reservation:
            self._reservation.give_back()
        return saved

    def _serve(self, runs: int) -> None:
        """Start what so many runs on this machine share; it ends with this process."""
        main = self.config.main
        if main.device != "cpu" and main.sharing == "mps" and (service := mps.start()):
            self._served.append(service)
        if main.warm and runs >= SERVED and (server := warm.start(SCRIPT)):
            self._served.append(server)

    def _reserve(self, jobs: list[Job]) -> None:
        """Keep other workflows from the files of these jobs."""

        def named(files: Iterable[str]) -> set[str]:
            return {file.removeprefix(f"{self.config.main.results}/") for file in files}

        reads = {name for job in jobs for name in named(job.inputs)}
        writes = {name for job in jobs for name in named(job.outputs)}
        self._runs = sorted({str(Path(name).parent) for name in writes})
        self._reservation = Reservation(self.config.results)
        self._reservation.take(reads - writes, writes)
        if self._reservation.alone:
            finished.forget_others(self.config.results, self._runs)


def wanted(graph: Graph, runs: Iterable[Run]) -> list[slices.Wanted]:
    """What is asked of slices for these runs."""
    return [
        slices.Wanted(
            run.folder,
            run.files,
            graph.digest(run),
            tuple(dict.fromkeys(file.path for file in graph.inputs(run).values())),
        )
        for run in runs
    ]
