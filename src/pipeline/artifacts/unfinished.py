"""How far an unfinished run got, by the states that it has left in its folder."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.artifacts.record import Damaged

#: Name of the state from which a training goes on; beside it lie whole parts of the run.
RESUME = ".resume.safetensors"
_ROUND = re.compile(r"\.round([0-9]+)\.safetensors")
#: The largest header of a state that is believed; those written are a few kilobytes.
_HEADER = 1 << 26


@dataclass(frozen=True, order=True)
class Reached:
    """Whole parts, then epoch and step of the training at hand; the files say so."""

    parts: int = 0
    epoch: int = 0
    step: int = 0
    files: tuple[Path, ...] = field(default=(), compare=False)


def states(folder: Path) -> list[Path]:
    """The states in a run's folder, the resume state last."""
    return sorted(folder.glob(".*.safetensors"), key=lambda path: (path.name == RESUME, path))


def reached(folder: Path, settings: str) -> Reached:
    """How far a run with these settings (a digest) got.

    Raises:
        Damaged: one of the states that it has left.
    """
    found: list[Path] = []
    rounds: set[int] = set()
    saved: Mapping[str, Any] = {}
    for path in states(folder):
        info = _info(path)
        if (info.get("digest") if isinstance(info, dict) else info) != settings:
            continue
        found.append(path)
        if path.name == RESUME:
            saved = info
        elif number := _ROUND.fullmatch(path.name):
            rounds.add(int(number[1]))
    if saved.get("slot") in rounds:  # of a round that was finished after it
        saved = {}
    if not saved and not rounds:  # trunk states alone are of no use
        return Reached()
    parts = sum(path.name != RESUME for path in found)
    return Reached(parts, saved.get("epoch", 0), saved.get("step", 0), tuple(found))


def _info(path: Path) -> Any:
    """What ``write_tensors`` put into a file's header, read without torch; the size checked.

    Raises:
        Damaged: it is not what was written.
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
        raise Damaged(f"{path.name} is damaged") from None
    return info
