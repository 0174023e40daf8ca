"""What runs now and when it will end: in the workflow's own lines, by ``watch``, and from afar."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small import REPOSITORY, Tiny

from pipeline.commands import main
from pipeline.progress import job as progress
from pipeline.progress.job import FOLDER, Writer, clock, running, until
from pipeline.progress.left import Work
from pipeline.progress.workflow import SILENT, Expected, Watch, describe, share
from pipeline.runs import (
    STAGES,
    Align,
    Connect,
    Curve,
    ImpBarrier,
    ImpBlock,
    Landscape,
    Mask,
    PermutationQuality,
    Plane,
    Run,
    Snapshot,
)

KEY = "digits/resnet20-w0.5/dense-digits/imp-ft-digits/permuted.activations/S0.97/k1-e15/sparse-digits/a0-b1"


def report(results: Path, stage: str = "sparse", key: str = KEY, **facts: Any) -> Path:
    """The report of a job on another machine, as its process there writes it."""
    record = {
        "stage": stage, "key": key, "time": time.time(), "host": "node17", "pid": 1, **facts,
    }  # fmt: skip
    path = results / FOLDER / f"{abs(hash((stage, key)))}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record))
    return path


def test_a_line_says_method_sparsity_epoch_seeds_and_accuracy(tmp_path: Path) -> None:
    report(tmp_path, epoch=3, epochs=15, accuracy=81.2)
    (record,) = running(tmp_path)
    assert describe(record, host=True) == (
        "sparse permuted.activations S=0.97 k=1 a0-b1 (resnet20×0.5 on digits, sparse-digits), "
        "3/15, 81.20 %, on node17"
    )
    assert share(record) == 0.2


def test_every_kind_of_run_has_words(tiny: Tiny) -> None:
    cell = tiny.cell("permuted", k=1).run
    assert cell.match is not None
    child = replace(tiny.dense(3), spawn=2, noise=1)
    swept = Align((tiny.dense(0), tiny.dense(1)), "tiny", "sweep")
    runs: list[Run] = [
        tiny.dense(3), Snapshot(tiny.dense(3), 1), tiny.block(2), tiny.mask(),
        tiny.solution(), cell.match, cell, Curve(cell.match, "tiny"),
        ImpBarrier(tiny.dense(), "tiny", "tiny", 4),
        Plane(cell, "tiny"), PermutationQuality(cell.match, "tiny", "tiny"),
        Mask(tiny.dense(), "tiny", "O5"),
        swept, Connect(swept, "tiny"), Landscape(swept, "tiny"),
        child, Snapshot(child, 3), ImpBlock(child, "tiny", 1),
    ]  # fmt: skip
    assert {run.stage for run in runs} == set(STAGES)
    said = [run.words for run in runs]
    assert len(set(said)) == len(said)
    assert all("resnet20×0.25 on few" in text for text in said)
    assert "seed 3" in said[0] and "S=0.60 k=1 a0-b1" in said[6]
    assert all("seed 3t2n1" in text for text in said[-3:])


def test_the_process_that_watches_needs_no_process_of_the_job(tmp_path: Path) -> None:
    """The pid of another machine means nothing here; that of this one says that the job is gone."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    report(tmp_path, pid=ended.pid)
    assert len(running(tmp_path)) == 1
    here = progress.platform.node()
    report(tmp_path, pid=ended.pid, host=here)
    assert running(tmp_path) == []
    report(tmp_path, pid=os.getpid(), host=here)
    assert len(running(tmp_path)) == 1


def test_a_job_that_fell_silent_is_said_to_be_so_and_then_dropped(tmp_path: Path) -> None:
    report(tmp_path, time=time.time() - SILENT - 10)
    (record,) = running(tmp_path)
    assert "silent for 5:10" in describe(record)
    report(tmp_path, time=time.time() - 4000)
    assert running(tmp_path) == []


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "3", '{"time": "x"}', '{"time": 1e12, "stage": 3, "key": "k"}', "\x80"],
)
def test_a_report_that_cannot_be_read_is_passed_over(tmp_path: Path, content: str) -> None:
    report(tmp_path)
    (tmp_path / FOLDER / "other.json").write_bytes(content.encode("latin-1"))
    assert len(running(tmp_path)) == 1


def test_no_report_moves_the_cursor(tmp_path: Path) -> None:
    report(tmp_path, key="a\x1b[2Jb\r\n", host="h\x07", epoch="x\x1b", epochs="y")
    (record,) = running(tmp_path)
    assert describe(record, host=True).isprintable() and share(record) == 0.0


def test_the_end_is_a_time_of_day() -> None:
    noon = time.mktime((2026, 3, 1, 12, 0, 0, 0, 0, -1))
    assert until(65 * 60, noon) == "13:05"
    assert until(13 * 3600, noon) == "2026-03-02 01:00"
    assert [clock(s) for s in (42, 187, 7500)] == ["42 s", "3:07", "2:05:00"]


def expected(folder: Path, name: str, seconds: float = 10.0, **more: Any) -> Expected:
    """A job whose file and log lie in a folder under its name."""
    return Expected(folder / name, Work(seconds, **more), folder / f"{name}.log")


def begin(watch: Watch, job: Expected, ago: float) -> None:
    """The job began so many seconds ago."""
    assert job.log
    job.log.write_text("epoch 1\n")
    watch.look()
    job.began = time.time() - ago


def end(watch: Watch, job: Expected) -> None:
    job.output.write_text("made")
    watch.look()


def minutes_left(watch: Watch) -> int:
    (found,) = re.findall(r"about (\d+):\d\d left", watch.line())
    return int(found)


def test_the_workflows_lines_count_files_that_changed_and_not_clocks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file server's clock may go a day wrong."""
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text("before")
    os.utime(old, (time.time() + 86400,) * 2)
    watch = Watch(tmp_path)
    watch.expect(*(expected(tmp_path, path.name) for path in (old, new)))
    watch.start(1)
    assert watch.line().startswith("0/2 jobs, 0 %, about ")
    new.write_text("made")
    os.utime(new, (time.time() - 86400,) * 2)
    watch.look()
    assert watch.line().startswith("1/2 jobs, 50 %, about ")
    watch.stop(True)
    said = capsys.readouterr().err
    assert "2 jobs, about 20 s on 1 core\n" in said and "1 of 2 jobs done" in said
    assert all(line.isprintable() for line in said.splitlines())


def test_every_job_is_shown_and_none_of_another_workflow(tmp_path: Path) -> None:
    """Two in one folder: each tells of its own."""
    watch = Watch(tmp_path)
    for name in (("sparse", KEY), ("data", "digits"), ("table", "table_one")):
        watch.expect(Expected(tmp_path / name[1].replace("/", "-"), Work(5.0), None, name))
    report(tmp_path, "data", "digits")
    assert "; now check of data set digits" in watch.line()
    report(tmp_path, "sparse", KEY.replace("a0-b1", "a2-b3"))
    report(tmp_path, "table", "table_two")
    assert "; now check of data set digits" in watch.line() and "more" not in watch.line()
    report(tmp_path, "table", "table_one")
    assert watch.line().endswith(" and 1 more")


def test_steps_and_images_a_second_are_shown(fresh: Tiny) -> None:
    """Reports of steps come every two seconds at most, and the share counts all rounds of a block."""
    course = Writer(fresh.results, fresh.block()).training(2, round=3, batch=64, begun=4, total=8)
    course.step(0, 1, 10)
    course._told = course._first = (time.monotonic() - 5.0, 0.1)
    course.step(1, 5, 10)
    (record,) = running(fresh.results)
    assert share(record) == pytest.approx((4 + 1.5) / 8)
    assert record["images_per_second"] == pytest.approx(1.4 * 10 * 64 / 5, rel=0.05)
    assert record["left"] == pytest.approx(5 / 1.4 * 2.5, rel=0.05)
    assert ", round 3, 1/2, step 5/10, 179 images/s" in describe(record)
    before = record["time"]
    course.step(1, 6, 10)
    assert running(fresh.results)[0]["time"] == before


@pytest.mark.parametrize("columns", [80, 200])
def test_in_a_terminal_one_line_is_drawn_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    watch = Watch(tmp_path)
    watch.expect(expected(tmp_path, "a"), expected(tmp_path, "b"))
    watch.plan(1)
    said = io.StringIO()
    monkeypatch.setattr("sys.stderr", said)
    monkeypatch.setenv("COLUMNS", str(columns))
    report(tmp_path, accuracy=50.0)
    watch._draw()
    end(watch, expected(tmp_path, "a"))
    watch._draw()
    watch._say("a line")
    text = said.getvalue()
    assert text.count("\n") == 1 and text.endswith("] a line\n")
    first, second, cleared, _ = text.split("\x1b[K")
    assert "0/2 jobs, 0 %" in first and "1/2 jobs, 50 %" in second and "░" in second
    assert cleared == "\r"
    assert all(len(part.strip("\r")) < columns for part in (first, second))


def watched(tiny: Tiny, *words: str) -> str:
    """What ``watch --once`` prints, run as a person runs it, with its output in a file."""
    command = [sys.executable, "-m", "pipeline", "watch", "--once", "--study", "tiny", *words]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY / "src"), "PYTHONIOENCODING": "utf-8"}
    found = subprocess.run(command, cwd=tiny.root, env=environment, capture_output=True, check=True)
    assert found.stderr == b""
    return found.stdout.decode()


def test_watch_shows_runs_of_other_machines_in_a_log(fresh: Tiny) -> None:
    """As on a cluster: another machine's reports lie in the shared folder, none of its processes
    is here, and the output is a file."""
    root = fresh.results.parent
    for name in ("config.yaml", "config"):
        (root / name).symlink_to(fresh.root / name)
    fresh.root = root
    cell = fresh.cell("lth").run
    block = fresh.block(1)
    report(fresh.results, "sparse", cell.key, epoch=2, epochs=4, accuracy=55.5, host="node3")
    report(fresh.results, "imp", block.key, round=2, epoch=1, epochs=1, host="node4")
    path = f"results/{cell.path()}"
    text = watched(fresh, path)
    head, first, second = text.splitlines()
    needed = len(fresh.graph.closure([cell]))
    assert f"0/{needed} runs done, 2 running, about " in head and ", until " in head
    assert first.startswith("  IMP block 1 seed 0") and first.endswith("round 2, 1/1, on node4")
    assert second.startswith("  sparse lth S=0.60 k=0 a0 ")
    assert second.endswith("2/4, 55.50 %, on node3")
    assert all(line.isprintable() for line in text.splitlines())


def test_watch_ends_when_all_is_done_and_says_no_end_where_nothing_runs(
    fresh: Tiny, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = fresh.results.parent
    for name in ("config.yaml", "config"):
        (root / name).symlink_to(fresh.root / name)
    monkeypatch.chdir(root)
    dense = fresh.dense()
    path = f"results/{dense.path()}"
    main(["watch", "--once", "--study", "tiny", path])
    assert "0/1 runs done, 0 running\n" in capsys.readouterr().out
    fresh.make(dense)
    main(["watch", "--study", "tiny", path])  # without --once: it ends because all is done
    assert "1/1 runs done, 0 running\n" in capsys.readouterr().out


def test_a_jobs_own_log_has_plain_lines_and_its_report_goes_with_it(
    fresh: Tiny, capsys: pytest.CaptureFixture[str]
) -> None:
    run = fresh.dense()
    writer = Writer(fresh.results, run)
    writer.training(4).row({"epoch": 1, "train_loss": 1.5, "test_accuracy": 40.0})
    (record,) = running(fresh.results)
    assert (record["epoch"], record["epochs"], record["accuracy"]) == (1, 4, 40.0)
    assert capsys.readouterr().out == "epoch 1/4: loss 1.5000, accuracy 40.00 %\n"
    writer.close()
    assert running(fresh.results) == []


LAST_WORDS = {
    "error: results/x: no such file\n": "results/x: no such file",
    "epoch 1/4\nstopped: saved, and goes on from here\n": "stopped: saved",
    "Traceback (most recent call last):\n  File\nValueError: no\x1b[2J\n": "ValueError: no?[2J",
    "epoch 1/4: loss 1.5\n": "ended without a word, perhaps killed; its last line: epoch 1/4",
    "": "ended without a word, perhaps killed",
}


@pytest.mark.parametrize(("log", "why"), LAST_WORDS.items())
def test_a_failed_job_is_one_line_with_its_reason_and_its_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], log: str, why: str
) -> None:
    watch = Watch(tmp_path)
    logs = {name: tmp_path / f"{name}.log" for name in ("fails", "fine", "waits", "earlier")}
    logs["earlier"].write_text("error: of the last call\n")
    watch.expect(*(expected(tmp_path, name) for name in logs))
    logs["fails"].write_text(log)
    logs["fine"].write_text("epoch 4/4\n")
    (tmp_path / "fine").write_text("made")
    watch.stop(False)
    first, *lines = capsys.readouterr().err.splitlines()
    assert "1 of 4 jobs done" in first and "with errors" in first
    (line,) = lines
    assert why in line and line.endswith(f"; log: {logs['fails']}") and line.isprintable()


def test_many_failures_are_counted_and_none_is_told_where_all_went_well(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    watch = Watch(tmp_path)
    for number in range(25):
        watch.expect(expected(tmp_path, str(number)))
        (tmp_path / f"{number}.log").write_text("error: no\n")
    watch.stop(True)
    assert "failed" not in capsys.readouterr().err
    watch.stop(False)
    said = capsys.readouterr().err
    assert said.count("failed: no; log: ") == 20 and said.rstrip().endswith("and 5 more")


def test_what_outlasts_its_expectation_is_not_said_to_end_at_once(tmp_path: Path) -> None:
    watch, job = Watch(tmp_path), expected(tmp_path, "a")
    watch.expect(job)
    watch.plan(1)
    begin(watch, job, 600.0)
    assert minutes_left(watch) >= 2


def test_a_small_job_that_ended_early_says_little_about_the_large_ones(tmp_path: Path) -> None:
    """A table of a second ends first; hours of training, just begun, are not a thousand hours."""
    watch, table = Watch(tmp_path), expected(tmp_path, "table", 1.0)
    large = [expected(tmp_path, name, 3600.0, kind="network") for name in "ab"]
    watch.expect(table, *large)
    watch.plan(2)
    begin(watch, table, 120.0)
    end(watch, table)
    for job in large:
        begin(watch, job, 60.0)
    assert watch.line().startswith("1/3 jobs, ") and ", about 59:" in watch.line()


def test_what_took_longer_than_expected_is_expected_of_the_rest(tmp_path: Path) -> None:
    watch = Watch(tmp_path)
    jobs = [expected(tmp_path, name, 100.0, kind="network") for name in "abcdefgh"]
    watch.expect(*jobs)
    watch.plan(1)
    for job in jobs[:4]:
        begin(watch, job, 300.0)  # three times as long
        end(watch, job)
    assert 17 <= minutes_left(watch) <= 20
