"""One writer at a time: a lock on a folder, among processes and among nodes.

The kernel's lock (flock) decides among the processes of a node, and among nodes where the shared
file system carries it (NFS does; Lustre only where mounted with ``flock``). For the others the
owner also writes a growing count into the file. Who gets the kernel's lock on a file that another
node signed watches the count: while it grows, the owner lives. No clocks are compared.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import platform
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.errors import UserError

#: Name of the lock in a folder.
LOCK = ".lock"
#: Seconds between counts, between looks at a lock that is held, and without a count until an
#: owner on another node is taken for dead.
BEAT, LOOK, PATIENCE = 15.0, 1.0, 60.0
RECORD = 400
_NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)


class Held(UserError):
    """Another process has the lock; ``who`` says which, as far as it is known."""

    def __init__(self, folder: Path, who: str) -> None:
        super().__init__(f"{folder}: another process is working on this run ({who})")
        self.who = who


class Lock:
    """The lock file at ``path``, held from ``acquire`` to ``release`` or to the end of the process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: int | None = None
        self._end = threading.Event()
        self._me: Mapping[str, object] = {
            "host": platform.node(), "pid": os.getpid(), "job": os.environ.get("SLURM_JOB_ID")
        }  # fmt: skip

    def acquire(self, wait: bool) -> bool:
        """Make the folder and take the lock; returns whether another process had it first.

        ``wait``: as long as it takes (a Slurm job's time limit is the bound), or not at all.

        Raises:
            Held: another process holds it and ``wait`` is false.
            OSError: the file cannot be written.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        waited = False
        while (file := self._try()) is None:
            owner = self._read()
            who = ", ".join(f"{name} {owner[name]}" for name in self._me if owner.get(name))
            if not wait:
                raise Held(self.path.parent, who or "unknown")
            if not waited:
                print(f"waiting for the process that works on this run: {who}", flush=True)
            waited = True
            time.sleep(LOOK)
        self._file = file
        self._sign(0)
        threading.Thread(target=self._count, daemon=True).start()
        return waited

    @contextmanager
    def held(self, wait: bool) -> Iterator[None]:
        """Hold the lock for a while; as ``acquire``."""
        self.acquire(wait)
        try:
            yield
        finally:
            self.release()

    def release(self) -> None:
        """Remove the file and give the lock back."""
        self._end.set()
        if self._file is not None:
            if self._mine(self._read()):
                self.path.unlink(missing_ok=True)
            os.close(self._file)
            self._file = None

    def _try(self) -> int | None:
        """The file, locked for this process; None while another one owns it."""
        file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        decided = True
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                os.close(file)
                raise
            decided = False
        # The last owner may have removed the file between our opening and locking it.
        try:
            same = os.fstat(file).st_ino == self.path.stat().st_ino
        except FileNotFoundError:
            same = False
        if same and not self._owned(decided):
            return file
        os.close(file)
        return None

    def _owned(self, decided: bool) -> bool:
        """Whether the process that signed the file still counts in it, or has just removed it.

        ``decided``: the kernel has answered for this node's processes.
        """
        before = self._read()
        if not before or (decided and before.get("host") == self._me["host"]):
            return False
        if before.get("job") and before["job"] == self._me["job"]:
            return False  # this job, before it was requeued
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            time.sleep(LOOK)
            if self._read() != before:
                return True
        return False

    def _read(self) -> dict[str, object]:
        # Opened anew each time: a network file system then asks its server what is new.
        try:
            record = json.loads(self.path.read_bytes())
        except (OSError, ValueError):
            return {}
        return record if isinstance(record, dict) else {}

    def _mine(self, record: Mapping[str, object]) -> bool:
        return all(record.get(name) == value for name, value in self._me.items())

    def _sign(self, count: int) -> None:
        assert self._file is not None
        # One write of a fixed length: readers see the old record or the new one.
        text = json.dumps({**self._me, "count": count}).ljust(RECORD)
        with suppress(OSError):  # a full disk shows where results are written
            os.pwrite(self._file, text.encode(), 0)
            os.fsync(self._file)

    def _count(self) -> None:
        count = 0
        while not self._end.wait(BEAT):
            owner = self._read()
            if owner and not self._mine(owner):
                # Stopped for so long that another process took over: it must stay the only one.
                print("error: another process took over this run", file=sys.stderr, flush=True)
                os._exit(1)
            count += 1
            self._sign(count)
