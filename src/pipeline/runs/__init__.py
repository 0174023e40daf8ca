"""What is run, without torch: each kind one class in a module of its own.

Every run is a frozen value that names what changes its bits (data set, network, width, recipe
labels, seeds, epochs trained, sparsity) and nothing else: no table, study or protocol. Its class
says everything about the kind: path, files, recipe, networks, inputs, cost, words for people.
"""

from __future__ import annotations

import importlib
import pkgutil

from pipeline.errors import UserError
from pipeline.runs.align import Align
from pipeline.runs.base import File, Run, Study
from pipeline.runs.connect import Connect
from pipeline.runs.curve import Curve
from pipeline.runs.dense import Dense
from pipeline.runs.imp import ImpBlock
from pipeline.runs.imp_barrier import ImpBarrier
from pipeline.runs.landscape import Landscape
from pipeline.runs.mask import Mask
from pipeline.runs.match import Match
from pipeline.runs.permutation_quality import PermutationQuality
from pipeline.runs.plane import Plane
from pipeline.runs.snapshot import Snapshot
from pipeline.runs.solution import Solution
from pipeline.runs.sparse import Sparse

__all__ = [
    "STAGES",
    "Align",
    "Connect",
    "Curve",
    "Dense",
    "File",
    "ImpBarrier",
    "ImpBlock",
    "Landscape",
    "Mask",
    "Match",
    "PermutationQuality",
    "Plane",
    "Run",
    "Snapshot",
    "Solution",
    "Sparse",
    "Study",
    "parse",
]  # fmt: skip


def _kinds(base: type[Run]) -> list[type[Run]]:
    """Every kind below a class: those that have a form."""
    below = [kind for child in base.__subclasses__() for kind in _kinds(child)]
    return [base, *below] if hasattr(base, "form") else below


for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

#: Every kind of run by its stage, those first that others wait for.
STAGES: dict[str, type[Run]] = {
    kind.stage: kind for kind in sorted(_kinds(Run), key=lambda kind: (-kind.priority, kind.stage))
}


def parse(stage: str, key: str) -> Run:
    """The run of a stage and key; inverse of ``run.key``.

    Raises:
        UserError: the key is not of the stage's form, or another spelling of it (width 1.0, S0.9).
    """
    if stage in STAGES:
        parts = STAGES[stage].form.read(key)
        run = STAGES[stage].of(parts) if parts else None
        if run is not None and run.key == key:
            return run
        fault = STAGES[stage].form.fault(key)
        expected = f"{stage}/{STAGES[stage].form.text}"
    else:
        fault, expected = f"{stage[:80]!r} is no stage", f"one of {', '.join(STAGES)}"
    raise UserError(
        f"{f'{stage}/{key}'[:300]!r}: not the path of a run: {fault}; expected {expected}"
    )
