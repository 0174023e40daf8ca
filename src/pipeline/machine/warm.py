"""Jobs of this machine start from a warm process: a fork of it, in place of Python and torch anew.

A workflow starts one server, which has imported all that jobs import and computed nothing. A job
finds it by a socket, hands over its arguments, folder, environment and open files, passes signals
on, and ends as its fork ends; server and forks are of the workflow's process group. Nothing is
served that a process of its own would do otherwise: not in another environment, and not once a file
of the program has changed. Then, without a server, and when it has ended before the job, the job
runs in its own process. Trainings that share a GPU are handed on to a host (`pipeline.machine.host`).

The server ends with its workflow, and its forks end with it and with their jobs, after a kill too.
"""

from __future__ import annotations

import gc
import math
import os
import secrets
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from pipeline.cli import heeded
from pipeline.machine.handing import PASSED_ON, STATUS, end_with, hand, received, taken

if TYPE_CHECKING:
    from pipeline.machine.host import Hosts, Work

#: Where jobs find the server.
PLACE = "PIPELINE_SERVER"
#: The word by which a script is told to serve, and the descriptors of its socket and its workflow.
SERVE = "--serve"
#: What Snakemake sets for the shell of a job, to its number of threads.
THREADS = (
    "OMP_NUM_THREADS", "GOTO_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS", "NUMEXPR_NUM_THREADS",
)  # fmt: skip
#: One of each, as trainings have them: they set the compute threads of their recipe themselves.
ONE_THREAD = dict.fromkeys(THREADS, "1")
#: The process of the launcher, for those that it starts.
LAUNCHER = "PIPELINE_LAUNCHER"
#: What torchrun tells each process of a run of several, beside more about itself.
_TOLD = {
    "RANK", "LOCAL_RANK", "GROUP_RANK", "ROLE_RANK", "ROLE_NAME", "WORLD_SIZE", "LOCAL_WORLD_SIZE",
    "GROUP_WORLD_SIZE", "ROLE_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", LAUNCHER,
    "TORCH_NCCL_ASYNC_ERROR_HANDLING",
}  # fmt: skip
_OF_TORCHRUN = "TORCHELASTIC_"
#: What may differ between the environments of the server and of a job, since nothing reads it before
#: a job does: this, what shells and terminals write, Snakemake's folder for temporary files, and
#: which study it is.
_FREE = _TOLD | {
    "_", "PWD", "OLDPWD", "SHLVL", "LINES", "COLUMNS", "TMP", "TEMP", "TEMPDIR", "TMPDIR",
    "PIPELINE_CONFIG", PLACE,
}  # fmt: skip
#: Seconds within which a signal to the group and to a job is one.
_ONCE = 1.0
#: Seconds in which a job that has connected must have said what it wants.
_PATIENCE = 10
_CREDENTIALS = struct.Struct("3i")


# --- the workflow ----------------------------------------------------------------------------------


class Server:
    """The server of a workflow, while that lives."""

    def __init__(self, script: Path) -> None:
        place = f"pipeline-{os.getpid()}-{secrets.token_hex(8)}"
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(_address(place))
            listening.listen(128)
            # Closed when this process ends, however it does.
            read, self._alive = os.pipe()
            os.environ[PLACE] = place
            number = listening.fileno()
            self._process = subprocess.Popen(
                ["python", str(script), SERVE, str(number), str(read)], pass_fds=(number, read),
                env=os.environ | ONE_THREAD, stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            os.close(read)

    def stop(self) -> None:
        """End it, after the last job."""
        os.environ.pop(PLACE, None)
        os.close(self._alive)
        self._process.wait()


def start(script: Path) -> Server | None:
    """Start a server for the jobs that call ``script``; None where it cannot be: it needs Linux."""
    if sys.platform != "linux" or PLACE in os.environ:
        return None
    return Server(script)


def _address(place: str) -> bytes:
    """A name of no file, which is gone with the socket; whoever knows it is asked who he is."""
    return b"\0" + place.encode()


def several(environment: Mapping[str, str]) -> bool:
    """Whether torchrun has started the process of this environment: one of several of a run."""
    return "RANK" in environment and "WORLD_SIZE" in environment


# --- a job -----------------------------------------------------------------------------------------


def ask() -> int | None:
    """Run this process's call by the server; its status, or None where it has to run by itself."""
    place = os.environ.get(PLACE)
    if not place:
        return None
    with socket.socket(socket.AF_UNIX) as server:
        try:
            server.connect(_address(place))
            if _peer(server)[1] != os.getuid():
                return None
            with _passed_on(server):
                _send(server)
                answer = received(server, STATUS.size)
        except OSError:
            return None
    if len(answer) < STATUS.size:
        return None
    (status,) = STATUS.unpack(answer)
    if os.WIFSIGNALED(status):
        signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
        os.kill(os.getpid(), os.WTERMSIG(status))
    return os.waitstatus_to_exitcode(status)


def _send(server: socket.socket) -> None:
    hand(server, [sys.argv, str(Path.cwd()), dict(os.environ), _mask()], (0, 1, 2))


def _mask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextmanager
def _passed_on(server: socket.socket) -> Iterator[None]:
    """Signals to this process go to the fork that works for it."""

    def send(number: int, frame: FrameType | None) -> None:
        del frame
        server.send(bytes([number]))

    before = {number: signal.signal(number, send) for number in heeded(PASSED_ON)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _peer(other: socket.socket) -> tuple[int, int, int]:
    """Process, user and group of users behind a connection."""
    found = other.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    process, user, group = _CREDENTIALS.unpack(found)
    return process, user, group


# --- the server ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Call:
    """What a job hands over, its standard files as descriptors of this process."""

    files: tuple[int, ...]
    words: list[str]
    folder: str
    environment: dict[str, str]
    mask: int

    @property
    def several(self) -> bool:
        """Whether it is that of one of several processes of a run."""
        return several(self.environment)


def serve(prepare: Callable[[], Work | None]) -> None:
    """Serve, as ``SERVE`` in the arguments says, until the workflow ends; returns in forks alone.

    A fork has the arguments, folder, environment and standard files of its job, and goes on in the
    script as a process of its own would. ``prepare`` imports what jobs import; it must not compute.
    It gives the work of which several jobs share a process, if there is such.
    """
    listening = socket.socket(fileno=int(sys.argv[2]))
    workflow = int(sys.argv[3])
    for number in heeded(PASSED_ON):
        signal.signal(number, lambda *_: None)
    work = prepare()
    gc.collect()
    gc.freeze()
    _Serving(listening, workflow, _files(), work).loop()


def _files() -> dict[str, int]:
    """The files of this program, and when they were changed."""
    places = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    own = str(Path(__file__).parents[1])
    names = [name for name in places if name and (name.startswith(own) or name == sys.argv[0])]
    return {name: Path(name).stat().st_mtime_ns for name in names}


class _Fork(Exception):
    """This process is a fork."""


class _Serving:
    """Jobs by their connection: the process that works for each."""

    def __init__(
        self, listening: socket.socket, workflow: int, files: dict[str, int],
        work: Work | None = None,
    ) -> None:  # fmt: skip
        self._listening, self._workflow, self._files = listening, workflow, files
        self._environment, self._here = _compared(dict(os.environ)), (str(Path.cwd()), _mask())
        self._seen = dict.fromkeys(map(int, PASSED_ON), -math.inf)
        for number in heeded(PASSED_ON):
            signal.signal(number, self._see)
        self._forks: dict[socket.socket, int] = {}
        self._ends: dict[int, socket.socket] = {}
        self._poll = select.poll()
        for source in (listening.fileno(), workflow):
            self._poll.register(source, select.POLLIN | select.POLLHUP)
        self._hosts = self._start(work) if work else None

    def _start(self, work: Work) -> Hosts:
        from pipeline.machine.host import Hosts

        return Hosts(work, self._poll, self._let_go)

    def _see(self, number: int, frame: FrameType | None) -> None:
        """A signal to the whole group: it is for the jobs, and forks have it, too."""
        del frame
        self._seen[number] = time.monotonic()

    def loop(self) -> None:
        """Until the workflow has ended and its last job; returns in a fork at once."""
        alive, hosts = True, self._hosts
        connections: dict[int, socket.socket] = {}
        while alive or self._forks or (hosts and hosts.busy):
            for source, _ in self._poll.poll():
                if hosts and hosts.heard(source):
                    continue
                if source == self._workflow:
                    alive = False
                    self._poll.unregister(source)
                    self._poll.unregister(self._listening)
                    self._listening.close()
                elif source in self._ends:
                    self._reap(source, connections)
                elif source in connections:
                    self._pass_on(connections[source], connections)
                elif alive and source == self._listening.fileno():
                    connection, _ = self._listening.accept()
                    try:
                        self._begin(connection, connections)
                    except _Fork:
                        return
                    except (OSError, ValueError):
                        connection.close()
        os._exit(0)

    def _begin(self, connection: socket.socket, connections: dict[int, socket.socket]) -> None:
        """Fork for a job, or refuse it."""
        process, user, _ = _peer(connection)
        if user != os.getuid():
            raise ValueError("another user")
        connection.settimeout(_PATIENCE)
        found = taken(connection, 3)
        call = _Call(found[1], *found[0]) if found else None
        if call is None or not self._same(call, process) or self._hosted(call, connection):
            for number in call.files if call else ():
                os.close(number)
            connection.close()
            return
        server = os.getpid()
        signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)
        process = os.fork()
        if process == 0:
            _become(call, server)
            connection.close()
            self._let_go()
            if self._hosts:
                self._hosts.let_go()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
            raise _Fork
        signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
        for number in call.files:
            os.close(number)
        connection.setblocking(False)
        end = os.pidfd_open(process)
        self._forks[connection], self._ends[end] = process, connection
        connections[connection.fileno()] = connection
        self._poll.register(end, select.POLLIN)
        self._poll.register(connection, select.POLLIN | select.POLLHUP)

    def _let_go(self) -> None:
        """In a fork: close what is the server's alone."""
        for other in (*self._forks, self._listening):
            other.close()
        for number in (*self._ends, self._workflow):
            os.close(number)

    def _hosted(self, call: _Call, connection: socket.socket) -> bool:
        """Whether a host has taken the job: one that is where the server is."""
        if self._hosts is None or call.several or (call.folder, call.mask) != self._here:
            return False
        return self._hosts.take(call.words, call.files, connection)

    def _same(self, call: _Call, process: int) -> bool:
        """Whether the job's own process would be as this one is, signals to its group included.

        One of several of a run is in a group of its own, and passes on what its launcher sends it.
        """
        script, own = Path(call.words[0]), Path(sys.argv[0])
        if os.getpgid(process) != os.getpgrp() and not call.several:
            return False
        if _compared(call.environment) != self._environment or script.parent != own.parent:
            return False
        try:
            return all(Path(name).stat().st_mtime_ns == at for name, at in self._files.items())
        except OSError:
            return False

    def _pass_on(self, connection: socket.socket, connections: dict[int, socket.socket]) -> None:
        """Signals to a job reach its fork; the end of a job ends it."""
        try:
            found = connection.recv(64)
        except BlockingIOError:
            return
        except OSError:
            found = b""
        for number in found or bytes([signal.SIGKILL]):
            if time.monotonic() - self._seen.get(number, -math.inf) > _ONCE:
                os.kill(self._forks[connection], number)  # not reaped yet: the number is its own
        if not found:
            self._poll.unregister(connection)
            del connections[connection.fileno()]

    def _reap(self, end: int, connections: dict[int, socket.socket]) -> None:
        """The end of a fork is that of its job."""
        connection = self._ends.pop(end)
        self._poll.unregister(end)
        os.close(end)
        _, status = os.waitpid(self._forks.pop(connection), 0)
        if connections.pop(connection.fileno(), None) is not None:
            self._poll.unregister(connection)
            with suppress(OSError):  # it may have gone
                connection.setblocking(True)
                connection.send(STATUS.pack(status))
        connection.close()


def _compared(environment: dict[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in environment.items()
        if name not in _FREE and not name.startswith(_OF_TORCHRUN)
    }


def _become(call: _Call, server: int) -> None:
    """Be the process that a job would be: what a fork does first."""
    end_with(server)
    for each in heeded(PASSED_ON):
        usual = signal.default_int_handler if each == signal.SIGINT else signal.SIG_DFL
        signal.signal(each, usual)
    for target, number in enumerate(call.files):
        os.dup2(number, target)
        os.close(number)
    _reopen()
    os.chdir(call.folder)
    os.umask(call.mask)
    os.environ.clear()
    os.environ.update(call.environment)
    tempfile.tempdir = None
    sys.argv[:] = call.words


def _reopen() -> None:
    """Text streams for the standard files, which may be pipes or terminals as the server's are not."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        before = getattr(sys, name)
        stream = open(  # noqa: SIM115 (for as long as the process lives)
            number, "w" if number else "r", encoding=before.encoding, errors=before.errors,
            closefd=False,
        )  # fmt: skip
        lines = not before.write_through and (name == "stderr" or stream.isatty())
        stream.reconfigure(line_buffering=lines, write_through=before.write_through)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
