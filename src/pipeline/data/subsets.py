"""Training and test images for what is measured rather than trained, whatever the data set.

Data sets in memory draw an epoch and cut it; photographs are decoded as they are needed. Both give
uint8 images, so that statistics and evaluation need not know which they read.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from pipeline.data import DataSet, Split
from pipeline.data.augment import Augmenter
from pipeline.data.photographs import Photographs, default_workers, kept


def training_batches(
    data: DataSet | Photographs,
    count: int,
    *,
    batch_size: int,
    order: torch.Generator,
    augmentation: torch.Generator | None,
) -> Iterator[Tensor]:
    """``count`` training images (all, where there are fewer) as uint8 batches [n, C, H, W].

    In the order drawn from ``order``, augmented as an epoch of training is, or plain where
    ``augmentation`` is None. Batches are where the data set is, photographs on the CPU; no more
    than a few of these are in memory at once. The last batch may be smaller.
    """
    if isinstance(data, Photographs):
        seed = None if augmentation is None else augmentation.initial_seed()
        batches = data.train_subset(
            count, order=order, augmentation_seed=seed, chunk=batch_size, workers=default_workers()
        )
        return (images for images, _ in batches)
    drawn, _ = Augmenter(data.train, flip=data.flip, pad=data.pad).epoch(
        batch_size=1, order=order, augmentation=augmentation
    )
    return iter(torch.split(drawn[:count], batch_size))


def training_split(data: DataSet | Photographs, count: int, *, order: torch.Generator) -> Split:
    """``count`` plain training images and their labels in memory, those ``order`` draws first."""
    if isinstance(data, Photographs):
        count = min(count, data.len_train)
        batches = data.train_subset(
            count, order=order, augmentation_seed=None, chunk=64, workers=default_workers()
        )
        return kept(batches, count)
    if count >= len(data.train):
        return data.train
    chosen = torch.randperm(len(data.train), generator=order)[:count].to(data.train.labels.device)
    return Split(data.train.images[chosen], data.train.labels[chosen])


def held_out_split(data: DataSet | Photographs) -> Split:
    """All test images and their labels in memory."""
    if isinstance(data, Photographs):
        return kept(data.test_batches(chunk=64, workers=default_workers()), data.len_test)
    return data.test
