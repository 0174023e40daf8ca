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
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

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
            and not any(part.startswith(".") for part in path.relative_to(results).parts)
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

    def hold(self, *patterns: str) -> Held:
        """Stop the first training of each pattern in mid-run, so that what follows meets it there."""
        return Held(self, patterns)

    def trainings(self) -> list[dict[str, Any]]:
        """Progress of the runs that train now and have done an epoch."""
        found = []
        for path in (self.folder / "results" / ".progress").glob("*.json"):
            try:
                record = json.loads(path.read_text())
            except (OSError, ValueError):
                continue
            if record.get("epoch"):
                found.append(record)
        return found


class Held(threading.Thread):
    """Watches for trainings and stops the first of each pattern (SIGSTOP); ends with its block."""

    def __init__(self, place: Workplace, patterns: tuple[str, ...]) -> None:
        super().__init__(daemon=True)
        self._place, self._open, self._end = place, set(patterns), threading.Event()
        self.records: dict[str, dict[str, Any]] = {}
        self.start()

    def run(self) -> None:
        while self._open and not self._end.wait(0.02):
            for record in self._place.trainings():
                name = f"{record['stage']}/{record['key']}"
                for pattern in [p for p in self._open if re.search(p, name)]:
                    with suppress(ProcessLookupError):
                        os.kill(record["pid"], signal.SIGSTOP)
                        self._open.remove(pattern)
                        self.records[pattern] = record

    def wait(self, pattern: str, seconds: float = 400) -> dict[str, Any]:
        """The stopped training of a pattern, as soon as there is one.

        Raises:
            TimeoutError: none in time.
        """
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if pattern in self.records:
                return self.records[pattern]
            time.sleep(0.02)
        raise TimeoutError(f"no training of {pattern} seen: {self._place.tail()}")

    def go_on(self, pattern: str) -> None:
        """Let a stopped training go on."""
        os.kill(self.records[pattern]["pid"], signal.SIGCONT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        self._end.set()
        self.join()
        for record in self.records.values():
            with suppress(ProcessLookupError):
                os.kill(record["pid"], signal.SIGCONT)


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
