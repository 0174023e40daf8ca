"""What a run says of itself, and by it whether the run is whole: ``provenance.json``.

It lies beside the files of each run: their digests, those of the run's parents, the settings, and
the volatile facts (time, host, versions) that must not be part of a payload. It is written last,
and seals itself: whoever reads it gets all of it as it was written, or that it is damaged.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

from pipeline.artifacts.store import digest, file_digest, mend, write_json
from pipeline.errors import UserError

PROVENANCE = "provenance.json"
#: What may be wrong with a file of a run.
MISSING, UNRECORDED = "missing", f"not recorded in {PROVENANCE}"
CHANGED = "content changed since it was written"


class Damaged(Exception):
    """A file in a run's folder is not what was written; says which."""


@dataclass(frozen=True)
class Record:
    """A run that was finished: what it made, from what, with which settings, when and where.

    ``files`` are digests by name, ``parents`` by path below the results folder; ``digest`` is that
    of the settings. ``facts`` are volatile: code, host, finished, seconds, device, train_seconds...
    """

    files: Mapping[str, str]
    parents: Mapping[str, str]
    settings: Mapping[str, Any]
    digest: str
    facts: Mapping[str, Any]

    def there(self, folder: Path, outputs: Iterable[str]) -> bool:
        """Whether all these files lie in the run's folder."""
        return all((folder / name).is_file() for name in outputs)

    def fault(self, path: Path) -> str | None:
        """What is wrong with a file, wherever it lies; None: its content is what the run wrote."""
        if not path.exists():
            return MISSING
        if path.name not in self.files:
            return UNRECORDED
        try:
            content = file_digest(path)
        except OSError as error:
            return f"cannot be read: {error.strerror}"
        return None if content == self.files[path.name] else CHANGED

    def whole(self, folder: Path, outputs: Iterable[str], settings: str) -> bool:
        """Whether all outputs are as the run wrote them, with these settings (a digest)."""
        return self.digest == settings and not any(self.fault(folder / name) for name in outputs)

    def other_parents(self, recorded: Callable[[str], str | None]) -> list[str]:
        """The parents of which another version lies here than the run has read.

        ``recorded`` gives the digest on record of a path below the results folder; those of which
        nothing is on record (None) were removed, and do not count.
        """
        return [n for n, known in self.parents.items() if recorded(n) not in (None, known)]


def read(folder: Path) -> Record | None:
    """The record of the run in a folder; None: the run is not finished.

    Raises:
        Damaged: it is not what was written.
    """
    try:
        found = json.loads((folder / PROVENANCE).read_bytes())
        rest = {name: value for name, value in found.items() if name != "record"}
        if found["record"] != digest(rest):
            raise ValueError
        files, parents = rest.pop("files"), rest.pop("parents")
        record = Record(files, parents, rest.pop("settings"), rest.pop("digest"), facts=rest)
        texts = {record.digest, *chain(*files.items(), *parents.items())}
        if not (isinstance(record.settings, dict) and all(isinstance(t, str) for t in texts)):
            raise ValueError
        if any("/" in name or "\0" in name for name in files):
            raise ValueError
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, AttributeError, KeyError, TypeError, ValueError, RecursionError):
        raise Damaged(f"{PROVENANCE} is damaged") from None
    return record


def record_of(folder: Path) -> Record | None:
    """The record of the run in a folder; None where there is none that can be believed."""
    with suppress(Damaged):
        return read(folder)
    return None


def facts_of(folder: Path) -> dict[str, Any]:
    """The volatile facts of the run in a folder; empty where it is not finished."""
    found = record_of(folder)
    return dict(found.facts) if found else {}


def recorded(path: Path) -> str | None:
    """Digest on record of a run's file, which is damage where it is gone; None: nothing is."""
    found = record_of(path.parent)
    return found.files.get(path.name) if found else None


class Records:
    """The records of a results folder, each read once; a run is called by its folder below it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._found: dict[str, Record | None] = {}

    def read(self, folder: str) -> Record | None:
        """As ``read``."""
        if folder not in self._found:
            self._found[folder] = read(self.root / folder)
        return self._found[folder]

    def record_of(self, folder: str) -> Record | None:
        """As ``record_of``."""
        with suppress(Damaged):
            return self.read(folder)
        return None

    def recorded(self, path: str) -> str | None:
        """As ``recorded``, of a path below the results folder."""
        folder, _, name = path.rpartition("/")
        found = self.record_of(folder)
        return found.files.get(name) if found else None

    def forget(self, folder: str) -> None:
        """Read a record anew when it is asked for."""
        self._found.pop(folder, None)


def verify(path: Path, settings: str | None = None, outputs: Sequence[str] = ()) -> str:
    """Check a file against its run's record, and return its digest.

    ``settings`` is the digest of those with which it must have been made; ``outputs`` as in
    ``mend``.

    Raises:
        UserError: no record or a damaged one, file not in it, content changed since it was written,
            or made with other settings; with the command that mends it.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file; {mend(path, outputs)}")
    try:
        found = read(path.parent)
    except Damaged:
        raise UserError(f"{path.with_name(PROVENANCE)}: damaged; {mend(path, outputs)}") from None
    if found is None:
        raise UserError(f"{path}: has no {PROVENANCE} beside it; {mend(path, outputs)}")
    fault = found.fault(path)
    if fault is None and settings not in (None, found.digest):
        fault = "made by another run or with other settings"
    if fault is not None:
        raise UserError(f"{path}: {fault}; {mend(path, outputs)}")
    return found.files[path.name]


def write(
    folder: Path, settings: Mapping[str, Any], names: Iterable[str], parents: Mapping[str, str],
    **volatile: object,
) -> None:  # fmt: skip
    """Write the record of a run, last of its files: its presence says that the run is finished.

    ``names`` are the files that it has written, ``parents`` as in ``Record``.
    """
    record = {
        "files": {name: file_digest(folder / name) for name in sorted(names)},
        "parents": dict(sorted(parents.items())),
        "settings": settings,
        "digest": digest(settings),
        "code": _code_version(),
        "host": platform.node(),
        "machine": _machine(),
        "python": platform.python_version(),
        "versions": _versions(),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        **volatile,
    }
    write_json(folder / PROVENANCE, record | {"record": digest(record)})


def _machine() -> str:
    """This machine's architecture and size; memory in GiB, as far as the system shows it."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB"


@cache
def _code_version() -> str:
    """Git commit of the source tree, with ``+`` where it has changes; the version outside git."""
    from pipeline import __version__

    here = Path(__file__).resolve().parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty=+", "--abbrev=12"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return __version__
    return f"{__version__}+g{found.stdout.strip()}"


def _versions() -> dict[str, str]:
    names = ("torch", "numpy", "scipy", "safetensors")
    return {name: str(sys.modules[name].__version__) for name in names if name in sys.modules}
