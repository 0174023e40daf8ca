"""How long a workflow still takes: what was expected of its jobs, put right by what they took."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

#: An expectation counts as much as this part of a job that was measured.
PRIOR = 0.25


@dataclass(frozen=True)
class Work:
    """What is expected of a job: seconds on ``cores`` processors, once the jobs ``needs`` are done.

    Jobs of one ``kind`` are expected wrongly by one factor: those of one network, and all others.
    """

    seconds: float
    kind: str = ""
    needs: tuple[str, ...] = ()
    cores: int = 1


@dataclass(frozen=True)
class Running:
    """What is known of a job that runs: its share from 0 to 1, seconds spent, and left by its own word."""

    spent: float
    share: float = 0.0
    left: float | None = None


class Left:
    """Time left of jobs by name, on ``cores`` processors."""

    def __init__(self, jobs: Mapping[str, Work], cores: int) -> None:
        self._jobs, self._cores = dict(jobs), max(1, cores)
        self._took: dict[str, float | None] = {}

    def finished(self, name: str, seconds: float | None) -> None:
        """A job is done; None: how long it took is not known."""
        self._took[name] = seconds

    def seconds(self, running: Mapping[str, Running]) -> float:
        """Seconds until the last job is done.

        No less than all work shared out evenly, nor than the longest chain of jobs that wait for
        each other.
        """
        factors = self._factors(running)
        rest = {
            name: self._rest(work.seconds * factors[work.kind], running.get(name))
            for name, work in self._jobs.items()
            if name not in self._took
        }
        work = sum(seconds * self._jobs[name].cores for name, seconds in rest.items())
        return max(work / self._cores, self._longest(rest))

    def share(self, running: Mapping[str, Running]) -> float:
        """The share of the work that is done, from 0 to 1."""
        factors = self._factors(running)
        whole = done = 0.0
        for name, work in self._jobs.items():
            size = work.seconds * factors[work.kind] * work.cores
            whole += size
            if name in self._took:
                done += size
            elif name in running:
                done += size * running[name].share
        return done / whole if whole else 1.0

    def _factors(self, running: Mapping[str, Running]) -> Mapping[str, float]:
        """Of each kind, how much longer its jobs take than expected; of all where none was seen."""
        took: dict[str, float] = defaultdict(float)
        expected: dict[str, float] = defaultdict(float)
        for name, seconds in self._took.items():
            if seconds is not None:
                took[self._jobs[name].kind] += seconds
                expected[self._jobs[name].kind] += self._jobs[name].seconds
        for name, one in running.items():
            if one.left is not None and name in self._jobs and name not in self._took:
                weight = min(1.0, 4 * one.share)
                took[self._jobs[name].kind] += weight * (one.spent + one.left)
                expected[self._jobs[name].kind] += weight * self._jobs[name].seconds
        sizes: dict[str, list[float]] = defaultdict(list)
        for work in self._jobs.values():
            sizes[work.kind].append(work.seconds)
        named = [kind for kind in sizes if kind]
        prior = PRIOR * _mean(seconds for kind in named for seconds in sizes[kind])
        whole = _ratio(sum(took[k] for k in named), sum(expected[k] for k in named), prior, 1.0)
        return {
            kind: _ratio(took[kind], expected[kind], PRIOR * _mean(own), whole if kind else 1.0)
            for kind, own in sizes.items()
        }

    @staticmethod
    def _rest(expected: float, running: Running | None) -> float:
        if running is None:
            return expected
        if running.left is not None:
            return running.left
        rest = expected * (1 - running.share)
        # What has outlasted its expectation may well take a while longer.
        return rest if running.share else max(rest - running.spent, running.spent / 4)

    def _longest(self, rest: Mapping[str, float]) -> float:
        """Seconds of the longest chain of jobs of which each waits for the one before."""
        ends: dict[str, float] = {}
        for name in rest:
            stack = [name]
            while stack:
                top = stack[-1]
                waits = [other for other in self._jobs[top].needs if other in rest]
                unknown = [other for other in waits if other not in ends]
                if unknown and top not in ends:
                    stack += unknown
                else:
                    last = max((ends[other] for other in waits), default=0.0)
                    ends[stack.pop()] = last + rest[top]
        return max(ends.values(), default=0.0)


def _ratio(took: float, expected: float, prior: float, factor: float) -> float:
    """``took`` by ``expected``, with ``prior`` seconds of an expectation that is ``factor`` off."""
    return (took + prior * factor) / (expected + prior) if expected + prior else factor


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found) if found else 0.0
