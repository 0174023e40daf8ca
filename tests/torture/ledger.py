"""What was trained, read from the ledger: attempts at each training, and what kills made them repeat."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path


@dataclass
class Attempt:
    """One process at one training; positions are steps since the network's initialisation."""

    run: str
    slot: int
    steps: int  # per epoch
    start: int
    times: list[float] = field(default_factory=list)

    @property
    def end(self) -> int:
        return self.start + len(self.times)

    @property
    def epochs(self) -> float:
        return len(self.times) / self.steps


@dataclass
class Loss:
    """Steps that an attempt did and the next one did again."""

    before: Attempt
    steps: int

    @property
    def epochs(self) -> float:
        return self.steps / self.before.steps

    @property
    def span(self) -> float:
        """Seconds from the end of the first lost step to that of the last but one.

        Whether a snapshot is due is looked at after each step. So this is less than the interval:
        had it been due after the last but one, that step would not be lost.
        """
        lost = self.before.times[len(self.before.times) - self.steps : -1]
        return lost[-1] - lost[0] if lost else 0.0


def read(path: Path, results: Path) -> dict[tuple[str, int], list[Attempt]]:
    """The attempts at each training (run and slot) in the order of their beginning."""
    found: dict[tuple[str, int], list[Attempt]] = defaultdict(list)
    loaded: dict[int, dict] = {}
    current: dict[int, Attempt] = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        event = json.loads(line)
        pid = event["pid"]
        if event["event"] == "train":
            current[pid] = Attempt("", 0, event["steps"], event["first"] * event["steps"])
        elif event["event"] == "load":
            loaded[pid] = event
        elif pid in current:  # else the step of a network that is tried in small
            attempt = current[pid]
            if not attempt.times:
                where = loaded[pid]
                attempt.run = str(Path(where["run"]).relative_to(results.resolve()))
                attempt.slot = where["slot"]
                if where["at"] is not None:
                    epoch, step = where["at"]
                    attempt.start = epoch * attempt.steps + step
                found[attempt.run, attempt.slot].append(attempt)
            attempt.times.append(event["time"])
    return dict(found)


def epochs(trainings: dict[tuple[str, int], list[Attempt]]) -> float:
    """Epochs executed over all attempts."""
    return sum(attempt.epochs for attempts in trainings.values() for attempt in attempts)


def losses(trainings: dict[tuple[str, int], list[Attempt]]) -> list[Loss]:
    """What was done twice, for every pair of attempts that follow each other."""
    return [
        Loss(before, before.end - after.start)
        for attempts in trainings.values()
        for before, after in pairwise(attempts)
    ]


def in_one_interval(trainings: dict[tuple[str, int], list[Attempt]], seconds: float) -> float:
    """The most epochs that any attempt did within an interval, the step that ends it included."""
    most = 0.0
    for attempts in trainings.values():
        for attempt in attempts:
            first = 0
            for last, time in enumerate(attempt.times):
                while time - attempt.times[first] >= seconds:
                    first += 1
                most = max(most, (last - first + 2) / attempt.steps)
    return most
