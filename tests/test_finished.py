"""A finished run that the workflow has not noted survives the deletion of its files."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from small import Tiny, contents, rewrite

from pipeline.artifacts import finished
from pipeline.artifacts.record import PROVENANCE
from pipeline.artifacts.store import read_json
from pipeline.runs import Run
from pipeline.stages.job import Job


@pytest.fixture(scope="module")
def made(tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results with a finished mask, the cheapest run with parents."""
    study = Tiny(tiny_root, tmp_path_factory.mktemp("finished") / "results")
    study.make(study.mask())
    return study.results


@pytest.fixture
def run(fresh: Tiny, made: Path) -> Run:
    """The mask in a copy of these results."""
    shutil.copytree(made, fresh.results)
    return fresh.mask()


def delete(study: Tiny, run: Run) -> None:
    """As Snakemake does with the outputs of a job that it takes for unfinished."""
    for name in run.files:
        study.path(run, name).unlink()


def executed(study: Tiny, run: Run, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether asking for the run computes anything."""
    calls: list[object] = []
    with monkeypatch.context() as patch:
        patch.setattr(Job, "metrics", lambda *_, **__: calls.append(1))
        patch.setattr(Job, "finish", lambda *_: None)
        study.run(run)
    return bool(calls)


def test_files_that_were_deleted_come_back_whole_and_newer_than_their_inputs(
    fresh: Tiny, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(fresh.folder(run))
    (fresh.folder(run) / ".resume.safetensors").write_text("left by the kill")
    inputs = max(
        (fresh.results / name).stat().st_mtime_ns
        for name in read_json(fresh.path(run, PROVENANCE))["parents"]
    )
    delete(fresh, run)
    assert not executed(fresh, run, monkeypatch)
    assert contents(fresh.folder(run)) == before
    assert all(fresh.path(run, name).stat().st_mtime_ns > inputs for name in before)


def test_a_run_that_is_there_is_made_again_when_asked_for(
    fresh: Tiny, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert executed(fresh, run, monkeypatch)


def of_other_settings(study: Tiny, run: Run, place: Path) -> None:
    rewrite(study.folder(run), digest="old")


def damaged(study: Tiny, run: Run, place: Path) -> None:
    (place / "metrics.json").write_text("{}")


def without_record(study: Tiny, run: Run, place: Path) -> None:
    study.path(run, PROVENANCE).unlink()


def from_another_parent(study: Tiny, run: Run, place: Path) -> None:
    parents = read_json(study.path(run, PROVENANCE))["parents"]
    rewrite(study.folder(run), parents=dict.fromkeys(parents, "0" * 64))


def half_gone(study: Tiny, run: Run, place: Path) -> None:
    (place / "metrics.json").unlink()


def forgotten(study: Tiny, run: Run, place: Path) -> None:
    finished.forget(study.results, [run.folder])


@pytest.mark.parametrize(
    "change",
    [of_other_settings, damaged, without_record, from_another_parent, half_gone, forgotten],
)
def test_what_does_not_fit_is_made_again(
    fresh: Tiny, run: Run, monkeypatch: pytest.MonkeyPatch, change: object
) -> None:
    (place,) = [p.parent for p in (fresh.results / finished.FOLDER).glob("*/mask.safetensors")]
    before = contents(fresh.folder(run))
    delete(fresh, run)
    change(fresh, run, place)  # type: ignore[operator]
    assert executed(fresh, run, monkeypatch)
    shutil.rmtree(fresh.folder(run))
    fresh.run(run)
    assert contents(fresh.folder(run)) == before


def test_where_there_are_no_hard_links_a_run_ends_well(
    fresh: Tiny, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("no hard links here")

    finished.forget(fresh.results, [run.folder])
    with monkeypatch.context() as patch:
        patch.setattr(os, "link", refuse)
        fresh.run(run)
    delete(fresh, run)
    assert executed(fresh, run, monkeypatch)


def test_a_workflow_forgets_all_but_what_it_waits_for(fresh: Tiny, run: Run) -> None:
    kept = fresh.results / finished.FOLDER
    before = len(list(kept.iterdir()))
    assert before > 2
    finished.forget_others(fresh.results, [run.folder])
    assert len(list(kept.iterdir())) == 1
    finished.forget(fresh.results, [run.folder])
    assert not list(kept.iterdir())
