"""One writer per run: among processes, after kills, and among nodes whose locks do not meet."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.artifacts import lock
from pipeline.artifacts.lock import Lock
from pipeline.errors import UserError

OWNER = """
import sys, time
from pathlib import Path
from pipeline.artifacts.lock import Lock
own = Lock(Path(sys.argv[1]))
own.acquire(wait=True)
print("held", flush=True)
time.sleep(float(sys.argv[2]))
own.release()
"""


def owner(path: Path, seconds: float) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(path), str(seconds)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT", 0.1)
    monkeypatch.setattr(lock, "LOOK", 0.05)
    monkeypatch.setattr(lock, "PATIENCE", 30.0)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)


def test_second_process_is_told_who_works(tmp_path: Path) -> None:
    process = owner(tmp_path / ".lock", 30)
    with pytest.raises(UserError, match=f"another process is working on this run .*{process.pid}"):
        Lock(tmp_path / ".lock").acquire(wait=False)
    process.kill()
    process.wait()


def test_waiting_ends_when_the_owner_does(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    process = owner(path, 0.6)
    second = Lock(path)
    assert second.acquire(wait=True) is True
    assert process.wait(60) == 0
    assert json.loads(path.read_bytes())["pid"] == os.getpid()
    second.release()
    assert not path.exists()


def test_lock_of_a_killed_process_is_free_at_once(tmp_path: Path) -> None:
    process = owner(tmp_path / ".lock", 30)
    process.kill()
    process.wait()
    started = time.monotonic()
    assert Lock(tmp_path / ".lock").acquire(wait=False) is False
    assert time.monotonic() - started < lock.PATIENCE


def elsewhere(path: Path, count: int, **changes: object) -> None:
    record = {"host": "another-node", "pid": 1, "job": "7", "count": count}
    path.write_text(json.dumps(record | changes))


def test_counting_owner_on_another_node_keeps_the_run(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    elsewhere(path, 0)
    program = (
        "import json, pathlib, sys, time\n"
        "for n in range(1, 300):\n"
        "    time.sleep(0.1)\n"
        "    record = dict(host='another-node', pid=1, job='7', count=n)\n"
        "    pathlib.Path(sys.argv[1]).write_text(json.dumps(record))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(path)])
    try:
        with pytest.raises(UserError, match="another-node"):
            Lock(path).acquire(wait=False)
    finally:
        process.kill()
        process.wait()


def test_silent_owner_on_another_node_loses_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "PATIENCE", 1.0)
    elsewhere(tmp_path / ".lock", 5)
    started = time.monotonic()
    assert Lock(tmp_path / ".lock").acquire(wait=False) is False
    assert time.monotonic() - started >= lock.PATIENCE


def test_requeued_job_takes_its_own_lock_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere(tmp_path / ".lock", 5)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    started = time.monotonic()
    assert Lock(tmp_path / ".lock").acquire(wait=False) is False
    assert time.monotonic() - started < lock.PATIENCE


def test_process_that_lost_the_run_ends(tmp_path: Path) -> None:
    """A process that was suspended while another took over must write no more."""
    program = OWNER.replace(
        "own = ", "import pipeline.artifacts.lock as lock; lock.BEAT = 0.1\nown = ", 1
    )
    path = tmp_path / ".lock"
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(path), "30"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.readline()
    elsewhere(path, 3)
    _, errors = process.communicate(timeout=25)
    assert process.returncode == 1
    assert "took over" in errors
    assert path.exists()
