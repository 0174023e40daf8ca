"""Work in slices: what fits is taken over and nothing else; stopped in time, gone on with, equal."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from micro import Checkout, environment
from small import REPOSITORY, Tiny, contents, rewrite
from test_reservation import workflow as living
from test_stages import interrupt

from pipeline.artifacts import record, slices
from pipeline.artifacts.lock import LOCK, Lock
from pipeline.artifacts.record import PROVENANCE
from pipeline.artifacts.slices import Taken
from pipeline.artifacts.store import read_json, write_json
from pipeline.artifacts.unfinished import RESUME, Reached, reached
from pipeline.cli import STOPPED
from pipeline.errors import UserError
from pipeline.progress.left import Work
from pipeline.progress.workflow import Expected, Watch
from pipeline.runs import STAGES, Run
from pipeline.study.call import Call, wanted
from pipeline.study.config import read
from pipeline.study.graph import Graph
from pipeline.study.jobs import Jobs
from pipeline.training.step import Step


def closure(study: Tiny, *runs: Run) -> list[Run]:
    return study.graph.closure(runs)


def slice_of(study: Tiny, place: Path, *runs: Run) -> Path:
    """A results folder with these runs alone, as it came home: with times, logs and benchmarks."""
    for run in runs:
        study.make(run)
        shutil.copytree(study.folder(run), place / run.folder, symlinks=True)
        for kind, end in (("logs", "log"), ("benchmarks", "tsv")):
            path = place / kind / f"{run.folder}.{end}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{kind} of {run.key}")
    return place


def take(study: Tiny, places: Sequence[Path], *runs: Run) -> Taken:
    """Take over what the slices have of these runs and their ancestors."""
    asked = wanted(study.graph, closure(study, *runs))
    return slices.take_over(study.results, places, asked, lambda names: None)


def up_to_date(study: Tiny, run: Run) -> bool:
    """Whether a run's files and its benchmark are no older than what it was made from."""
    made = [study.path(run, name) for name in run.files]
    made += [study.results / "benchmarks" / f"{run.folder}.tsv"]
    read = [study.results / file.path for file in study.graph.inputs(run).values()]
    oldest = min(path.stat().st_mtime_ns for path in made if path.exists())
    return all(path.stat().st_mtime_ns <= oldest for path in read)


# -- finished runs -----------------------------------------------------------------------------


def test_finished_runs_are_taken_over_with_logs_and_in_the_order_of_time(
    tiny: Tiny, fresh: Tiny, tmp_path: Path
) -> None:
    run = tiny.mask()
    runs = closure(tiny, run)
    place = slice_of(tiny, tmp_path / "1", *runs)
    for each in runs:  # the clock of that machine ran backwards
        for path in (place / each.folder).iterdir():
            os.utime(path, (10**9 - runs.index(each),) * 2)
    left = fresh.folder(runs[0]) / RESUME
    left.parent.mkdir(parents=True)
    left.write_text("of an attempt here")
    began = left.stat().st_mtime_ns
    assert take(fresh, [place], run) == Taken(whole=len(runs))
    for each in runs:
        assert contents(fresh.folder(each)) == contents(tiny.folder(each))
        assert read_json(fresh.path(each, PROVENANCE)) == read_json(tiny.path(each, PROVENANCE))
        log = fresh.results / "logs" / f"{each.folder}.log"
        assert log.read_text() == f"logs of {each.key}" and up_to_date(fresh, each)
        assert not log.samefile(place / "logs" / f"{each.folder}.log")
        assert fresh.path(each).stat().st_mtime_ns >= began  # tables made before are made again
    weights = fresh.path(runs[0], "weights.safetensors")
    assert weights.samefile(place / runs[0].folder / weights.name)  # costs no space


def test_a_second_call_does_nothing_and_reads_no_content(
    tiny: Tiny, fresh: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny.mask()
    place = slice_of(tiny, tmp_path / "1", *closure(tiny, run))
    take(fresh, [place], run)
    before = {p: p.stat().st_mtime_ns for p in fresh.results.rglob("*")}
    monkeypatch.setattr(record, "file_digest", lambda path: pytest.fail(f"{path} was read"))
    monkeypatch.setattr(slices, "Reservation", lambda path: pytest.fail("a reservation"))
    assert take(fresh, [place], run) == Taken()
    assert {p: p.stat().st_mtime_ns for p in fresh.results.rglob("*")} == before


def test_slices_with_different_cells_merge_to_what_one_call_gives(
    tiny: Tiny, fresh: Tiny, tmp_path: Path
) -> None:
    cells = [tiny.cell("naive").run, tiny.cell("lth").run]
    places = [slice_of(tiny, tmp_path / str(n), *closure(tiny, cells[n])) for n in (0, 1)]
    runs = closure(tiny, *cells)
    assert take(fresh, places, *cells) == Taken(whole=len(runs))
    assert all(contents(fresh.folder(each)) == contents(tiny.folder(each)) for each in runs)
    assert all(up_to_date(fresh, each) for each in runs)


def test_where_there_are_no_hard_links_files_are_copied(
    tiny: Tiny, fresh: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("no hard links here")

    run = tiny.dense()
    place = slice_of(tiny, tmp_path / "1", run)
    monkeypatch.setattr(os, "link", refuse)
    assert take(fresh, [place], run) == Taken(whole=1)
    assert contents(fresh.folder(run)) == contents(tiny.folder(run))
    assert not fresh.path(run).samefile(place / run.path())


def damaged(folder: Path) -> None:
    path = folder / "metrics.json"
    path.write_bytes(path.read_bytes() + b"\n")


def halved(folder: Path) -> None:
    (folder / "metrics.json").unlink()


def of_other_settings(folder: Path) -> None:
    rewrite(folder, digest="old")


def of_another_parent(folder: Path) -> None:
    parents = read_json(folder / PROVENANCE)["parents"]
    rewrite(folder, parents=dict.fromkeys(parents, "0" * 64))


def unrecorded(folder: Path) -> None:
    rewrite(folder, files={})


def edited(folder: Path) -> None:
    write_json(folder / PROVENANCE, read_json(folder / PROVENANCE) | {"host": "another"})


def elsewhere(folder: Path) -> None:
    rewrite(folder, files=read_json(folder / PROVENANCE)["files"] | {"../x": "0" * 64})


def torn(folder: Path) -> None:
    (folder / PROVENANCE).write_text("{")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (damaged, "the content of metrics.json changed since it was written"),
        (halved, "metrics.json is missing"),
        (of_other_settings, "made with other settings"),
        (of_another_parent, "made from another version of imp/"),
        (unrecorded, "mask.safetensors is not recorded in provenance.json"),
        (edited, "provenance.json is damaged"),
        (elsewhere, "provenance.json is damaged"),
        (torn, "provenance.json is damaged"),
    ],
)
def test_what_does_not_fit_is_left_with_the_reason_in_one_line(
    tiny: Tiny, fresh: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    change: Callable[[Path], None], reason: str,
) -> None:  # fmt: skip
    run = tiny.mask()
    runs = closure(tiny, run)
    place = slice_of(tiny, tmp_path / "1", *runs)
    folder = place / run.folder
    change(folder)
    before = contents(folder)
    assert take(fresh, [place], run) == Taken(whole=len(runs) - 1)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{folder}: not taken over: {reason}")
    assert not fresh.path(run).exists() and contents(folder) == before
    whole = slice_of(tiny, tmp_path / "2", run)
    assert take(fresh, [place, whole], run) == Taken(whole=1)  # from the one that has it whole


def test_what_was_made_from_a_run_that_is_left_waits_for_it(
    tiny: Tiny, fresh: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tiny.mask()
    first, *rest = closure(tiny, run)
    place = slice_of(tiny, tmp_path / "1", first, *rest)
    damaged(place / first.folder)
    taken = take(fresh, [place], run)
    assert taken == Taken(waiting=len(rest)) and f"{len(rest)} wait for a parent" in str(taken)
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_run_of_other_settings_here_gives_way(tiny: Tiny, fresh: Tiny, tmp_path: Path) -> None:
    run = tiny.dense()
    place = slice_of(tiny, tmp_path / "1", run)
    slice_of(tiny, fresh.results, run)
    of_other_settings(fresh.folder(run))
    assert take(fresh, [place], run) == Taken(whole=1)
    assert read_json(fresh.path(run, PROVENANCE)) == read_json(tiny.path(run, PROVENANCE))


def test_what_was_made_from_a_run_that_comes_back_stays_up_to_date(
    tiny: Tiny, fresh: Tiny, tmp_path: Path
) -> None:
    run = tiny.mask()
    first, *rest = closure(tiny, run)
    place = slice_of(tiny, tmp_path / "1", first)
    slice_of(tiny, fresh.results, first, *rest)
    fresh.path(first).unlink()
    assert take(fresh, [place], run) == Taken(whole=1)
    assert all(up_to_date(fresh, each) for each in (first, *rest))


# -- unfinished runs ---------------------------------------------------------------------------


def unfinished(root: Path, place: Path, run: Run, after: int, tiny: Tiny) -> Path:
    """A slice in which a run was stopped in its step ``after``; its parents beside it."""
    own = Tiny(root, place)
    tiny.make(run)
    slice_of(tiny, place, *closure(tiny, run)[:-1])
    interrupt(own, run, after)
    return place


@pytest.mark.parametrize("stage", ["dense", "imp"])
def test_the_state_that_got_farthest_is_taken_and_gone_on_with(
    tiny: Tiny, fresh: Tiny, tmp_path: Path, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Step 11 lies in the second epoch, and of a block in the second round."""
    run = tiny.dense() if stage == "dense" else tiny.block()
    places = [
        unfinished(tiny.root, tmp_path / str(after), run, after, tiny) for after in (3, 11, 5)
    ]
    parents = len(closure(tiny, run)) - 1
    fresh.folder(run).mkdir(parents=True)
    (fresh.folder(run) / ".round09.safetensors").write_text("a part of another attempt")
    assert take(fresh, places, run) == Taken(whole=parents, unfinished=1)
    assert contents(fresh.folder(run)) == contents(places[1] / run.folder)
    with monkeypatch.context() as patch:  # a tie is no progress
        patch.setattr(slices, "Reservation", lambda path: pytest.fail("a reservation"))
        assert take(fresh, places, run) == Taken()
    steps, step = 0, Step.__call__

    def count(*arguments: Any) -> None:
        nonlocal steps
        steps += 1
        step(*arguments)

    monkeypatch.setattr(Step, "__call__", count)
    fresh.run(run)
    assert steps == {"dense": 32, "imp": 16}[stage] - 11
    assert contents(fresh.folder(run)) == contents(tiny.folder(run))


def test_a_state_here_that_got_farther_is_kept(tiny: Tiny, fresh: Tiny, tmp_path: Path) -> None:
    run = tiny.dense()
    place = unfinished(tiny.root, tmp_path / "1", run, 3, tiny)
    interrupt(fresh, run, 11)
    before = contents(fresh.folder(run))
    whole = slice_of(tiny, tmp_path / "2", run)
    damaged(whole / run.folder)  # offered, and refused
    for places in ([place], [place, whole]):
        assert take(fresh, places, run) == Taken()
        assert contents(fresh.folder(run)) == before


def test_a_saved_step_of_a_round_that_is_finished_counts_for_nothing(
    tiny: Tiny, tmp_path: Path
) -> None:
    run = tiny.block()
    first, second = (
        unfinished(tiny.root, tmp_path / str(after), run, after, tiny) for after in (7, 9)
    )
    folder = run.folder
    shutil.copy(second / folder / ".round01.safetensors", first / folder)
    settings = tiny.graph.digest(run)
    assert reached(first / folder, settings) == Reached(1, 0, 0)
    assert reached(second / folder, settings) == Reached(1, 0, 1)


def test_a_finished_run_goes_before_any_state(tiny: Tiny, fresh: Tiny, tmp_path: Path) -> None:
    run = tiny.dense()
    half = unfinished(tiny.root, tmp_path / "1", run, 11, tiny)
    whole = slice_of(tiny, tmp_path / "2", run)
    assert take(fresh, [half, whole], run) == Taken(whole=1)
    assert contents(fresh.folder(run)) == contents(tiny.folder(run))


@pytest.mark.parametrize("what", ["damaged", "settings", "parent", "no parent"])
def test_a_state_that_does_not_fit_is_left(
    tiny: Tiny, fresh: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    run = tiny.block()
    place = unfinished(tiny.root, tmp_path / "1", run, 11, tiny)
    (dense,) = tiny.graph.parents(run)
    slice_of(tiny, fresh.results, dense)
    reason = ""
    if what == "damaged":
        path = place / run.folder / RESUME
        path.write_bytes(path.read_bytes()[:-1])
        reason = "not taken over: .resume.safetensors is damaged"
    elif what == "settings":
        asked = wanted(fresh.graph, closure(fresh, run))
        other = [slices.Wanted(w.folder, w.outputs, "new", w.reads) for w in asked]
        assert slices.take_over(fresh.results, [place], other[1:], lambda names: None) == Taken()
    elif what == "parent":
        files = read_json(place / dense.folder / PROVENANCE)["files"]
        rewrite(place / dense.folder, files=dict.fromkeys(files, "0" * 64))
        reason = "not taken over: made from another version of dense/"
    else:
        shutil.rmtree(place / dense.folder)
        reason = "not taken over: unfinished, and dense/"
    if reason:
        assert take(fresh, [place], run) == Taken()
        (line,) = capsys.readouterr().err.splitlines()
        assert reason in line
    assert not list(fresh.folder(run).glob(".*"))


# -- others --------------------------------------------------------------------------------------


def test_a_run_that_a_process_is_working_on_is_left(
    tiny: Tiny, fresh: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tiny.dense()
    place = slice_of(tiny, tmp_path / "1", run)
    fresh.folder(run).mkdir(parents=True)
    lock = Lock(fresh.folder(run) / LOCK)
    lock.acquire(wait=False)
    try:
        assert take(fresh, [place], run) == Taken()
    finally:
        lock.release()
    assert "another process is working on the run here" in capsys.readouterr().err
    assert take(fresh, [place], run) == Taken(whole=1)


def test_a_living_workflow_on_these_runs_is_not_disturbed(tmp_path: Path) -> None:
    results, place = tmp_path / "results", tmp_path / "slice"
    (place / "sparse").mkdir(parents=True)
    (place / "sparse" / PROVENANCE).write_text("{}")
    asked = [slices.Wanted("sparse", ("1",), "", ())]  # the other one makes sparse/1
    with living(results), pytest.raises(UserError, match="another workflow"):
        slices.take_over(results, [place], asked, lambda names: None)
    assert slices.take_over(results, [place], asked, lambda names: None) == Taken()


def test_folders_of_slices(tmp_path: Path, tiny_root: Path) -> None:
    for name in ("home/2/dense", "home/1/sparse", "home/notes", "one/mask"):
        (tmp_path / name).mkdir(parents=True)
    home, one = str(tmp_path / "home"), str(tmp_path / "one")
    found = slices.folders([home, one], STAGES)
    assert [str(p.relative_to(tmp_path)) for p in found] == ["home/1", "home/2", "one"]
    with pytest.raises(UserError, match="slices: nowhere: no such folder"):
        slices.folders(["nowhere"], STAGES)
    assert read(tiny_root, {"slices": home}).main.slices == (home,)
    assert read(tiny_root, {"slices": [home, one]}).main.slices == (home, one)
    assert read(tiny_root, {"slices": ""}).main.slices == ()
    with pytest.raises(UserError, match="slices: expected a list"):
        read(tiny_root, {"slices": 1})


def test_the_setting_changes_no_run(tiny: Tiny) -> None:
    other = Graph(read(tiny.root, {"slices": "anywhere"}))
    assert other.digest(tiny.mask()) == tiny.graph.digest(tiny.mask())


# -- the workflow --------------------------------------------------------------------------------


class Place(Checkout):
    """A copy of the workflow from which slices can be called."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        shutil.copytree(REPOSITORY / "node", folder / "node")

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["node/slice.sh", *words], cwd=self.folder, text=True,
            env=environment(PIPELINE_SAVE_SECONDS="0"),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def slice(self, *words: str, frozen: Path | None = None) -> tuple[int, str]:
        """Exit status and output of a slice, a run of ``frozen`` halted in the middle of its training."""
        process = self.start(*words)
        try:
            if frozen is not None:
                halt(process, frozen)
            text, _ = process.communicate(timeout=300)
        finally:
            process.terminate()
        return process.returncode, text


def payload(checkout: Checkout) -> dict[str, dict[str, str]]:
    """Digests of all files of all runs."""
    results = checkout.folder / "results"
    return {
        str(path.parent.relative_to(results)): contents(path.parent)
        for path in results.rglob(PROVENANCE)
    }


@pytest.mark.parametrize("words", [(), ("0",), ("0.00", "all"), ("-1",), ("ten",), ("1e3",)])
def test_a_slice_without_minutes_is_a_line_on_its_use(words: tuple[str, ...]) -> None:
    done = subprocess.run(
        [REPOSITORY / "node" / "slice.sh", *words], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "usage: node/slice.sh MINUTES [SNAKEMAKE ARGUMENTS]\n"


@pytest.mark.parametrize(
    ("lines", "saved"),
    [
        ([], True),
        ([STOPPED, "epoch 1/4: loss 1.5", "Traceback\nKeyboardInterrupt"], True),
        ([STOPPED, "error: x: cannot be written"], False),
    ],
)
def test_a_failure_is_not_hidden_by_a_stop(
    tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str], lines: list[str], saved: bool
) -> None:
    call = Call(tiny.graph, Jobs(tiny.graph))
    call._watch = Watch(tiny.results)
    for number, line in enumerate(lines):
        log = tmp_path / f"{number}.log"
        call._watch.expect(Expected(tmp_path / f"{number}.json", Work(1.0), log))
        log.write_text(f"{line}\n")
    assert call.ended(False, stopped=True) == saved
    assert ("with errors" in capsys.readouterr().err) == (not saved)


def halt(process: subprocess.Popen[str], runs: Path) -> None:
    """Freeze the first of the runs that is between two epochs, while the slice's clock goes on.

    The end of its time wakes it: timeout(1) sends SIGCONT after SIGTERM.
    """
    while process.poll() is None:
        for state in runs.glob(f"*/{RESUME}"):
            with suppress(OSError):
                owner = json.loads((state.parent / LOCK).read_bytes())
                os.kill(owner["pid"], signal.SIGSTOP)
                return
        time.sleep(0.005)


@pytest.mark.workflow
def test_slices_that_are_stopped_go_on_to_the_same_bits(micro: Checkout, tmp_path: Path) -> None:
    """The first in the middle of a training by its time, the second by SIGTERM to the script."""
    own = Place(tmp_path / "checkout").tried(micro)
    words = ("-c2", "tables", "--config", "study=micro")
    run = own.folder / "results/dense/digits/resnet20-w0.25/dense-micro"
    for minutes in (0.1, 0.2, 0.4, 0.8, 1.6, 3.2):  # however slow it is here
        status, text = own.slice(f"{minutes}", *words, frozen=run)
        assert status == 75, text
        assert "Error in rule" not in text and "with errors" not in text, text
        assert text.splitlines()[-1].startswith("slice: ")
        if list(run.glob("*/.resume.safetensors")):
            break
    assert not list(own.folder.rglob(".lock"))
    state = next(run.glob("*/.resume.safetensors"))
    before, end = state.stat().st_ino, time.monotonic() + 200
    process = own.start("10", *words)
    try:
        while state.exists() and state.stat().st_ino == before and time.monotonic() < end:
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGTERM)
        text, _ = process.communicate(timeout=100)
    assert process.returncode == 143 and "slice: stopped" in text, text
    status, text = own.slice("10", *words)
    assert status == 0 and text.splitlines()[-1] == "slice: the targets are there", text
    assert payload(own) == payload(micro)


@pytest.mark.workflow
def test_a_failure_is_snakemakes_own(tmp_path: Path) -> None:
    own = Place(tmp_path / "checkout")
    status, text = own.slice("10", "-c1", "no-such-target", "--config", "study=micro")
    assert status == 1 and text.splitlines()[-1] == "slice: Snakemake ended with status 1"


@pytest.mark.workflow
def test_results_of_two_slices_make_one_study(micro: Checkout, tmp_path: Path) -> None:
    """Split over two results folders, each run is taken over; only the tables are left to make."""
    own, home = Place(tmp_path / "checkout"), tmp_path / "home"
    results = micro.folder / "results"
    runs = [path.parent.relative_to(results) for path in sorted(results.rglob(PROVENANCE))]
    for number, run in enumerate(runs):
        shutil.copytree(results / run, home / str(number % 2) / run)
    words = ("-c1", "tables", "--config", "study=micro", f"slices={home}")
    status, text = own.slice("10", "-n", *words)
    assert status == 0 and "a dry run takes nothing over" in text
    assert not (own.folder / "results").exists()
    status, text = own.slice("10", *words)
    assert status == 0, text
    assert re.search(rf"^taken over from slices: {len(runs)} runs, 0 unfinished$", text, re.M), text
    assert not re.search(r"^(dense|imp|mask|match|sparse) +\d", text, re.M), text
    assert payload(own) == payload(micro)
    done = own.snakemake("-n", "tables")
    assert "Nothing to be done" in done.stdout + done.stderr
    status, text = own.slice("10", *words)
    assert "taken over from slices: 0 runs, 0 unfinished" in text and "Nothing to be done" in text


@pytest.mark.workflow
def test_what_snakemake_remembers_of_replaced_files_runs_nothing_again(
    micro: Checkout, tmp_path: Path
) -> None:
    """A recipe was edited and the run made elsewhere; another was killed in its last moment."""
    own = Place(tmp_path / "checkout").tried(micro)
    recipes = own.folder / "config/recipes.yaml"
    text = recipes.read_text()
    assert "epochs: 3" in text
    recipes.write_text(text.replace("epochs: 3", "epochs: 2"))
    run = "dense/digits/resnet20-w0.25/dense-micro/seed0"
    target = f"results/{run}/metrics.json"
    own.run(target)
    recipes.write_text(text)
    assert own.plan(target)["dense"] == 1
    for seed in ("seed0", "seed1"):
        shutil.copytree(
            micro.folder / "results" / run.replace("seed0", seed),
            tmp_path / "home" / "1" / run.replace("seed0", seed),
        )
    marks = own.folder / ".snakemake" / "incomplete"
    other = target.replace("seed0", "seed1")
    (marks / urlsafe_b64encode(other.encode()).decode()).write_text('{"external_jobid": null}')
    words = ("-c1", target, other, "--config", "study=micro", f"slices={tmp_path / 'home'}")
    status, told = own.slice("10", *words)
    assert status == 0 and "2 runs, 0 unfinished" in told and "Nothing to be done" in told, told
