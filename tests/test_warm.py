"""The warm server: a job in a fork of it is the job in a process of its own, and nothing is left."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from pipeline.machine import warm
from pipeline.machine.handing import PASSED_ON
from pipeline.study.config import FROZEN, freeze
from pipeline.study.graph import Graph

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the server needs Linux")

#: Where pytest says what it does now: no two processes of a test would have the same environment.
TEST = "PYTEST_CURRENT_TEST"
SCRIPT = """
import json, os, signal, sys, time
from pipeline.machine import warm

if sys.argv[1:2] == [warm.SERVE]:
    warm.serve(lambda: None)
elif (status := warm.ask()) is not None:
    os._exit(status)
mask = os.umask(0)
sys.stdout.reconfigure(errors="replace")  # asks a stream where it stands, which a pipe cannot say
streams = [
    [each.encoding, each.errors, each.line_buffering, each.write_through, each.seekable()]
    for each in (sys.stdout, sys.stderr)
]
print(json.dumps({
    "words": sys.argv[1:], "folder": os.getcwd(), "given": os.environ.get("GIVEN"), "mask": mask,
    "read": sys.stdin.read() if sys.argv[1] == "read" else "", "pid": os.getpid(),
    "forked": os.getppid() != int(os.environ["CALLER"]), "tmp": os.environ.get("TMPDIR"),
    "streams": streams,
}), flush=True)
if sys.argv[1] == "wait":
    signal.signal(signal.SIGTERM, lambda *_: (print("saved", flush=True), sys.exit(143)))
    time.sleep(60)
if sys.argv[1] == "count":
    came = []
    signal.signal(signal.SIGTERM, lambda *_: came.append(1))
    while not came:
        time.sleep(0.01)
    time.sleep(0.5)
    print(len(came), "came", flush=True)
if sys.argv[1] == "crash":
    os.kill(os.getpid(), signal.SIGSEGV)
print("done", file=sys.stderr)
sys.exit(3 if sys.argv[1] == "three" else 0)
"""
#: Encoding, errors, whether lines, or all, are written at once, whether it can seek.
STREAMS = [
    ["utf-8", "replace", False, False, False], ["utf-8", "backslashreplace", True, False, False],
]  # fmt: skip


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return written(SCRIPT, tmp_path, monkeypatch)


def written(script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A script that jobs and a server call, in an environment that is the same for both."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("CALLER", str(os.getpid()))
    monkeypatch.setenv(TEST, "")
    for name in (warm.PLACE, "PYTHONUNBUFFERED"):
        monkeypatch.delenv(name, raising=False)
    for name in warm.THREADS:
        monkeypatch.setenv(name, "1")
    path = tmp_path / "script.py"
    path.write_text(script)
    return path


@pytest.fixture
def server(script: Path) -> Iterator[warm.Server]:
    os.environ.pop(TEST, None)
    found = warm.start(script)
    assert found is not None
    yield found
    if warm.PLACE in os.environ:
        found.stop()


def begun(script: Path, *words: str, **more: Any) -> subprocess.Popen[str]:
    more["env"] = {k: v for k, v in more.get("env", os.environ).items() if k != TEST}
    return subprocess.Popen(
        [sys.executable, str(script), *words], text=True, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more,
    )  # fmt: skip


def facts(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What a job says first."""
    assert process.stdout is not None
    found: dict[str, Any] = json.loads(process.stdout.readline())
    return found


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("served", [True, False])
def test_a_job_is_the_same_with_a_server_and_without(
    script: Path, tmp_path: Path, served: bool, request: pytest.FixtureRequest
) -> None:
    if served:
        request.getfixturevalue("server")
    place = tmp_path / "elsewhere ü"
    place.mkdir()
    before = os.umask(0o027)
    try:
        environment = os.environ | {"TMPDIR": "/somewhere", "PIPELINE_CONFIG": "/any/study"}
        job = begun(script, "read", "a b", "", cwd=place, env=environment)
    finally:
        os.umask(before)
    out, err = job.communicate("input\n")
    found = json.loads(out)
    assert found.pop("forked") is served and found.pop("pid") != os.getpid()
    assert found == {
        "words": ["read", "a b", ""], "folder": str(place), "given": None, "mask": 0o027,
        "read": "input\n", "tmp": "/somewhere", "streams": STREAMS,
    }  # fmt: skip
    assert (job.returncode, err) == (0, "done\n")


def test_what_is_imported_beforehand_computes_nothing(paper: Graph, tmp_path: Path) -> None:
    """A fork of a process with threads, or in which CUDA has started, is not what a fresh one is.

    For a study of photographs, what decodes them is among it.
    """
    code = (
        "import os, sys, torch; from pipeline import stages; stages.prepare()\n"
        "heavy = [m for m in ('pandas', 'matplotlib', 'snakemake') if m in sys.modules]\n"
        "heavy += ['torchvision'] * ('torchvision' not in sys.modules)\n"
        "print(len(os.listdir('/proc/self/task')), torch.cuda.is_initialized(), heavy)"
    )
    environment = os.environ | warm.ONE_THREAD | {FROZEN: str(freeze(paper.config, tmp_path))}
    found = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert found.stdout == "1 False []\n"


def test_what_a_workflow_ignores_its_jobs_ignore(script: Path) -> None:
    """As under ``nohup``: a signal to the job, and to the fork that works for it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        os.environ.pop(TEST, None)
        server = warm.start(script)
        assert server is not None
        job = begun(script, "wait")
        fork = facts(job)["pid"]
        assert fork != job.pid
        for each in (job.pid, fork, server._process.pid):
            os.kill(each, signal.SIGHUP)
        time.sleep(0.3)
        job.send_signal(signal.SIGTERM)
        assert (job.communicate()[0], job.returncode) == ("saved\n", 143)
        server.stop()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_job_ends_as_its_fork_ends(script: Path, server: warm.Server) -> None:
    jobs = {word: begun(script, word) for word in ("three", "crash", "zero")}
    assert all(facts(job)["forked"] for job in jobs.values())
    codes = {word: job.wait() for word, job in jobs.items()}
    assert codes == {"three": 3, "crash": -signal.SIGSEGV, "zero": 0}


def test_a_signal_to_a_job_reaches_its_fork_alone(script: Path, server: warm.Server) -> None:
    stopped, other = begun(script, "wait"), begun(script, "wait")
    pids = facts(stopped)["pid"], facts(other)["pid"]
    time.sleep(0.3)
    stopped.send_signal(signal.SIGTERM)
    out, _ = stopped.communicate()
    assert (out, stopped.returncode) == ("saved\n", 143)
    assert gone(pids[0]) and not gone(pids[1]) and other.poll() is None
    other.kill()
    other.wait()
    until(lambda: gone(pids[1]))  # a job that was killed leaves no fork behind


@contextmanager
def workflow_of(
    script: Path, code: str
) -> Iterator[tuple[subprocess.Popen[str], int, dict[str, Any]]]:
    """A workflow in a group of its own, its server, and what its job says first."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(script)], stdout=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        lines = [process.stdout.readline(), process.stdout.readline()]
        (server,) = (int(line) for line in lines if line.strip().isdigit())
        (job,) = (json.loads(line) for line in lines if line.startswith("{"))
        assert job["forked"]
        yield process, server, job
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_a_signal_to_the_whole_group_comes_once(script: Path) -> None:
    code = WORKFLOW.replace('"wait"', '"count"').replace("signal.pause()", "sys.exit(job.wait())")
    code = "import signal; signal.signal(15, lambda *_: None)\n" + code
    with workflow_of(script, code) as (workflow, _, _):
        time.sleep(0.3)
        os.killpg(workflow.pid, signal.SIGTERM)
        out, _ = workflow.communicate()
    assert out == "1 came\n" and workflow.returncode == 0


@pytest.mark.parametrize("change", ["environment", "program", "group"])
def test_what_a_process_of_its_own_would_do_otherwise_is_not_served(
    script: Path, server: warm.Server, change: str
) -> None:
    more = {"GIVEN": "1"} if change == "environment" else {}
    first = begun(script, "zero")
    assert facts(first)["forked"]
    if change == "program":
        os.utime(script, (1, 1))
    job = begun(script, "zero", env=os.environ | more, start_new_session=change == "group")
    found = facts(job)
    assert not found["forked"] and found["given"] == more.get("GIVEN")
    assert job.wait() == first.wait() == 0


def test_a_job_goes_on_by_itself_where_the_server_is_killed(
    script: Path, server: warm.Server
) -> None:
    job = begun(script, "zero", "1")
    assert facts(job)["forked"] and job.wait() == 0
    job = begun(script, "wait")
    first = facts(job)
    server._process.kill()
    second = facts(job)
    assert not second["forked"] and second["pid"] == job.pid
    until(lambda: gone(first["pid"]))
    job.kill()
    job.wait()


def test_no_other_user_is_trusted_and_what_is_no_call_disturbs_nothing(
    script: Path, server: warm.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(os, "getuid", lambda: 4242)
        assert warm.ask() is None  # the server is another user's
    for words in (b"", b"x", b"\xff\xff\xff\x7f", b"\2\0\0\0{}"):
        with socket.socket(socket.AF_UNIX) as other:
            other.connect(warm._address(os.environ[warm.PLACE]))
            other.sendall(words)
    job = begun(script, "zero")
    assert facts(job)["forked"] and job.wait() == 0


def test_a_server_refuses_another_user(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    before = {number: signal.getsignal(number) for number in PASSED_ON}
    try:
        serving = warm._Serving(socket.socket(socket.AF_UNIX), os.pipe()[0], {})
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    monkeypatch.setattr(os, "getuid", lambda: 4242)
    with pytest.raises(ValueError, match="another user"):
        serving._begin(ours, {})
    theirs.close()


WORKFLOW = """
import os, signal, subprocess, sys
from pathlib import Path
from pipeline.machine import warm
os.environ["CALLER"] = str(os.getpid())
server = warm.start(Path(sys.argv[1]))
job = subprocess.Popen([sys.executable, sys.argv[1], "wait"])
print(server._process.pid, flush=True)
signal.pause()
"""


@pytest.mark.parametrize("group", [True, False])
def test_nothing_is_left_of_a_workflow_that_is_killed(script: Path, group: bool) -> None:
    """With its group, at once; alone, once its last job has ended, which goes on as it would."""
    with workflow_of(script, WORKFLOW) as (workflow, server, job):
        (os.killpg if group else os.kill)(workflow.pid, signal.SIGKILL)
        workflow.wait()
        if not group:
            time.sleep(0.3)
            assert not gone(server) and not gone(job["pid"])
            os.kill(job["pid"], signal.SIGTERM)
        until(lambda: gone(server) and gone(job["pid"]))
