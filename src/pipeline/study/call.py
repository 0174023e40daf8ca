"""One call of Snakemake from its start to its end: what it takes over, checks, reserves and tells."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

from pipeline import snakemake_internals
from pipeline.artifacts import finished, slices
from pipeline.artifacts.lock import LOCK
from pipeline.artifacts.record import record_of
from pipeline.artifacts.reservation import Reservation
from pipeline.artifacts.store import clear_all
from pipeline.catalog import datasets
from pipeline.cli import ENDS, INTERRUPTED, TERMINATED
from pipeline.errors import Interrupted, UserError
from pipeline.machine import mps, warm
from pipeline.progress.left import Work
from pipeline.progress.workflow import Expected, Watch
from pipeline.runs import STAGES, Dense, Run, parse
from pipeline.snakemake_internals import Job
from pipeline.study import trials
from pipeline.study.config import Config, freeze, read
from pipeline.study.graph import Graph
from pipeline.study.jobs import Jobs
from pipeline.study.settled import Settled, wanted
from pipeline.study.state import resolve

#: What the rules call, and from how many runs on a server pays its own start.
SCRIPT, SERVED = Path("workflow/scripts/run.py"), 3


def begin(root: str | Path, overrides: Mapping[str, Any]) -> Config:
    """The study that is asked for, checked, and frozen for the jobs of this call.

    Raises:
        UserError: config.yaml, the study or what it names is wrong, or another folder than that of
            the Snakefile is the working directory.
    """
    if not Path.cwd().samefile(root):
        raise UserError(
            f"{Path.cwd()}: the workflow runs in its own folder: add --directory {root}, "
            "and for results elsewhere --config results=FOLDER"
        )
    config = read(Path(root), overrides)
    config.outputs  # noqa: B018 (checked before any job)
    freeze(config, snakemake_internals.NOTES / "pipeline")
    # Jobs write their logs, and Snakemake its report, in UTF-8 whatever the terminal shows.
    os.environ.pop("PYTHONIOENCODING", None)
    os.environ.setdefault("PYTHONUTF8", "1")
    return config


class Call:
    """A call that works on a study; ``submitted``: one of a job, which its own call has settled."""

    def __init__(self, graph: Graph, jobs: Jobs, submitted: bool = False) -> None:
        self.graph, self.jobs, self.config = graph, jobs, graph.config
        self._settled = None if submitted else Settled(graph)
        self.run = cache(self._run)
        self._watch: Watch | None = None
        self._served: list[mps.Mps | warm.Server] = []
        self._reservation: Reservation | None = None
        self._runs: list[str] = []
        self._report: Path | None = None

    def settle(self) -> None:
        """Take Snakemake's mark of an unfinished job from checks of data that are there.

        A check is written in one piece, so what is there is whole. Snakemake would run the marked
        job again and, since nothing depends on its time, none of the jobs after it.
        """
        results = self.config.main.results
        names = (file.parent.name for file in Path(results).glob("data/*/facts.json"))
        there = [f"{results}/data/{name}/facts.json" for name in names]
        snakemake_internals.forget(there, "incomplete")

    def _run(self, stage: str, key: str) -> Run:
        """The run that a rule asks about, settled before Snakemake judges it; called as ``run``.

        Raises:
            UserError: no run, or one that cannot be made.
        """
        run = parse(stage, key)
        if self._settled:
            self._settled.settle(run)
        return run

    def unknown(self, target: str) -> str:
        """What is wrong with a target that no rule makes, and what may be meant."""
        try:
            found = resolve(self.config, [target])
        except UserError as error:
            return str(error)
        results = self.config.main.results
        if found.runs and not found.outputs:
            path = f"{results}/{found.runs[0].path()}"
            if path != target:
                return f"{target!r} is no file that a job makes; ask for the run by {path}"
        return f"{target!r}: no rule makes it in study {self.config.main.study!r}"

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
        """Reserve the files of all jobs, try the networks that they train, let them share GPUs, show
        progress.

        Raises:
            UserError: another workflow is working on these files, or a network cannot be used as
                the jobs, or the study, will use it.
            Interrupted: a signal came while a network was tried.
        """
        self._reserve(jobs)
        runs = [run for job in jobs if (run := self._run_of(job))]
        try:
            self._try(runs)
        except (UserError, Interrupted):
            self.ended(False)
            raise
        self._keep(jobs)
        made = [job.outputs[0] for job in jobs if job.rule == "render_report"]
        self._report = Path(made[0]) if made else None
        self._watch = Watch(self.config.results)
        snakemake_internals.speak_after(self._watch.clear)
        first = {file: job.outputs[0] for job in jobs for file in job.outputs}
        self._watch.expect(*(self._expected(job, first) for job in jobs if job.outputs))
        bases = {self.jobs.rates.rate(run).basis for run in runs}
        basis = ", by assumed rates" if "assumed" in bases else ""
        if self.jobs.cluster:
            self._watch.start(self.jobs.cluster, "jobs at a time", basis)
        else:
            self._watch.start(cores, basis=basis)

    def _try(self, runs: list[Run]) -> None:
        """Try each network that was not tried, in a process of its own, before any job.

        What is known to be wrong is said before anything is started that jobs, and a trial, share.
        """
        networks = {dense.network for run in runs for dense in run.networks}
        concerned = runs + [
            run
            for run in trials.declared(self.graph)
            if networks & {dense.network for dense in run.networks}
        ]
        known = trials.misfits(self.graph, concerned), trials.obstacles(self.graph, concerned)
        for problem in chain(*known):
            raise UserError(problem)
        if not self.jobs.cluster:
            self._serve(len(runs))
        if todo := trials.untried(self.config, runs):
            self._live(todo)
            for problem in trials.obstacles(self.graph, concerned):
                raise UserError(problem)

    def _live(self, todo: list[Dense]) -> None:
        """Try the networks of these dense runs in a process that may need much memory.

        On a submit host that has too little, the first dense job of a network of one's own does it.
        """
        names = ", ".join(map(trials.words, todo))
        print(f"trying in small, before anything is trained: {names}", file=sys.stderr, flush=True)
        done = subprocess.run(
            [sys.executable, "workflow/scripts/write.py", "trials", *(dense.key for dense in todo)],
            check=False, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, encoding="utf-8",
            errors="replace", env=os.environ | warm.ONE_THREAD,
        )  # fmt: skip
        if done.returncode in (TERMINATED, INTERRUPTED, *(-number for number in ENDS)):
            raise Interrupted
        if not done.returncode or (done.returncode < 0 and self.jobs.cluster):
            return
        told = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        if told and done.returncode > 0:
            raise UserError(told[-1].removeprefix("error: "))
        sys.stderr.write(done.stderr)
        need = max(self.jobs.costs.memory_mb(dense) for dense in todo)
        raise UserError(
            f"trying {names} ended with status {done.returncode}; it needs about {need:,} MB of memory"
        )

    def _expected(self, job: Job, first: Mapping[str, str]) -> Expected:
        """What is expected of a job: of a run by its cost, of any other a few seconds.

        ``first``: the output that stands for the job that makes a file.
        """
        needs = tuple({first[file] for file in job.inputs if file in first})
        work = Work(3.0, needs=needs)
        if run := self._run_of(job):
            kind = "-".join(run.home.network) if run.computes else ""
            seconds, cores = self.jobs.rates.wall(run), self.jobs.threads(run)
            work = Work(seconds, kind, needs, cores)
        log = next(iter(job.logs), None)
        return Expected(Path(job.outputs[0]), work, Path(log) if log else None, named(job))

    def _run_of(self, job: Job) -> Run | None:
        """The run of a job, if it is one's."""
        stage, key = job.wildcards.get("stage"), job.wildcards.get("key")
        return self.run(stage, key) if stage and key else None

    def _keep(self, jobs: list[Job]) -> None:
        """Give what is whole and runs again only for what comes before it a second name.

        Where that comes out as it was, the job takes its files back and does not train again.
        """
        for job in jobs:
            if not job.forced and (run := self._run_of(job)):
                record = record_of(self.config.results / run.folder)
                if record is not None and record.digest == self.graph.digest(run):
                    finished.keep(self.config.results, run.folder, record.files)

    def ended(self, fine: bool, stopped: bool = False) -> bool:
        """The end of all jobs; ``stopped``: a signal came, and no further one was started.

        Returns whether that is the only reason why targets are missing: nothing failed.
        """
        saved = stopped and self._watch is not None and self._watch.saved()
        if self._watch:
            self._watch.stop(fine or saved)
        for service in reversed(self._served):
            service.stop()
        if fine:
            finished.forget(self.config.results, self._runs)
            for line in self._told():
                print(line, file=sys.stderr, flush=True)
        if self._reservation:
            self._reservation.give_back()
        return saved

    def _told(self) -> list[str]:
        """What the study found, and where its report lies; of a call that made it."""
        if not self._report:
            return []
        found = self._report.with_name("about") / "found.txt"
        return [*found.read_text(encoding="utf-8").splitlines(), f"the report: {self._report}"]

    def _serve(self, runs: int) -> None:
        """Start what so many runs on this machine share; it ends with this process."""
        main = self.config.main
        if main.device != "cpu" and main.sharing == "mps" and (service := mps.start()):
            self._served.append(service)
        enough = 2 if main.sharing == "threads" else SERVED
        if main.warm and runs >= enough and (server := warm.start(SCRIPT)):
            self._served.append(server)

    def _reserve(self, jobs: list[Job]) -> None:
        """Keep other workflows from the files of these jobs."""

        def below(files: Iterable[str]) -> set[str]:
            return {file.removeprefix(f"{self.config.main.results}/") for file in files}

        reads = {name for job in jobs for name in below(job.inputs)}
        writes = {name for job in jobs for name in below(job.outputs)}
        self._runs = sorted({str(Path(name).parent) for name in writes})
        self._reservation = Reservation(self.config.results)
        self._reservation.take(reads - writes, writes)
        if self._reservation.alone:
            finished.forget_others(self.config.results, self._runs)
            clear_all(self.config.results, but=LOCK)  # what is locked clears up itself


def named(job: Job) -> tuple[str, str]:
    """How a job reports itself: a run by stage and key, another by what ``write.py`` is asked for."""
    wildcards = job.wildcards
    stage, key = wildcards.get("stage"), wildcards.get("key")
    if stage and key:
        return stage, key
    name = wildcards.get("name") or wildcards.get("dataset") or ""
    return wildcards.get("kind") or job.rule, name
