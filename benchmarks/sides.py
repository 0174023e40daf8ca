"""Two ways of doing the same work, each in processes of its own, measured in turns.

A side is one process or several. All of them do one unit of work at a time, when told to; the
throughput of a side is what its processes did together, divided by the time of the slowest.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

#: Makes the work of a process: prepares, then returns what one unit does.
Make = Callable[..., Callable[[], object]]


@dataclass(frozen=True)
class Way:
    """How one side works: what, with which arguments, in how many processes of which environment."""

    make: Make
    arguments: Mapping[str, Any]
    processes: int
    environment: Mapping[str, str]


@dataclass(frozen=True)
class Pairs:
    """Seconds of both sides of every pair, and the most memory that one process of each held."""

    conventional: list[float]
    own: list[float]
    conventional_mb: float
    own_mb: float

    @property
    def ratios(self) -> list[float]:
        return [a / b for a, b in zip(self.conventional, self.own, strict=True)]

    @property
    def ratio(self) -> float:
        """Median over the pairs: how many times as much the own way does in the same time."""
        return statistics.median(self.ratios)

    @property
    def spread(self) -> tuple[float, float]:
        return min(self.ratios), max(self.ratios)


def _serve(pipe: Connection, make: Make, arguments: Mapping[str, Any]) -> None:
    work = make(**arguments)
    work()  # warms up
    pipe.send(None)
    while pipe.recv():
        start = time.perf_counter()
        work()
        seconds = time.perf_counter() - start
        pipe.send((seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


class Side:
    """The processes of one way, waiting for work."""

    def __init__(self, way: Way) -> None:
        context = multiprocessing.get_context("spawn")
        before = dict(os.environ)
        os.environ.update(way.environment)  # read at the start of a process
        try:
            self._pipes, self._processes = [], []
            for _ in range(way.processes):
                mine, theirs = context.Pipe()
                process = context.Process(target=_serve, args=(theirs, way.make, way.arguments))
                process.start()
                theirs.close()
                self._pipes.append(mine)
                self._processes.append(process)
        finally:
            os.environ.clear()
            os.environ.update(before)
        for pipe in self._pipes:
            pipe.recv()

    def work(self) -> tuple[float, float]:
        """Seconds per unit of work (several processes do several in that time), and MB."""
        for pipe in self._pipes:
            pipe.send(True)
        found = [pipe.recv() for pipe in self._pipes]
        return max(seconds for seconds, _ in found) / len(found), max(mb for _, mb in found)

    def close(self) -> None:
        for pipe in self._pipes:
            pipe.send(False)
        for process in self._processes:
            process.join()


@contextmanager
def _open(way: Way) -> Iterator[Side]:
    side = Side(way)
    try:
        yield side
    finally:
        side.close()


def alone(way: Way, times: int = 3) -> tuple[float, float]:
    """Seconds per unit of work, the median of ``times``, and MB of one way by itself."""
    with _open(way) as side:
        found = [side.work() for _ in range(times)]
    return statistics.median(seconds for seconds, _ in found), max(mb for _, mb in found)


def compare(conventional: Way, own: Way, pairs: int) -> Pairs:
    """Measure both in turns, the one that goes first changing from pair to pair."""
    seconds: tuple[list[float], list[float]] = ([], [])
    memory = [0.0, 0.0]
    with _open(conventional) as first, _open(own) as second:
        for number in range(pairs):
            for index in (0, 1) if number % 2 == 0 else (1, 0):
                one, mb = (first, second)[index].work()
                seconds[index].append(one)
                memory[index] = max(memory[index], mb)
    return Pairs(seconds[0], seconds[1], memory[0], memory[1])
