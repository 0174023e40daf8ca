"""What all tests share: a clean environment, one thread, and a small study."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from micro import Checkout
from small import REPOSITORY, Tiny, write_study

from pipeline.study.config import read
from pipeline.study.graph import Graph

#: The last one because a job of a cluster waits for a lock where another process is refused.
_CLEANED = ("PIPELINE_CONFIG", "DATA_ROOT", "PIPELINE_SAVE_SECONDS", "SLURM_JOB_ID")
for _name in _CLEANED:  # before any fixture of a wider scope reads a study
    os.environ.pop(_name, None)
torch.set_num_threads(1)  # as the runs have; bits depend on it
#: Modules that train networks, run the workflow or go through many cases, with the seconds of
#: processor time that they take alone: not for ``make check``, and the dearest first. The second
#: one does not need the study that the first one makes, and would have to wait for.
SLOW = {
    "workflow": 170, "cuda": 105, "imagenet_workflow": 95, "slices": 90, "families": 90,
    "stages": 60, "own_model": 55, "mishaps": 55, "damage": 45, "distributed": 40, "matching": 33,
    "trial": 30, "sweeps": 30, "commands": 25, "terminal": 25, "limits": 20, "snippets": 31, "figures": 20,
    "weight_matching": 18, "resnet50": 17, "kernels": 16, "events": 15, "two_parameters": 15,
    "golden": 14, "fuzz_study": 14, "training": 13, "notebook": 20, "evidence": 10, "verdicts": 10,
    "symmetry": 9, "matchers": 9, "alignment": 8, "criteria": 8, "tracing": 8, "interop": 7, "warm": 7,
    "keys": 6, "photographs": 6, "align_command": 4, "fuzz_files": 6,
    "tracing_forms": 6, "facts": 6, "models_groups": 5, "pruning": 5, "export": 5,
    "times": 4,
    "graphed": 4, "show": 4, "finished": 4, "watch": 3,
}  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is slow and put it first: no process is left alone with a long module at the end."""
    cost = {item: SLOW.get(item.path.stem.removeprefix("test_"), 0) for item in items}
    items.sort(key=lambda item: -cost[item])
    for item in items:
        if cost[item]:
            item.add_marker("slow")


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that the first process of this session to ask makes, the same for all of them."""
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    with (base / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (base / name).exists():
            shutil.rmtree(base / f"{name}.part", ignore_errors=True)
            make(base / f"{name}.part")
            (base / f"{name}.part").rename(base / name)
    return base / name


@pytest.fixture(scope="session")
def paper() -> Graph:
    """The graph of study ``paper`` as it stands in the repository."""
    return Graph(read(REPOSITORY, {"study": "paper"}))


@pytest.fixture(scope="session")
def thesis() -> Graph:
    """The graph of study ``thesis`` as it stands in the repository."""
    return Graph(read(REPOSITORY, {"study": "thesis"}))


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


@pytest.fixture(scope="session")
def micro(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """The study of a minute, run by the workflow once for all tests, which only read or copy it."""
    return Checkout.at(once(tmp_path_factory, "micro", lambda folder: Checkout(folder).finish()))
