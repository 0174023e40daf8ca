"""Batches of training images on which activation statistics are measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from pipeline.data.augment import normalise

Batches = Callable[[], Iterable[Tensor]]
"""Gives, at every call, the same normalised batches [B, C, H, W]: statistics of two networks can
be compared only on the same images."""


def normalised_batches(
    images: Tensor, mean: Sequence[float], std: Sequence[float], *, batch_size: int
) -> Batches:
    """Batches of kept images uint8 [N, C, H, W], plain ones or an epoch of augmented ones.

    The images are drawn once, by the caller, and stay in memory as bytes; only the normalisation is
    repeated. The last batch may be smaller.
    """

    def batches() -> Iterator[Tensor]:
        for batch in torch.split(images, batch_size):
            yield normalise(batch, mean, std)

    return batches
