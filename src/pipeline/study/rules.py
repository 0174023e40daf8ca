"""What the Snakefile asks: settings, inputs and resources of runs, files of tables and figures."""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
import sys
from base64 import urlsafe_b64encode
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.artifacts import finished, keys, slices
from pipeline.artifacts.keys import Run
from pipeline.artifacts.reservation import Reservation
from pipeline.artifacts.store import digest
from pipeline.catalog import datasets as catalog
from pipeline.errors import UserError
from pipeline.machine import memory as allocator
from pipeline.progress.workflow import Watch
from pipeline.study.config import freeze, frozen, read
from pipeline.study.cost import DECODERS, Costs
from pipeline.study.graph import Graph
from pipeline.study.outputs import Linked, Output
from pipeline.study.outputs.group import Group
from pipeline.study.processes import processes
from pipeline.study.settings import ALGORITHM

TABLE = (".csv", ".html", ".md", ".tex")
COMPARISON = (".comparison.csv", ".comparison.html", ".comparison.md")
FIGURE = (".pdf", ".png", ".svg", ".csv")
#: How the lines of jobs begin that SIGTERM has ended: saved, or with nothing to save yet.
STOPPED = ("failed: stopped by SIGTERM", "failed: it ended without a word")


class Workflow:
    """One study under one protocol, as the rules see it.

    ``jobs``: how many run at once elsewhere, on a cluster; None where this machine runs them.
    """

    def __init__(
        self, root: str | Path, overrides: Mapping[str, Any], jobs: int | None = None
    ) -> None:
        allocator.tune()
        submitted = frozen()
        self.submitted = submitted is not None  #: whether this is a job that another call started
        self.config = submitted or read(Path(root), overrides)
        self.graph = Graph(self.config)
        self.config.outputs  # noqa: B018 (checked before any job)
        if submitted is None:
            freeze(self.config, Path(".snakemake") / "pipeline")
        self.results = self.config.main.results
        self._settle_data()
        self.scope = self.config.scope
        self.cluster = jobs if jobs and shutil.which("sbatch") else None
        kind = "cuda" if self.cluster else device()  # a submit host has no GPU, its nodes do
        self.costs = Costs(self.graph, "cpu" if self.config.main.device == "cpu" else kind)
        self.run = cache(keys.parse)
        self._watch: Watch | None = None
        self._reservation: Reservation | None = None
        self._runs: list[str] = []
        self._measured = False

    def _settle_data(self) -> None:
        """Take Snakemake's mark of an unfinished job from checks of data that are there.

        The check is written in one piece, so what is there is whole. Snakemake would run the marked
        job again and, since nothing depends on its time, none of the jobs after it.
        """
        for facts in Path(self.results).glob("data/*/facts.json"):
            _unmark("incomplete", f"{self.results}/data/{facts.parent.name}/facts.json")

    # -- slices ----------------------------------------------------------------------------

    def take_over(self, dry: bool) -> None:
        """Take over what slices have made of the study; before any job is looked for.

        In a dry run only say so. Inside a job of another call nothing: that call has done it.

        Raises:
            UserError: a folder of slices is missing, another workflow is working on their runs, or
                the results cannot be written.
        """
        if self.submitted or not self.config.main.slices:
            return
        places = slices.folders(self.config.main.slices)
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
        for name in names:
            for kind in ("incomplete", "metadata"):
                _unmark(kind, f"{self.results}/{name}")

    # -- runs ------------------------------------------------------------------------------

    def settings(self, stage: str, key: str) -> dict[str, Any]:
        return self.graph.settings(self.run(stage, key))

    def digest(self, stage: str, key: str) -> str:
        return self.graph.digest(self.run(stage, key))

    def inputs(self, stage: str, key: str) -> list[str]:
        """The files a run reads."""
        files = self.graph.inputs(self.run(stage, key)).values()
        return list(dict.fromkeys(f"{self.results}/{file.path}" for file in files))

    def data_of(self, key: str) -> str:
        """The check of the data set of a dense run."""
        return f"{self.results}/data/{self.graph.dataset(self.run('dense', key))}/facts.json"

    def data_files(self, dataset: str, dry: bool) -> list[str]:
        """Make sure that a data set can be read before any job starts.

        What torchvision can download is downloaded here. Nothing is looked at in a dry run, or
        once the data set was checked. Returns what a rule has to make first.

        Raises:
            UserError: missing or damaged; one line with where, what and how.
        """
        info = self.config.datasets.get(dataset)
        if info is None:
            raise UserError(f"unknown data set {dataset!r}")
        turned = f"{self.results}/data/digits-turned.npz"
        made = [turned for path, _, _ in info.files if Path(path) == Path(turned).resolve()]
        if dry or made or Path(f"{self.results}/data/{dataset}/facts.json").exists():
            return made
        problem = catalog.status(info, self.config.data_root)
        if problem and info.kind == "torchvision":
            command = [sys.executable, "-m", "pipeline", "data", dataset]
            subprocess.run(command, check=False, stdout=sys.stderr)
            problem = catalog.status(info, self.config.data_root)
        if problem:
            raise UserError(problem)
        return []

    # -- resources -------------------------------------------------------------------------

    def threads(self, stage: str, key: str) -> int:
        """Processors of a job on one machine: of its compute threads, or those that decode."""
        run = self.run(stage, key)
        each = int(getattr(self.graph.recipe(run), "threads", 1))
        kind = self.config.datasets[self.graph.dataset(run)].kind
        if kind == "image_folder" and self.costs.device == "cuda" and stage != "mask":
            each = max(each, DECODERS)
        return each * max(1, processes(self.graph, run) // self.config.main.nodes)

    def gpus(self, stage: str, key: str) -> int:
        """GPUs of a job that computes, one for each process: none where the device is the CPU."""
        if self.config.main.device == "cpu":
            return 0
        return processes(self.graph, self.run(stage, key))

    def nodes(self, stage: str, key: str) -> int | None:
        """Machines of a job that is spread over several; None for all others."""
        shared = processes(self.graph, self.run(stage, key)) > 1
        return self.config.main.nodes if shared and self.config.main.nodes > 1 else None

    def memory_mb(self, stage: str, key: str) -> int:
        return self.costs.memory_mb(self.run(stage, key))

    def runtime(self, stage: str, key: str) -> int:
        """Minutes to ask for: three times the estimate, at least ten.

        A cluster is asked by rates measured here, where there are any.
        """
        if self.cluster and not self._measured:
            self._measured = True
            self.costs.measured(self._sample())
        return max(10, math.ceil(3 * self.costs.wall(self.run(stage, key)) / 60))

    def _sample(self, per_network: int = 30) -> Iterator[Run]:
        """The first trainings of each network: enough for a rate, and few files to look at."""
        seen: Counter[tuple[str, str, str]] = Counter()
        for run in self.graph.closure(self.graph.outputs(self.config.outputs)):
            network = self.costs.network(run)
            key = (network.dataset, network.model, network.width)
            if self.costs.epochs(run) and seen[key] < per_network:
                seen[key] += 1
                yield run

    # -- tables and figures ----------------------------------------------------------------

    def names(self, what: str) -> list[str]:
        """Names of the study's tables or figures."""
        return [name for name, output in self.config.outputs.items() if output.what == what]

    def regular(self, what: str) -> list[str]:
        """Names of those that belong to ``tables``, ``figures`` and the report."""
        return [name for name in self.names(what) if not self.config.outputs[name].optional]

    def runs_of(self, name: str) -> list[str]:
        """The files that stand for the runs an output shows."""
        return [f"{self.results}/{keys.path(run)}" for run in self.graph.outputs([name])]

    def spec(self, name: str) -> dict[str, Any]:
        """What decides an output: its entry, its runs and their settings."""
        output = self.config.outputs[name]
        runs = {run.key: self.graph.digest(run) for run in self.graph.outputs([name])}
        labels = {k: [m.label, m.color] for k, m in sorted(self.config.recipes.methods.items())}
        return {
            "algorithm": ALGORITHM["figure" if output.what == "figure" else "table"],
            "labels": labels,
            "output": output.declared(),
            "protocol": self.config.main.protocol,
            "runs": digest(runs),
        }

    def files(self, name: str) -> list[str]:
        """The files of a table or figure."""
        output = self.config.outputs[name]
        if isinstance(output, Group):
            return [file for part in output.outputs for file in self.files(part)]
        if output.what == "figure":
            return [f"{self.results}/{self.scope}/figures/{name}{end}" for end in FIGURE]
        ends = TABLE + (COMPARISON if output.published else ())
        return [f"{self.results}/{self.scope}/tables/{name}{end}" for end in ends]

    def shown(self, *whats: str) -> list[str]:
        """The files of all tables, figures or both."""
        return [file for what in whats for name in self.regular(what) for file in self.files(name)]

    def ancestors(self, *whats: str) -> list[str]:
        """The files that stand for every run behind tables, figures or both."""
        return self._ancestors([name for what in whats for name in self.regular(what)])

    def ancestors_of(self, name: str) -> list[str]:
        """The files that stand for every run behind one output."""
        return self._ancestors([name])

    def _ancestors(self, names: list[str]) -> list[str]:
        runs = self.graph.closure(self.graph.outputs(names))
        return [f"{self.results}/{keys.path(run)}" for run in runs]

    def declared(self) -> str:
        """Digest of all that study, recipes and data sets declare: what the report lists."""
        raw = self.config.raw
        return digest([raw["study"], raw["recipes"], raw["datasets"], self.config.main.protocol])

    def label(self, name: str) -> str:
        """What the report's menu calls an output: its number, if its name has one, and title.

        Outputs of one title in one category are told apart by their names.
        """
        outputs = self.config.outputs
        title = outputs[name].title or name
        numbered = re.fullmatch(r"(table|figure)_(\d+)((?:_\d+)*[a-z]?)", name)
        if numbered:
            what, number, rest = numbered.groups()
            # A figure space before single digits: the menu sorts by letters.
            return f"{what.capitalize()} {number.rjust(2, chr(0x2007))}{rest.replace('_', '.')}: {title}"
        same = [n for n, o in outputs.items() if o.title == title and o.what == outputs[name].what]
        return title if same in ([], [name]) else f"{title} ({name})"

    def category(self, name: str) -> str:
        """Where the report shows a table."""
        return "Claims" if self.config.outputs[name].what == "claims" else "Tables"

    def caption(self, name: str) -> str:
        """What an output shows, under which protocol, with which seeds."""
        output = self.config.outputs[name]
        parts = [output.title, output.shows, output.note, f"Protocol: {self.protocol()}"]
        seeds = self._seeds(output)
        return " ".join(part.rstrip(".") + "." for part in [*parts, seeds] if part)

    def protocol(self) -> str:
        """The protocol as captions name it."""
        return self.config.protocol.title or self.config.main.protocol

    def _seeds(self, output: Output) -> str:
        """The seeds behind an output; empty for one that shows no runs."""
        outputs, experiments = self.config.outputs, self.config.experiments
        parts = [outputs[n] for n in output.outputs] if isinstance(output, Linked) else [output]
        pairs: dict[tuple[tuple[int, int], ...], None] = {}
        for part in parts:
            if next(iter(part.needs(experiments)), None) is None:
                continue
            for experiment in part.chosen(experiments):
                pairs[part.pairs(experiment)] = None
        if not pairs:
            return ""
        fewest, most = min(map(len, pairs)), max(map(len, pairs))
        number = f"{fewest}" if fewest == most else f"{fewest} to {most}"
        listed = ""
        if len(pairs) == 1:
            listed = ": " + ", ".join(f"{a}–{b}" for a, b in next(iter(pairs)))
        return f"Seeds: {number} pair{'' if most == 1 else 's'} (a–b){listed}"

    # -- progress --------------------------------------------------------------------------

    def started(self, workflow: Any) -> None:
        """Reserve the files of all jobs, and show progress and the time left while they run.

        Raises:
            UserError: another workflow is working on these files.
        """
        self._reserve(list(workflow.dag.needrun_jobs()))
        jobs = [(job.rule.name, job.wildcards_dict.get("key"), list(job.output), list(job.log))
                for job in workflow.dag.needrun_jobs()]  # fmt: skip
        cores = workflow.resource_settings.cores or 1
        self._watch = Watch(self.config.results)
        for rule, key, outputs, logs in jobs:
            stage = rule.replace("_", "-")
            seconds = 3.0
            if key is not None and stage in keys.OUTPUTS:
                seconds = self.costs.wall(self.run(stage, key))
            self._watch.expect(outputs[0] if outputs else None, seconds, logs[0] if logs else None)
        if self.cluster:
            self._watch.start(self.cluster, "jobs at a time")
        else:
            self._watch.start(int(cores))

    def ended(self, fine: bool, stopped: bool = False) -> bool:
        """The end of all jobs; ``stopped``: SIGTERM came, and no further one was started.

        Returns whether that is the only reason why targets are missing: nothing failed.
        """
        saved = (
            stopped
            and self._watch is not None
            and all(line.startswith(STOPPED) for line in self._watch.failed())
        )
        if self._watch:
            self._watch.stop(fine or saved)
        if fine:
            finished.forget(self.config.results, self._runs)
        if self._reservation:
            self._reservation.give_back()
        return saved

    def _reserve(self, jobs: list[Any]) -> None:
        """Keep other workflows from the files of these jobs."""

        def named(files: Iterable[str]) -> set[str]:
            return {str(file).removeprefix(f"{self.results}/") for file in files}

        reads = {name for job in jobs for name in named(job.input)}
        writes = {name for job in jobs for name in named(job.output)}
        self._runs = sorted({str(Path(name).parent) for name in writes})
        self._reservation = Reservation(self.config.results)
        self._reservation.take(reads - writes, writes)
        if self._reservation.alone:
            finished.forget_others(self.config.results, self._runs)


def wanted(graph: Graph, runs: Iterable[Run]) -> list[slices.Wanted]:
    """What is asked of slices for these runs."""
    return [
        slices.Wanted(
            keys.folder(run),
            keys.OUTPUTS[run.stage],
            graph.digest(run),
            tuple(dict.fromkeys(file.path for file in graph.inputs(run).values())),
        )
        for run in runs
    ]


def _unmark(kind: str, file: str) -> None:
    """Remove what Snakemake has noted of a file: that a job was making it, or how it was made."""
    folder = Path(".snakemake") / kind
    if not folder.is_dir():
        return
    name = urlsafe_b64encode(file.encode()).decode()
    most = (os.pathconf(folder, "PC_NAME_MAX") or 255) - 1
    *first, last = (name[place : place + most] for place in range(0, len(name), most))
    folder.joinpath(*(f"@{part}" for part in first), last).unlink(missing_ok=True)


def device() -> str:
    """Kind of device that jobs will find, without importing torch."""
    return "cuda" if Path("/dev/nvidiactl").exists() else "cpu"
