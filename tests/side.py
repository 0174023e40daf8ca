"""Runs side by side as threads of this process, as a host has them."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Sequence

from pipeline.machine.baton import Baton, Seat
from pipeline.runs import Run
from pipeline.study.graph import Graph


def side_by_side(*works: Callable[[], object]) -> None:
    """Do works as runs of one process, and raise what one of them raises."""
    row, errors = Baton(), list[BaseException]()
    seats = [Seat(row, sys.stdout, sys.stderr) for _ in works]

    def sit(seat: Seat, work: Callable[[], object]) -> None:
        with seat.taken():
            try:
                work()
            except BaseException as error:
                errors.append(error)

    threads = [threading.Thread(target=sit, args=pair) for pair in zip(seats, works, strict=True)]
    row.take()
    for thread in threads:
        thread.start()
    row.give()
    for thread in threads:
        thread.join()
    for error in errors:
        raise error


def levels(graph: Graph, runs: Sequence[Run]) -> Iterator[list[Run]]:
    """Runs that nothing but those before them is needed for, of a list that is closed under needs."""
    left = list(runs)
    while left:
        ready = [
            run for run in left
            if not any(file.run in left for file in graph.inputs(run).values())
        ]  # fmt: skip
        yield ready
        left = [run for run in left if run not in ready]
