"""What processes of this machine hand each other by a socket: a value as JSON, and open files."""

from __future__ import annotations

import array
import json
import os
import signal
import socket
import struct
from collections.abc import Sequence
from typing import Any

#: Signals to a job that go to whatever works for it.
PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
#: How a job ended, as ``waitpid`` says it.
STATUS = struct.Struct("i")
_LENGTH = struct.Struct("i")


def hand(to: socket.socket, value: object, files: Sequence[int]) -> None:
    """Send a value, and these descriptors as files that the other process then has, too."""
    content = json.dumps(value, ensure_ascii=True).encode()
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))]
    to.sendmsg([_LENGTH.pack(len(content))], rights)
    to.sendall(content)


def taken(source: socket.socket, count: int) -> tuple[Any, tuple[int, ...]] | None:
    """What ``hand`` sent with so many files, as descriptors of this process; None of what is none.

    Raises:
        ValueError: no JSON.
        OSError: the connection broke.
    """
    files = array.array("i")
    head, rights, *_ = source.recvmsg(_LENGTH.size, socket.CMSG_SPACE(count * files.itemsize))
    for _, kind, data in rights:
        if kind == socket.SCM_RIGHTS:
            files.frombytes(data[: len(data) - len(data) % files.itemsize])
    content: Any = None
    try:
        if len(head) == _LENGTH.size and len(files) == count:
            content = json.loads(received(source, _LENGTH.unpack(head)[0]))
    finally:
        if content is None:
            for number in files:
                os.close(number)
    return None if content is None else (content, tuple(files))


def received(source: socket.socket, count: int) -> bytes:
    """So many bytes; fewer at the end of the connection."""
    found = b""
    while len(found) < count and (part := source.recv(count - len(found))):
        found += part
    return found


def end_with(parent: int, number: int = signal.SIGKILL) -> None:
    """Ask the kernel for a signal when the parent of this process ends: SIGKILL, for a fork."""
    import ctypes

    set_death_signal = 1  # PR_SET_PDEATHSIG of prctl(2)
    prctl = getattr(ctypes.CDLL(None), "prctl", None)  # Linux has it
    if prctl is not None:
        prctl(set_death_signal, number)
    if os.getppid() != parent:  # it was too late to ask
        os._exit(128 + number)
