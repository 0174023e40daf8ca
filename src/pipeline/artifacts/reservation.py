"""One workflow at a time makes a file: what a running workflow reads and writes, on record.

Snakemake's own lock knows one working directory only, and outlives a killed process until
somebody removes it. Here two workflows meet wherever they were started, as long as they share the
results folder, and a dead one is in nobody's way.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from pipeline.artifacts.lock import LOCK, Held, Lock
from pipeline.artifacts.store import read_json, write_json, writing
from pipeline.errors import UserError

FOLDER, FILES = ".workflows", "files.json"


class Reservation:
    """The files of one workflow, from ``take`` to ``give_back`` or to the end of the process."""

    def __init__(self, results: Path) -> None:
        self._results, self._all = results, results / FOLDER
        self._mine = self._all / f"{platform.node()}-{os.getpid()}"
        self._lock = Lock(self._mine / LOCK)
        self.alone = True  #: whether no other workflow was running when this one started

    def take(self, reads: Collection[str], writes: Collection[str]) -> None:
        """Reserve files, paths as all workflows on these results call them.

        Raises:
            UserError: a workflow that still runs makes one of them, or reads one that this makes;
                or the results folder cannot be written.
        """
        # Two that start at once look one after the other.
        with writing(self._results), Lock(self._all / LOCK).held(wait=True):
            self._lock.acquire(wait=False)
            try:
                for other in self._all.iterdir():
                    if other.is_dir() and other != self._mine:
                        self._meet(other, set(reads), set(writes))
                write_json(self._mine / FILES, {"reads": sorted(reads), "writes": sorted(writes)})
            except UserError:
                self.give_back()
                raise

    def _meet(self, other: Path, reads: set[str], writes: set[str]) -> None:
        """Refuse if another workflow lives and its files meet these; remove what is left of a dead one."""
        lock = Lock(other / LOCK)
        try:
            lock.acquire(wait=False)
        except FileNotFoundError:
            return  # it has just ended
        except Held as held:
            try:
                found = read_json(other / FILES)
            except UserError:
                return  # it is about to end
            theirs = set(found["writes"])
            self.alone = False
            shared = sorted(theirs & (reads | writes) | set(found["reads"]) & writes)
            if shared:
                raise UserError(
                    f"{self._results}: another workflow ({held.who}) is working on {len(shared)} of "
                    f"these files, such as {shared[0]}; wait for its end, or stop it"
                ) from None
        else:
            shutil.rmtree(other, ignore_errors=True)
            lock.release()

    def give_back(self) -> None:
        """Others may make these files."""
        with suppress(OSError):
            (self._mine / FILES).unlink(missing_ok=True)
            self._lock.release()
            self._mine.rmdir()
