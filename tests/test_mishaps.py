"""Mishaps of the machine, for real: a full disk, a read-only mount, two workflows at once, a kill."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from micro import Checkout, environment, served

from pipeline.cli import STOPPED

pytestmark = pytest.mark.workflow

RUN = "results/dense/digits/resnet20-w0.25/dense-micro/seed0"
TARGET = f"{RUN}/metrics.json"


@pytest.fixture
def reference(micro: Checkout) -> dict[str, str]:
    """Digests of one dense run's files, made without mishap."""
    return payload(micro)


def payload(checkout: Checkout) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (checkout.folder / RUN).iterdir()
        if path.name != "provenance.json"
    }


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Callable[[str], None]]:
    """A tmpfs on a folder; gives a function that changes its options."""
    folder.mkdir(parents=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        pytest.skip(f"mounting is not permitted here: {done.stderr.strip()}")

    def change(options: str) -> None:
        command = ["mount", "-o", f"remount,{options}", str(folder)]
        subprocess.run(command, check=True, capture_output=True)

    try:
        yield change
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def errors(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The lines that say what went wrong."""
    assert done.returncode == 1
    text = done.stdout + done.stderr
    assert "Traceback" not in text, text
    return [line.strip() for line in text.splitlines() if line.strip().startswith("error: ")]


def test_a_full_disk_loses_nothing_and_the_same_command_goes_on(
    tmp_path: Path, reference: dict[str, str]
) -> None:
    checkout = Checkout(tmp_path / "checkout")
    with mounted(checkout.folder / "results", "size=400k") as change:
        told = errors(checkout.snakemake(TARGET))
        assert len(told) == 1
        assert re.search(rf"{RUN}/\S+: cannot be written: .*No space left on device", told[0])
        there = payload(checkout) if (checkout.folder / RUN).exists() else {}
        visible = {name: digest for name, digest in there.items() if not name.startswith(".")}
        assert visible.items() <= reference.items()  # whole files or none
        assert not (checkout.folder / RUN / "provenance.json").exists()
        change("size=50m")
        checkout.run(TARGET)
        assert payload(checkout) == reference


def test_a_read_only_mount_is_one_line_before_any_job(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path / "checkout")
    with mounted(checkout.folder / "results", "size=10m") as change:
        change("ro")
        told = errors(checkout.snakemake(TARGET))
        assert told == ["error: results: cannot be written: Read-only file system"]
        assert not list((checkout.folder / "results").iterdir())


def test_results_on_a_read_only_mount_can_be_read(
    micro: Checkout, tmp_path: Path, reference: dict[str, str]
) -> None:
    checkout = micro.copy(tmp_path / "checkout")
    results = checkout.folder / "results"
    shutil.rmtree(results)
    with mounted(results, "size=50m") as change:
        shutil.copytree(micro.folder / "results", results, symlinks=True, dirs_exist_ok=True)
        change("ro")
        done = checkout.snakemake(TARGET)
        assert done.returncode == 0 and "Nothing to be done" in done.stdout + done.stderr
        for words in (["check", "--results"], ["show", RUN], ["plan", TARGET]):
            told = checkout.pipeline(*words, "--study", "micro")
            assert told.returncode == 0, told.stderr
        assert payload(checkout) == reference


@contextmanager
def running(
    checkout: Checkout, *words: str, by: tuple[str, ...] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    """A workflow in a process group of its own, its first training under way."""
    with (checkout.folder / "first.log").open("wb") as log:
        process = subprocess.Popen(
            [*by, "snakemake", *words, "-c2", "--config", "study=micro"], cwd=checkout.folder,
            env=environment(PIPELINE_SAVE_SECONDS="0"), stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
    try:
        state = checkout.folder / RUN / ".resume.safetensors"
        end = time.monotonic() + 200
        while not state.exists():
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.01)
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_a_second_workflow_is_refused_wherever_it_is_started_and_a_kill_frees_the_results(
    micro: Checkout, tmp_path: Path, reference: dict[str, str]
) -> None:
    checkout, other = Checkout(tmp_path / "one").tried(micro), Checkout(tmp_path / "two")
    (other.folder / "results").symlink_to(checkout.folder / "results")
    with running(checkout, TARGET) as first:
        os.killpg(first.pid, signal.SIGSTOP)  # so that it is there until both were refused
        for second in (checkout, other):
            (told,) = errors(second.snakemake(TARGET))
            assert told.startswith("error: results: another workflow (")
            assert f"pid {first.pid}" in told and " of these files, such as " in told
        os.killpg(first.pid, signal.SIGKILL)
    assert not (checkout.folder / TARGET).exists()
    checkout.run(TARGET)  # the same command goes on
    assert payload(checkout) == reference


def test_the_command_that_mends_is_one_that_works(
    micro: Checkout, tmp_path: Path, reference: dict[str, str]
) -> None:
    """Damage found by the check; its advice, typed into a shell, brings back the same bits."""
    checkout = micro.copy(tmp_path / "checkout")
    path = checkout.folder / RUN / "trunk.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)

    check = ("check", "--results", "--study", "micro")
    found = checkout.pipeline(*check)
    assert found.returncode == 1
    (line,) = found.stderr.splitlines()
    advice = line.split("ask for it again: ")[1]
    assert advice == f"rm '{RUN}/trunk.safetensors' && snakemake -c1 '{RUN}/trunk.safetensors'"
    command = ["bash", "-c", advice]
    subprocess.run(
        command, cwd=checkout.folder, env=served(), check=True, capture_output=True,
        timeout=300,
    )  # fmt: skip
    assert payload(checkout) == reference
    assert checkout.pipeline(*check).returncode == 0


def test_the_pages_beside_the_report_are_asked_for_themselves(tmp_path: Path) -> None:
    """Deleted alone, they are made again, though the report is there."""
    graph = Checkout(tmp_path / "checkout").snakemake("--dag").stdout
    nodes = {name: number for number, name in re.findall(r'(\d+)\[label = "(\w+)', graph)}
    for rule in ("settings", "provenance", "render_report"):
        assert re.search(rf"\b{nodes[rule]} -> {nodes['all']}\b", graph), rule


def test_ctrl_c_saves_and_the_same_command_goes_on(
    micro: Checkout, tmp_path: Path, reference: dict[str, str]
) -> None:
    """A terminal sends it to Snakemake and all of its jobs."""
    checkout = Checkout(tmp_path / "one").tried(micro)
    with running(checkout, TARGET) as first:
        os.killpg(first.pid, signal.SIGINT)
        assert first.wait() == os.EX_TEMPFAIL
    said = (checkout.folder / "first.log").read_text()
    assert said.splitlines()[-1] == "stopped: the same command goes on"
    assert "Traceback" not in said and "Error" not in said
    (log,) = (checkout.folder / "results/logs/dense").rglob("*.log")
    assert log.read_text().splitlines()[-1] == STOPPED
    checkout.run(TARGET)
    assert payload(checkout) == reference


def test_under_nohup_a_hang_up_changes_nothing(micro: Checkout, tmp_path: Path) -> None:
    """Nor in jobs that are forks of the warm server, which there is from three runs on."""
    checkout = Checkout(tmp_path / "one").tried(micro)
    block = "results/imp/digits/resnet20-w0.25/dense-micro/imp-micro/seed0/block1/metrics.json"
    other = TARGET.replace("seed0", "seed1")
    with running(checkout, block, other, by=("nohup",)) as first:
        os.killpg(first.pid, signal.SIGHUP)
        time.sleep(0.3)
        assert first.poll() is None
        os.killpg(first.pid, signal.SIGTERM)
        assert first.wait() == os.EX_TEMPFAIL
    logs = checkout.folder / "results/logs"
    for log in (logs / "dense").rglob("*.log"):
        run = checkout.folder / "results" / log.relative_to(logs).with_suffix("")
        assert (run / "metrics.json").exists() or log.read_text().splitlines()[-1] == STOPPED


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_while_networks_are_tried_is_a_stop(tmp_path: Path, sent: signal.Signals) -> None:
    """As one while jobs run: the trial is no failure, and the results are free."""
    checkout = Checkout(tmp_path / "one")
    process = subprocess.Popen(
        ["snakemake", TARGET, "-c2", "--config", "study=micro"], cwd=checkout.folder,
        env=environment(), stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if line.startswith("trying in small"):
            os.killpg(process.pid, sent)
    assert process.wait() == os.EX_TEMPFAIL, lines
    assert lines[-1] == "stopped: the same command goes on\n"
    assert not any(line.startswith("error") for line in lines)
    assert not list((checkout.folder / "results").rglob("*.lock"))
