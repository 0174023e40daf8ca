"""Laws of the artifacts on disk: whole or absent, the same bytes, damage told with its remedy."""

from __future__ import annotations

import ast
import errno
import os
import pickle
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from small import REPOSITORY, same, write_study
from torch import Tensor

from pipeline.artifacts import store
from pipeline.artifacts.lock import LOCK
from pipeline.artifacts.record import PROVENANCE
from pipeline.artifacts.unfinished import RESUME
from pipeline.errors import UserError
from pipeline.runs import STAGES
from pipeline.weights import read_mask, read_state

SOURCE = REPOSITORY / "src" / "pipeline"
TENSORS = {
    "weight": torch.arange(24.0).reshape(2, 3, 2, 2).to(memory_format=torch.channels_last),
    "steps": torch.tensor(7),
    "bits": torch.tensor([1, 255], dtype=torch.uint8),
    "half": torch.tensor([0.5, -0.0], dtype=torch.float16),
}


def message(call: Callable[[], Any]) -> str:
    """The message of the UserError that ``call`` must raise: a single line."""
    with pytest.raises(UserError) as caught:
        call()
    text = str(caught.value)
    assert text and "\n" not in text
    return text


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """Files cannot grow beyond ``size`` bytes, as if the disk were full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


WRITERS: dict[str, Callable[[Path, int], None]] = {
    "json": lambda path, size: store.write_json(path, {"values": [0.5] * (size // 8)}),
    "csv": lambda path, size: store.write_csv(path, ["x"], [[0.5]] * (size // 4)),
    "tensors": lambda path, size: store.write_tensors(path, {"x": torch.zeros(size // 4)}),
    "bytes": lambda path, size: store.write_atomic(path, b"x" * size),
}


# --- whole or absent -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", WRITERS)
def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "deep" / "file"
    WRITERS[kind](path, 64)
    before = path.read_bytes()
    for place in (path, path.with_name("new")):
        with full_disk(4096):
            text = message(lambda place=place: WRITERS[kind](place, 200_000))
        assert f"{place}: cannot be written: " in text
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["file"]
    WRITERS[kind](path, 200_000)
    assert path.stat().st_size > 100_000


@pytest.mark.parametrize("kind", WRITERS)
def test_a_place_that_cannot_be_written_is_told_in_one_line(tmp_path: Path, kind: str) -> None:
    (tmp_path / "file").write_text("in the way")
    places = [tmp_path / "file" / "below", Path("/proc/nothing/file")]
    (tmp_path / "folder").mkdir()
    places.append(tmp_path / "folder")
    if os.geteuid() != 0:  # root may write everywhere
        (tmp_path / "closed").mkdir(mode=0o500)
        places.append(tmp_path / "closed" / "file")
    for place in places:
        text = message(lambda place=place: WRITERS[kind](place, 64))
        assert f"{place}: cannot be written: " in text
    assert {p.name for p in tmp_path.iterdir()} <= {"file", "folder", "closed"}
    assert not list((tmp_path / "folder").iterdir())


def test_a_write_that_fails_at_any_step_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    steps: list[tuple[object, str]] = [(os, "fsync"), (Path, "replace")]
    for kind, writer in WRITERS.items():
        for target, name in [*steps, *([(Path, "chmod")] if kind == "tensors" else [])]:
            path = tmp_path / "file"
            path.write_bytes(b"old")
            with monkeypatch.context() as patch:
                patch.setattr(target, name, fail)
                message(lambda writer=writer, path=path: writer(path, 64))
            assert path.read_bytes() == b"old"
            assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_kill_in_the_middle_of_writing_leaves_a_whole_file(tmp_path: Path) -> None:
    code = """
import sys, torch
from pathlib import Path
from pipeline.artifacts.store import write_json, write_tensors
folder, number = Path(sys.argv[1]), 0
while True:
    number += 1
    write_tensors(folder / "tensors", {"x": torch.full((300_000,), float(number))}, number)
    write_json(folder / "json", [number] * 50_000)
"""
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
    try:
        deadline = time.monotonic() + 30
        while not (tmp_path / "json").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        for _ in range(40):  # a reader beside the writer never sees a part
            values = store.read_json(tmp_path / "json")
            assert len(values) == 50_000 and len(set(values)) == 1
            x = store.read_tensors(tmp_path / "tensors")["x"]
            assert len(x) == 300_000 and (x == x[0]).all()
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    x = store.read_tensors(tmp_path / "tensors")["x"]
    assert (x == x[0]).all() and store.read_info(tmp_path / "tensors") == x[0]
    assert len(store.read_json(tmp_path / "json")) == 50_000


def test_files_have_the_permissions_that_others_expect(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        for kind, writer in WRITERS.items():
            writer(tmp_path / kind, 64)
            assert (tmp_path / kind).stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(before)


# --- the same bytes --------------------------------------------------------------------------


def write_sample(path: Path, tensors: dict[str, Tensor]) -> bytes:
    store.write_tensors(path, tensors, {"b": [1, 2.5], "a": "é"})
    return path.read_bytes()


def test_equal_tensors_give_equal_bytes(tmp_path: Path) -> None:
    first = write_sample(tmp_path / "one", TENSORS)
    assert write_sample(tmp_path / "two", TENSORS) == first
    assert write_sample(tmp_path / "three", dict(reversed(TENSORS.items()))) == first
    other_layout = {name: tensor.contiguous() for name, tensor in TENSORS.items()}
    assert write_sample(tmp_path / "four", other_layout) == first
    assert write_sample(tmp_path / "five", TENSORS | {"steps": torch.tensor(8)}) != first
    back = store.read_tensors(tmp_path / "one")
    assert same(back, TENSORS) and all(back[k].dtype == TENSORS[k].dtype for k in TENSORS)
    assert store.read_info(tmp_path / "one") == {"a": "é", "b": [1, 2.5]}


def test_another_process_writes_the_same_bytes(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; import test_store as t;"
        "t.write_sample(Path(sys.argv[1]), dict(reversed(t.TENSORS.items())))"
    )
    environment = os.environ | {"PYTHONHASHSEED": "7", "LC_ALL": "C", "PYTHONPATH": "tests:src"}
    command = [sys.executable, "-c", code, str(tmp_path / "theirs")]
    subprocess.run(command, env=environment, cwd=REPOSITORY, check=True)
    assert write_sample(tmp_path / "ours", TENSORS) == (tmp_path / "theirs").read_bytes()


def test_one_memory_under_two_names_is_written_twice(tmp_path: Path) -> None:
    shared = torch.arange(5.0)
    tensors = {"a": shared, "b": shared, "c": shared[:3], "empty": shared[:0]}
    store.write_tensors(tmp_path / "file", tensors)
    assert same(store.read_tensors(tmp_path / "file"), tensors)


def test_what_is_read_does_not_change_with_the_file(tmp_path: Path) -> None:
    store.write_tensors(tmp_path / "file", {"x": torch.zeros(1000)})
    before = store.read_tensors(tmp_path / "file")
    store.write_tensors(tmp_path / "file", {"x": torch.ones(1000)})
    assert before["x"].sum() == 0
    before["x"].add_(5)
    assert store.read_tensors(tmp_path / "file")["x"].sum() == 1000


def test_canonical_json_is_one_text_for_equal_values() -> None:
    assert store.canonical({"b": 1, "a": [0.1, None]}) == '{"a":[0.1,null],"b":1}'
    assert store.digest({"b": 1, "a": 2}) == store.digest({"a": 2, "b": 1})
    assert store.digest({"a": 1}) != store.digest({"a": 2})
    with pytest.raises(ValueError, match="JSON"):
        store.canonical(float("nan"))


def test_numbers_survive_json_and_csv(tmp_path: Path) -> None:
    numbers = [0.1, 1 / 3, 1e-300, 5e-324, -0.0, 2**53]
    store.write_json(tmp_path / "json", numbers)
    assert store.read_json(tmp_path / "json") == numbers
    store.write_csv(tmp_path / "csv", ["x", "y"], [[n, "a,b\nc"] for n in numbers])
    rows = store.read_csv(tmp_path / "csv")
    assert [float(row["x"]) for row in rows] == numbers and rows[0]["y"] == "a,b\nc"


# --- damage ----------------------------------------------------------------------------------


READERS: dict[str, Callable[[Path], object]] = {
    "tensors": store.read_tensors,
    "info": store.read_info,
    "mask": read_mask,
    "state": read_state,
    "json": store.read_json,
}


@pytest.mark.parametrize("reader", READERS)
def test_files_that_cannot_be_read_are_told(tmp_path: Path, reader: str) -> None:
    path = tmp_path / "weights.safetensors"
    assert "no such file" in message(lambda: READERS[reader](path))
    for content in (b"", b"\0", b"\xff" * 100, b"{", b"\x08\0\0\0\0\0\0\0[1,2,3] "):
        path.write_bytes(content)
        assert f"{path}: damaged: " in message(lambda: READERS[reader](path))
    path.unlink()
    path.mkdir()
    assert str(path) in message(lambda: READERS[reader](path))


class Harmful:
    """Unpickling this would leave a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("writer", [pickle.dumps, torch.save])
def test_a_pickle_in_place_of_weights_is_refused_and_runs_nothing(
    tmp_path: Path, writer: Any
) -> None:
    trace, path = tmp_path / "trace", tmp_path / "weights.safetensors"
    if writer is torch.save:
        torch.save(Harmful(trace), path)
    else:
        path.write_bytes(pickle.dumps(Harmful(trace)))
    for reader in READERS.values():
        assert str(path) in message(lambda reader=reader: reader(path))
    assert not trace.exists()
    if writer is torch.save:
        torch.load(path, weights_only=False)
    else:
        pickle.loads(path.read_bytes())
    assert trace.exists()  # it was harmful indeed


def test_no_module_can_read_a_pickle() -> None:
    unsafe = {"pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            elif isinstance(node, ast.Attribute) and ast.unparse(node) in ("torch.load", "np.load"):
                call = [
                    c for c in ast.walk(ast.parse(path.read_text()))
                    if isinstance(c, ast.Call) and ast.unparse(c.func) == ast.unparse(node)
                ]  # fmt: skip
                for c in call:
                    assert "allow_pickle=False" in ast.unparse(c), f"{path}: {ast.unparse(c)}"
            assert not unsafe & {name.split(".")[0] for name in names}, path


# -- what a kill leaves ----------------------------------------------------------------------------


def killed(code: str, folder: Path) -> None:
    """Run Python that is killed as soon as it would flush a file, or says so itself."""
    kill = "import os, sys\nsys.stdout.flush()\nos.fsync = lambda file: os.kill(os.getpid(), 9)\n"
    done = subprocess.run([sys.executable, "-c", kill + code], cwd=folder, check=False)
    assert done.returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    "write",
    [
        "store.write_json(path, {})",
        "store.write_csv(path, ['x'], [[1]])",
        "import torch; store.write_tensors(path, {'x': torch.zeros(3)})",
        "(path.parent / 'other').write_text(''); store.put(path.parent / 'other', path, 0)",
    ],
)
def test_what_a_killed_writer_leaves_is_told_from_results_and_cleared(
    tmp_path: Path, write: str
) -> None:
    (tmp_path / "a").mkdir()
    place = "from pathlib import Path; path = Path('a/file.json').resolve()\n"
    killed(f"from pipeline.artifacts import store\n{place}{write}", tmp_path)
    left = [path for path in (tmp_path / "a").iterdir() if path.name != "other"]
    assert len(left) == 1 and left[0].name.startswith(".file.json.")
    store.clear_all(tmp_path, but=LOCK)
    assert not left[0].exists()


def test_a_report_that_was_being_rendered_is_told_from_results_and_cleared(tmp_path: Path) -> None:
    results = tmp_path / "results"
    root = write_study(tmp_path / "study")
    killed(
        "import subprocess\n"
        "from pathlib import Path\n"
        "from pipeline.report import archive\n"
        "from pipeline.study.config import read\n"
        "def render(command, check):\n"  # what Snakemake does, cut off
        "    Path(command[command.index('--report') + 1]).write_text('<html>')\n"
        "    os.kill(os.getpid(), 9)\n"
        "subprocess.run = render\n"
        f"config = read(Path({str(root)!r}), {{'results': {str(results)!r}}})\n"
        "archive.write_archive(config, config.results / 'tiny' / 'archive.html')\n",
        REPOSITORY,
    )
    (left,) = (results / "tiny").iterdir()
    assert left.suffix == ".html" and left.name.startswith(".archive.html.")
    store.clear_all(results, but=LOCK)
    assert not left.exists()


def test_nothing_but_what_is_being_written_is_cleared(tmp_path: Path) -> None:
    """Results, states of unfinished runs, locks; and whole folders whose run is locked."""
    names = {name for kind in STAGES.values() for name in kind.files}
    names |= {
        PROVENANCE,
        RESUME,
        ".trunk0003.safetensors",
        ".round02.safetensors",
        f"{'a' * 32}.json",
    }
    for name in names:
        (tmp_path / "free").mkdir(exist_ok=True)
        (tmp_path / "free" / name).write_text("x")
    locked = tmp_path / "locked"
    locked.mkdir()
    (locked / LOCK).write_text("{}")
    unfinished = store.temporary(locked / "weights.safetensors")
    unfinished.write_text("x")
    store.clear_all(tmp_path, but=LOCK)
    assert {path.name for path in (tmp_path / "free").iterdir()} == names
    assert unfinished.exists()
    store.clear(locked)
    assert {path.name for path in locked.iterdir()} == {LOCK}
