"""What all tests share: a clean environment, one thread, and a small study."""

from __future__ import annotations

import fcntl
import gc
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from micro import Checkout
from small import REPOSITORY, Tiny, write_study

from pipeline.machine import memory
from pipeline.study.config import read
from pipeline.study.graph import Graph

#: The last one because a job of a cluster waits for a lock where another process is refused.
_CLEANED = ("PIPELINE_CONFIG", "DATA_ROOT", "PIPELINE_SAVE_SECONDS", "SLURM_JOB_ID")
for _name in _CLEANED:  # before any fixture of a wider scope reads a study
    os.environ.pop(_name, None)
torch.set_num_threads(1)  # as the runs have; bits depend on it
memory.tune()  # for the processes of xdist, and all that tests start
memory.collect_rarely()
#: Modules that train networks, run the workflow or go through many cases, with the seconds of
#: processor time that they take alone: not for ``make check``, and the dearest first. The second
#: one does not need the study that the first one makes, and would have to wait for.
SLOW = {
    "workflow": 40, "slices": 35, "damage": 33, "imagenet_workflow": 32, "cuda": 45,
    "distributed": 30, "families": 25, "stages": 25, "mishaps": 25, "figures": 25, "own_model": 7,
    "matching": 14, "terminal": 13, "weight_matching": 13, "fuzz_study": 13, "commands": 11,
    "training": 11, "evidence": 11, "trial": 10, "resnet50": 10, "golden": 10, "limits": 9,
    "tracing": 8, "kernels": 7, "events": 7, "verdicts": 7,
    "symmetry": 7, "interop": 7, "warm": 7, "sweeps": 6, "two_parameters": 6, "keys": 6,
    "host": 20, "share": 15, "rounds": 14, "layers": 12, "children": 9, "alignment": 8,
    "matchers": 9, "criteria": 8, "align_command": 4,
    "docs": 25, "claims": 16, "children_report": 6, "claims_sparse": 4, "claims_sweeps": 4,
    "photographs": 6, "fuzz_files": 6, "tracing_forms": 6, "facts": 6, "models_groups": 5,
    "pruning": 5, "export": 5, "times": 4, "graphed": 4, "show": 4, "finished": 4, "watch": 3,
}  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is slow and put it first: no process is left alone with a long module at the end."""
    cost = {item: SLOW.get(item.path.stem.removeprefix("test_"), 0) for item in items}
    items.sort(key=lambda item: -cost[item])
    for item in items:
        if cost[item]:
            item.add_marker("slow")


def pytest_collection_finish() -> None:
    """What is imported stays: the collector need not go through it again and again."""
    gc.collect()
    gc.freeze()


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
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of runs of small studies that the processes of this session share."""
    return once(tmp_path_factory, "kept", Path.mkdir)


@pytest.fixture(scope="session")
def tiny(tiny_root: Path, kept: Path) -> Tiny:
    """The small study; its results are shared, so tests only read or add to them."""
    torch.set_num_threads(1)
    return Tiny(tiny_root, tiny_root / "results", kept)


@pytest.fixture
def fresh(tiny_root: Path, tmp_path: Path) -> Tiny:
    """The small study with empty results."""
    return Tiny(tiny_root, tmp_path / "results")


@pytest.fixture(scope="session")
def micro(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """The study of a minute, run by the workflow once for all tests, which only read or copy it."""
    return Checkout.at(once(tmp_path_factory, "micro", lambda folder: Checkout(folder).finish()))
