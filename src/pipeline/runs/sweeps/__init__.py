"""Sweeps: families of states of dense runs, each of which a permutation is found for or measured at.

A kind is one class in a module of this package, found here by the name that recipes give ``over``.
It says which states are matched (`Sweep.matchings`), which of the permutations follow from others
(`Sweep.compositions`), and which lines are measured (`Sweep.lines`).
"""

from __future__ import annotations

import importlib
import pkgutil

from pipeline.catalog.schema import choose, mapping, parse
from pipeline.runs.sweeps.base import (
    SWEEPS,
    Composition,
    Line,
    Matching,
    Mix,
    Mixture,
    Prune,
    Sweep,
)

__all__ = [
    "SWEEPS", "Composition", "Line", "Matching", "Mix", "Mixture", "Prune", "Sweep", "parse_sweep",
]  # fmt: skip

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")


def parse_sweep(raw: object, where: str) -> Sweep:
    """A recipe under ``sweep``, of the kind that its key ``over`` names.

    Raises:
        UserError: unknown kind or key, a value that is not allowed.
    """
    entry = dict(mapping(raw, where))
    kind = choose(entry.pop("over", None), SWEEPS, f"{where}: over", "sweep")
    sweep: Sweep = parse(SWEEPS[kind], entry, where)
    sweep.check(where)
    return sweep
