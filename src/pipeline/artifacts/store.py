"""Artifacts on disk: written atomically, read only after their digest has been checked.

Every file is written under a temporary name in its own folder, flushed to disk and renamed, so a
reader sees the whole file or none. ``provenance.json`` lies beside the files of each run: their
digests, those of the run's parents, and the volatile facts (time, host, versions) that must not
be part of a payload. No pickle is read or written anywhere.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.artifacts import keys
from pipeline.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

PROVENANCE = "provenance.json"


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


def mend(path: Path) -> str:
    """What to do about a damaged file: the command that makes it, and all of its run, again.

    Where the workflow knows the file's run, but not the file (kept logits, provenance), the file
    that stands for the run.
    """
    stands = path.with_name(_asked_for(path))
    return f"delete it and ask for it again: rm '{stands}' && snakemake -c1 '{stands}'"


def _asked_for(path: Path) -> str:
    """Name of the file by which the workflow is asked for ``path``."""
    parts = path.parent.parts
    for place, stage in enumerate(parts):
        if stage in keys.OUTPUTS:
            with suppress(UserError):
                keys.parse(stage, "/".join(parts[place + 1 :]))
                names = keys.OUTPUTS[stage]
                return path.name if path.name in names else names[0]
    return path.name


def verify(path: Path, settings: str | None = None) -> str:
    """Check a file against the digest in its folder's provenance, and return the digest.

    ``settings`` is the digest of the settings with which the file must have been made.

    Raises:
        UserError: no provenance, file not named in it, content changed since it was written, or
            made with other settings.
    """
    record = path.parent / PROVENANCE
    if not path.exists():
        raise UserError(f"{path}: no such file; {mend(path)}")
    if not record.exists():
        raise UserError(f"{path}: has no {PROVENANCE} beside it; {mend(path)}")
    facts = read_json(record)
    files = facts.get("files") if isinstance(facts, dict) else None
    if not isinstance(files, dict) or path.name not in files:
        raise UserError(f"{path}: not recorded in {record.name}; {mend(path)}")
    try:
        found = file_digest(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    if found != files[path.name]:
        raise UserError(f"{path}: content changed since it was written; {mend(path)}")
    if settings is not None and facts.get("digest") != settings:
        raise UserError(f"{path}: made by another run or with other settings; {mend(path)}")
    return found


def recorded(path: Path) -> bool:
    """Whether a file's folder says that its run wrote it; such a file that is gone is damage."""
    try:
        facts = read_json(path.parent / PROVENANCE)
        return path.name in facts["files"]
    except (UserError, KeyError, TypeError):
        return False


def write_provenance(
    folder: Path, settings: Mapping[str, Any], names: Sequence[str], parents: Mapping[str, str],
    **volatile: object,
) -> None:  # fmt: skip
    """Write ``provenance.json`` of a run: digests of its files and parents, settings, machine.

    ``parents`` maps paths relative to the results folder to digests. Written last, so that its
    presence says that the run is complete.
    """
    record = {
        "files": {name: file_digest(folder / name) for name in sorted(names)},
        "parents": dict(sorted(parents.items())),
        "settings": settings,
        "digest": digest(settings),
        "code": code_version(),
        "host": platform.node(),
        "machine": machine(),
        "python": platform.python_version(),
        "versions": _versions(),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        **volatile,
    }
    write_json(folder / PROVENANCE, record | {"record": digest(record)})


def machine() -> str:
    """This machine's architecture and size; memory in GiB, as far as the system shows it."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB"


@cache
def code_version() -> str:
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
    found = {}
    for name in ("torch", "numpy", "scipy", "safetensors"):
        module = sys.modules.get(name)
        if module is not None:
            found[name] = str(module.__version__)
    return found
