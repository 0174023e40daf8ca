"""Which of several GPUs a process computes on: side by side, the GPUs evenly filled.

Snakemake bounds how many jobs run at once (``resources: gpu``) but hands out no GPU. Each process
takes a file lock ``<GPU>.<level>`` of the lowest level that is free on any GPU it may use, and keeps
it until it ends, however it ends. Where one GPU is visible, as in a Slurm job of its own, there is
nothing to choose.
"""

from __future__ import annotations

import fcntl
import os
import re
import tempfile
from pathlib import Path
from typing import IO

VISIBLE = "CUDA_VISIBLE_DEVICES"
PER_GPU = "PIPELINE_PER_GPU"
LEVELS = 256
DEVICES = Path("/dev")

_held: list[IO[str]] = []


def visible() -> list[str]:
    """Identifiers of the GPUs this process may use: those it was given, else all of the machine.

    CUDA counts from 0 whatever numbers the devices of a container bear.
    """
    given = os.environ.get(VISIBLE)
    if given is not None:
        return [name.strip() for name in given.split(",") if name.strip() not in ("", "-1")]
    return [str(number) for number in range(len(_devices()))]


def present() -> bool:
    """Whether a GPU of this machine is open to this process, whatever CUDA makes of it."""
    return bool(visible()) and any(map(_allowed, _devices()))


def _devices() -> list[Path]:
    return [path for path in DEVICES.glob("nvidia*") if re.fullmatch("nvidia[0-9]+", path.name)]


def _allowed(path: Path) -> bool:
    """Whether a device may be opened: those of other jobs may not."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    except PermissionError:
        return False
    except OSError:  # it does not work, but it is there
        return True
    return True


def slots() -> int:
    """Trainings that run side by side on this machine: ``PIPELINE_PER_GPU`` on each visible GPU.

    Without GPUs, as many as there are processors.
    """
    return int(os.environ.get(PER_GPU) or "8") * len(visible()) or os.cpu_count() or 1


def folder() -> Path:
    """Where the slots of this node lie; GPUs of another Slurm job may bear the same numbers."""
    job = os.environ.get("SLURM_JOB_ID", "local")
    return Path(tempfile.gettempdir()) / f"pipeline-gpus-{os.getuid()}-{job}"


def take_slot() -> str | None:
    """Choose a GPU for this process and hide the others from it; the slot's name, ``<GPU>.<level>``.

    To be called before CUDA starts. None where there is no choice.
    """
    taken = take_slots(1) if len(visible()) > 1 else []
    return taken[0] if taken else None


def take_slots(count: int) -> list[str]:
    """Choose ``count`` GPUs, each once, for this process and those it starts, as ``take_slot``.

    None of them, and no GPU is hidden, where there are fewer.
    """
    gpus = visible()
    if len(gpus) < count:
        return []
    place = folder()
    place.mkdir(mode=0o700, exist_ok=True)
    taken: dict[str, str] = {}
    for level in range(LEVELS):
        for gpu in gpus:
            if gpu in taken:
                continue
            handle = (place / f"{gpu.replace('/', '_')}.{level}").open("w")
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                handle.close()
                continue
            _held.append(handle)
            taken[gpu] = f"{gpu}.{level}"
            if len(taken) == count:
                os.environ[VISIBLE] = ",".join(taken)
                return list(taken.values())
    return []
