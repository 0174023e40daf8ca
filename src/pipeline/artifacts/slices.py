"""Work in slices: what other results folders hold of a study is taken over where it fits.

A slice is a stretch of work, on any machine, in a results folder of its own. Folders of slices
that came home lie side by side, and are only read. A run is taken over as a whole: every file as it
was recorded, made with today's settings, from just the parents that lie here. Where no slice has it
whole, the resume state of the one that got farthest is.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.artifacts.lock import LOCK, Held, Lock
from pipeline.artifacts.record import (
    CHANGED,
    MISSING,
    PROVENANCE,
    UNRECORDED,
    Damaged,
    Records,
)
from pipeline.artifacts.reservation import FOLDER, Reservation
from pipeline.artifacts.store import put, write_atomic, writing
from pipeline.artifacts.unfinished import Reached, reached, states
from pipeline.errors import UserError

#: How the names of files of weights, masks, permutations, logits end.
TENSORS = ".safetensors"
#: What is wrong with a file, in the words of a line on its run.
_FAULTS = {
    MISSING: "{} is missing",
    UNRECORDED: f"{{}} is not recorded in {PROVENANCE}",
    CHANGED: "the content of {} changed since it was written",
}


@dataclass(frozen=True)
class Wanted:
    """A run of the study: its folder and the files it reads, relative to the results folder.

    ``outputs`` are the files that a workflow knows of, ``settings`` is the digest of today's.
    ``light``: what is measured alone is wanted, to be read: no weights, nothing to go on from.
    """

    folder: str
    outputs: tuple[str, ...]
    settings: str
    reads: tuple[str, ...]
    light: bool = False

    def of(self, names: Iterable[str]) -> list[str]:
        """Those of the run's files that are wanted."""
        return [name for name in sorted(names) if not (self.light and name.endswith(TENSORS))]


@dataclass
class Taken:
    """How many runs were taken over whole, how many unfinished, how many wait for a parent."""

    whole: int = 0
    unfinished: int = 0
    waiting: int = 0

    def __str__(self) -> str:
        runs = f"{self.whole} run{'' if self.whole == 1 else 's'}"
        text = f"taken over from slices: {runs}, {self.unfinished} unfinished"
        return f"{text}; {self.waiting} wait for a parent" if self.waiting else text


class Left(Exception):
    """Why a run of a slice is not taken over."""


class Waits(Left):
    """A parent is not here: it, and then the run, will be made."""


def folders(places: Iterable[str], stages: Collection[str]) -> list[Path]:
    """The results folders in these places, each of which may be one itself.

    A results folder has one of ``stages`` in it.

    Raises:
        UserError: no such folder.
    """

    def holds_runs(place: Path) -> bool:
        return any((place / stage).is_dir() for stage in stages)

    found = []
    for place in map(Path, places):
        if not place.is_dir():
            raise UserError(f"config.yaml: slices: {place}: no such folder")
        found += [place] if holds_runs(place) else sorted(filter(holds_runs, place.iterdir()))
    return found


def take_over(
    results: Path,
    slices: Sequence[Path],
    runs: Sequence[Wanted],
    forget: Callable[[Collection[str]], None],
) -> Taken:
    """Take over what ``slices`` have of ``runs`` (parents first) and ``results`` has not.

    ``forget`` is told the paths of the files that are about to be replaced. One line on standard
    error for each run of a slice that does not fit. A call that finds nothing new changes nothing.

    Raises:
        UserError: another workflow is working on these runs, or the results cannot be written.
    """
    sources = [Records(path) for path in slices if path.resolve() != results.resolve()]
    if not _offered(Records(results), sources, runs):
        return Taken()
    reservation = Reservation(results)
    # Where another workflow takes over just now: what it leaves is looked at anew.
    with writing(results), Lock(results / FOLDER / ".slices").held(wait=True):
        home = Records(results)
        offered = _offered(home, sources, runs)
        names = {f"{run.folder}/{name}" for run in offered for name in (*run.outputs, PROVENANCE)}
        try:
            reservation.take(set(), names)
            return _Home(home, sources, forget).take(runs, {run.folder for run in offered})
        finally:
            reservation.give_back()


def _offered(home: Records, sources: Sequence[Records], runs: Iterable[Wanted]) -> list[Wanted]:
    """The runs that are not complete here and of which a slice has more; no content is read."""

    def more(source: Records, run: Wanted) -> bool:
        folder = source.root / run.folder
        try:
            return folder.is_dir() and (
                (folder / PROVENANCE).exists()
                or reached(folder, run.settings) > _reached(home, run)
            )
        except Damaged:
            return True  # and is told why it is not taken

    return [
        run
        for run in runs
        if not _complete(home, run) and any(more(source, run) for source in sources)
    ]


def holds(folder: Path, run: Wanted) -> bool:
    """Whether a results folder has what is wanted of a run, by its record; no content is read."""
    return _complete(Records(folder), run)


def _complete(place: Records, run: Wanted) -> bool:
    """Whether a run is there, with today's settings, made from the parents that lie here.

    Parents that were removed do not count. No content is read.
    """
    found, folder = place.record_of(run.folder), place.root / run.folder
    return (
        found is not None
        and found.digest == run.settings
        and found.there(folder, run.of(run.outputs))
        and not found.other_parents(place.recorded)
    )


def _reached(place: Records, run: Wanted) -> Reached:
    """How far an unfinished run got; nowhere if its states are damaged."""
    try:
        return reached(place.root / run.folder, run.settings)
    except Damaged:
        return Reached()


@dataclass
class _Home:
    """Puts what fits into the results folder."""

    _home: Records
    _sources: Sequence[Records]
    _forget: Callable[[Collection[str]], None]

    def __post_init__(self) -> None:
        self._now = time.time_ns()
        self._new: set[str] = set()  # folders whose files have got a new time
        self._taken = Taken()

    def take(self, runs: Iterable[Wanted], offered: Collection[str]) -> Taken:
        """Take over those of ``offered`` that fit, parents first."""
        for run in runs:
            if _complete(self._home, run):
                self._touch(run)
            elif run.folder in offered:
                self._take_run(run)
        return self._taken

    def _touch(self, run: Wanted) -> None:
        """Nothing runs again for parents that came back just as the run had read them."""
        if any(name.rpartition("/")[0] in self._new for name in run.reads):
            for path in (*(self._folder(run) / name for name in run.outputs), self._benchmark(run)):
                with suppress(FileNotFoundError):
                    os.utime(path, ns=(self._now, self._time(run)))
            self._new.add(run.folder)

    def _take_run(self, run: Wanted) -> None:
        """Take a run from the first slice that has it whole, else its state that got farthest."""
        waiting, got, best = False, _reached(self._home, run), None
        for source in self._sources:
            try:
                if self._whole(source, run):
                    self._place(source, run)
                    self._taken.whole += 1
                    return
                there = Reached() if run.light else reached(source.root / run.folder, run.settings)
                if there > Reached():
                    self._same_parents(source, run)
                    if there > got:
                        got, best = there, source
            except Waits:
                waiting = True
            except (Left, Damaged) as reason:
                self._say(source, run, str(reason))
            except Held as held:
                self._say(source, run, f"another process is working on the run here ({held.who})")
                return
        self._taken.waiting += waiting
        if best is not None:
            try:
                self._place_state(got, run)
                self._taken.unfinished += 1
            except Held as held:
                self._say(best, run, f"another process is working on the run here ({held.who})")

    def _say(self, source: Records, run: Wanted, reason: str) -> None:
        print(f"{source.root / run.folder}: not taken over: {reason}", file=sys.stderr, flush=True)

    # -- what fits -------------------------------------------------------------------------

    def _whole(self, source: Records, run: Wanted) -> bool:
        """Whether a slice has finished a run.

        Raises:
            Damaged, Left: it has, but the run does not fit, or is not what was written.
        """
        record = source.read(run.folder)
        if record is None:
            return False
        if record.digest != run.settings:
            raise Left("made with other settings")
        for name in run.outputs:
            if name not in record.files:
                raise Left(_FAULTS[UNRECORDED].format(name))
        for name, known in record.parents.items():
            self._same(name, known)
        for name in run.of(record.files):
            if fault := record.fault(source.root / run.folder / name):
                raise Left(_FAULTS.get(fault, f"{{}} {fault}").format(name))
        return True

    def _same_parents(self, source: Records, run: Wanted) -> None:
        """An unfinished run says nothing of its parents: they lie in the slice as they were read.

        Raises:
            Left: one is missing there or here, or not the same.
        """
        for name in run.reads:
            known = source.recorded(name)
            if known is None:
                raise Left(f"unfinished, and {name} does not lie beside it")
            self._same(name, known)

    def _same(self, name: str, known: str) -> None:
        here = self._home.recorded(name)
        if here is None:
            raise Waits
        if here != known:
            raise Left(f"made from another version of {name} than the one here")

    # -- files -----------------------------------------------------------------------------

    def _folder(self, run: Wanted) -> Path:
        return self._home.root / run.folder

    def _benchmark(self, run: Wanted) -> Path:
        return self._home.root / "benchmarks" / f"{run.folder}.tsv"

    def _time(self, run: Wanted) -> int:
        """When the files of a run were last changed: now, and not before what they were made from."""
        times = [self._now]
        for name in run.reads:
            with suppress(FileNotFoundError):
                times.append((self._home.root / name).stat().st_mtime_ns)
        return max(times)

    def _place(self, source: Records, run: Wanted) -> None:
        """Put a finished run here, its record last, with its log and its benchmark."""
        record = source.read(run.folder)
        assert record is not None
        folder, there = self._folder(run), source.root / run.folder
        moment = self._time(run)
        self._forget([f"{run.folder}/{name}" for name in run.outputs])
        with writing(folder), Lock(folder / LOCK).held(wait=False):
            (folder / PROVENANCE).unlink(missing_ok=True)  # first: a kill leaves no mixture
            for name in (*run.of(record.files), PROVENANCE):
                put(there / name, folder / name, moment)
            for path in folder.glob(".*"):  # states, and what a kill left half-written
                if path.name != LOCK:
                    path.unlink()
        beside = () if run.light else (f"logs/{run.folder}.log", f"benchmarks/{run.folder}.tsv")
        for name in beside:
            path = self._home.root / name
            with writing(path.parent):
                path.unlink(missing_ok=True)
                if (source.root / name).is_file():
                    # No hard link: whoever makes the run again writes into these files.
                    write_atomic(path, (source.root / name).read_bytes())
                    os.utime(path, ns=(moment, moment))
        self._home.forget(run.folder)
        self._new.add(run.folder)

    def _place_state(self, got: Reached, run: Wanted) -> None:
        """Put the state of an unfinished run here, in place of the one that is."""
        folder = self._folder(run)
        with writing(folder), Lock(folder / LOCK).held(wait=False):
            # The parts of one state belong together: those here go first, the resume state before.
            for path in reversed(states(folder)):
                path.unlink()
            for path in got.files:
                put(path, folder / path.name, self._now)
