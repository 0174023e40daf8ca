"""The same work by this package, as its stages do it: one thread a process, as many as cores."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from drawn import CLASSES, MEAN, STD, arrays, network
from torch import Tensor, nn

from pipeline import matching, models
from pipeline.connectivity import curve
from pipeline.data import DataSet, Split
from pipeline.data.augment import normalise
from pipeline.evaluation import evaluate as evaluation
from pipeline.streams import generator
from pipeline.study.settings import SparseSettings
from pipeline.training import Schedule, Trainer


def _thread() -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)


def _data(count: int, size: int, test: int = 1) -> DataSet:
    def split(number: int) -> Split:
        images, labels = arrays(number, size)
        return Split(torch.from_numpy(images), torch.from_numpy(labels))

    return DataSet(
        name="drawn", classes=CLASSES, train=split(count), test=split(test), mean=MEAN, std=STD,
        flip=True, pad=size // 8,
    )  # fmt: skip


def _last(net: nn.Module) -> nn.Module:
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def train(
    model: str, width: float, size: int, batch: int, steps: int, *, sparse: bool, precision: str
) -> Callable[[], None]:
    """A unit is an epoch of ``steps`` steps by the training loop, augmentation included."""
    _thread()
    net = network(model, width, size)
    settings = SparseSettings(batch_size=batch, precision=precision)
    trainer = Trainer(_data(batch * steps, size), settings, torch.device("cpu"))
    mask = None
    if sparse:
        draws = torch.Generator().manual_seed(0)
        names = models.prunable_parameters(net, "all")
        weights = net.state_dict()
        mask = {name: torch.rand(weights[name].shape, generator=draws) > 0.95 for name in names}

    def work() -> None:
        trainer.train(
            net, Schedule(0, 1, 1), lambda purpose, epoch: generator(0, purpose, epoch), mask=mask
        )

    return work


def evaluate(
    model: str, width: float, size: int, images: int, precision: str
) -> Callable[[], None]:
    """A unit is the evaluation on ``images`` test images."""
    _thread()
    net, test = _last(network(model, width, size)), _data(1, size, images).test

    def work() -> None:
        evaluation(net, test.images, test.labels, MEAN, STD, precision=precision, top=(1, 5))

    return work


def _batches(images: Tensor, batch: int) -> Callable[[], Iterator[Tensor]]:
    def batches() -> Iterator[Tensor]:
        for start in range(0, len(images), batch):
            part = normalise(images[start : start + batch], MEAN, STD)
            yield part.contiguous(memory_format=torch.channels_last)

    return batches


def permutation(model: str, width: float, size: int, images: int) -> dict[str, Tensor]:
    """Match network 0 to network 1 with one pass for all groups."""
    _thread()
    nets = [_last(network(model, width, size, seed)).eval() for seed in (0, 1)]
    spec = models.permutation_spec(model, nets[0])
    pixels = torch.from_numpy(arrays(images, size)[0])
    statistics = matching.collect(nets[0], nets[1], spec, _batches(pixels, 100)())
    return matching.match(statistics).permutation


def match(model: str, width: float, size: int, images: int) -> Callable[[], None]:
    """A unit is one matching of two networks."""

    def work() -> None:
        permutation(model, width, size, images)

    return work


def interpolate(
    model: str, width: float, size: int, images: int, points: int
) -> Callable[[], None]:
    """A unit is the curve of ``points`` points between two networks, each with REPAIR."""
    _thread()
    ends = [network(model, width, size, seed) for seed in (0, 1)]
    data = _data(images, size, images)
    net = _last(network(model, width, size))

    def work() -> None:
        curve(
            net, ends[0].state_dict(), ends[1].state_dict(),
            alphas=[index / (points - 1) for index in range(points)], corrections=("repair",),
            statistics_batches=_batches(data.train.images, 125), splits={"test": data.test},
            mean=MEAN, std=STD, batch_size=125, precision="fp32",
        )  # fmt: skip

    return work
