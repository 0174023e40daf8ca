"""Sparse training from random initialisation by weight symmetry: science and graph.

Two trained networks of one architecture, aligned and merged, without a study (`pipeline.alignment`):

>>> from pipeline import align
>>> found = align(a, b, batches)
>>> found.barrier(batches), found.merge(0.5, "reset", batches)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.alignment import Alignment as Alignment
    from pipeline.alignment import align as align
    from pipeline.alignment import align_all as align_all

__version__ = "0.1.0"

#: Loaded when they are asked for: they need torch.
_FACE = ("Alignment", "align", "align_all")


def __getattr__(name: str) -> Any:
    if name in _FACE:
        return getattr(importlib.import_module("pipeline.alignment"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
