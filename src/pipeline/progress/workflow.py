"""Progress of a whole workflow: jobs done, what runs now, when it will end."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline import runs
from pipeline.cli import STOPPED
from pipeline.errors import UserError
from pipeline.progress.job import clock, running, until
from pipeline.progress.left import Left, Running, Work

#: Seconds between looks in a terminal, where one line is drawn again and again.
LOOK = 1.0
#: Seconds before the next of the lines in a file; the last one goes on.
PACE = (4.0, 10.0, 20.0, 30.0, 60.0)
BAR = 10
#: Columns from which a terminal has room for all that lines in a file say.
WIDE = 160


@dataclass
class Expected:
    """A job that will run: the file that says it is done, and what it is expected to take.

    ``name``: stage and key by which it reports itself; ``log``: where it writes.
    """

    output: Path
    work: Work
    log: Path | None = None
    name: tuple[str, str] = ("", "")
    before: int | None = field(init=False)
    log_before: int | None = field(init=False)
    began: float | None = None

    def __post_init__(self) -> None:
        # Compared with what was there and not with the clock: a file server has its own.
        self.before, self.log_before = _changed(self.output), _changed(self.log)

    @property
    def done(self) -> bool:
        return _changed(self.output) not in (None, self.before)

    @property
    def begun(self) -> bool:
        return _changed(self.log) not in (None, self.log_before)


class Watch:
    """Tells how far a workflow is until it is stopped.

    In a terminal one line is drawn again and again; in a file there are plain lines, ever more
    slowly.
    """

    def __init__(self, results: Path) -> None:
        self._results = results
        self._open: dict[str, Expected] = {}
        self._total = self._done = 0
        self._left = Left({}, 1)
        self._end = threading.Event()
        self._began = time.time()
        self._drawing = threading.Lock()
        self._drawn = False

    def expect(self, *jobs: Expected) -> None:
        """More jobs that will run."""
        self._open |= {str(job.output): job for job in jobs}
        self._total = len(self._open)

    def start(self, cores: int, unit: str = "cores", basis: str = "") -> None:
        """Begin to tell; on ``cores`` processors, or so many jobs at a time; ``basis`` of the time."""
        self.plan(cores)
        if self._total:
            jobs = f"{self._total} job{'' if self._total == 1 else 's'}"
            unit = unit.removesuffix("s") if cores == 1 else unit
            self._say(f"{jobs}, about {clock(self._left.seconds({}))} on {cores} {unit}{basis}")
            threading.Thread(target=self._run, daemon=True).start()

    def plan(self, cores: int) -> None:
        """What is to be done, from now on."""
        self._left = Left({name: job.work for name, job in self._open.items()}, cores)
        self._began = time.time()

    def stop(self, fine: bool) -> None:
        """The end, and each job that failed with its reason."""
        self._end.set()
        if self._total:
            self.look()
            spent = clock(time.time() - self._began)
            errors = "" if fine else ", with errors"
            self._say(f"{self._done} of {self._total} jobs done in {spent}{errors}")
            failed = [] if fine else list(self._reasons())
            for log, why in failed[:MOST]:
                self._say(f"failed: {why}; log: {log}")
            if len(failed) > MOST:
                self._say(f"and {len(failed) - MOST} more")

    def clear(self) -> None:
        """Take the drawn line away, for what another has to say."""
        with self._drawing:
            self._clear()

    def _clear(self) -> None:
        if self._drawn:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
            self._drawn = False

    def _run(self) -> None:
        alive = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        pace = iter(PACE)
        wait = LOOK if alive else next(pace)
        # A file server is not asked for thousands of files every second.
        while not self._end.wait(max(wait, len(self._open) / 1000)):
            self.look()
            if alive:
                self._draw()
            else:
                self._say(self.line())
                wait = next(pace, wait)

    def _draw(self) -> None:
        share = self._left.share(self._running())
        bar = "█" * round(BAR * share)
        width = shutil.get_terminal_size().columns - 1
        text = f"{bar:░<{BAR}} {self.line(brief=width < WIDE)}"[:width]
        with self._drawing:
            if not self._end.is_set():
                print(f"\r{text}\033[K", end="", file=sys.stderr, flush=True)
                self._drawn = True

    def look(self) -> None:
        """See what has begun and what is done."""
        now = time.time()
        for name, job in list(self._open.items()):
            if job.began is None and job.begun:
                job.began = now
            if job.done:
                del self._open[name]
                self._done += 1
                self._left.finished(name, None if job.began is None else now - job.began)

    def saved(self) -> bool:
        """Whether each of these was ended by a signal: saved, or with nothing to save yet."""
        return all(why.startswith(ASKED) for _, why in self._reasons())

    def _reasons(self) -> Iterator[tuple[Path, str]]:
        """Of each job that began and has no result its log, and why."""
        for job in self._open.values():
            if job.log and job.begun:
                yield job.log, reason(job.log)

    def line(self, brief: bool = False) -> str:
        """Jobs done, share of the work, time left, and what runs now; ``brief``: in few words."""
        going = self._running()
        share = min(self._left.share(going), 0.99 if self._open else 1.0)
        left = max(self._left.seconds(going), 1.0)
        text = f"{self._done}/{self._total} jobs, {100 * share:.0f} %, "
        text += f"{clock(left)} left" if brief else f"about {clock(left)} left, until {until(left)}"
        now = self._reports()
        text += f"; now {describe(now[0], brief=brief)}" if now else ""
        return text + (f" and {len(now) - 1} more" if len(now) > 1 else "")

    def _reports(self) -> list[dict[str, Any]]:
        """What the jobs of this workflow say of themselves, those that go on longest first."""
        mine = {job.name for job in self._open.values()}
        found = [one for one in running(self._results) if (one["stage"], one["key"]) in mine]
        return sorted(found, key=lambda one: -(_number(one, "left") or 0.0))

    def _running(self) -> dict[str, Running]:
        """What is known of the jobs that run, by their outputs."""
        now = time.time()
        names = {job.name: name for name, job in self._open.items() if job.name != ("", "")}
        found = {
            name: Running(now - job.began)
            for name, job in self._open.items()
            if job.began is not None
        }
        for record in self._reports():
            spent = _number(record, "spent") or 0.0
            name = names[(record["stage"], record["key"])]
            found[name] = Running(spent, share(record), _number(record, "left"))
        return found

    def _say(self, text: str) -> None:
        with self._drawing:
            self._clear()
            print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def _number(record: dict[str, Any], name: str) -> float | None:
    """A number of a report that may be anything."""
    value = record.get(name)
    return float(value) if isinstance(value, int | float) and 0 <= value < 1e12 else None


#: The most failed jobs that are listed at the end.
MOST = 20
#: What is said of a job that left no reason.
WORDLESS = "it ended without a word, perhaps killed"
#: How jobs end that a signal has ended, the last before they took Ctrl-C themselves.
ASKED = (STOPPED, WORDLESS, "KeyboardInterrupt")


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
    if (whole := _number(record, "share")) is not None:
        return min(whole, 1.0)
    epoch, epochs = record.get("epoch"), record.get("epochs")
    if not isinstance(epoch, int) or not isinstance(epochs, int) or epochs <= 0:
        return 0.0
    return min(max(epoch / epochs, 0.0), 1.0)


#: Seconds of silence after which a job's line says so.
SILENT = 300.0


def describe(record: dict[str, Any], host: bool = False, brief: bool = False) -> str:
    """What a running job does: its run, epoch i of T, the accuracy so far; ``host``: and where.

    ``brief``: without the network and its recipe.
    """
    try:
        run = runs.parse(record["stage"], record["key"])
        text = run.what if brief else run.words
    except (UserError, KeyError):  # a run of another version of this program
        kind = "check of data set" if record["stage"] == "data" else record["stage"]
        text = f"{kind} {record['key']}".rstrip()
    if record.get("round"):
        text += f", round {record['round']}"
    if record.get("epochs"):
        text += f", {record['epoch']}/{record['epochs']}"
    if record.get("steps"):
        text += f", step {record.get('step')}/{record['steps']}"
    if speed := _number(record, "images_per_second"):
        text += f", {speed:,.0f} images/s"
    accuracy = record.get("accuracy")
    text += f", {accuracy:.2f} %" if isinstance(accuracy, float) else ""
    text += f", on {record['host']}" if host and record.get("host") else ""
    silent = time.time() - record["time"] if isinstance(record.get("time"), float) else 0.0
    text += f", silent for {clock(silent)}" if silent > SILENT else ""
    return _printable(text)
