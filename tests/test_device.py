"""GPU slots: processes side by side fill the visible GPUs evenly."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from pipeline.machine import gpu_slots as device

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
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = ["nvidia5", "nvidiactl", "nvidia3", "nvidia-uvm", "nvidia-caps"]
    monkeypatch.delenv(device.VISIBLE, raising=False)
    monkeypatch.setattr(Path, "glob", lambda self, pattern: [Path("/dev") / name for name in names])
    assert device.visible() == ["0", "1"]


def test_one_gpu_needs_no_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(device.VISIBLE, "3")
    assert device.take_slot() is None
