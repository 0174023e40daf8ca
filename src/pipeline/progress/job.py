"""What runs now: one small file per running job, a line per epoch in its log, the time left."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from pipeline.runs import Run

FOLDER = ".progress"


class Writer:
    """Reports one job's progress: to standard output (its log) and to a file others read."""

    def __init__(self, results: Path, run: Run) -> None:
        self._run = run
        name = sha256(f"{run.stage}/{run.key}".encode()).hexdigest()[:24]
        self._path = results / FOLDER / f"{name}.json"
        self._started = self._told = time.monotonic()
        self._write({})

    def epochs(self, last: int, round: int | None = None) -> Callable[[Mapping[str, object]], None]:
        """A callback for the rows of a training's history, of ``last`` epochs in all."""
        first: tuple[float, int] | None = None

        def report(row: Mapping[str, object]) -> None:
            nonlocal first
            epoch = row["epoch"]
            assert isinstance(epoch, int)
            now = time.monotonic()
            first = first or (now, epoch)
            began, at = first
            pace = (now - began) / (epoch - at) if epoch > at else None
            accuracy = row.get("test_accuracy")
            if accuracy is None:
                accuracy = row.get("train_accuracy")
            if now - self._told < 1 and epoch not in (at, last):
                return
            self._told = now
            left = "" if pace is None else f", {clock(pace * (last - epoch))} left"
            where = "" if round is None else f"round {round}, "
            loss = row.get("train_loss")
            text = "not finite" if loss is None else f"{loss:.4f}"
            shown = "" if accuracy is None else f", accuracy {accuracy:.2f} %"
            print(f"{where}epoch {epoch}/{last}: loss {text}{shown}{left}", flush=True)
            self._write({"epoch": epoch, "epochs": last, "round": round, "accuracy": accuracy})

        return report

    def step(self, done: int, total: int) -> None:
        """``done`` of ``total`` equal parts of a job that does not train."""
        now = time.monotonic()
        left = (now - self._started) / done * (total - done)
        print(f"{done}/{total}, {clock(left)} left", flush=True)
        self._write({"epoch": done, "epochs": total})

    def _write(self, facts: Mapping[str, object]) -> None:
        record = {
            "stage": self._run.stage, "key": self._run.key, "time": time.time(),
            "host": platform.node(), "pid": os.getpid(), **facts,
        }  # fmt: skip
        try:  # a hint for people: a disk that is full must not stop the run here
            self._path.parent.mkdir(parents=True, exist_ok=True)
            temporary = self._path.with_suffix(f".{os.getpid()}")
            temporary.write_text(json.dumps(record))
            temporary.replace(self._path)
        except OSError:
            pass

    def close(self) -> None:
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


class Silent(Writer):
    """Of a process that leaves the reporting to another one."""

    def __init__(self) -> None:
        self._started = self._told = time.monotonic()

    def epochs(self, last: int, round: int | None = None) -> Callable[[Mapping[str, object]], None]:
        """A callback that does nothing."""
        return lambda row: None

    def step(self, done: int, total: int) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def running(results: Path, within: float = 3600) -> list[dict[str, Any]]:
    """The jobs that run now: those that reported in the last ``within`` seconds, sorted by run.

    A job of this machine whose process has ended without a word (a kill, a power cut) is left out
    at once; of other machines' processes nothing is known but their reports.
    """
    found = []
    for path in (results / FOLDER).glob("*.json"):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            age = time.time() - float(record["time"])
            named = isinstance(record["stage"], str) and isinstance(record["key"], str)
        except (OSError, ValueError, KeyError, TypeError):
            continue  # half-written, or being replaced: the next look finds it
        if named and age < within and not _ended(record):
            found.append(record)
    return sorted(found, key=lambda record: (record["stage"], record["key"]))


def _ended(record: Mapping[str, object]) -> bool:
    """Whether a report is from a process of this machine that is no more."""
    pid = record.get("pid")
    if record.get("host") != platform.node() or not isinstance(pid, int) or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False


def clock(seconds: float) -> str:
    """Seconds for people: 42 s, 3:07, 2:05:00."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, rest = divmod(whole, 3600)
    minutes, whole = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{whole:02d}" if hours else f"{minutes}:{whole:02d}"


def until(seconds: float, now: float | None = None) -> str:
    """The time of day in ``seconds`` from now: 17:05, and with its date if that is not today."""
    now = time.time() if now is None else now
    then, today = time.localtime(now + seconds), time.localtime(now)
    same = (then.tm_year, then.tm_yday) == (today.tm_year, today.tm_yday)
    return time.strftime("%H:%M" if same else "%Y-%m-%d %H:%M", then)
