"""What Snakemake is to know of the runs that are there, before it judges what must run."""

from __future__ import annotations

from collections.abc import Iterable

from pipeline import snakemake_internals
from pipeline.artifacts.lock import LOCK
from pipeline.artifacts.record import Records
from pipeline.artifacts.slices import Wanted
from pipeline.artifacts.times import Times
from pipeline.runs import Run
from pipeline.study.graph import Graph


class Settled:
    """Each run that Snakemake asks about, once; its ancestors before it.

    A run counts as made where its record is one of today's settings and of the parents that lie
    here; then neither times nor a mark of an unfinished job run it again. One that is there without
    such a record is marked as unfinished: what Snakemake remembers may be of another folder, or lost.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._records = Records(graph.config.results)
        self._times = Times(self._records)
        self._seen: set[Run] = set()

    def settle(self, run: Run) -> None:
        """Settle a run and all before it."""
        if run in self._seen:
            return
        for each in self.graph.closure([run]):
            if each not in self._seen:
                self._seen.add(each)
                self._look(each)

    def _look(self, run: Run) -> None:
        folder = self.graph.config.results / run.folder
        there = [name for name in run.files if (folder / name).exists()]
        if not there or (folder / LOCK).exists():
            return  # not made yet, or a job is at work on it
        files = [f"{self.graph.config.main.results}/{run.path(name)}" for name in there]
        record = self._records.record_of(run.folder)
        if (
            record is None
            or record.digest != self.graph.digest(run)
            or record.other_parents(self._records.recorded)
        ):
            snakemake_internals.mark(files)
        elif len(there) == len(run.files):
            snakemake_internals.forget(files, "incomplete")
            self._times.settle(
                wanted(self.graph, [run])[0], lambda: wanted(self.graph, self.graph.closure([run]))
            )


def wanted(graph: Graph, runs: Iterable[Run], *, light: bool = False) -> list[Wanted]:
    """What is asked of files for these runs; ``light``: without weights."""
    return [
        Wanted(
            run.folder,
            run.files,
            graph.digest(run),
            tuple(dict.fromkeys(file.path for file in graph.inputs(run).values())),
            light,
        )
        for run in runs
    ]
