"""Files on disk, written atomically: JSON, tables, tensors; and digests of values and contents.

Every file is written under a temporary name in its own folder, flushed to disk and renamed, so a
reader sees the whole file or none. No pickle is read or written anywhere.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from pipeline.errors import UserError, brief

if TYPE_CHECKING:
    from torch import Tensor


#: What ``temporary`` calls files.
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}(\.\w+)?", re.DOTALL)


def canonical(value: object) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: object) -> str:
    """SHA-256 of a value's canonical JSON, 16 hexadecimal digits."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:16]


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """What goes wrong while something is written to a place, in one line.

    Raises:
        UserError: the place cannot be written, or the disk is full.
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"{place}: cannot be written: {error.strerror}") from None


def temporary(path: Path, ending: str = "") -> Path:
    """A name for a file that is to be ``path``, while it is written, in the same folder.

    Hidden, with 32 hexadecimal digits behind the file's name: no result is called so.
    """
    return path.with_name(f".{path.name}.{uuid4().hex}{ending}")


def clear(folder: Path) -> None:
    """Remove what was being written in a folder when its writer was killed; OSErrors go on.

    No other process may be writing there.
    """
    for path in folder.glob(".*"):
        if _TEMPORARY.fullmatch(path.name):
            path.unlink(missing_ok=True)


def clear_all(results: Path, but: str) -> None:
    """``clear`` every folder of the results except those in which a file is called ``but``.

    What cannot be removed stays.
    """
    for folder, _, files in os.walk(results):
        if but not in files and any(map(_TEMPORARY.fullmatch, files)):
            with suppress(OSError):
                clear(Path(folder))


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name in a file's folder; what was written there is flushed and takes its place.

    Nothing half-written is left. OSErrors go on.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = temporary(path)
    try:
        yield unfinished
        with unfinished.open("rb") as stream:
            os.fsync(stream.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)  # also where both are names of one file already


def write_atomic(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path``, whole or not at all.

    Raises:
        UserError: the folder cannot be written or the disk is full; nothing half-written is left.
    """
    with writing(path), replacing(path) as unfinished:
        unfinished.write_bytes(content)


def write_json(path: Path, value: object) -> None:
    """Write a value as indented JSON with sorted keys."""
    text = json.dumps(value, sort_keys=True, indent=1, allow_nan=False)
    write_atomic(path, (text + "\n").encode())


@contextmanager
def _reading(path: Path, *others: type[Exception]) -> Iterator[None]:
    """What goes wrong while a file is read, in one line; ``others`` are errors of its format."""
    damage: tuple[type[Exception], ...] = (OSError, ValueError, *others)
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except damage as error:
        raise UserError(f"{path}: damaged: {brief(error)}; {mend(path)}") from None


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        UserError: missing or damaged, with the file's name.
    """
    with _reading(path, RecursionError):
        return json.loads(path.read_bytes())


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write rows as CSV; floats in their shortest exact form."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_atomic(path, text.getvalue().encode())


def read_csv(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file as text.

    Raises:
        UserError: missing, damaged, or a row of another length than the header.
    """
    with _reading(path, csv.Error), path.open(newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle, strict=True))
    if any(None in row or None in row.values() for row in rows):
        raise UserError(f"{path}: damaged: rows of different lengths; {mend(path)}")
    return rows


def write_tensors(path: Path, tensors: Mapping[str, Tensor], info: object = None) -> None:
    """Write named tensors as safetensors; ``info`` goes into the header as one JSON text.

    The bytes depend on tensors and ``info`` alone. Raises UserError as ``write_atomic`` does.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    ready: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        ready[name] = tensor.detach().cpu().contiguous()
        if ready[name].data_ptr() in seen:  # safetensors refuses two names for one memory
            ready[name] = ready[name].clone()
        seen.add(ready[name].data_ptr())
    with writing(path), replacing(path) as unfinished:
        unfinished.touch()
        mode = unfinished.stat().st_mode  # safetensors would give the file to its owner alone
        try:
            save_file(ready, unfinished, {"info": canonical(info)})
        except SafetensorError as error:
            raise UserError(f"{path}: cannot be written: {brief(error)}") from None
        unfinished.chmod(mode)


def read_tensors(path: Path, prefix: str = "") -> dict[str, Tensor]:
    """Tensors of a safetensors file whose names begin with ``prefix``, the prefix taken off.

    Raises:
        UserError: missing or damaged file, or no tensor under the prefix.
    """
    from safetensors import SafetensorError, safe_open

    with _reading(path, SafetensorError), safe_open(path, framework="pt") as handle:
        names = [name for name in handle.keys() if name.startswith(prefix)]  # noqa: SIM118
        tensors = {name[len(prefix) :]: handle.get_tensor(name) for name in names}
    if not tensors:
        raise UserError(f"{path}: holds nothing under {prefix!r}; {mend(path)}")
    return tensors


def read_info(path: Path) -> Any:
    """The JSON that ``write_tensors`` put into a file's header."""
    from safetensors import SafetensorError, safe_open

    with _reading(path, SafetensorError, KeyError), safe_open(path, framework="pt") as handle:
        return json.loads((handle.metadata() or {})["info"])


def put(source: Path, target: Path, moment: int) -> None:
    """Give a file a second name, or make a copy where there can be none: whole or not at all.

    ``moment`` is the time of its last change, in ns. OSErrors go on.
    """
    with replacing(target) as unfinished:
        try:
            os.link(source.resolve(), unfinished)
        except OSError:
            shutil.copyfile(source, unfinished)
        os.utime(unfinished, ns=(moment, moment))


def existing(folder: Path) -> Path:
    """A folder that is there; raises UserError if it is not."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    return folder


def mend(path: Path, outputs: Sequence[str] = ()) -> str:
    """What to do about a damaged file: the command that makes it, and all of its run, again.

    ``outputs`` are the files of its run that the workflow knows, first the one that stands for the
    run; that one is asked for where ``path`` is none of them (kept logits, provenance).
    """
    asked = path.with_name(outputs[0]) if outputs and path.name not in outputs else path
    return f"delete it and ask for it again: rm '{asked}' && snakemake -c1 '{asked}'"
