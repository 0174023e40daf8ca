"""Histories as TensorBoard events: the same numbers, no part of any artifact, only when asked for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from small import Tiny, contents
from studies import refused
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pipeline import stages
from pipeline.artifacts.store import read_csv
from pipeline.progress import tensorboard as events
from pipeline.study import config as configuration


@pytest.fixture
def told(fresh: Tiny) -> Tiny:
    """The small study with empty results and the setting on."""
    return Tiny(fresh.root, fresh.results, tensorboard=True)


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Steps and values by name, as TensorBoard reads them."""
    found: Any = EventAccumulator(str(folder)).Reload()  # type: ignore[no-untyped-call]
    names = found.Tags()["scalars"]
    return {name: [(e.step, e.value) for e in found.Scalars(name)] for name in names}


def test_events_hold_the_history(told: Tiny) -> None:
    for run in (told.dense(), told.block(), told.cell("lth").run):
        folder = told.make(run)
        rows = read_csv(folder / "history.csv")
        found = curves(told.results / "tensorboard" / run.folder)
        for column, name in events.CURVES.items():
            wanted = [
                (step, pytest.approx(float(row[column]), rel=1e-6))
                for step, row in enumerate(rows, start=1)
                if row.get(column)
            ]
            assert found.get(name, []) == wanted, (run.stage, column)
        assert {"loss/train", "accuracy/test", "learning_rate", "sparsity"} <= set(found)


def test_the_setting_changes_no_artifact(told: Tiny, tiny: Tiny) -> None:
    run = told.dense()
    assert told.graph.digest(run) == tiny.graph.digest(run)
    with_events, without = told.make(run), tiny.make(run)
    assert contents(with_events) == contents(without)
    assert not (tiny.results / "tensorboard").exists()


def test_a_run_that_is_made_again_replaces_its_events(told: Tiny) -> None:
    run = told.dense()
    told.run(run)
    told.run(run)
    folder = told.results / "tensorboard" / run.folder
    assert len(list(folder.iterdir())) == 1
    assert [step for step, _ in curves(folder)["loss/train"]] == [1, 2, 3, 4]


def test_a_folder_that_cannot_be_written_does_not_fail_the_run(
    told: Tiny, capsys: pytest.CaptureFixture[str]
) -> None:
    told.results.mkdir()
    (told.results / "tensorboard").write_text("in the way")
    run = told.dense()
    stages.run(told.config, run.stage, run.key)
    assert told.path(run, "provenance.json").exists()
    assert "no TensorBoard events: " in capsys.readouterr().out


def test_a_missing_package_is_one_line_before_any_job(
    fresh: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(configuration, "find_spec", lambda name: None)
    refused(
        lambda: Tiny(fresh.root, fresh.results, tensorboard=True), "config.yaml", "tensorboard",
        "pip install tensorboard",
    )  # fmt: skip
    Tiny(fresh.root, fresh.results)  # it is asked for by the setting alone


def test_nothing_loads_it_otherwise(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "import pipeline.progress.tensorboard\n"
        "import pipeline.stages.dense, pipeline.stages.sparse, pipeline.stages.imp\n"
        "print([n for n in sys.modules if n.split('.')[0] == 'tensorboard'])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert found.stdout.strip() == "[]"


def test_no_study_may_be_named_after_the_folder() -> None:
    assert events.FOLDER in configuration.RESERVED
