"""What all tests share: a clean environment, one thread, and a small study."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from small import Tiny, write_study

#: The last one because a job of a cluster waits for a lock where another process is refused.
_CLEANED = ("PIPELINE_CONFIG", "DATA_ROOT", "PIPELINE_SAVE_SECONDS", "SLURM_JOB_ID")
for _name in _CLEANED:  # before any fixture of a wider scope reads a study
    os.environ.pop(_name, None)
torch.set_num_threads(1)  # as the runs have; bits depend on it
#: Modules that train networks, run the workflow or go through many cases: not for ``make check``.
SLOW = {
    "damage", "distributed", "events", "evidence", "export", "figures", "finished", "fuzz_files",
    "fuzz_study", "golden", "graphed", "imagenet_workflow", "interop", "kernels", "limits",
    "matching", "mishaps", "notebook", "own_model", "photographs", "resnet50", "show", "slices",
    "stages", "tracing", "training", "watch", "workflow",
}  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.stem.removeprefix("test_") in SLOW:
            item.add_marker("slow")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No variable that changes what a study reads; one compute thread, as the runs have."""
    for name in _CLEANED:
        monkeypatch.delenv(name, raising=False)
    torch.set_num_threads(1)
    yield
    torch.set_flush_denormal(False)


@pytest.fixture(scope="session")
def tiny_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the configuration and the data of the small study."""
    return write_study(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def tiny(tiny_root: Path) -> Tiny:
    """The small study; its results are shared, so tests only read or add to them."""
    torch.set_num_threads(1)
    return Tiny(tiny_root, tiny_root / "results")


@pytest.fixture
def fresh(tiny_root: Path, tmp_path: Path) -> Tiny:
    """The small study with empty results."""
    return Tiny(tiny_root, tmp_path / "results")
