"""Two workflows on the same results: the second is told, wherever it was started."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.artifacts.reservation import FOLDER, Reservation
from pipeline.errors import UserError

OWNER = """
import sys, time
from pathlib import Path
from pipeline.artifacts.reservation import Reservation
own = Reservation(Path(sys.argv[1]))
own.take({"data", "dense/0"}, {"sparse/1", "sparse/2"})
print("held", flush=True)
sys.stdin.readline()
own.give_back()
"""


@contextmanager
def workflow(results: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that reads data and a dense run, and makes two sparse runs."""
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(results)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdin and process.stdout
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("reads", "writes", "shared"),
    [
        ({"data"}, {"sparse/2", "sparse/3"}, "1 of these files, such as sparse/2"),  # both make
        ({"sparse/1", "sparse/2"}, {"table"}, "2 of these files, such as sparse/1"),
        (set(), {"dense/0"}, "1 of these files, such as dense/0"),  # makes what the other reads
    ],
)
def test_the_second_is_refused_in_one_line(
    tmp_path: Path, reads: set[str], writes: set[str], shared: str
) -> None:
    with workflow(tmp_path) as other:
        own = Reservation(tmp_path)
        with pytest.raises(UserError) as caught:
            own.take(reads, writes)
        text = str(caught.value)
        assert text.startswith(f"{tmp_path}: another workflow (") and "\n" not in text
        assert f"pid {other.pid}" in text and shared in text
        assert len([p for p in (tmp_path / FOLDER).iterdir() if p.is_dir()]) == 1


def test_workflows_on_other_files_may_run_side_by_side(tmp_path: Path) -> None:
    with workflow(tmp_path):
        own = Reservation(tmp_path)
        own.take({"data", "dense/0"}, {"sparse/3"})  # both only read data and dense/0
        assert not own.alone
        own.give_back()
        again = Reservation(tmp_path)
        again.take(set(), {"sparse/4"})
        again.give_back()


@pytest.mark.parametrize("end", ["kill", "well"])
def test_an_end_of_any_kind_frees_the_files(tmp_path: Path, end: str) -> None:
    with workflow(tmp_path) as other:
        if end == "kill":
            other.kill()
            other.wait()
        else:
            other.communicate("\n")
            assert other.returncode == 0
            assert not list((tmp_path / FOLDER).iterdir())
        own = Reservation(tmp_path)
        own.take({"data"}, {"sparse/1", "sparse/2"})
        assert own.alone
        own.give_back()
        assert not list((tmp_path / FOLDER).iterdir())


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("a file in the way")
    with pytest.raises(UserError, match="results: cannot be written: Not a directory"):
        Reservation(tmp_path / "results").take(set(), {"x"})
