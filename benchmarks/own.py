"""The same work by this package, as its stages do it: one thread a process, on the CPU or a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from drawn import CLASSES, MEAN, STD, arrays
from drawn import network as plain
from torch import Tensor, nn

from pipeline import models
from pipeline.connectivity.barrier import curve
from pipeline.connectivity.survey import Ground
from pipeline.data import DataSet, Split
from pipeline.data.augment import normalise
from pipeline.evaluation import evaluate as evaluation
from pipeline.kernels.accelerate import accelerate
from pipeline.stages.job import settle
from pipeline.streams import generator
from pipeline.study.settings import SparseSettings
from pipeline.symmetry import matching
from pipeline.training.loop import Schedule, Trainer, Training


def _thread() -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)


def network(*arguments: Any) -> nn.Module:
    """A drawn network as the stages' jobs prepare it."""
    return accelerate(plain(*arguments))


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


def training_of(
    model: str, width: float, size: int, batch: int, steps: int, *, sparse: bool, precision: str,
    device: str = "cpu", eager: bool = False, deterministic: bool = False,
) -> tuple[nn.Module, Callable[[], None]]:  # fmt: skip
    """A network, and an epoch of ``steps`` steps on it by the training loop, augmentation included.

    ``eager``: without recorded steps. The device has finished when an epoch returns.
    """
    _thread()
    place = torch.device(device)
    if place.type == "cuda":
        settle(deterministic)
    net = network(model, width, size)
    settings = SparseSettings(batch_size=batch, precision=precision)
    trainer = Trainer(_data(batch * steps, size), settings, place, recorded=not eager)
    mask = None
    if sparse:
        draws = torch.Generator().manual_seed(0)
        names = models.prunable_parameters(net, "all")
        weights = net.state_dict()
        mask = {name: torch.rand(weights[name].shape, generator=draws) > 0.95 for name in names}

    def streams(purpose: str, epoch: int) -> torch.Generator:
        return generator(0, purpose, epoch)

    def work() -> None:
        trainer.train(net, Training(Schedule(0, 1, 1), streams, mask=mask))
        if place.type == "cuda":
            torch.cuda.synchronize()

    return net, work


def train(*arguments: Any, **named: Any) -> Callable[[], None]:
    """A unit is an epoch of ``training_of``."""
    return training_of(*arguments, **named)[1]


def evaluate(
    model: str, width: float, size: int, images: int, precision: str
) -> Callable[[], None]:
    """A unit is the evaluation on ``images`` test images."""
    _thread()
    net, test = _last(network(model, width, size)), _data(1, size, images).test

    def work() -> None:
        evaluation(net, test.images, test.labels, MEAN, STD, precision=precision, top5=True)

    return work


def _batches(images: Tensor, batch: int) -> Callable[[], Iterator[Tensor]]:
    def batches() -> Iterator[Tensor]:
        for start in range(0, len(images), batch):
            part = normalise(images[start : start + batch], MEAN, STD)
            yield part.contiguous(memory_format=torch.channels_last)

    return batches


def match(
    model: str, width: float, size: int, images: int, device: str = "cpu", held: int = 0
) -> Callable[[], dict[str, Tensor]]:
    """A unit is one matching of network 0 to network 1, with one pass for all groups.

    ``held``: images in memory, of which the first ``images`` are read; 0: as many.
    """
    _thread()
    place = torch.device(device)
    nets = [_last(network(model, width, size, seed)).to(place).eval() for seed in (0, 1)]
    spec = models.traced(model, nets[0]).spec
    pixels = torch.from_numpy(arrays(held or images, size)[0])[:images]
    batches = _batches(pixels.to(place), 100)

    def work() -> dict[str, Tensor]:
        return matching.match(matching.collect(nets[0], nets[1], spec, batches())).permutation

    return work


def interpolate(
    model: str, width: float, size: int, images: int, points: int, device: str = "cpu",
    batch: int = 125,
) -> Callable[[], None]:  # fmt: skip
    """A unit is the curve of ``points`` points between two networks, each with REPAIR."""
    _thread()
    place = torch.device(device)
    ends = [network(model, width, size, seed).state_dict() for seed in (0, 1)]
    data = _data(images, size, images).to(place)
    net = _last(network(model, width, size)).to(place)

    def work() -> None:
        ground = Ground.of_images(
            net, {"test": data.test}, MEAN, STD, data.train.images, batch_size=batch
        )
        alphas = [index / (points - 1) for index in range(points)]
        curve(ground, *ends, alphas=alphas, corrections=("repair",))

    return work
