"""What a training reads: this process's micro-batches of each step, and the test set.

From a data set that lies on the device as a whole, or from photographs that are decoded meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Protocol

import torch
from torch import nn

from pipeline.data import DataSet
from pipeline.data.augment import Augmenter
from pipeline.evaluation import Evaluation, evaluate, evaluate_batches
from pipeline.machine.team import Team
from pipeline.study.shares import Shares
from pipeline.training.step import Batch

if TYPE_CHECKING:
    from pipeline.data.photographs import Photographs

#: Purpose and epoch -> generator: "order" of the epoch's images, and their "augmentation".
Streams = Callable[[str, int], torch.Generator]


class Feed(Protocol):
    """A data set on its way to the device."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    steps: int  #: of an epoch; the last incomplete batch is dropped

    def epoch(self, streams: Streams, epoch: int, start: int) -> Iterator[list[Batch]]:
        """For each step from ``start``, its micro-batches that are this process's, in order."""

    def evaluate(self, model: nn.Module, precision: str, logits: bool) -> Evaluation:
        """Evaluation on the whole test set, top-1 and top-5; logits in process 0 alone."""


def feed(data: DataSet | Photographs, shares: Shares, team: Team, device: torch.device) -> Feed:
    """The feed of a data set."""
    if isinstance(data, DataSet):
        return Resident(data, shares, team, device)
    return Decoded(data, shares, team, device)


class Resident:
    """A data set of tensors, moved to the device once; every process holds all of it."""

    def __init__(self, data: DataSet, shares: Shares, team: Team, device: torch.device) -> None:
        self.data, self._shares, self._team = data.to(device), shares, team
        self.mean, self.std = data.mean, data.std
        self.steps = len(data.train) // shares.batch
        self._augmenter = Augmenter(self.data.train, flip=data.flip, pad=data.pad)

    def epoch(self, streams: Streams, epoch: int, start: int) -> Iterator[list[Batch]]:
        """See ``Feed``."""
        images, labels = self._augmenter.epoch(
            batch_size=self._shares.batch,
            order=streams("order", epoch),
            augmentation=streams("augmentation", epoch),
        )
        own, chunk = self._shares.starts(self._team.rank), self._shares.chunk
        for first in range(start * self._shares.batch, len(labels), self._shares.batch):
            places = [slice(first + place, first + place + chunk) for place in own]
            yield [(images[place], labels[place]) for place in places]

    def evaluate(self, model: nn.Module, precision: str, logits: bool) -> Evaluation:
        """See ``Feed``."""
        test = self.data.test
        if self._team.alone:
            return evaluate(
                model, test.images, test.labels, self.mean, self.std,
                precision=precision, logits=logits, top5=True,
            )  # fmt: skip
        team = self._team
        first, last = (len(test) * part // team.size for part in (team.rank, team.rank + 1))
        batches = zip(
            torch.split(test.images[first:last], 512),
            torch.split(test.labels[first:last], 512),
            strict=True,
        )
        return _together(model, batches, self, team, precision, logits)


class Decoded:
    """Photographs: each process decodes its own, in worker processes, while the device computes."""

    def __init__(self, data: Photographs, shares: Shares, team: Team, device: torch.device) -> None:
        from pipeline.data.photographs import default_workers

        self.data, self._shares, self._team, self._device = data, shares, team, device
        self.mean, self.std = data.mean, data.std
        self.steps = data.steps(shares.batch)
        self._workers = default_workers(team.beside)

    def epoch(self, streams: Streams, epoch: int, start: int) -> Iterator[list[Batch]]:
        """See ``Feed``."""
        shares, team = self._shares, self._team
        batches = self.data.train_batches(
            batch=shares.batch, order=streams("order", epoch),
            augmentation_seed=streams("augmentation", epoch).initial_seed(), epoch=epoch,
            start_step=start, rank=team.rank, world=team.size, chunk=shares.chunk,
            parts=shares.parts, workers=self._workers,
        )  # fmt: skip
        moved = self._moved(batches)
        own = len(shares.starts(team.rank))
        while step := list(islice(moved, own)):
            yield step

    def _moved(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        for images, labels in batches:
            yield (
                images.to(self._device, non_blocking=True),
                labels.to(self._device, non_blocking=True),
            )

    def evaluate(self, model: nn.Module, precision: str, logits: bool) -> Evaluation:
        """See ``Feed``."""
        team = self._team
        batches = self.data.test_batches(
            rank=team.rank, world=team.size, chunk=min(self._shares.chunk, 256),
            workers=self._workers,
        )  # fmt: skip
        return _together(model, batches, self, team, precision, logits)


def _together(
    model: nn.Module, batches: Iterator[Batch], feed: Feed, team: Team, precision: str, logits: bool
) -> Evaluation:
    """Evaluation on the images of all processes; ``batches`` are this one's, in order."""
    found = evaluate_batches(
        model, batches, feed.mean, feed.std, precision=precision, logits=logits, top5=True,
        reduce=team.add_up,
    )  # fmt: skip
    if not logits or team.alone:
        return found
    assert found.logits is not None
    parts = team.collect(found.logits)
    return replace(found, logits=None if parts is None else torch.cat(parts))
