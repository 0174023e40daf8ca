"""Histories as TensorBoard events: the same numbers, no part of any artifact, only when asked for."""

from __future__ import annotations

import json
import os
import signal
import struct
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
from pipeline.errors import Interrupted
from pipeline.progress import trackers as events
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
    assert "no events for tensorboard: " in capsys.readouterr().out


def test_events_can_be_read_while_the_run_goes_on(
    told: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each epoch its values are on disk; a run that goes on adds to what it had told."""
    run, seen = told.dense(), []
    folder = told.results / "tensorboard" / run.folder
    row = events.TensorBoard.row

    def stopped(tracker: events.TensorBoard, step: int, values: dict[str, float]) -> None:
        row(tracker, step, values)
        seen.append([step for step, _ in curves(folder)["loss/train"]])
        if len(seen) == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(events.TensorBoard, "row", stopped)
    with pytest.raises(Interrupted):
        told.run(run)
    assert seen == [[1], [1, 2]]
    monkeypatch.setattr(events, "write_events", lambda *_: None)
    monkeypatch.setattr(stages, "write_events", lambda *_: None)
    told.run(run)
    assert seen[2:] == [[1, 2, 3], [1, 2, 3, 4]]


def history(file: Path) -> list[dict[str, float]]:
    """The rows of an offline run of Weights & Biases: records of a log in LevelDB's format."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, place, rows = file.read_bytes(), 7, []
    while place + 7 <= len(content):
        length, kind = struct.unpack("<HB", content[place + 4 : place + 7])
        assert kind == 1  # whole: such short ones lie in one block
        record = Record.FromString(content[place + 7 : place + 7 + length])
        place += 7 + length
        if record.WhichOneof("record_type") == "history":
            items = {".".join([*one.nested_key]) or one.key: one for one in record.history.item}
            rows.append({key: json.loads(one.value_json) for key, one in items.items()})
    return rows


def test_weights_and_biases_gets_the_history_offline(fresh: Tiny) -> None:
    pytest.importorskip("wandb")
    told = Tiny(fresh.root, fresh.results, wandb=True)
    run = told.dense()
    folder = told.run(run)
    (file,) = (told.results / "wandb").glob("offline-run-*/*.wandb")
    found = history(file)
    rows = read_csv(folder / "history.csv")
    assert [row["_step"] for row in found] == [1, 2, 3, 4]
    for mine, theirs in zip(rows, found, strict=True):
        assert theirs["loss/train"] == pytest.approx(float(mine["train_loss"]))
        assert ("loss/test" in theirs) == bool(mine["test_loss"])


def test_a_missing_package_is_one_line_before_any_job(
    fresh: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(configuration, "find_spec", lambda name: None)
    refused(
        lambda: Tiny(fresh.root, fresh.results, tensorboard=True), "command line", "tensorboard",
        "pip install tensorboard",
    )  # fmt: skip
    Tiny(fresh.root, fresh.results)  # it is asked for by the setting alone


def test_nothing_loads_it_otherwise(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "import pipeline.progress.trackers\n"
        "import pipeline.stages.dense, pipeline.stages.sparse, pipeline.stages.imp\n"
        "print([n for n in sys.modules if n.split('.')[0] == 'tensorboard'])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert found.stdout.strip() == "[]"


def test_no_study_may_be_named_after_the_folder() -> None:
    assert set(events.TRACKERS) <= configuration.RESERVED
