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

from pipeline.artifacts.store import temporary
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
        began: tuple[float, int] | None = None

        def report(row: Mapping[str, object]) -> None:
            nonlocal began
            epoch, now = row["epoch"], time.monotonic()
            assert isinstance(epoch, int)
            then, first = began = began or (now, epoch)
            if now - self._told < 1 and epoch not in (first, last):
                return
            self._told = now
            accuracy = row.get("test_accuracy")
            if accuracy is None:
                accuracy = row.get("train_accuracy")
            loss = row.get("train_loss")
            text = "" if round is None else f"round {round}, "
            text += f"epoch {epoch}/{last}: loss "
            text += "not finite" if loss is None else f"{loss:.4f}"
            text += "" if accuracy is None else f", accuracy {accuracy:.2f} %"
            if epoch > first:
                text += f", {clock((now - then) / (epoch - first) * (last - epoch))} left"
            self._tell(text, epoch=epoch, epochs=last, round=round, accuracy=accuracy)

        return report

    def step(self, done: int, total: int) -> None:
        """``done`` of ``total`` equal parts of a job that does not train."""
        left = (time.monotonic() - self._started) / done * (total - done)
        self._tell(f"{done}/{total}, {clock(left)} left", epoch=done, epochs=total)

    def _tell(self, text: str, **facts: object) -> None:
        print(text, flush=True)
        self._write(facts)

    def _write(self, facts: Mapping[str, object]) -> None:
        record = {
            "stage": self._run.stage, "key": self._run.key, "time": time.time(),
            "host": platform.node(), "pid": os.getpid(), **facts,
        }  # fmt: skip
        with suppress(OSError):  # a hint for people: a full disk must not stop the run here
            self._path.parent.mkdir(parents=True, exist_ok=True)
            unfinished = temporary(self._path)
            unfinished.write_text(json.dumps(record))
            unfinished.replace(self._path)

    def close(self) -> None:
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


class Silent(Writer):
    """Of a process that leaves the reporting to another one."""

    def __init__(self) -> None:
        self._started = self._told = time.monotonic()

    def _tell(self, text: str, **facts: object) -> None:
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
    except (OSError, OverflowError) as error:
        return isinstance(error, ProcessLookupError)
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
