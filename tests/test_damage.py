"""Damage to any file of any kind of run: found before use, told with the command that mends it."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
from small import RECIPES, STUDY, Tiny, contents, rewrite, write_study

from pipeline import stages
from pipeline.artifacts.record import PROVENANCE
from pipeline.artifacts.store import read_json
from pipeline.commands.check import damaged, wrong_tables
from pipeline.errors import UserError
from pipeline.report import build
from pipeline.results import Results
from pipeline.runs import (
    STAGES,
    Align,
    Connect,
    Curve,
    ImpBarrier,
    Landscape,
    PermutationQuality,
    Plane,
    Run,
    parse,
)

OUTPUTS = """
  less: {<<: *tiny, sparsities: [0.6], rewind_epochs: [1]}
  again: {<<: *tiny, sparsities: [0.6], rewind_epochs: [1], replicates: 2}
  swept: {<<: *tiny, sparsities: [], rewind_epochs: [], sweep: tiny}
outputs:
  grid: {kind: rewind-grid, experiments: [less]}
  cost: {kind: cost, experiments: [less]}
  diverse:
    {kind: diversity, experiments: [again], sparsity: 0.6, rewind_epoch: 1, imp_seeds: [0, 1]}
  together:
    {kind: ensemble, experiments: [again], sparsity: 0.6, rewind_epoch: 1, imp_seeds: [0, 1]}
  line: {kind: interpolation, experiments: [less]}
  rounds: {kind: imp-barrier, experiments: [less]}
  surface: {kind: plane, experiments: [less], sparsity: 0.6, rewind_epoch: 1, correction: none}
  curves: {kind: training-curves, experiments: [less], sparsity: 0.6, rewind_epoch: 1}
  layers: {kind: mask-sparsity, experiments: [less]}
  quality: {kind: matching-quality, experiments: [less]}
  alignment: {kind: accuracy-vs-alignment, experiments: [less]}
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, kept: Path) -> Tiny:
    """A results folder with runs of every kind and all that tables and figures show."""
    root = write_study(
        tmp_path_factory.mktemp("damage"),
        RECIPES + "sweep:\n  tiny: {over: epochs, epochs: [2]}\n"
        "  spawned: {over: spawns, permutations: tiny, spawns: [2], noises: [1, 2]}\n"
        "  up: {over: rounds, imp: tiny, rounds: 2}\n",
        STUDY.replace("outputs: {}\n", OUTPUTS),
    )
    study = Tiny(root, root / "results", kept)
    permuted = study.cell("permuted", k=1).run
    assert permuted.match
    swept = Align((study.dense(0), study.dense(1)), "tiny", "tiny")
    beside = Align((study.dense(0), study.dense(2)), "tiny", "tiny")
    runs: list[Run] = [
        *study.graph.outputs(study.config.outputs),
        Plane(permuted, "tiny"), Curve(permuted.match, "tiny"),
        PermutationQuality(permuted.match, "tiny", "tiny"),
        ImpBarrier(study.dense(0), "tiny", "tiny", 3), study.solution(),
        Connect(swept, "tiny"), Landscape(swept, "tiny"),
        Connect(beside, "tiny"), Connect(replace(beside, sweep="spawned"), "tiny"),
        Connect(Align((study.dense(0), study.dense(1)), "tiny", "up"), "tiny"),
    ]  # fmt: skip
    for run in study.graph.closure(runs):
        study.make(run)
    return study


@pytest.fixture(scope="module")
def copied(whole: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    results = tmp_path_factory.mktemp("damaged") / "results"
    shutil.copytree(whole.results, results)
    return Tiny(whole.root, results)


def written_at(results: Path) -> dict[str, tuple[int, ...]]:
    """The files of a results folder, each with what changes when it is written anew."""
    files = (f"{place}/{name}" for place, _, names in os.walk(results) for name in names)
    stats = {path: os.stat(path) for path in files}  # noqa: PTH116 (many, and for every test)
    return {path: (at.st_ino, at.st_size, at.st_mtime_ns) for path, at in stats.items()}


@pytest.fixture
def study(whole: Tiny, copied: Tiny) -> Iterator[Tiny]:
    """A copy to be damaged; what a test changes in it is as it was for the next one."""
    before = written_at(copied.results)
    yield Tiny(whole.root, copied.results)
    after = written_at(copied.results)
    for path in {Path(name) for name, _ in before.items() ^ after.items()}:
        path.unlink(missing_ok=True)
        own = whole.results / path.relative_to(copied.results)
        if own.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(own, path)


def runs_of(study: Tiny) -> list[Run]:
    """All runs that are there, parents first."""
    found = []
    for record in study.results.rglob(PROVENANCE):
        stage, _, key = str(record.parent.relative_to(study.results)).partition("/")
        found.append(parse(stage, key))
    return study.graph.closure(sorted(found, key=lambda run: run.folder))


def flipped(path: Path, other: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncated(path: Path, other: Path) -> None:
    path.write_bytes(path.read_bytes()[: -path.stat().st_size // 3])


def emptied(path: Path, other: Path) -> None:
    path.write_bytes(b"")


def swapped(path: Path, other: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(other.read_bytes())
    other.write_bytes(content)


def deleted(path: Path, other: Path) -> None:
    path.unlink()


def exchanged(path: Path, other: Path) -> None:
    """The whole folders of two runs, each true to itself."""
    between = path.parent.with_name("between")
    path.parent.rename(between)
    other.parent.rename(path.parent)
    between.rename(other.parent)


DAMAGES: list[Callable[[Path, Path], None]] = [
    flipped, truncated, emptied, swapped, deleted, exchanged,
]  # fmt: skip


def another(study: Tiny, run: Run, name: str) -> Path:
    """The file of that name of another run of the same kind, with other content."""
    mine = study.path(run, name)
    for path in sorted((study.results / run.stage).rglob(name)):
        if path.parent != mine.parent and path.read_bytes() != mine.read_bytes():
            return path
    raise AssertionError(f"{mine}: the only one of its kind")


def test_there_are_runs_of_every_kind(whole: Tiny) -> None:
    assert {run.stage for run in runs_of(whole)} == set(STAGES)
    assert list(damaged(whole.results)) == []


def test_a_run_reads_nothing_but_files_of_its_inputs(whole: Tiny) -> None:
    for run in runs_of(whole):
        read = read_json(whole.path(run, PROVENANCE))["parents"]
        inputs = {file.run.folder for file in whole.graph.inputs(run).values()}
        assert {str(Path(name).parent) for name in read} <= inputs, run.folder


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("stage", STAGES)
def test_what_reads_a_damaged_file_refuses_and_writes_nothing(
    whole: Tiny,
    study: Tiny,
    stage: str,
    damage: Callable[[Path, Path], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every file that a run of the kind has read is damaged in turn, and the run asked for again.

    What is an input, or says how one came out, is refused before anything is computed.
    """
    module = import_module(f"pipeline.stages.{stages._module(STAGES[stage])}")
    run = [run for run in runs_of(study) if run.stage == stage][-1]
    parents = read_json(study.path(run, PROVENANCE))["parents"]
    declared = {file.path for file in study.graph.inputs(run).values()}
    before = contents(study.folder(run))
    for name in parents:
        path = study.results / name
        part, _, rest = str(Path(name).parent).partition("/")
        try:
            other = another(study, parse(part, rest), path.name)
        except AssertionError:
            if damage in (swapped, exchanged):
                continue
            other = path
        damage(path, other)
        with pytest.raises(UserError) as caught, monkeypatch.context() as patch:
            if name in declared or path.name == "metrics.json":
                patch.setattr(module, "execute", lambda job: pytest.fail("it computes"))
            study.run(run)
        text = str(caught.value)
        told = Path(text.split(": ")[0])
        if damage is swapped:  # the other one may be read, too, and first
            assert told in (path, other)
        elif damage is exchanged:
            assert told.parent in (path.parent, other.parent)
            assert any(str(path) in line for line in damaged(study.results))
        else:
            assert told == path
        asked = told if told.name in STAGES[part].files else told.with_name(STAGES[part].files[0])
        assert f"rm '{asked}' && snakemake -c1 '{asked}'" in text and "\n" not in text
        for folder in {path.parent, other.parent}:
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(whole.results / folder.relative_to(study.results), folder)
        assert contents(study.folder(run)) == before
    assert parents or stage == "dense"


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("stage", STAGES)
def test_the_check_of_results_names_every_damaged_file_and_what_mends_it(
    whole: Tiny, study: Tiny, stage: str, damage: Callable[[Path, Path], None]
) -> None:
    run = next(run for run in runs_of(study) if run.stage == stage)
    for name in [*read_json(study.path(run, PROVENANCE))["files"], PROVENANCE]:
        path = study.path(run, name)
        try:
            other = another(study, run, name)
        except AssertionError:
            if damage in (swapped, exchanged):
                continue
            other = path
        damage(path, other)
        found = [line for line in damaged(study.results) if str(path.parent) in line]
        asked = set(re.findall(r"rm '(.+?)' && snakemake -c1 '(.+?)'", "\n".join(found)))
        assert found and all("\n" not in line for line in found), name
        if name != PROVENANCE and damage is not exchanged:
            assert any(str(path) in line for line in found), name
        assert all(gone == again for gone, again in asked)
        # What is asked for is a file that the workflow knows how to make, and of this very run.
        known = {str(study.path(run, each)) for each in STAGES[stage].files}
        assert known & {again for _, again in asked}, (name, found)
        for folder in {path.parent, other.parent}:
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(whole.results / folder.relative_to(study.results), folder)
    assert list(damaged(study.results)) == []


def test_what_was_made_from_another_version_of_its_parent_is_found(study: Tiny) -> None:
    run = study.cell("permuted", k=1).run
    parents = read_json(study.path(run, PROVENANCE))["parents"]
    parent = next(iter(parents))
    rewrite(study.folder(run), parents=parents | {parent: "0" * 64})
    (line,) = damaged(study.results)
    assert f"made from another version of {study.results / parent}" in line
    assert f"snakemake -c1 '{study.path(run)}'" in line


@pytest.mark.parametrize("stage", STAGES)
def test_the_command_that_mends_brings_back_the_same_bits(study: Tiny, stage: str) -> None:
    """As typed: the file is deleted, the run asked for; the workflow deletes the others of the run."""
    run = next(run for run in runs_of(study) if run.stage == stage)
    before = contents(study.folder(run))
    flipped(study.path(run), study.path(run))
    assert [line for line in damaged(study.results) if str(study.path(run)) in line]
    for name in STAGES[stage].files:
        study.path(run, name).unlink()
    study.run(run)
    assert contents(study.folder(run)) == before
    assert list(damaged(study.results)) == []


# --- tables and figures ----------------------------------------------------------------------


def written(study: Tiny, name: str) -> dict[str, bytes]:
    """The files of an output, written anew."""
    write = build.write_figure if study.config.outputs[name].what == "figure" else build.write_table
    return {path.name: path.read_bytes() for path in write(study.config, name)}


@pytest.mark.parametrize(
    "name", re.findall(r"^  (\w+):\s*\{?", OUTPUTS.split("outputs:")[1], re.MULTILINE)
)
def test_a_table_of_damaged_files_is_refused_or_the_same(study: Tiny, name: str) -> None:
    """No number comes from a file that is not what its run wrote.

    A file that is not refused stays damaged; all of them together change no byte in the end.
    """
    before = written(study, name)
    output = study.config.outputs[name]
    read = build.builder(type(output)).read
    refused = []
    for run in study.graph.outputs([name]):
        for file in read_json(study.path(run, PROVENANCE))["files"]:
            path = study.path(run, file)
            content = path.read_bytes()
            flipped(path, path)
            try:
                read(output, Results(study.config))
            except UserError:
                refused.append(path)
                with pytest.raises(UserError) as caught:
                    written(study, name)
                told = str(caught.value)
                assert told.startswith(f"{path}: ") and "rm '" in told
                folder = study.results / study.config.scope
                kept = {p.name: p.read_bytes() for p in folder.rglob(f"{name}.*")}
                assert kept == before
                path.write_bytes(content)
    assert refused
    assert written(study, name) == before


def test_a_table_that_is_not_what_its_runs_give_is_found(study: Tiny) -> None:
    for path in build.write_table(study.config, "grid"):
        assert list(wrong_tables(study.config)) == []
        content = path.read_bytes()
        path.write_bytes(content.replace(b"9", b"8", 1) if b"9" in content else content[:-1])
        (line,) = wrong_tables(study.config)
        assert line.startswith(f"{path}: not what its runs give") and f"rm '{path}'" in line
        path.write_bytes(content)
