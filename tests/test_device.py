"""Processes side by side fill the visible GPUs evenly, and share them by MPS."""

import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import pytest
from small import RECIPES, write_study

from pipeline.errors import UserError
from pipeline.machine import gpu_slots as device
from pipeline.machine import mps
from pipeline.study.config import read

PROCESS = """
import os, sys
from pipeline.machine.gpu_slots import take_slot
print(take_slot(), os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
sys.stdin.read()
"""


def started(environment: dict[str, str]) -> tuple[subprocess.Popen[str], list[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROCESS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=environment,
    )  # fmt: skip
    assert process.stdout is not None
    return process, process.stdout.readline().split()


def test_processes_fill_the_gpus_evenly_and_give_slots_back(tmp_path: Path) -> None:
    environment = {"CUDA_VISIBLE_DEVICES": "0,2,GPU-5a", "TMPDIR": str(tmp_path), "PATH": ""}
    running = [started(environment) for _ in range(6)]
    try:
        slots = [words[0] for _, words in running]
        assert slots == ["0.0", "2.0", "GPU-5a.0", "0.1", "2.1", "GPU-5a.1"]
        assert Counter(words[1] for _, words in running) == {"0": 2, "2": 2, "GPU-5a": 2}
        running[1][0].kill()
        running[1][0].wait()
        running.append(started(environment))
        assert running[-1][1] == ["2.0", "2"]
    finally:
        for process, _ in running:
            process.kill()
            process.wait()


@pytest.mark.parametrize(
    ("given", "found"), [("", []), ("-1", []), ("1", ["1"]), ("1, 3", ["1", "3"])]
)
def test_visible_gpus(monkeypatch: pytest.MonkeyPatch, given: str, found: list[str]) -> None:
    monkeypatch.setenv(device.VISIBLE, given)
    assert device.visible() == found


def test_gpus_are_counted_from_0_whatever_numbers_their_devices_bear(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["nvidia5", "nvidiactl", "nvidia3", "nvidia-uvm", "nvidia-caps"]
    monkeypatch.delenv(device.VISIBLE, raising=False)
    monkeypatch.setattr(device, "DEVICES", tmp_path)
    assert device.visible() == [] and not device.present()
    for name in names:
        (tmp_path / name).touch()
    assert device.visible() == ["0", "1"] and device.present()
    monkeypatch.setenv(device.VISIBLE, "")
    assert not device.present()


def test_a_gpu_that_may_not_be_opened_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine of a cluster the GPUs of other jobs are to be seen, and closed."""
    monkeypatch.delenv(device.VISIBLE, raising=False)
    monkeypatch.setattr(device, "DEVICES", tmp_path)
    (tmp_path / "nvidia0").touch()

    def closed(*_: object) -> int:
        raise PermissionError

    monkeypatch.setattr(os, "open", closed)
    assert not device.present()


def test_one_gpu_needs_no_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(device.VISIBLE, "3")
    assert device.take_slot() is None


def test_tf32_without_a_gpu_is_refused_when_the_study_is_read(tmp_path: Path) -> None:
    recipes = RECIPES.replace("{lr: 0.02, batch_size: 64}", "{precision: tf32}")
    root = write_study(tmp_path, recipes)
    with pytest.raises(
        UserError, match="tiny: sparse: precision: tf32 needs a GPU, not device: cpu"
    ):
        read(root)
    assert read(root, {"device": "auto"}).recipes.resolve("sparse", "tiny").precision == "tf32"


# --- MPS: the daemon and nvidia-smi are pretended -----------------------------------------------

CONTROL = """#!/bin/sh
if [ "$1" = -d ]; then
    echo "start $CUDA_VISIBLE_DEVICES" >> "$CALLS"
    exit "${STATUS:-0}"
fi
read -r words
echo "$words" >> "$CALLS"
"""
SMI = "#!/bin/sh\nprintf '0, GPU-a\\n1, GPU-b\\n2, GPU-c\\n'\n"


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the pretended daemon is told."""
    for name, text in ((mps.CONTROL, CONTROL), ("nvidia-smi", SMI)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    for name in (mps.PIPE, mps.LOG):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path / "calls"


def test_mps_serves_gpus_by_uuid_and_leaves_nothing_behind(
    calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(device.VISIBLE, "2,0")
    service = mps.start()
    assert service is not None
    folder = Path(os.environ[mps.PIPE])
    assert os.environ[device.VISIBLE] == "GPU-c,GPU-a" and folder.is_dir()
    assert calls.read_text() == "start GPU-c,GPU-a\n"
    service.stop()
    assert calls.read_text() == "start GPU-c,GPU-a\nquit\n" and not folder.exists()
    assert os.environ[device.VISIBLE] == "2,0" and mps.PIPE not in os.environ


def test_mps_ends_when_its_workflow_is_killed(calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(device.VISIBLE, "1")
    code = (
        "from pipeline.machine import mps; import os, signal; mps.start(); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    until = time.monotonic() + 30
    while list(calls.parent.glob("pipeline-mps-*")) and time.monotonic() < until:
        time.sleep(0.05)
    assert calls.read_text() == "start GPU-b\nquit\n"
    assert not list(calls.parent.glob("pipeline-mps-*"))


@pytest.mark.parametrize(
    ("gpus", "status", "said"),
    [("0,7", "0", "nvidia-smi knows no GPU 7"), ("0", "1", "it does not start")],
)
def test_without_mps_one_line_says_that_runs_take_turns(
    calls: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    gpus: str, status: str, said: str,
) -> None:  # fmt: skip
    monkeypatch.setenv(device.VISIBLE, gpus)
    monkeypatch.setenv("STATUS", status)
    assert mps.start() is None
    assert capsys.readouterr().err == f"runs take turns on a GPU, without NVIDIA MPS: {said}\n"
    assert os.environ[device.VISIBLE] == gpus and mps.PIPE not in os.environ
    assert not list(calls.parent.glob("pipeline-mps-*"))


@pytest.mark.parametrize("given", [{mps.PIPE: "mine"}, {device.VISIBLE: ""}])
def test_a_daemon_of_the_users_own_or_no_gpu_is_left_alone(
    calls: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, str]
) -> None:
    for name, value in ({device.VISIBLE: "0"} | given).items():
        monkeypatch.setenv(name, value)
    assert mps.start() is None and not calls.exists()
