"""A copy of the workflow in a folder of its own: runs Snakemake there and compares what it left."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
COPIED = (
    "Snakefile",
    "config.yaml",
    "config",
    "workflow",
    "profiles",
    "slurm",
    "node",
    "environment.yml",
)
#: What is not part of a payload: time, host, and what only shows progress.
VOLATILE = ("provenance.json", ".log", ".tsv", ".pdf", ".png", ".svg")


class Workplace:
    """A folder with the workflow, its results, and one controller at a time."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.environment = {
            name: value for name, value in os.environ.items()
            if not name.startswith(("SLURM_", "PIPELINE_"))
        } | environment  # fmt: skip
        beside = str(Path(sys.executable).parent)
        self.environment["PATH"] = f"{beside}:{self.environment['PATH']}"
        folder.mkdir(parents=True)
        for name in COPIED:
            source = ROOT / name
            copy = shutil.copytree if source.is_dir() else shutil.copy2
            copy(source, folder / name)
        self.log = folder / "controller.log"

    def start(self, *words: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start a command here in a session of its own; its output goes to ``log``."""
        with self.log.open("ab") as log:
            return subprocess.Popen(
                words, cwd=self.folder, env=self.environment | environment, stdout=log, stderr=log,
                stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip

    def run(self, *words: str, seconds: float, **environment: str) -> int:
        """Run a command here; its exit status, or 124 when it took too long."""
        return finish(self.start(*words, **environment), seconds)

    def output(self, *words: str, seconds: float = 60) -> str:
        """Standard output of a command that is run here."""
        done = subprocess.run(
            words, cwd=self.folder, env=self.environment, capture_output=True, text=True,
            timeout=seconds, check=True,
        )  # fmt: skip
        return done.stdout

    def tail(self, characters: int = 1500) -> str:
        """The end of the controller's log, for a failed check."""
        return self.log.read_text(errors="replace")[-characters:] if self.log.exists() else ""

    # -- results ---------------------------------------------------------------------------

    def payloads(self) -> dict[str, str]:
        """SHA-256 of every result that must not depend on where it was made."""
        results = self.folder / "results"
        return {
            str(path.relative_to(results)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(results.rglob("*"))
            if path.is_file() and not path.name.endswith(VOLATILE)
            and not path.relative_to(results).parts[0].startswith(".")
        }  # fmt: skip

    def differences(self, other: Workplace) -> list[str]:
        """Names of the results that differ from another folder's, or that only one has."""
        mine, theirs = self.payloads(), other.payloads()
        return [name for name in sorted(mine | theirs) if mine.get(name) != theirs.get(name)]

    def provenance(self) -> dict[str, dict[str, Any]]:
        """The volatile record of every run, by the run's folder."""
        results = self.folder / "results"
        return {
            str(path.parent.relative_to(results)): json.loads(path.read_text())
            for path in sorted(results.rglob("provenance.json"))
        }

    def training(self, pattern: str, seconds: float = 200) -> dict[str, Any]:
        """The progress record of a run that matches and has trained an epoch, as soon as there is one.

        Raises:
            TimeoutError: none in time.
        """
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for path in (self.folder / "results" / ".progress").glob("*.json"):
                try:
                    record = json.loads(path.read_text())
                except (OSError, ValueError):
                    continue
                name = f"{record['stage']}/{record['key']}"
                if record.get("epoch") and re.search(pattern, name):
                    return dict(record)
            time.sleep(0.02)
        raise TimeoutError(f"no training of {pattern} seen: {self.tail()}")


def finish(process: subprocess.Popen[bytes], seconds: float) -> int:
    """Wait for a process that ``start`` began; ended with its group when it takes too long."""
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return 124
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of a process's group."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return
    process.wait(10)
