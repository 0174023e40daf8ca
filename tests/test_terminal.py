"""Terminals, logs and locales that are not UTF-8: every text is shown, with marks for what cannot be."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from small import REPOSITORY, write_study

from pipeline.study.call import begin

#: What a terminal of another encoding sets, and a machine without any locale.
TERMINALS = [
    {"PYTHONIOENCODING": "latin-1"},
    {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
]
COMMANDS = [
    ("reference",),
    ("--help",),
    ("table", "--help"),
    ("plan", "--study", "tiny"),
    ("table", "table_digits_half", "--partial", "--study", "demo"),
    ("show", "results/dense/digits/resnet20-w0.5/dense-digits/seed0", "--study", "demo"),
    ("trace", "results/dense/digits/resnet20-w0.5/dense-digits/seed0", "--study", "demo"),
]


def python(*words: str, **variables: str) -> subprocess.CompletedProcess[bytes]:
    free = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "LANG", "PYTHON"))}
    return subprocess.run(
        [sys.executable, *words], cwd=REPOSITORY, capture_output=True, check=False, timeout=120,
        env=free | {"PYTHONPATH": str(REPOSITORY / "src")} | variables,
    )  # fmt: skip


@cache
def plain(command: tuple[str, ...]) -> str:
    """What a command says where everything can be shown."""
    return python("-m", "pipeline", *command, PYTHONIOENCODING="utf-8").stdout.decode()


@pytest.mark.parametrize("terminal", TERMINALS, ids=lambda t: "-".join(t.values()))
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_ends_well_on_any_terminal(
    command: tuple[str, ...], terminal: dict[str, str]
) -> None:
    done = python("-m", "pipeline", *command, **terminal)
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
    full = plain(command)
    encoding = terminal.get("PYTHONIOENCODING", "ascii")
    assert done.stdout == full.encode(encoding, errors="replace")


@pytest.mark.parametrize("terminal", TERMINALS, ids=lambda t: "-".join(t.values()))
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_what_a_job_prints_into_its_log_does_not_end_it(
    terminal: dict[str, str], stream: str
) -> None:
    """Letters that the encoding lacks, and the name of a file that is no text."""
    shown = "'a' + chr(0x3C0) + chr(0xDCFF)"
    before = "import sys\nfrom pipeline.cli import main\nfrom pipeline.errors import UserError\n"
    done = python("-c", f"{before}main(lambda: print({shown}, file=sys.{stream}))", **terminal)
    assert done.returncode == 0 and getattr(done, stream) == b"a??\n"
    wrong = f"def job(): raise UserError({shown})\n"
    done = python("-c", f"{before}{wrong}main(job)", **terminal)
    assert done.returncode == 1 and done.stderr == b"error: a??\n"


def test_jobs_of_a_workflow_write_utf_8_whatever_the_terminal_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONUTF8", "unset")  # so that it is put back
    monkeypatch.delenv("PYTHONUTF8")
    monkeypatch.setenv("PIPELINE_CONFIG", "unset")
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    root = write_study(tmp_path)
    monkeypatch.chdir(root)
    begin(root, {})
    code = "print('\u03c0')"
    assert "PYTHONIOENCODING" not in os.environ  # which would count for more
    done = python("-c", code, LC_ALL="C", PYTHONUTF8=os.environ["PYTHONUTF8"])
    assert done.stdout == "\u03c0\n".encode()


def test_files_are_read_and_written_in_utf_8_wherever_the_program_does_so() -> None:
    """Without an encoding, Python takes that of the terminal."""
    done = python(
        "-X", "warn_default_encoding", "-W", "error::EncodingWarning", "-m", "pipeline", "reference"
    )
    assert done.returncode == 0, done.stderr.decode()[-500:]
