"""What runs now: one small file per running job, a line per epoch in its log, the time left."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

from pipeline.artifacts.store import temporary

FOLDER = ".progress"


#: Seconds between reports of steps, and between lines in the log of a job.
REPORT, LINE = 2.0, 1.0
#: Seconds of steps from which a job says how long it still takes.
MEASURED = 3.0


class Named(Protocol):
    """What a job is called by: a run, or a `Task`."""

    @property
    def stage(self) -> str:
        """The kind of job."""

    @property
    def key(self) -> str:
        """Which one of its kind."""


@dataclass(frozen=True)
class Task:
    """A job that is no run: the check of a data set, a table, the report."""

    stage: str
    key: str = ""


class Writer:
    """Reports one job's progress: to standard output (its log) and to a file others read."""

    def __init__(self, results: Path, job: Named) -> None:
        self._job = job
        name = sha256(f"{job.stage}/{job.key}".encode()).hexdigest()[:24]
        self._path = results / FOLDER / f"{name}.json"
        self._started = time.monotonic()
        self._write({})

    def training(
        self, last: int, *, round: int | None = None, batch: int = 0, begun: float = 0,
        total: float = 0,
    ) -> Course:  # fmt: skip
        """The course of a training of ``last`` epochs, with ``batch`` images a step.

        The job trains ``total`` epochs, ``begun`` of them in the rounds before this one.
        """
        return Course(self, last, round, batch, begun, total or last)

    def step(self, done: int, total: int) -> None:
        """``done`` of ``total`` equal parts of a job that does not train."""
        left = (time.monotonic() - self._started) / done * (total - done)
        self.tell(f"{done}/{total}, {clock(left)} left", epoch=done, epochs=total)

    def tell(self, text: str, **facts: object) -> None:
        """A line for the log, and what others read; the log gets none where the line is empty."""
        if text:
            print(text, flush=True)
        self._write(facts)

    def _write(self, facts: Mapping[str, object]) -> None:
        record = {
            "stage": self._job.stage, "key": self._job.key, "time": time.time(),
            "host": platform.node(), "pid": os.getpid(),
            "spent": round(time.monotonic() - self._started, 1), **facts,
        }  # fmt: skip
        with suppress(OSError):  # a hint for people: a full disk must not stop the run here
            self._path.parent.mkdir(parents=True, exist_ok=True)
            unfinished = temporary(self._path)
            unfinished.write_text(json.dumps(record))
            unfinished.replace(self._path)

    def close(self) -> None:
        """The job has ended."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


class Silent(Writer):
    """Of a process that leaves the reporting to another one."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    def tell(self, text: str, **facts: object) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


@dataclass
class Course:
    """What is told of a training: its epochs in the log, its steps to whoever watches."""

    writer: Writer
    last: int
    round: int | None
    batch: int
    begun: float
    total: float
    _began: tuple[float, int] | None = None
    _lined: float = 0.0
    _told: tuple[float, float] | None = None
    _first: tuple[float, float] | None = None
    _facts: dict[str, object] = field(default_factory=dict)

    def row(self, row: Mapping[str, object]) -> None:
        """A row of the training's history: an epoch is over."""
        epoch, now = row["epoch"], time.monotonic()
        assert isinstance(epoch, int)
        then, first = self._began = self._began or (now, epoch)
        accuracy = row.get("test_accuracy")
        if accuracy is None:
            accuracy = row.get("train_accuracy")
        self._facts = {
            "epoch": epoch, "epochs": self.last, "round": self.round, "accuracy": accuracy,
            "left": self._left(now, epoch), "share": (self.begun + epoch) / self.total,
            "images_per_second": self._facts.get("images_per_second"),
        }  # fmt: skip
        if now - self._lined < LINE and epoch not in (first, self.last):
            return
        self._lined = now
        loss = row.get("train_loss")
        text = "" if self.round is None else f"round {self.round}, "
        text += f"epoch {epoch}/{self.last}: loss "
        text += "not finite" if loss is None else f"{loss:.4f}"
        text += "" if accuracy is None else f", accuracy {accuracy:.2f} %"
        if epoch > first:
            text += f", {clock((now - then) / (epoch - first) * (self.last - epoch))} left"
        self.writer.tell(text, **self._facts)

    def step(self, epoch: int, step: int, steps: int) -> None:
        """``step`` of ``steps`` of the epoch after ``epoch`` whole ones were taken."""
        now = time.monotonic()
        if self._told is not None and now - self._told[0] < REPORT:
            return
        done = epoch + step / steps
        then, before = self._told or (now, done)
        self._first = self._first or (now, done)
        self._told = now, done
        speed = (done - before) * steps * self.batch / (now - then) if done > before else None
        self._facts |= {
            "epoch": epoch, "epochs": self.last, "round": self.round, "step": step, "steps": steps,
            "images_per_second": speed, "left": self._left(now, done),
            "share": (self.begun + done) / self.total,
        }  # fmt: skip
        self.writer.tell("", **self._facts)

    def _left(self, now: float, done: float) -> float | None:
        """Seconds until all epochs of the job are done, by the pace since its first steps."""
        began, first = self._first or (now, done)
        if now - began < MEASURED or done <= first:
            return None
        return (now - began) / (done - first) * (self.total - self.begun - done)


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
