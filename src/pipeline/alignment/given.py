"""Batches as a caller has them, gone through as often as is needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain

import torch
from torch import Tensor

from pipeline.errors import UserError

Batch = Tensor | Sequence[Tensor]
"""Normalised inputs [B, ...], as the network reads them, or these with classes int64 [B]."""

Batches = Iterable[Batch] | Callable[[], Iterable[Batch]]
"""What gives the same batches whenever it is gone through: a list, a DataLoader, a function."""

Given = Callable[[], Iterator[tuple[Tensor, Tensor | None]]]
"""Gives, at every call, inputs on the device of a network, with classes where there are any."""


def gone_through(batches: Batches, device: torch.device) -> Given:
    """Batches on a device.

    Raises `UserError` while they are gone through: an iterator, which is used up then, no batch at
    all, or inputs that are no tensors of real numbers.
    """

    def given() -> Iterator[tuple[Tensor, Tensor | None]]:
        source = iter(batches() if callable(batches) else batches)
        if source is batches:
            raise UserError(
                "batches: they are gone through more than once: give a list, a DataLoader or a "
                "function that gives them, not an iterator"
            )
        first = next(source, None)
        if first is None:
            raise UserError("batches: there are none")
        for batch in chain([first], source):
            images, labels = batch if isinstance(batch, list | tuple) else (batch, None)
            if not isinstance(images, Tensor) or not images.is_floating_point():
                kind = images.dtype if isinstance(images, Tensor) else type(images).__name__
                raise UserError(f"batches: expected normalised inputs of real numbers, got {kind}")
            yield images.to(device), labels

    return given
