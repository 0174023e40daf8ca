"""Finished runs as one file, to be sent: a tar without compression, checked before it is believed.

Equal runs give equal bytes: members in the order of their names, without times and owners. Records
come first, so that a file that was cut off names what it lacks.
"""

from __future__ import annotations

import os
import re
import shutil
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from pipeline.artifacts.record import PROVENANCE, Damaged, Records, read, verify
from pipeline.artifacts.store import digest, replacing, temporary, writing
from pipeline.errors import UserError

SUFFIX = ".tar"
#: The name of a file of a run: nothing hidden, nothing that leaves a folder.
_MEMBER = re.compile(r"(?:[A-Za-z0-9_+=@-][A-Za-z0-9_.+=@-]*/)+[A-Za-z0-9_+=@-][A-Za-z0-9_.+=@-]*")


def write(path: Path, results: Path, runs: Iterable[str]) -> None:
    """Write finished runs of a results folder, named by their folders, to an archive; or nothing.

    Raises:
        UserError: the archive is there already or cannot be written; a file of a run is not what the
            run wrote.
    """
    absent(path)
    known = Records(results)
    records = {run: record for run in sorted(runs) if (record := known.record_of(run))}
    names = [f"{run}/{PROVENANCE}" for run in records]
    for run, record in records.items():
        for name in sorted(record.files):
            verify(results / run / name)
            names.append(f"{run}/{name}")
    with (
        writing(path),
        replacing(path) as unfinished,
        tarfile.open(unfinished, "w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name in names:
            with (results / name).open("rb") as stream:
                member = tarfile.TarInfo(name)
                member.size = os.fstat(stream.fileno()).st_size
                archive.addfile(member, stream)


def unpack(path: Path, folder: Path) -> int:
    """Lay the runs of an archive into a folder that is not there yet, once all of it was checked.

    Returns how many they are.

    Raises:
        UserError: no archive, or one that was changed or cut off; or the folder is there, or cannot
            be written. Nothing is left then.
    """
    absent(folder)
    unfinished = temporary(folder)
    try:
        with writing(folder):
            unfinished.mkdir(parents=True)
        held = _lay(path, unfinished)
        for run, files in held.items():
            _check(unfinished, run, files)
        if not held:
            raise _Bad("it holds no runs")
        with writing(folder):
            unfinished.rename(folder)
    except _Bad as reason:
        raise UserError(f"{path}: not taken: {reason}") from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return len(held)


def absent(place: Path) -> None:
    """Raises UserError if a file or folder is there: it stays as it is."""
    if place.exists():
        raise UserError(f"{place}: is there, and stays; name another place, or delete it first")


class _Bad(Exception):
    """What is wrong with an archive."""


def _lay(path: Path, folder: Path) -> dict[str, set[str]]:
    """Write all members of an archive below a folder; the names of each run's files."""
    held: dict[str, set[str]] = {}
    for run, name, stream in _members(path):
        files = held.setdefault(run, set())
        if name in files:
            raise _Bad(f"{run}/{name} is in it twice")
        files.add(name)
        place = folder / run / name
        with writing(place):
            place.parent.mkdir(parents=True, exist_ok=True)
            with place.open("xb") as target:
                _copy(stream, target)
    return held


def _copy(stream: IO[bytes], target: IO[bytes]) -> None:
    try:
        shutil.copyfileobj(stream, target)
    except tarfile.TarError:
        raise _Bad("cut off") from None


def _members(path: Path) -> Iterator[tuple[str, str, IO[bytes]]]:
    """Run, name and content of each member; only plain files in a run's folder can be one."""
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                if member.type != tarfile.REGTYPE or member.issparse():
                    raise _Bad(f"{member.name!r} is no plain file")
                if not _MEMBER.fullmatch(member.name):
                    raise _Bad(f"{member.name!r} is no name of a run's file")
                stream = archive.extractfile(member)
                assert stream is not None
                run, _, name = member.name.rpartition("/")
                yield run, name, stream
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except (tarfile.TarError, EOFError, ValueError):
        raise _Bad("no archive of runs, or damaged") from None


def _check(folder: Path, run: str, files: set[str]) -> None:
    """Raises _Bad if these are not the files of a finished run, each as its record has it."""
    try:
        record = read(folder / run)
    except Damaged as reason:
        raise _Bad(f"{run}: {reason}") from None
    if record is None:
        raise _Bad(f"{run}: {PROVENANCE} is missing")
    named = f"{record.settings.get('stage')}/{record.settings.get('run')}"
    if named != run or digest(record.settings) != record.digest:
        raise _Bad(f"{run}: its {PROVENANCE} is of another run")
    if more := files - {*record.files, PROVENANCE}:
        raise _Bad(f"{run}/{min(more)}: not recorded in {PROVENANCE}")
    for name in sorted(record.files):
        if fault := record.fault(folder / run / name):
            raise _Bad(f"{run}/{name}: {fault}")
