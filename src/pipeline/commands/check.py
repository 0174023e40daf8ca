"""Check study, data, networks and machine, with --results every artifact; a line per problem, status 1."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from pipeline.artifacts.lock import LOCK
from pipeline.artifacts.record import MISSING, PROVENANCE, Damaged, Records
from pipeline.artifacts.store import digest, mend
from pipeline.catalog import datasets as catalog
from pipeline.errors import UserError
from pipeline.runs import STAGES, Run, parse
from pipeline.study import trials
from pipeline.study.config import Config
from pipeline.study.graph import Graph

EXAMPLE = "check --study paper --results"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--results",
        action="store_true",
        help="verify every artifact against its digest and parents, and tables against their runs",
    )


class Check:
    """What is looked at, and how much of it; the problems are found by the way."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.graph = Graph(config)
        self.runs = trials.declared(self.graph)
        #: What was looked at and is fine, for people.
        self.fine: list[str] = []

    def problems(self, results: bool) -> Iterator[str]:
        """One line per problem; reading the study itself has raised for its own mistakes before."""
        yield from trials.misfits(self.graph, self.runs)
        yield from self._data()
        yield from self._networks()
        yield from self._machine()
        if results:
            yield from self._results()

    def _data(self) -> Iterator[str]:
        """Every data set of the study, read, and compared with what was written of it before."""
        from pipeline.data import load
        from pipeline.stages.data import check_scale, compare_facts

        for name in sorted({dense.dataset for run in self.runs for dense in run.networks}):
            info = self.config.datasets[name]
            made = any(
                path.startswith(str(self.config.results.resolve())) for path, *_ in info.files
            )
            try:
                if problem := catalog.status(info, self.config.data_root):
                    if not made:  # by the workflow, when it is needed
                        yield problem
                    continue
                data = load(info, self.config.data_root, download=False)
                check_scale(data)
                again = compare_facts(self.config, data, renew=_writable(self.config.results))
            except UserError as error:
                yield str(error)
            else:
                self.fine.append(f"data {name} {'as recorded' if again else 'read'}")

    def _networks(self) -> Iterator[str]:
        """The trial of every network of the study, and whether the runs can be made with it."""
        from pipeline.stages.trial import hold

        keep = _writable(self.config.results)
        found = {}
        for place, dense in trials.places(self.config, self.runs).items():
            try:
                found[place] = hold(self.config, dense, keep=keep)
            except UserError as error:
                yield str(error)
            else:
                self.fine.append(f"network {trials.words(dense)} tried")
        yield from trials.obstacles(self.graph, self.runs, found)

    def _machine(self) -> Iterator[str]:
        if self.config.main.device == "cuda":
            import torch

            if not torch.cuda.is_available():
                yield "config.yaml: device: cuda, but no GPU can be used here"
        place = self.config.results
        if _writable(place):
            self.fine.append(f"{place} can be written")
        else:
            self.fine.append(f"{place} can be read, not written: nothing can be run here")

    def _results(self) -> Iterator[str]:
        yield from damaged(self.config.results)
        yield from wrong_tables(self.config)
        runs = sum(1 for _ in self.config.results.rglob(PROVENANCE))
        self.fine.append(f"{runs:,} run{'' if runs == 1 else 's'} verified")


def problems(config: Config, results: bool) -> Iterator[str]:
    """One line per problem of a study, its data, networks and machine, and with ``results`` of those."""
    return Check(config).problems(results)


def _writable(results: Path) -> bool:
    """Whether files can be written to the results folder, or it can be made."""
    place = results.resolve()
    while not place.exists():
        place = place.parent
    return os.access(place, os.W_OK | os.X_OK)


def damaged(results: Path) -> Iterator[str]:
    """Artifacts that differ from what was recorded when they were written, or from their parents'.

    One line each: the file, what is wrong, and the command that mends it.
    """
    records = Records(results)
    for path in sorted(results.rglob(PROVENANCE)):
        folder = path.parent
        run = _run_of(folder.relative_to(results))
        outputs = run.files if run else ()
        try:
            record = records.read(folder.relative_to(results).as_posix())
        except Damaged:
            yield f"{path}: damaged; {mend(path, outputs)}"
            continue
        if record is None:
            continue  # it has just gone: a job is making it again
        named = record.settings.get("stage"), record.settings.get("run")
        true_to_itself = digest(record.settings) == record.digest
        if run is not None and not (named == (run.stage, run.key) and true_to_itself):
            yield f"{path}: of another run, {'/'.join(map(str, named))}; {mend(path, outputs)}"
            continue
        for name in sorted({*record.files, *outputs}):
            fault = record.fault(folder / name)
            if fault == MISSING and (folder / LOCK).exists():
                continue  # a job is making it again
            if fault is not None:
                yield f"{folder / name}: {fault}; {mend(folder / name, outputs)}"
        for name in record.other_parents(records.recorded):
            yield f"{folder}: was made from another version of {results / name}; {mend(path, outputs)}"
    for stage, kind in STAGES.items():
        for path in sorted((results / stage).rglob(kind.files[0])):
            folder = path.parent
            recorded_or_unfinished = any((folder / name).exists() for name in (PROVENANCE, LOCK))
            if not recorded_or_unfinished and _run_of(folder.relative_to(results)):
                yield f"{path}: has no {PROVENANCE} beside it; {mend(path, kind.files)}"


def wrong_tables(config: Config) -> Iterator[str]:
    """Tables of the study that are there and are not what their runs give."""
    from pipeline.report import build as show
    from pipeline.report.tables import FORMATS

    for name, output in config.outputs.items():
        stem = config.results / config.scope / "tables" / name
        paths = {suffix: stem.with_name(f"{name}.{suffix}") for suffix in FORMATS}
        there = {suffix: path for suffix, path in paths.items() if path.exists()}
        if output.what == "figure" or not there:
            continue
        try:
            table = show.table(config, name)
        except UserError as error:
            yield f"{stem}: cannot be made of its runs: {error}"
            continue
        for suffix, path in there.items():
            if path.read_bytes() != FORMATS[suffix](table).encode():
                yield f"{path}: not what its runs give; make it again: rm '{path}' && {config.command(name)}"


def _run_of(folder: Path) -> Run | None:
    """The run of a folder below the results, if it is one's."""
    stage, _, key = folder.as_posix().partition("/")
    try:
        return parse(stage, key)
    except UserError:
        return None


def run(config: Config, arguments: argparse.Namespace) -> None:
    check = Check(config)
    found = 0
    for problem in check.problems(arguments.results):
        print(problem, file=sys.stderr)
        found += 1
    if found:
        sys.exit(1)
    names = f"{len(config.experiments)} experiments, {len(config.outputs)} outputs"
    print(f"study {config.main.study}, protocol {config.main.protocol}: {names} are fine")
    print(*check.fine, sep="\n")
