"""One named random stream per (seed, purpose): independent stages never share random numbers.

A dense run depends on nothing but its recipe and seed because initialisation, data order and
augmentation draw from their own streams, and every epoch draws from its own sub-stream, so that
the state of a run at an epoch needs no generator state to be saved.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def stream_seed(seed: int | str, purpose: str, *index: int | str) -> int:
    """63-bit seed of the stream ``purpose`` (and sub-stream ``index``) of a run's ``seed``.

    A seed that is written as text (that of a child, ``3t5n1``) gives other numbers than any other
    text; ``3`` and ``"3"`` are one seed.
    """
    text = "/".join(str(part) for part in (seed, purpose, *index))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int | str, purpose: str, *index: int | str) -> torch.Generator:
    """CPU generator of the stream; the same numbers whatever device they are used on."""
    import torch

    return torch.Generator().manual_seed(stream_seed(seed, purpose, *index))
