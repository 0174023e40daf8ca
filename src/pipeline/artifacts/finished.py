"""Finished runs that the workflow has not taken note of yet.

Snakemake notes a job as done a moment after the job has ended. Killed in between, it takes the
run for unfinished, deletes its files and asks for it again: hours lost to a moment. A job
therefore leaves a second name (a hard link, which costs no space) of each of its files under
``results/.finished``; the next job of the run takes them back where they are whole and were made
from the same parents with the same settings. The workflow clears what it has taken note of.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path

from pipeline.artifacts.record import record_of, verify
from pipeline.errors import UserError

FOLDER = ".finished"


def _place(results: Path, run: str) -> Path:
    """Where the second names of a run lie; ``run`` is its folder relative to the results."""
    return results / FOLDER / hashlib.sha256(run.encode()).hexdigest()[:32]


def keep(results: Path, run: str, names: Iterable[str]) -> None:
    """Give the files of a finished run a second name; where there are no hard links, none."""
    place = _place(results, run)
    with suppress(OSError):
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        for name in names:
            os.link(results / run / name, place / name)


def take_back(results: Path, run: str, outputs: Collection[str], settings: str) -> bool:
    """Put the files of a finished run back if the workflow has deleted them all.

    ``outputs`` are the files a workflow knows of, ``settings`` is the digest of today's settings.
    Returns whether the run is whole again: each file as recorded, each parent as it was read.
    """
    folder, place = results / run, _place(results, run)
    if not place.is_dir() or any((folder / name).exists() for name in outputs):
        return False
    record = record_of(folder)
    if record is None or record.digest != settings or not set(outputs) <= set(record.files):
        return False
    lost = [name for name in record.files if not (folder / name).exists()]
    with suppress(OSError, UserError):
        if any(record.fault((place if name in lost else folder) / name) for name in record.files):
            return False
        if any(verify(results / name) != digest for name, digest in record.parents.items()):
            return False
        for name in lost:
            os.link(place / name, folder / name)
            os.utime(folder / name)  # newer than its inputs, whatever has been put back there
        return True
    return False


def forget(results: Path, runs: Iterable[str]) -> None:
    """Forget runs that the workflow has taken note of."""
    for run in runs:
        shutil.rmtree(_place(results, run), ignore_errors=True)


def forget_others(results: Path, runs: Iterable[str]) -> None:
    """Forget all runs but those that a workflow is waiting for."""
    waiting = {_place(results, run).name for run in runs}
    with suppress(OSError):
        for place in (results / FOLDER).iterdir():
            if place.name not in waiting:
                shutil.rmtree(place, ignore_errors=True)
