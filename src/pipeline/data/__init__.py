"""Data sets as whole uint8 tensors, each with its own normalisation and augmentation.

Importing this package costs nothing: torch, torchvision and scikit-learn are imported when a data
set is loaded (the Snakefile imports ``pipeline.catalog.datasets`` through here).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.catalog import datasets as catalog
from pipeline.catalog.datasets import DataInfo
from pipeline.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import torch
    from torch import Tensor

    from pipeline.data.photographs import Photographs


@dataclass(frozen=True, eq=False)  # tensors have no single truth value
class Split:
    """The images of a split, uint8 [N, C, H, W], and their classes, int64 [N]."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> Split:
        return Split(self.images.to(device), self.labels.to(device))

    @classmethod
    def from_arrays(cls, images: np.ndarray, labels: np.ndarray) -> Split:
        """From uint8 [N, C, H, W] (copied only if not contiguous) and integers [N]."""
        import numpy as np
        import torch

        return cls(
            torch.from_numpy(np.ascontiguousarray(images)),
            torch.from_numpy(np.asarray(labels).astype(np.int64)),
        )


@dataclass(frozen=True, eq=False)  # tensors have no single truth value
class DataSet:
    """A loaded data set: its splits, and how its images are normalised and augmented.

    validation: training images that are withheld and in ``train`` no more; None: none are.
    """

    name: str
    train: Split
    test: Split
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    flip: bool
    pad: int
    validation: Split | None = None

    @property
    def channels(self) -> int:
        return int(self.train.images.shape[1])

    @property
    def size(self) -> int:
        """Side of the square images in pixels."""
        return int(self.train.images.shape[-1])

    def subset(
        self, count: int, *, batch_size: int, order: torch.Generator,
        augmentation: torch.Generator | None = None,
    ) -> Iterator[tuple[Tensor, Tensor]]:  # fmt: skip
        """``count`` training images (all, where there are fewer): uint8 [n, C, H, W], int64 [n].

        In the order drawn from ``order``, augmented as an epoch of training is, or plain. Batches
        are where the data set is, few of them in memory at once; the last may be smaller.
        """
        import torch

        from pipeline.data.augment import Augmenter

        drawn = Augmenter(self.train, flip=self.flip, pad=self.pad).epoch(
            batch_size=1, order=order, augmentation=augmentation
        )
        return zip(*(torch.split(tensor[:count], batch_size) for tensor in drawn), strict=True)

    def training_split(self, count: int, *, order: torch.Generator) -> Split:
        """``count`` plain training images in memory, those that ``order`` draws first."""
        import torch

        if count >= len(self.train):
            return self.train
        chosen = torch.randperm(len(self.train), generator=order)[:count]
        chosen = chosen.to(self.train.labels.device)
        return Split(self.train.images[chosen], self.train.labels[chosen])

    def test_split(self) -> Split:
        """All test images in memory."""
        return self.test

    def part(self, count: int, *, order: torch.Generator) -> DataSet:
        """Itself with ``count`` of its training images alone (all, where there are fewer)."""
        return replace(self, train=self.training_split(count, order=order))

    def to(self, device: torch.device | str) -> DataSet:
        validation = self.validation and self.validation.to(device)
        return replace(
            self, train=self.train.to(device), test=self.test.to(device), validation=validation
        )


def withheld(count: int, of: int) -> tuple[Tensor, Tensor]:
    """Indices of the training images that are left and of ``count`` withheld ones, each sorted.

    Which ones is drawn once for all runs: it depends on the two numbers alone.
    """
    import torch

    from pipeline.streams import generator

    drawn = torch.randperm(of, generator=generator(0, "validation"))
    return drawn[count:].sort().values, drawn[:count].sort().values


def load(name: str | DataInfo, root: str | Path, *, download: bool = True) -> DataSet | Photographs:
    """Read a data set from the data root onto the CPU; photographs are listed, and read later.

    ``name`` is one of ``catalog.INFO`` or the ``DataInfo`` of a user's own set. What torchvision
    can download is downloaded where it is missing and ``download`` allows it; what is there but
    damaged is never replaced. Raises ``UserError`` with one line; nothing is loaded then.
    """
    asked = catalog.find(name)
    info = asked.whole
    if info.kind == "torchvision" and download:
        from pipeline.data.torchvision_sets import download_missing

        download_missing(info, root)
    if problem := catalog.status(info, root):
        raise UserError(problem)
    if info.kind == "image_folder":
        from pipeline.data.photographs import read_photographs

        return read_photographs(info, root).without(asked)
    if info.kind == "sklearn":
        from pipeline.data.digits import read_digits

        train, test = read_digits()
    elif info.kind == "torchvision":
        from pipeline.data.torchvision_sets import read_torchvision

        train, test = read_torchvision(info, root)
    else:
        from pipeline.data.npz import read_npz

        train, test = read_npz(info, root)
    validation = None
    if asked.validation:
        left, apart = withheld(asked.validation, len(train))
        train, validation = (Split(train.images[i], train.labels[i]) for i in (left, apart))
    return DataSet(
        asked.name, train, test, info.classes, info.mean, info.std, flip=info.flip, pad=info.pad,
        validation=validation,
    )  # fmt: skip
