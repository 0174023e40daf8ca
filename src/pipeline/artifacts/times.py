"""Times of files, set right by what is on record.

Snakemake compares times where files are large: a copy without times, or a touch, would train again
what is there. Here content decides. Where an input is newer than what was made from it, and is
just what the run has read, the run and all before it get the times of their records back.
"""

from __future__ import annotations

import calendar
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from pipeline.artifacts.record import Record, Records
from pipeline.artifacts.slices import Wanted


class Times:
    """The times of a results folder's runs."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._restored: set[str] = set()

    def settle(self, run: Wanted, closure: Callable[[], Sequence[Wanted]]) -> None:
        """Set right what would run ``run`` again for times alone; ``closure``: all before it, and it.

        Its record must be one of today's settings. Nothing changes where an input is not what the
        run has read: it runs again, and says so.
        """
        record = self._records.record_of(run.folder)
        oldest = min(map(_time, self._made(run)), default=None)
        if record is None or oldest is None:
            return
        newer = [path for path in self._read(run) if _time(path) > oldest]
        if newer and all(self._same(record, path) for path in newer):
            with suppress(OSError):  # of another owner: Snakemake goes by the times that they have
                for each in closure():
                    self._restore(each)

    def _made(self, run: Wanted) -> list[Path]:
        """What the workflow made with a run: its files and its benchmark, as far as they are there."""
        root = self._records.root
        names = (*(f"{run.folder}/{name}" for name in run.outputs), f"benchmarks/{run.folder}.tsv")
        return [root / name for name in names if (root / name).exists()]

    def _read(self, run: Wanted) -> list[Path]:
        """What a run reads, as far as it is there."""
        return [path for name in run.reads if (path := self._records.root / name).exists()]

    def _same(self, record: Record, path: Path) -> bool:
        """Whether a file is what its run wrote, and what the run of ``record`` has read."""
        name = path.relative_to(self._records.root).as_posix()
        made = self._records.record_of(name.rpartition("/")[0])
        if made is None or made.fault(path) is not None:
            return False
        return record.parents.get(name, made.files[path.name]) == made.files[path.name]

    def _restore(self, run: Wanted) -> None:
        """Give what a run made, where it is as recorded, the time of its record."""
        if run.folder in self._restored:
            return
        self._restored.add(run.folder)
        record, made = self._records.record_of(run.folder), self._made(run)
        if record is None or any(record.fault(path) for path in made if path.suffix != ".tsv"):
            return
        finished = _finished(record)
        # Not before what it was made from, should the clocks of two machines differ.
        first = max(map(_time, self._read(run)), default=0)
        for path in made:
            now = _time(path)
            moment = max(now if finished is None else min(now, finished), first)
            if moment != now:
                os.utime(path, ns=(moment, moment))


def _time(path: Path) -> int:
    return path.stat().st_mtime_ns


def _finished(record: Record) -> int | None:
    """When a run was finished, in ns; None where its record does not say."""
    with suppress(ValueError):
        moment = time.strptime(str(record.facts.get("finished")), "%Y-%m-%dT%H:%M:%SZ")
        return calendar.timegm(moment) * 10**9
    return None
