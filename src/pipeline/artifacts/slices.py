"""Work in slices: what other results folders hold of a study is taken over where it fits.

A slice is a stretch of work, on any machine, in a results folder of its own. Folders of slices
that came home lie side by side, and are only read. A run is taken over as a whole: every file as it
was recorded, made with today's settings, from just the parents that lie here. Where no slice has it
whole, the resume state of the one that got farthest is.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.artifacts import keys
from pipeline.artifacts.lock import Held, Lock
from pipeline.artifacts.reservation import FOLDER, Reservation
from pipeline.artifacts.store import PROVENANCE, digest, file_digest, read_json
from pipeline.errors import UserError

#: Names in a run's folder, as its job gives them.
LOCK, RESUME = ".lock", ".resume.safetensors"
_ROUND = re.compile(r"\.round([0-9]+)\.safetensors")
#: The largest header of a state that is believed; those written are a few kilobytes.
_HEADER = 1 << 26


@dataclass(frozen=True)
class Wanted:
    """A run of the study: its folder and the files it reads, relative to the results folder.

    ``outputs`` are the files that a workflow knows of, ``settings`` is the digest of today's.
    """

    folder: str
    outputs: tuple[str, ...]
    settings: str
    reads: tuple[str, ...]


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


@dataclass(frozen=True, order=True)
class Reached:
    """How far an unfinished run got: whole parts, then epoch and step of the training at hand."""

    parts: int = 0
    epoch: int = 0
    step: int = 0


class Results:
    """A results folder: what its runs say of themselves. Records are read once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._records: dict[str, Mapping[str, Any] | None] = {}

    def record(self, folder: str) -> Mapping[str, Any] | None:
        """The provenance of a run; None for a run that is not finished.

        Raises:
            Left: damaged.
        """
        if folder not in self._records:
            self._records[folder] = self._read(folder)
        return self._records[folder]

    def forget(self, folder: str) -> None:
        """Read a run's record anew when it is asked for."""
        self._records.pop(folder, None)

    def _read(self, folder: str) -> Mapping[str, Any] | None:
        path = self.root / folder / PROVENANCE
        if not path.exists():
            return None
        try:
            found = read_json(path)
            rest = {name: value for name, value in found.items() if name != "record"}
            texts = [*found["files"], *found["files"].values(), found["digest"]]
            texts += [*found["parents"], *found["parents"].values()]
            if found.get("record", digest(rest)) != digest(rest):  # older records have none
                raise ValueError
            if any("/" in name for name in found["files"]) or not all(
                isinstance(text, str) for text in texts
            ):
                raise ValueError
        except (UserError, AttributeError, KeyError, TypeError, ValueError):
            raise Left(f"{PROVENANCE} is damaged") from None
        return dict(found)

    def recorded(self, name: str) -> str | None:
        """Digest on record of a file, by its path below the results; None where nothing is."""
        folder, _, file = name.rpartition("/")
        try:
            record = self.record(folder)
        except Left:
            return None
        return record["files"].get(file) if record else None

    def has(self, folder: str, names: Iterable[str]) -> bool:
        """Whether all these files of a run are there."""
        return all((self.root / folder / name).is_file() for name in names)

    def complete(self, run: Wanted) -> bool:
        """Whether a run is there, with today's settings, made from the parents that lie here.

        Parents that were removed do not count. No content is read.
        """
        try:
            record = self.record(run.folder)
        except Left:
            return False
        return (
            record is not None
            and record["digest"] == run.settings
            and self.has(run.folder, run.outputs)
            and all(
                self.recorded(name) in (None, known) for name, known in record["parents"].items()
            )
        )

    def state(self, run: Wanted) -> tuple[Reached, list[Path]]:
        """How far an unfinished run got, and the files that say so, the resume state last.

        Raises:
            Left: one of them is damaged.
        """
        found: list[Path] = []
        rounds: set[int] = set()
        saved: Mapping[str, Any] = {}
        for path in sorted((self.root / run.folder).glob(".*.safetensors")):
            info = _info(path)
            if (info.get("digest") if isinstance(info, dict) else info) != run.settings:
                continue
            found.append(path)
            if path.name == RESUME:
                saved = info
            elif number := _ROUND.fullmatch(path.name):
                rounds.add(int(number[1]))
        found.sort(key=lambda path: path.name == RESUME)
        if saved.get("slot") in rounds:  # of a round that was finished after it
            saved = {}
        if not saved and not rounds:  # trunk states alone are of no use
            return Reached(), []
        parts = sum(path.name != RESUME for path in found)
        return Reached(parts, saved.get("epoch", 0), saved.get("step", 0)), found


def _info(path: Path) -> Any:
    """What ``write_tensors`` put into a file's header, read without torch; the size checked.

    Raises:
        Left: damaged.
    """
    try:
        with path.open("rb") as handle:
            length = int.from_bytes(handle.read(8), "little")
            if length > _HEADER:
                raise ValueError
            header = json.loads(handle.read(length))
        info = json.loads(header.pop("__metadata__")["info"])
        ends = [tensor["data_offsets"][1] for tensor in header.values()]
        if path.stat().st_size != 8 + length + max(ends, default=0):
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError, IndexError, RecursionError, AttributeError):
        raise Left(f"{path.name} is damaged") from None
    return info


def folders(places: Iterable[str]) -> list[Path]:
    """The results folders in these places, each of which may be one itself.

    Raises:
        UserError: no such folder.
    """
    found = []
    for place in map(Path, places):
        if not place.is_dir():
            raise UserError(f"config.yaml: slices: {place}: no such folder")
        inside = [place] if _holds_runs(place) else sorted(filter(_holds_runs, place.iterdir()))
        found += inside
    return found


def _holds_runs(place: Path) -> bool:
    return any((place / stage).is_dir() for stage in keys.OUTPUTS)


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
    sources = [Results(path) for path in slices if path.resolve() != results.resolve()]
    if not _offered(Results(results), sources, runs):
        return Taken()
    try:
        (results / FOLDER).mkdir(parents=True, exist_ok=True)
        lock = Lock(results / FOLDER / ".slices")
        lock.acquire(wait=True)  # another workflow takes over: what it leaves is looked at anew
    except OSError as error:
        raise UserError(f"{results}: cannot be written: {error.strerror}") from None
    reservation = Reservation(results)
    try:
        home = Results(results)
        offered = _offered(home, sources, runs)
        names = {f"{run.folder}/{name}" for run in offered for name in (*run.outputs, PROVENANCE)}
        reservation.take(set(), names)
        return _Home(home, sources, forget).take(runs, {run.folder for run in offered})
    finally:
        reservation.give_back()
        lock.release()


def _offered(home: Results, sources: Sequence[Results], runs: Iterable[Wanted]) -> list[Wanted]:
    """The runs that are not complete here and of which a slice has more; no content is read."""

    def more(source: Results, run: Wanted) -> bool:
        folder = source.root / run.folder
        try:
            return folder.is_dir() and (
                (folder / PROVENANCE).exists() or source.state(run)[0] > here
            )
        except Left:
            return True  # and is told why it is not taken

    found = []
    for run in runs:
        if home.complete(run):
            continue
        here = _state(home, run)
        if any(more(source, run) for source in sources):
            found.append(run)
    return found


def _state(place: Results, run: Wanted) -> Reached:
    """How far a run got; nowhere if its state is damaged."""
    try:
        return place.state(run)[0]
    except Left:
        return Reached()


class _Home:
    """Puts what fits into the results folder."""

    def __init__(
        self, home: Results, sources: Sequence[Results], forget: Callable[[Collection[str]], None]
    ) -> None:
        self._home, self._sources, self._forget = home, sources, forget
        self._now = time.time_ns()
        self._new: set[str] = set()  # folders whose files have got a new time
        self._taken = Taken()

    def take(self, runs: Iterable[Wanted], offered: Collection[str]) -> Taken:
        """Take over those of ``offered`` that fit, parents first."""
        for run in runs:
            if self._home.complete(run):
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
        waiting = False
        states: list[tuple[Reached, Results]] = []
        for source in self._sources:
            try:
                if self._whole(source, run):
                    self._place(source, run)
                    self._taken.whole += 1
                    return
                reached = source.state(run)[0]
                if reached > Reached():
                    self._same_parents(source, run)
                    states.append((reached, source))
            except Waits:
                waiting = True
            except Left as left:
                self._say(source, run, str(left))
            except Held as held:
                self._say(source, run, f"another process is working on the run here ({held.who})")
                return
        self._taken.waiting += waiting
        reached, best = max(states, key=lambda state: state[0], default=(Reached(), None))
        if best is not None and reached > _state(self._home, run):
            try:
                self._place_state(best, run)
                self._taken.unfinished += 1
            except Held as held:
                self._say(best, run, f"another process is working on the run here ({held.who})")

    def _say(self, source: Results, run: Wanted, reason: str) -> None:
        print(f"{source.root / run.folder}: not taken over: {reason}", file=sys.stderr, flush=True)

    # -- what fits -------------------------------------------------------------------------

    def _whole(self, source: Results, run: Wanted) -> bool:
        """Whether a slice has finished a run.

        Raises:
            Left: it has, but the run does not fit, or is not what was written.
        """
        record = source.record(run.folder)
        if record is None:
            return False
        files: Mapping[str, str] = record["files"]
        if record["digest"] != run.settings:
            raise Left("made with other settings")
        for name in run.outputs:
            if name not in files:
                raise Left(f"{name} is not recorded in {PROVENANCE}")
        for name, known in record["parents"].items():
            self._same(name, known)
        folder = source.root / run.folder
        for name, known in files.items():
            try:
                content = file_digest(folder / name)
            except FileNotFoundError:
                raise Left(f"{name} is missing") from None
            except OSError as error:
                raise Left(f"{name} cannot be read: {error.strerror}") from None
            if content != known:
                raise Left(f"the content of {name} changed since it was written")
        return True

    def _same_parents(self, source: Results, run: Wanted) -> None:
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

    def _place(self, source: Results, run: Wanted) -> None:
        """Put a finished run here, its record last, with its log and its benchmark."""
        record = source.record(run.folder)
        assert record is not None
        folder, there = self._folder(run), source.root / run.folder
        moment = self._time(run)
        self._forget([f"{run.folder}/{name}" for name in run.outputs])
        with _Writing(folder):
            (folder / PROVENANCE).unlink(missing_ok=True)  # first: a kill leaves no mixture
            for name in (*sorted(record["files"]), PROVENANCE):
                _put(there / name, folder / name, moment)
            for path in folder.glob(".*"):  # states, and what a kill left half-written
                if path.name != LOCK:
                    path.unlink()
        for kind, end in (("logs", "log"), ("benchmarks", "tsv")):
            path = Path(kind) / f"{run.folder}.{end}"
            with _Writing((self._home.root / path).parent, lock=False):
                (self._home.root / path).unlink(missing_ok=True)
                if (source.root / path).is_file():
                    # No hard link: whoever makes the run again writes into these files.
                    _put(source.root / path, self._home.root / path, moment, link=False)
        self._home.forget(run.folder)
        self._new.add(run.folder)

    def _place_state(self, source: Results, run: Wanted) -> None:
        """Put the state of an unfinished run here, in place of the one that is."""
        folder = self._folder(run)
        _, paths = source.state(run)
        with _Writing(folder):
            # The parts of one state belong together: those here go first, the resume state before.
            for path in sorted(folder.glob(".*.safetensors"), key=lambda path: path.name != RESUME):
                path.unlink()
            for path in paths:
                _put(path, folder / path.name, self._now)


class _Writing:
    """A folder that is written to: made, locked as its job would, and errors told in one line.

    Raises:
        Held: a process is working on it.
        UserError: it cannot be written.
    """

    def __init__(self, folder: Path, lock: bool = True) -> None:
        self._folder = folder
        self._lock = Lock(folder / LOCK) if lock else None

    def __enter__(self) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            if self._lock:
                self._lock.acquire(wait=False)
        except OSError as error:
            raise UserError(f"{self._folder}: cannot be written: {error.strerror}") from None

    def __exit__(self, kind: object, error: object, *details: object) -> None:
        if self._lock:
            self._lock.release()
        if isinstance(error, OSError):
            raise UserError(f"{self._folder}: cannot be written: {error.strerror}") from None


def _put(source: Path, target: Path, moment: int, link: bool = True) -> None:
    """A second name of a file, or a copy where there can be none; whole or not at all."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    try:
        if not (link and _linked(source, temporary)):
            with source.open("rb") as old, temporary.open("wb") as new:
                shutil.copyfileobj(old, new, 1 << 20)
                new.flush()
                os.fsync(new.fileno())
        os.utime(temporary, ns=(moment, moment))
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)  # also where both names are of one file already


def _linked(source: Path, target: Path) -> bool:
    """Whether a second name could be given."""
    try:
        os.link(source.resolve(), target)
    except OSError:
        return False
    return True
