"""Progress of a whole workflow: jobs done, what runs now, when it will end."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

from pipeline.progress import clock, running

#: Seconds between lines; the first comes sooner.
INTERVAL, FIRST = 10.0, 4.0


class Watch:
    """Prints a line every few seconds until stopped; plain text, fit for a terminal and a log."""

    def __init__(self, results: Path) -> None:
        self._results = results
        self._open: dict[Path, float] = {}
        self._total = self._done = 0
        self._work = self._finished = 0.0
        self._end = threading.Event()
        self._began = time.time()

    def expect(self, output: str | None, seconds: float) -> None:
        """One more job: the file that says it is done, and what it is expected to take."""
        if output is not None:
            self._total += 1
            self._work += seconds
            self._open[Path(output)] = seconds

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
            self._say(
                f"{self._done} of {self._total} jobs done in {spent}"
                + ("" if fine else ", with errors")
            )

    def _run(self) -> None:
        wait = FIRST
        while not self._end.wait(wait):
            self._count()
            self._say(self.line())
            wait = INTERVAL

    def _count(self) -> None:
        for output, seconds in list(self._open.items()):
            try:
                done = output.stat().st_mtime >= self._began - 1
            except OSError:
                continue
            if done:
                del self._open[output]
                self._done += 1
                self._finished += seconds

    def line(self) -> str:
        """Jobs done, share of the work, time left, and what runs now."""
        now = running(self._results)
        begun = sum(_share(record) for record in now)
        average = self._work / self._total
        finished = min(self._finished + begun * average, 0.999 * self._work)
        spent = time.time() - self._began
        left = (
            self._work / self._cores - spent
            if finished <= 0
            else spent * (self._work / finished - 1)
        )
        share = 100 * finished / self._work
        text = f"{self._done}/{self._total} jobs, {share:.0f} %, about {clock(max(left, 1))} left"
        if now:
            text += f"; now {describe(now[0])}" + (
                f" and {len(now) - 1} more" if len(now) > 1 else ""
            )
        return text

    @staticmethod
    def _say(text: str) -> None:
        print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def _share(record: dict[str, object]) -> float:
    epoch, epochs = record.get("epoch"), record.get("epochs")
    return epoch / epochs if isinstance(epoch, int) and isinstance(epochs, int) and epochs else 0.0


def describe(record: dict[str, object]) -> str:
    """What a running job does: its run, epoch i of T, and the accuracy so far."""
    text = f"{record['stage']} {record['key']}"
    if record.get("round"):
        text += f", round {record['round']}"
    if record.get("epochs"):
        text += f", {record['epoch']}/{record['epochs']}"
    accuracy = record.get("accuracy")
    return text + (f", {accuracy:.2f} %" if isinstance(accuracy, float) else "")
