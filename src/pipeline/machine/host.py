"""Jobs of one GPU as threads of one process, a host: `pipeline.machine.baton` says how they share it.

The warm server has a host for each GPU, a fork that starts CUDA with its first job. To the host it
hands over what a job has handed to it: words, files, and the connection by which signals come and
the status goes back. A job whose host ends before it runs in its own process, as one without a
server does; the host is then started anew for the jobs that follow.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NoReturn, TextIO, cast

from pipeline.machine.baton import Baton, Ended, Seat, seat
from pipeline.machine.gpu_slots import LEVELS, VISIBLE
from pipeline.machine.handing import PASSED_ON, STATUS, end_with, hand, taken


@dataclass(frozen=True)
class Work:
    """The jobs that share a process, by the words of their calls.

    ``gpus``: a host is started for each; "" is the CPU. ``shares(words)``: whether a job is for a
    host. ``run(words)`` does it, and ends as a script does. ``sound()``: whether the process can go
    on computing after a job's failure.
    """

    gpus: Sequence[str]
    shares: Callable[[Sequence[str]], bool]
    run: Callable[[Sequence[str]], None]
    sound: Callable[[], bool]


# --- the server ------------------------------------------------------------------------------------


@dataclass
class _Host:
    """One host: how it is spoken to, its process, and its jobs by what is closed at their ends."""

    socket: socket.socket
    process: int
    end: int
    jobs: set[int] = field(default_factory=set)
    used: bool = False


class Hosts:
    """The hosts of a server; ``let_go`` closes, in a fork, what is the server's alone."""

    def __init__(self, work: Work, poll: select.poll, let_go: Callable[[], None]) -> None:
        self._work, self._poll, self._let_go = work, poll, let_go
        self._hosts: dict[str, _Host] = {}
        for gpu in work.gpus:
            self._start(gpu)

    @property
    def busy(self) -> bool:
        """Whether a host has a job."""
        return any(host.jobs for host in self._hosts.values())

    def take(self, words: Sequence[str], files: Sequence[int], connection: socket.socket) -> bool:
        """Hand a job to the host that has the fewest; false where it needs a process of its own."""
        if not self._hosts or not self._work.shares(words):
            return False
        host = min(self._hosts.values(), key=lambda each: len(each.jobs))
        read, write = os.pipe()
        os.set_blocking(read, False)
        try:
            hand(host.socket, words, [*files, connection.fileno(), write])
        except OSError:  # it has just ended
            os.close(read)
            return False
        finally:
            os.close(write)
        host.jobs.add(read)
        host.used = True
        self._poll.register(read, select.POLLIN)
        return True

    def heard(self, source: int) -> bool:
        """The end of a job, or of a host, which is started anew; whether ``source`` says either."""
        for gpu, host in self._hosts.items():
            if source in host.jobs:
                with suppress(BlockingIOError):  # what was heard was of another with its number
                    os.read(source, 1)
                    host.jobs.remove(source)
                    self._poll.unregister(source)
                    os.close(source)
                return True
            if source == host.end:
                os.waitpid(host.process, 0)
                self._poll.unregister(source)
                os.close(source)
                host.socket.close()
                del self._hosts[gpu]
                if host.used:  # else it would end again
                    self._start(gpu).jobs |= host.jobs
                return True
        return False

    def let_go(self) -> None:
        """In a fork: close what is the server's alone."""
        for host in self._hosts.values():
            host.socket.close()
            for number in (host.end, *host.jobs):
                os.close(number)

    def _start(self, gpu: str) -> _Host:
        ours, theirs = socket.socketpair()
        server = os.getpid()
        signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)
        process = os.fork()
        if process == 0:
            end_with(server)
            for number in PASSED_ON:  # to the whole group: the jobs have them, and pass them on
                signal.signal(number, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
            ours.close()
            self._let_go()
            self.let_go()
            if gpu:
                os.environ[VISIBLE] = gpu
            _Hosting(theirs, self._work).loop()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
        theirs.close()
        self._hosts[gpu] = _Host(ours, process, os.pidfd_open(process))
        self._poll.register(self._hosts[gpu].end, select.POLLIN)
        return self._hosts[gpu]


# --- a host ----------------------------------------------------------------------------------------


class _Streams:
    """Standard output or errors: those of the run that writes."""

    def __init__(self, name: str, other: TextIO) -> None:
        self._name, self._other = name, other

    def __getattr__(self, name: str) -> object:
        return getattr(getattr(seat(), self._name, self._other), name)


class _Hosting:
    """The process whose threads are jobs; its first thread listens, and computes nothing."""

    def __init__(self, server: socket.socket, work: Work) -> None:
        self._server, self._work, self._baton = server, work, Baton()
        self._seats: dict[int, tuple[socket.socket, Seat]] = {}
        self._poll = select.poll()
        self._poll.register(server, select.POLLIN)
        # A thread that is used again knows the algorithms that cuDNN has found fast in it.
        self._threads = ThreadPoolExecutor(LEVELS)
        sys.stdout = cast(TextIO, _Streams("stdout", sys.stdout))
        sys.stderr = cast(TextIO, _Streams("stderr", sys.stderr))

    def loop(self) -> NoReturn:
        """Until the server ends."""
        try:
            while True:
                for source, _ in self._poll.poll():
                    if source == self._server.fileno():
                        self._begin()
                    else:
                        self._pass_on(source)
        finally:
            os._exit(1)

    def _begin(self) -> None:
        """Start a job."""
        found = taken(self._server, 5)
        if found is None:
            os._exit(0)
        words, (given, output, errors, number, end) = found
        os.close(given)
        connection = socket.socket(fileno=number)
        connection.setblocking(True)  # the server had given it a limit
        encoding = sys.__stdout__.encoding if sys.__stdout__ else "utf-8"
        told = Seat(
            self._baton, os.fdopen(output, "w", encoding=encoding, errors="replace"),
            os.fdopen(errors, "w", 1, encoding=encoding, errors="replace"),
        )  # fmt: skip
        self._seats[number] = connection, told
        self._poll.register(number, select.POLLIN)
        self._threads.submit(self._job, words, told, connection, end)

    def _pass_on(self, source: int) -> None:
        """Signals to a job reach its run; the end of a job ends it."""
        connection, told = self._seats[source]
        try:
            found = connection.recv(64)
        except OSError:
            found = b""
        for number in found or bytes([signal.SIGKILL]):
            told.signal(number)
        if not found:
            self._poll.unregister(source)
            del self._seats[source]
            connection.close()

    def _job(
        self, words: Sequence[str], told: Seat, connection: socket.socket, end: int
    ) -> None:  # fmt: skip
        """Run a job, and say how it ended."""
        answer = b""  # after which a job runs by itself
        try:
            with told.taken():
                with warnings.catch_warnings():  # what is warned of once is so in each run
                    pass
                answer = STATUS.pack(self._ran(words, told))
                gc.collect()  # the device's memory with what only cycles hold
        finally:
            for file in (told.stdout, told.stderr):
                with suppress(OSError):
                    file.close()
            with suppress(OSError):  # the job may have gone
                connection.sendall(answer)
                connection.shutdown(socket.SHUT_RDWR)
            os.close(end)

    def _ran(self, words: Sequence[str], told: Seat) -> int:
        try:
            self._work.run(words)
        except SystemExit as done:
            return (done.code if isinstance(done.code, int) else int(bool(done.code))) << 8
        except Ended as signalled:
            return signalled.number
        except BaseException:
            if not self._work.sound():
                os._exit(1)  # all jobs go on from their saved states, each in its own process
            traceback.print_exc(file=told.stderr)
            return 1 << 8
        return 0
