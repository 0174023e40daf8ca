"""Normalisation and augmentation of whole epochs in batched tensor operations."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pipeline.data import Split
from pipeline.errors import UserError


def normalise(
    images: Tensor, mean: Sequence[float], std: Sequence[float], dtype: torch.dtype = torch.float32
) -> Tensor:
    """``(x / 255 - mean) / std`` per channel of uint8 [B, C, H, W], as ``dtype``.

    Computed in float32 (float64 for float64) and rounded once at the end. The constants are plain
    numbers, so nothing is copied to the device: safe inside a captured CUDA graph.
    """
    working = torch.float64 if dtype == torch.float64 else torch.float32
    x = images.to(working, copy=True).div_(255.0)
    for channel, (m, s) in enumerate(zip(mean, std, strict=True)):
        x[:, channel].sub_(m).div_(s)
    return x.to(dtype)


class Augmenter:
    """Draws epochs of a split, on the split's device.

    Keeps one zero-padded copy of the images, and one mirrored if ``flip``. Every crop of every
    image is then a window into that memory at some start position, and an epoch is a single
    gather of windows: about as fast as shuffling alone, for (1 + flip) * (1 + 2 pad / H)^2 times
    the memory of the images. The copy is made when the first augmented epoch is drawn.
    """

    def __init__(self, split: Split, *, flip: bool, pad: int) -> None:
        self.split, self.flip, self.pad = split, flip, pad
        self._windows: Tensor | None = None

    def epoch(
        self,
        *,
        batch_size: int,
        order: torch.Generator | None,
        augmentation: torch.Generator | None,
        drop_last: bool = True,
    ) -> tuple[Tensor, Tensor]:
        """Images uint8 [n, C, H, W] and labels int64 [n] of one epoch.

        ``n`` is the number of images, cut to whole batches if ``drop_last``. ``order`` shuffles
        (None: in place order); ``augmentation`` flips with probability 0.5, then crops at an
        offset of its own in 0..2*pad on each axis of the zero-padded image (None: neither, and
        the result may share memory with the split). Both are CPU generators: the same draws on
        every device. An image's draw is one integer, ``(mirrored * side + row) * side + column``
        with ``side = 2 * pad + 1``. ``UserError`` if there is not one whole batch.
        """
        images, labels = self.split.images, self.split.labels
        count = _epoch_length(len(labels), batch_size, drop_last)
        if order is None and augmentation is None:
            return images[:count], labels[:count]
        index = (
            torch.arange(count)
            if order is None
            else torch.randperm(len(labels), generator=order)[:count]
        )
        if augmentation is None:
            index = index.to(images.device)
            return images.index_select(0, index), labels.index_select(0, index)

        # One draw per image, uniform over mirrored x row x column.
        side = 2 * self.pad + 1
        draw = torch.randint((1 + self.flip) * side**2, (count,), generator=augmentation)
        mirrored, row, column = draw // side**2, draw // side % side, draw % side
        channels, height, width = images.shape[1:]
        padded_height, padded_width = height + 2 * self.pad, width + 2 * self.pad
        start = (mirrored * len(labels) + index) * (channels * padded_height * padded_width)
        start += row * padded_width + column
        start, index = torch.stack([start, index]).to(images.device)  # one transfer
        if self._windows is None:
            self._windows = self._make_windows()
        return self._windows.index_select(0, start), labels.index_select(0, index)

    def _make_windows(self) -> Tensor:
        """View [start, C, H, W]: the crop-sized window at every position of the padded copies."""
        images, pad = self.split.images, self.pad
        count, channels, height, width = images.shape
        rows, columns = height + 2 * pad, width + 2 * pad
        copies = images.new_zeros((1 + self.flip, count, channels, rows, columns))
        inner = copies[..., pad : pad + height, pad : pad + width]
        inner[0] = images
        if self.flip:
            inner[1] = images.flip(-1)
        span = (channels - 1) * rows * columns + (height - 1) * columns + width
        return copies.as_strided(
            (copies.numel() - span + 1, channels, height, width), (1, rows * columns, columns, 1)
        )


def _epoch_length(images: int, batch_size: int, drop_last: bool) -> int:
    if batch_size < 1:
        raise UserError(f"batch_size must be at least 1, is {batch_size}")
    if not drop_last:
        return images
    if images < batch_size:
        raise UserError(
            f"batch_size is {batch_size} but the split has only {images} images, and incomplete "
            f"batches are dropped: batch_size must be at most {images}"
        )
    return images - images % batch_size
