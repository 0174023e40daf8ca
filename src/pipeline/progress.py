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

from pipeline.artifacts.keys import Run

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


def running(results: Path, within: float = 3600) -> list[dict[str, object]]:
    """The jobs that reported in the last ``within`` seconds, oldest first."""
    found = []
    for path in (results / FOLDER).glob("*.json"):
        try:
            record = json.loads(path.read_text())
        except (OSError, ValueError):
            continue
        if time.time() - record.get("time", 0) < within:
            found.append(record)
    return sorted(found, key=lambda record: (record["stage"], record["key"]))


def clock(seconds: float) -> str:
    """Seconds for people: 42 s, 3:07, 2:05:00."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, rest = divmod(whole, 3600)
    minutes, whole = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{whole:02d}" if hours else f"{minutes}:{whole:02d}"
