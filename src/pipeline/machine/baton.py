"""Several runs in one process, a thread each: the one that holds the baton computes, the others wait.

A run holds it from its start to its end, and hands it on after every step, so what a step changes in
the process and sets right again (how products are rounded, warnings, a recording) no other run sees.
The device goes on meanwhile: each run launches its work on a stream of its own.

In a process of its own a run has no baton, and nothing here does anything.
"""

from __future__ import annotations

import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

Handler = Callable[[int, Any], None]


class Baton:
    """Held by one thread at a time, and handed to the one that has waited longest."""

    def __init__(self) -> None:
        self._own = threading.Lock()
        self._held = False
        self._waiting: deque[threading.Lock] = deque()

    def take(self) -> None:
        """Wait for it."""
        with self._own:
            if not self._held:
                self._held = True
                return
            turn = threading.Lock()
            turn.acquire()
            self._waiting.append(turn)
        turn.acquire()

    def give(self) -> None:
        """Hand it to the next."""
        with self._own:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._held = False


class Ended(BaseException):
    """A signal, ``number``, that ends a process has come to a run that is not one."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Seat:
    """What a run of such a process has that others have of their process: output, signals, and what
    it has said and need not say again.
    """

    def __init__(self, baton: Baton, output: TextIO, errors: TextIO) -> None:
        self.baton, self.stdout, self.stderr = baton, output, errors
        self.handlers: dict[int, Handler] = {}
        self.said = set[str]()
        self._ending = 0

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Inside, this thread is the run, and holds the baton."""
        _here.seat = self
        self.baton.take()
        try:
            yield
        finally:
            self.baton.give()
            _here.seat = None

    def signal(self, number: int) -> None:
        """A signal to the run: for its handler, else its end when its turn comes."""
        handler = self.handlers.get(number)
        if handler is not None:
            handler(number, None)
        else:
            self._ending = number

    def hand_on(self) -> None:
        """Let all others have their turn."""
        self.baton.give()
        self.baton.take()
        if self._ending:
            raise Ended(self._ending)


_here = threading.local()


def seat() -> Seat | None:
    """The seat of the run that this thread is; None in a process of its own."""
    found: Seat | None = getattr(_here, "seat", None)
    return found


def hand_on() -> None:
    """A step of a run is done: the others take theirs.

    Raises:
        Ended: a signal to the run has come that it does not handle.
    """
    if mine := seat():
        mine.hand_on()


@contextmanager
def aside() -> Iterator[None]:
    """Inside, others compute: for what waits or reads files, and changes nothing in the process.

    Not where a lock is held that another run may wait for with the baton in its hand.
    """
    mine = seat()
    if mine:
        mine.baton.give()
    try:
        yield
    finally:
        if mine:
            mine.baton.take()


@contextmanager
def handling(number: int, handler: Handler) -> Iterator[None]:
    """Inside, ``handler`` gets the run's signals of this number, unless its process ignores them."""
    mine = seat()
    if mine is None:
        before = signal.getsignal(number)
        if before != signal.SIG_IGN:
            signal.signal(number, handler)
    else:
        mine.handlers[number] = handler
    try:
        yield
    finally:
        if mine is None:
            signal.signal(number, before)
        else:
            del mine.handlers[number]
