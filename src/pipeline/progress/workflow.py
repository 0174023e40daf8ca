"""Progress of a whole workflow: jobs done, what runs now, when it will end."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import runs
from pipeline.cli import STOPPED
from pipeline.errors import UserError
from pipeline.progress.job import clock, running, until

#: Seconds between lines; the first comes sooner.
INTERVAL, FIRST = 10.0, 4.0


class Watch:
    """Prints a line every few seconds until stopped; plain text, fit for a terminal and a log."""

    def __init__(self, results: Path) -> None:
        self._results = results
        self._open: dict[Path, _Expected] = {}
        self._total = self._done = 0
        self._work = self._finished = 0.0
        self._end = threading.Event()
        self._began = time.time()

    def expect(self, output: str | None, seconds: float, log: str | None = None) -> None:
        """One more job: the file that says it is done, what it is expected to take, its log."""
        if output is not None:
            self._total += 1
            self._work += seconds
            path, written = Path(output), Path(log) if log else None
            self._open[path] = _Expected(seconds, _changed(path), written, _changed(written))

    def start(self, cores: int, unit: str = "cores") -> None:
        self._cores = cores
        self._began = time.time()
        if self._total:
            estimate = clock(self._work / cores)
            self._say(f"{self._total} jobs, about {estimate} on {cores} {unit}")
            threading.Thread(target=self._run, daemon=True).start()

    def stop(self, fine: bool) -> None:
        self._end.set()
        if self._total:
            self._count()
            spent = clock(time.time() - self._began)
            errors = "" if fine else ", with errors"
            self._say(f"{self._done} of {self._total} jobs done in {spent}{errors}")
            failed = [] if fine else list(self._reasons())
            for log, why in failed[:MOST]:
                self._say(f"failed: {why}; log: {log}")
            if len(failed) > MOST:
                self._say(f"and {len(failed) - MOST} more")

    def _run(self) -> None:
        wait = FIRST
        while not self._end.wait(wait):
            self._count()
            self._say(self.line())
            wait = INTERVAL

    def _count(self) -> None:
        for output, job in list(self._open.items()):
            # Compared with what was there and not with the clock: a file server has its own.
            if _changed(output) not in (None, job.before):
                del self._open[output]
                self._done += 1
                self._finished += job.seconds

    def saved(self) -> bool:
        """Whether each of these was ended by SIGTERM: saved, or with nothing to save yet."""
        return all(why.startswith((STOPPED, WORDLESS)) for _, why in self._reasons())

    def _reasons(self) -> Iterator[tuple[Path, str]]:
        """Of each job that began and has no result its log, and why."""
        for job in self._open.values():
            if job.log and _changed(job.log) not in (None, job.log_before):
                yield job.log, reason(job.log)

    def line(self) -> str:
        """Jobs done, share of the work, time left, and what runs now."""
        now = running(self._results)
        finished = min(self._finished + self._begun(now), 0.999 * self._work)
        spent = time.time() - self._began
        # How much longer jobs take than expected: what was measured so far, held back by the
        # expectation until a twentieth of the work has spoken.
        trust = self._work / 20
        pace = (spent * self._cores + trust) / (finished + trust)
        left = self._work / self._cores - spent
        if finished:
            left = (self._work - finished) / self._cores * pace
        text = f"{self._done}/{self._total} jobs, {100 * finished / self._work:.0f} %, "
        if left > 0:
            text += f"about {clock(max(left, 1))} left, until {until(left)}"
        else:  # nothing has ended that would tell how wrong the estimate was
            text += "slower than estimated"
        text += f"; now {describe(now[0])}" if now else ""
        return text + (f" and {len(now) - 1} more" if len(now) > 1 else "")

    def _begun(self, now: list[dict[str, Any]]) -> float:
        """Expected seconds of what running jobs have done of themselves."""
        expected = {output.parent: job.seconds for output, job in self._open.items()}
        done = 0.0
        for record in now:
            with suppress(UserError):  # a run of another version of this program
                run = runs.parse(record["stage"], record["key"])
                done += share(record) * expected.get(self._results / run.folder, 0.0)
        return done

    @staticmethod
    def _say(text: str) -> None:
        print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class _Expected:
    """A job: expected seconds, and when its first output and its log were changed before it ran."""

    seconds: float
    before: int | None
    log: Path | None
    log_before: int | None


#: The most failed jobs that are listed at the end.
MOST = 20
#: What is said of a job that left no reason.
WORDLESS = "it ended without a word, perhaps killed"


def reason(log: Path) -> str:
    """Why a job ended, in one line, from its log: its own last words, or that it left none."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        return f"no reason known, its log cannot be read ({error.strerror})"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    last = _printable(lines[-1])[:400] if lines else ""
    if last.startswith(("error: ", STOPPED)) or "Traceback" in text:
        return last.removeprefix("error: ")
    return WORDLESS + (f"; its last line: {last}" if last else "")


def _printable(text: str) -> str:
    """What others wrote must not move a terminal's cursor."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _changed(path: Path | None) -> int | None:
    """When a file was last changed, in nanoseconds of its own server's clock; None without it."""
    with suppress(OSError):
        return path.stat().st_mtime_ns if path else None
    return None


def share(record: dict[str, Any]) -> float:
    """How much of a running job is done, from 0 to 1."""
    epoch, epochs = record.get("epoch"), record.get("epochs")
    if not isinstance(epoch, int) or not isinstance(epochs, int) or epochs <= 0:
        return 0.0
    return min(max(epoch / epochs, 0.0), 1.0)


#: Seconds of silence after which a job's line says so.
SILENT = 300.0


def describe(record: dict[str, Any], host: bool = False) -> str:
    """What a running job does: its run, epoch i of T, the accuracy so far; ``host``: and where."""
    try:
        text = runs.parse(record["stage"], record["key"]).words
    except (UserError, KeyError):  # a run of another version of this program
        text = f"{record['stage']} {record['key']}"
    if record.get("round"):
        text += f", round {record['round']}"
    if record.get("epochs"):
        text += f", {record['epoch']}/{record['epochs']}"
    accuracy = record.get("accuracy")
    text += f", {accuracy:.2f} %" if isinstance(accuracy, float) else ""
    text += f", on {record['host']}" if host and record.get("host") else ""
    silent = time.time() - record["time"] if isinstance(record.get("time"), float) else 0.0
    text += f", silent for {clock(silent)}" if silent > SILENT else ""
    return _printable(text)
