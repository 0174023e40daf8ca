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
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor


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


def write_atomic(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path``: temporary name in the same folder, fsync, rename.

    Raises:
        UserError: the folder cannot be written or the disk is full; nothing half-written is left.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        temporary = Path(name)
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        _publish(temporary, path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _publish(temporary: Path, path: Path) -> None:
    umask = os.umask(0)
    os.umask(umask)
    temporary.chmod(0o666 & ~umask)
    temporary.replace(path)


def write_json(path: Path, value: object) -> None:
    """Write a value as indented JSON with sorted keys."""
    text = json.dumps(value, sort_keys=True, indent=1, allow_nan=False)
    write_atomic(path, (text + "\n").encode())


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        UserError: missing or damaged, with the file's name.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: damaged: {error}; {mend(path)}") from None


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
    try:
        with path.open(newline="", encoding="utf-8") as handle:
            rows = list(csv.DictReader(handle, strict=True))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path}: damaged: {error}; {mend(path)}") from None
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
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(ready, temporary, {"info": canonical(info)})
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        _publish(temporary, path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from None
    except SafetensorError as error:
        raise UserError(f"{path}: cannot be written: {error}") from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def read_tensors(path: Path, prefix: str = "") -> dict[str, Tensor]:
    """Tensors of a safetensors file whose names begin with ``prefix``, the prefix taken off.

    Raises:
        UserError: missing or damaged file, or no tensor under the prefix.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as handle:
            names = [name for name in handle.keys() if name.startswith(prefix)]  # noqa: SIM118
            tensors = {name[len(prefix) :]: handle.get_tensor(name) for name in names}
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: damaged: {error}; {mend(path)}") from None
    if not tensors:
        raise UserError(f"{path}: holds nothing under {prefix!r}; {mend(path)}")
    return tensors


def read_info(path: Path) -> Any:
    """The JSON that ``write_tensors`` put into a file's header."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as handle:
            return json.loads((handle.metadata() or {})["info"])
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise UserError(f"{path}: damaged: {error}; {mend(path)}") from None


def put(source: Path, target: Path, moment: int, link: bool = True) -> None:
    """Give a file a second name, or make a copy where there can be none: whole or not at all.

    ``moment`` is the time of its last change, in ns; without ``link`` it is a copy. OSErrors go on.
    """
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


def mend(path: Path, outputs: Sequence[str] = ()) -> str:
    """What to do about a damaged file: the command that makes it, and all of its run, again.

    ``outputs`` are the files of its run that the workflow knows, first the one that stands for the
    run; that one is asked for where ``path`` is none of them (kept logits, provenance).
    """
    asked = path.with_name(outputs[0]) if outputs and path.name not in outputs else path
    return f"delete it and ask for it again: rm '{asked}' && snakemake -c1 '{asked}'"
