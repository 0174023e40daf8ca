"""Runs as threads of one process: the same bits as in processes of their own, and nothing shared.

On a CPU; ``tests/test_cuda.py`` has them on a pretended GPU.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from micro import Checkout
from side import levels, side_by_side
from small import RECIPES, REPOSITORY, Tiny, write_study
from test_warm import WORKFLOW, begun, facts, gone, until, workflow_of, written

from pipeline.artifacts.lock import LOCK, Lock
from pipeline.artifacts.store import read_json
from pipeline.artifacts.unfinished import RESUME
from pipeline.cli import STOPPED
from pipeline.errors import UserError
from pipeline.machine import baton, warm
from pipeline.machine.baton import Ended, Seat
from pipeline.progress.job import running
from pipeline.runs import Run
from pipeline.stages import prepare
from pipeline.stages import together as shared
from pipeline.study.config import freeze, read

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the server needs Linux")

SCRIPT = """
import json, os, signal, sys, time
from pipeline.machine import baton, warm
from pipeline.machine.host import Work

sick = []

def run(words):
    kind = words[1]
    print(json.dumps({"pid": os.getpid(), "forked": True, "hosted": bool(baton.seat())}), flush=True)
    if kind == "wait":
        asked = []
        with baton.handling(signal.SIGTERM, lambda *_: asked.append(1)):
            while not asked:
                time.sleep(0.01)
                baton.hand_on()
        print("saved", flush=True)
        sys.exit(143)
    if kind == "sick" and baton.seat():
        sick.append(1)
    if kind in ("sick", "fails"):
        raise RuntimeError(f"{kind} it is")
    print("done", file=sys.stderr)
    sys.exit(3 if kind == "three" else 0)

if sys.argv[1:2] == [warm.SERVE]:
    warm.serve(lambda: Work(("",), lambda words: words[1] != "own", run, lambda: not sick))
elif (status := warm.ask()) is not None:
    os._exit(status)
run(sys.argv)
"""


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return written(SCRIPT, tmp_path, monkeypatch)


@pytest.fixture
def server(script: Path) -> Iterator[warm.Server]:
    os.environ.pop("PYTEST_CURRENT_TEST", None)
    found = warm.start(script)
    assert found is not None
    yield found
    found.stop()


# --- the process -----------------------------------------------------------------------------------


def test_jobs_share_a_process_and_neither_output_nor_status(
    script: Path, server: warm.Server
) -> None:
    jobs = {kind: begun(script, kind) for kind in ("zero", "three", "fails", "own")}
    first = {kind: facts(job) for kind, job in jobs.items()}
    assert [first[kind]["hosted"] for kind in jobs] == [True] * 3 + [False]
    assert len({first[kind]["pid"] for kind in ("zero", "three", "fails")}) == 1
    assert first["own"]["pid"] != first["zero"]["pid"]
    ends = {kind: (*job.communicate(), job.returncode) for kind, job in jobs.items()}
    assert ends["zero"] == ends["own"] == ("", "done\n", 0)
    assert ends["three"] == ("", "done\n", 3)
    assert ends["fails"][2] == 1 and ends["fails"][1].endswith("RuntimeError: fails it is\n")


def test_a_signal_to_a_job_reaches_its_run_alone(script: Path, server: warm.Server) -> None:
    jobs = [begun(script, "wait") for _ in range(4)]
    pids = {facts(job)["pid"] for job in jobs}
    stopped, killed, ended, other = jobs
    time.sleep(0.3)
    stopped.send_signal(signal.SIGTERM)
    assert (stopped.communicate()[0], stopped.returncode) == ("saved\n", 143)
    ended.send_signal(signal.SIGUSR1)  # which it does not handle
    assert (ended.communicate(), ended.returncode) == (("", ""), -signal.SIGUSR1)
    killed.kill()
    assert killed.communicate() == ("", "")  # its run has closed its files
    assert other.poll() is None and len(pids) == 1 and not gone(*pids)
    other.terminate()
    assert other.wait() == 143


@pytest.mark.parametrize("how", ["kill", "sick"])
def test_jobs_whose_host_ends_go_on_by_themselves_and_those_that_follow_have_a_new_one(
    script: Path, server: warm.Server, how: str
) -> None:
    """An error after which a process cannot compute on ends it as a kill does."""
    jobs = [begun(script, "wait") for _ in range(2)]
    host = {facts(job)["pid"] for job in jobs}
    if how == "kill":
        os.kill(*host, signal.SIGKILL)
    else:
        cause = begun(script, "sick")
        assert facts(cause)["hosted"] and not facts(cause)["hosted"]
        assert cause.communicate()[1].endswith("sick it is\n") and cause.returncode == 1
    for job in jobs:
        again = facts(job)
        assert not again["hosted"] and again["pid"] == job.pid
        job.terminate()  # it may not have come to the point where it takes signals
        assert job.wait() in (143, -signal.SIGTERM)
    until(lambda: gone(*host))
    following = begun(script, "zero")
    found = facts(following)
    assert found["hosted"] and found["pid"] not in host and following.wait() == 0


@pytest.mark.parametrize("group", [True, False])
def test_nothing_is_left_of_a_workflow_that_is_killed(script: Path, group: bool) -> None:
    with workflow_of(script, WORKFLOW) as (workflow, server, job):
        assert job["hosted"]
        (os.killpg if group else os.kill)(workflow.pid, signal.SIGKILL)
        workflow.wait()
        if not group:  # its last job goes on
            time.sleep(0.3)
            assert not gone(server) and not gone(job["pid"])
            (client,) = (int(pid) for pid in _in_group(workflow.pid) - {server, job["pid"]})
            os.kill(client, signal.SIGTERM)
        until(lambda: gone(server) and gone(job["pid"]))


def _in_group(group: int) -> set[int]:
    found = set()
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(words[2]) == group and words[0] != "Z":
            found.add(int(path.name))
    return found


@pytest.mark.parametrize("change", ["folder", "umask"])
def test_a_job_that_is_elsewhere_has_a_process_of_its_own(
    script: Path, server: warm.Server, tmp_path: Path, change: str
) -> None:
    before = os.umask(0o077 if change == "umask" else 0o022)
    try:
        job = begun(script, "zero", cwd=tmp_path if change == "folder" else None)
    finally:
        os.umask(before)
    assert not facts(job)["hosted"] and job.wait() == 0


# --- the baton -------------------------------------------------------------------------------------


def test_one_run_computes_at_a_time_and_each_has_its_turn() -> None:
    inside, order = 0, list[int]()

    def work(number: int) -> None:
        nonlocal inside
        for _ in range(20):
            inside += 1
            time.sleep(0.001)
            assert inside == 1
            inside -= 1
            order.append(number)
            baton.hand_on()

    side_by_side(*(lambda n=n: work(n) for n in range(3)))  # type: ignore[misc]
    begin = next(i for i in range(len(order)) if len(set(order[i : i + 3])) == 3)
    middle = order[begin : begin + 30]
    assert middle == middle[:3] * 10


def test_who_stands_aside_holds_nobody_up() -> None:
    there = threading.Event()

    def waits() -> None:
        with baton.aside():
            assert there.wait(30)

    side_by_side(waits, there.set)


def test_a_signal_that_a_run_does_not_handle_ends_it_at_its_next_turn() -> None:
    def work() -> None:
        mine = baton.seat()
        assert mine is not None
        mine.signal(signal.SIGHUP)
        baton.hand_on()
        raise AssertionError

    with pytest.raises(Ended):
        side_by_side(work)


# --- trainings -------------------------------------------------------------------------------------


def of_the_process() -> dict[str, Any]:
    """What belongs to the process, and a run could change under another one's hands."""
    cuda: Any = torch.backends.cuda.matmul
    return {
        "generator": torch.get_rng_state().tolist(),
        "threads": torch.get_num_threads(),
        "rounding": (torch.backends.cudnn.allow_tf32, cuda.allow_tf32),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "cuDNN": torch.backends.cudnn.benchmark,
        "type": torch.get_default_dtype(),
        "autocast": torch.is_autocast_cache_enabled(),
        "warnings": list(warnings.filters),
        "signals": [signal.getsignal(number) for number in sorted(signal.valid_signals())],
        "environment": dict(os.environ),
        "folder": Path.cwd(),
        "streams": (sys.stdout, sys.stderr),
        "words": list(sys.argv),
    }


def payload(tiny: Tiny, run: Run) -> dict[str, bytes]:
    """All files of a run but what says when and where it was made."""
    folder = tiny.folder(run)
    return {name: (folder / name).read_bytes() for name in run.files}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipes = RECIPES.replace(
        "  wild:",
        "  long: {<<: *tiny, epochs: 24, trunk: [0, 12]}\n"
        "  half: {<<: *tiny, precision: bf16}\n"
        "  own: {<<: *tiny, threads: 2}\n  wild:",
    )
    return write_study(tmp_path_factory.mktemp("study"), recipes)


def test_a_run_hands_on_the_process_as_it_was_given(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So no run can see another one; what runs import, their process has imported."""
    prepare()
    tiny, given = Tiny(root, tmp_path / "results"), list[dict[str, Any]]()
    torch.set_num_threads(1)

    def hand_on(self: Seat) -> None:
        given.append(of_the_process())
        real(self)

    real = Seat.hand_on
    monkeypatch.setattr(Seat, "hand_on", hand_on)
    runs = [tiny.dense(0, "tiny"), tiny.dense(1, "half"), tiny.dense(2, "wild")]
    before = of_the_process()
    side_by_side(*(lambda run=run: tiny.run(run) for run in runs))  # type: ignore[misc]
    assert len(given) > 50 and all(each == before for each in [*given, of_the_process()])


def test_trainings_side_by_side_have_the_bits_of_each_by_itself(root: Path, tmp_path: Path) -> None:
    """Dense runs of three recipes, then pruning, then sparse runs and a snapshot between states."""
    alone, together = (Tiny(root, tmp_path / name) for name in ("alone", "together"))
    ends = [alone.cell(name, k=1).run for name in ("permuted", "lth", "naive")]
    order = [alone.dense(3, "half"), alone.dense(4, "wild"), *alone.graph.closure(ends)]
    for run in order:
        alone.run(run)
    for level in levels(together.graph, order):
        side_by_side(*(lambda run=run: together.run(run) for run in level))  # type: ignore[misc]
    for run in order:
        assert payload(alone, run) == payload(together, run)


def test_a_run_that_fails_holds_nothing_of_its_folder(root: Path, tmp_path: Path) -> None:
    """In a process of its own the end of that would give it back."""
    tiny = Tiny(root, tmp_path / "results")
    data = root / "data" / "few.npz"
    data.rename(data.with_suffix(".away"))
    try:
        with pytest.raises(UserError, match="few"):
            side_by_side(lambda: tiny.run(tiny.dense()))
    finally:
        data.with_suffix(".away").rename(data)
    assert Lock(tiny.folder(tiny.dense()) / LOCK).acquire(wait=False) is False


def test_what_differs_in_what_a_process_has_is_not_shared(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(**more: Any) -> Any:
        return shared.work(read(root, {"sharing": "threads", **more}), print)

    tiny = Tiny(root, tmp_path)
    found, key = work(), tiny.dense().key
    assert found.gpus == [""] and found.shares(["run.py", "dense", key, "--digest", "x"])
    assert not found.shares(["run.py", "dense", tiny.dense(0, "own").key])  # two threads
    cell = tiny.cell("permuted", k=1).run
    assert found.shares(["run.py", "sparse", cell.key])
    assert not found.shares(["run.py", "match", cell.match.key])  # trains not
    for words in (["run.py"], ["run.py", "dense", "nothing"], ["run.py", "nothing", key]):
        assert not found.shares(words)
    assert work(sharing="mps") is None
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert work(device="auto") is None  # no GPU, and no wish to take turns on the CPU
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,0")
    assert work(device="cuda").gpus == ["2", "0"]
    with pytest.raises(UserError, match="sharing: threads needs warm: true"):
        work(warm=False)


def begin(tiny: Tiny, run: Run, log: Path) -> subprocess.Popen[bytes]:
    words = [sys.executable, "workflow/scripts/run.py", run.stage, run.key]
    with log.open("ab") as file:
        return subprocess.Popen(words, cwd=REPOSITORY, env=os.environ, stdout=file, stderr=file)


def test_a_stop_a_killed_host_and_a_second_start_cost_no_bit(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs as the rules call them, two at a time."""
    written("", tmp_path, monkeypatch)  # the environment alone
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    monkeypatch.setenv("PIPELINE_SAVE_SECONDS", "0.1")
    monkeypatch.chdir(REPOSITORY)
    tiny = Tiny(root, tmp_path / "results", sharing="threads")
    monkeypatch.setenv("PIPELINE_CONFIG", str(freeze(tiny.config, tmp_path)))
    runs = [tiny.dense(seed, "long") for seed in (0, 1)]
    logs = [tmp_path / f"{number}.log" for number in (0, 1)]
    server = warm.start(Path("workflow/scripts/run.py"))
    assert server is not None

    def processes(told: int) -> list[int]:
        """The process of each run, once both have told of an epoch, the first so many times."""
        until(
            lambda: logs[0].read_text().count("epoch ") >= told and "epoch " in logs[1].read_text()
        )
        return [found["pid"] for found in running(tiny.results)]

    try:
        jobs = [begin(tiny, *pair) for pair in zip(runs, logs, strict=True)]
        host, same = processes(1)
        assert host == same and host not in [job.pid for job in jobs]
        jobs[0].send_signal(signal.SIGTERM)
        assert jobs[0].wait() == 143 and logs[0].read_text().endswith(f"{STOPPED}\n")
        assert (tiny.folder(runs[0]) / RESUME).exists() and jobs[1].poll() is None
        jobs[0] = begin(tiny, runs[0], logs[0])
        assert processes(2) == [host, host]
        os.kill(host, signal.SIGKILL)
        assert [job.wait() for job in jobs] == [0, 0]
    finally:
        server.stop()
    alone = Tiny(root, tmp_path / "alone")
    for run in runs:
        alone.run(run)
        assert payload(alone, run) == payload(tiny, run)
        assert read_json(tiny.folder(run) / "provenance.json")["epochs_executed"] < 24


def test_what_is_no_run_is_served_by_the_script_beside_that_of_runs(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written("", tmp_path, monkeypatch)  # the environment alone
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    monkeypatch.chdir(REPOSITORY)
    tiny = Tiny(root, tmp_path / "results")
    monkeypatch.setenv("PIPELINE_CONFIG", str(freeze(tiny.config, tmp_path)))
    monkeypatch.setattr(sys, "argv", ["workflow/scripts/write.py", "data", "few"])
    server = warm.start(Path("workflow/scripts/run.py"))
    assert server is not None
    try:
        assert warm.ask() == 0
    finally:
        server.stop()
    assert (tiny.results / "data/few/facts.json").exists()


def test_a_workflow_that_trains_in_threads_ends_with_the_same_files(
    micro: Checkout, tmp_path: Path
) -> None:
    checkout = Checkout(tmp_path / "checkout")
    config = checkout.folder / "config.yaml"
    config.write_text(config.read_text().replace("auto", "cpu", 1) + "sharing: threads\n")
    checkout.run("tables")
    assert files(checkout) == files(micro)


def files(checkout: Checkout) -> dict[Path, bytes]:
    results, found = checkout.folder / "results", {}
    for name in ("*.safetensors", "metrics.json", "*.csv"):
        found |= {path.relative_to(results): path.read_bytes() for path in results.rglob(name)}
    assert len(found) > 20
    return found
