"""What a training reads: this process's micro-batches of each step, and the test set.

From a data set that lies on the device as a whole, or from photographs that are decoded meanwhile.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

import torch
from torch import nn

from pipeline.data import DataSet
from pipeline.data.augment import Augmenter
from pipeline.evaluation import Evaluation, evaluate_batches, normalised
from pipeline.machine.team import Team
from pipeline.streams import generator
from pipeline.study.settings import TrainSettings
from pipeline.study.shares import Shares
from pipeline.training.step import Batch

if TYPE_CHECKING:
    from pipeline.data.photographs import Photographs

#: Purpose and epoch -> generator: "order" of the epoch's images, and their "augmentation".
Streams = Callable[[str, int], torch.Generator]


def feed(
    data: DataSet | Photographs, settings: TrainSettings, shares: Shares, team: Team,
    device: torch.device,
) -> Feed:  # fmt: skip
    """The feed of a data set, or of the part of it that the settings train on."""
    if settings.images is not None:
        data = data.part(settings.images, order=generator(0, "images"))
    if isinstance(data, DataSet):
        return Resident(data, settings.augment, shares, team, device)
    return Decoded(data, settings.augment, shares, team, device)


class Feed(ABC):
    """A data set on its way to the device."""

    def __init__(
        self, data: DataSet | Photographs, augment: bool, shares: Shares, team: Team,
        device: torch.device,
    ) -> None:  # fmt: skip
        self.mean, self.std = data.mean, data.std
        self._augment = augment
        #: Of an epoch; the last incomplete batch is dropped.
        self.steps = len(data.train) // shares.batch
        #: Whether the data set withholds images from training.
        self.withholds = data.validation is not None
        self._shares, self._team, self._device = shares, team, device

    @abstractmethod
    def epoch(self, streams: Streams, epoch: int, start: int) -> Iterator[list[Batch]]:
        """For each step from ``start``, its micro-batches that are this process's, in order."""

    @abstractmethod
    def plain(self, split: str) -> Iterator[Batch]:
        """Batches of this process's part of split "test" or "validation", in order."""

    def evaluate(
        self, model: nn.Module, precision: str, logits: bool = False, split: str = "test"
    ) -> Evaluation:
        """Evaluation on a whole split, top-1 and top-5; logits in process 0 alone."""
        batches = normalised(self.plain(split), self.mean, self.std, self._device)
        found = evaluate_batches(
            model, batches, precision=precision, logits=logits, top5=True,
            reduce=self._team.add_up,
        )  # fmt: skip
        if found.logits is None:
            return found
        parts = self._team.collect(found.logits)
        return replace(found, logits=None if parts is None else torch.cat(parts))


class Resident(Feed):
    """A data set of tensors, moved to the device once; every process holds all of it."""

    def __init__(
        self, data: DataSet, augment: bool, shares: Shares, team: Team, device: torch.device
    ) -> None:
        super().__init__(data, augment, shares, team, device)
        data = data.to(device)
        self._augmenter = Augmenter(data.train, flip=data.flip, pad=data.pad)
        self._splits = {"test": data.test, "validation": data.validation}

    def epoch(self, streams: Streams, epoch: int, start: int) -> Iterator[list[Batch]]:
        """See ``Feed``."""
        images, labels = self._augmenter.epoch(
            batch_size=self._shares.batch,
            order=streams("order", epoch),
            augmentation=streams("augmentation", epoch) if self._augment else None,
        )
        own, chunk = self._shares.starts(self._team.rank), self._shares.chunk
        for first in range(start * self._shares.batch, len(labels), self._shares.batch):
            places = [slice(first + place, first + place + chunk) for place in own]
            yield [(images[place], labels[place]) for place in places]

    def plain(self, split: str) -> Iterator[Batch]:
        """See ``Feed``."""
        team, images = self._team, self._splits[split]
        assert images is not None
        first, last = (len(images) * part // team.size for part in (team.rank, team.rank + 1))
        own = images.images[first:last], images.labels[first:last]
        return zip(*(torch.split(tensor, 512) for tensor in own), strict=True)


class Decoded(Feed):
    """Photographs: each process decodes its own, in worker processes, while the device computes."""

    def __init__(
        self, data: Photographs, augment: bool, shares: Shares, team: Team, device: torch.device
    ) -> None:
        from pipeline.data.photographs import default_workers

        super().__init__(data, augment, shares, team, device)
        self._data, self._workers = data, default_workers(team.beside)

    def epoch(self, streams: Streams, epoch: int, start: int) -> Iterator[list[Batch]]:
        """See ``Feed``."""
        seed = streams("augmentation", epoch).initial_seed() if self._augment else None
        batches = self._data.train_batches(
            self._shares, self._team.rank, order=streams("order", epoch), augmentation_seed=seed,
            epoch=epoch, start=start, workers=self._workers,
        )  # fmt: skip
        moved = (
            (
                images.to(self._device, non_blocking=True),
                labels.to(self._device, non_blocking=True),
            )
            for images, labels in batches
        )
        own = len(self._shares.starts(self._team.rank))
        while step := list(islice(moved, own)):
            yield step

    def plain(self, split: str) -> Iterator[Batch]:
        """See ``Feed``."""
        team, files = self._team, getattr(self._data, split)
        chunk = min(self._shares.chunk, 256)
        return self._data.plain_batches(
            files, team.rank, team.size, chunk=chunk, workers=self._workers
        )
