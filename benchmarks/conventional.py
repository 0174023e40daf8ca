"""The conventional way: what a careful script without this package does, written for comparison.

torchvision's data set and PIL transforms in a DataLoader with one worker a core; fp32 with PyTorch's
default layout and number of threads; masks by `torch.nn.utils.prune`; the loss read at every step;
matching with one pass over the data for each permutation group, in double precision; REPAIR that
measures the statistics of both ends at every point.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from drawn import MEAN, STD, arrays, network
from PIL import Image
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import prune
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from pipeline import models
from pipeline.symmetry.permutation import Group


class Pictures(Dataset):  # type: ignore[type-arg]
    """torchvision's CIFAR10 as it reads an item: an array becomes a PIL image, then transforms."""

    def __init__(self, count: int, size: int, *, train: bool) -> None:
        images, self.targets = arrays(count, size)
        self.data = images.transpose(0, 2, 3, 1).copy()
        steps: list[Any] = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
        if train:
            crop = transforms.RandomCrop(size, padding=size // 8)
            steps = [crop, transforms.RandomHorizontalFlip(), *steps]
        self.transform = transforms.Compose(steps)

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.data[index])), int(self.targets[index])


def _loader(data: Dataset, batch: int, *, train: bool) -> DataLoader:  # type: ignore[type-arg]
    workers = os.cpu_count() or 1
    return DataLoader(
        data, batch, shuffle=train, drop_last=train, num_workers=workers, persistent_workers=True
    )


def train(
    model: str, width: float, size: int, batch: int, steps: int, *, sparse: bool
) -> Callable[[], None]:
    """A unit is ``steps`` steps of SGD on ``batch`` images."""
    net = network(model, width, size)
    if sparse:
        for module in net.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                prune.random_unstructured(module, "weight", 0.95)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9, weight_decay=5e-4)
    loader = _loader(Pictures(max(2048, batch * steps), size, train=True), batch, train=True)

    def endless() -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield from loader

    batches = endless()

    def work() -> None:
        total = 0.0
        for _ in range(steps):
            images, labels = next(batches)
            loss = functional.cross_entropy(net(images), labels)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            total += loss.item()

    return work


def evaluate(model: str, width: float, size: int, images: int) -> Callable[[], None]:
    """A unit is the accuracy and mean loss on ``images`` test images."""
    net = network(model, width, size).eval()
    loader = _loader(Pictures(images, size, train=False), 128, train=False)

    def work() -> None:
        loss, correct = 0.0, 0
        with torch.no_grad():
            for batch, labels in loader:
                outputs = net(batch)
                loss += functional.cross_entropy(outputs, labels, reduction="sum").item()
                correct += int((outputs.argmax(1) == labels).sum().item())

    return work


def match(model: str, width: float, size: int, images: int) -> Callable[[], dict[str, Tensor]]:
    """A unit is one matching of network 0 to network 1, one group after the other."""
    nets = [network(model, width, size, seed).eval() for seed in (0, 1)]
    spec = models.traced(model, nets[0]).spec
    loader = _loader(Pictures(images, size, train=False), 100, train=False)

    def work() -> dict[str, Tensor]:
        return {group.name: _match_group(nets, group, loader) for group in spec.groups}

    return work


def _match_group(
    nets: list[nn.Module],
    group: Group,
    loader: DataLoader,  # type: ignore[type-arg]
) -> Tensor:
    kept: dict[int, Tensor] = {}
    hooks = []
    for index, net in enumerate(nets):

        def keep(module: nn.Module, given: object, out: Tensor, index: int = index) -> None:
            kept[index] = out.detach().transpose(0, 1).flatten(1).double()

        hooks.append(net.get_submodule(group.tap).register_forward_hook(keep))
    count = 0
    size = group.size
    sums = [torch.zeros(size, dtype=torch.float64) for _ in nets]
    squares = [torch.zeros(size, dtype=torch.float64) for _ in nets]
    products = torch.zeros(size, size, dtype=torch.float64)
    with torch.no_grad():
        for batch, _ in loader:
            for net in nets:
                net(batch)
            for index in range(2):
                sums[index] += kept[index].sum(1)
                squares[index] += kept[index].square().sum(1)
            products += kept[0] @ kept[1].T
            count += kept[0].shape[1]
    for hook in hooks:
        hook.remove()
    means = [s / count for s in sums]
    stds = [
        (q / count - m.square()).clamp_min(0).sqrt() for q, m in zip(squares, means, strict=True)
    ]
    covariance = products / count - means[0][:, None] * means[1]
    correlation = covariance / (stds[0][:, None] * stds[1] + 1e-4)
    rows, columns = linear_sum_assignment(correlation.numpy(), maximize=True)
    order = np.empty(size, dtype=np.int64)
    order[columns] = rows
    return torch.from_numpy(order)


def interpolate(
    model: str, width: float, size: int, images: int, points: int
) -> Callable[[], None]:
    """A unit is loss and accuracy at ``points`` points between two networks, each with REPAIR."""
    ends = [network(model, width, size, seed).eval() for seed in (0, 1)]
    loader = _loader(Pictures(images, size, train=True), 125, train=True)
    test = _loader(Pictures(images, size, train=False), 125, train=False)

    def work() -> None:
        for alpha in np.linspace(0, 1, points):
            net = copy.deepcopy(ends[0])
            mixed = {
                name: (1 - alpha) * tensor + alpha * ends[1].state_dict()[name]
                for name, tensor in ends[0].state_dict().items()
            }
            net.load_state_dict(mixed)
            _repair(net, [_statistics(end, loader) for end in ends], float(alpha), loader)
            with torch.no_grad():
                for batch, labels in test:
                    outputs = net(batch)
                    functional.cross_entropy(outputs, labels, reduction="sum").item()
                    (outputs.argmax(1) == labels).sum().item()

    return work


Moments = dict[str, tuple[Tensor, Tensor]]


def _statistics(net: nn.Module, loader: DataLoader) -> Moments:  # type: ignore[type-arg]
    """Mean and standard deviation of every BatchNorm's output, over one pass."""
    sums: dict[str, list[Any]] = {}
    hooks = []
    for name, module in net.named_modules():
        if isinstance(module, nn.BatchNorm2d):

            def keep(module: nn.Module, given: object, out: Tensor, name: str = name) -> None:
                total = sums.setdefault(name, [0, 0, 0])
                total[0] += out.numel() // out.shape[1]
                total[1] = total[1] + out.double().sum((0, 2, 3))
                total[2] = total[2] + out.double().square().sum((0, 2, 3))

            hooks.append(module.register_forward_hook(keep))
    with torch.no_grad():
        for batch, _ in loader:
            net(batch)
    for hook in hooks:
        hook.remove()
    means = {name: (s / n, q / n) for name, (n, s, q) in sums.items()}
    return {
        name: (mean.float(), (square - mean.square()).clamp_min(0).sqrt().float())
        for name, (mean, square) in means.items()
    }


def _repair(
    net: nn.Module,
    ends: list[Moments],
    alpha: float,
    loader: DataLoader,  # type: ignore[type-arg]
) -> None:
    """Set every BatchNorm so that its output has the mixed moments, then renew its statistics."""
    for name, module in net.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            mixed = [
                (1 - alpha) * a + alpha * b
                for a, b in zip(ends[0][name], ends[1][name], strict=True)
            ]
            module.bias.data, module.weight.data = mixed
            module.reset_running_stats()
            module.momentum = None  # a plain average over the batches
    net.train()
    with torch.no_grad():
        for batch, _ in loader:
            net(batch)
    net.eval()
