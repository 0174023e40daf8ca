"""Align two trained networks: their permutation, barriers and merged accuracy, on one page."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.artifacts.store import write_atomic
from pipeline.errors import UserError
from pipeline.study.config import Config

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from pipeline.data import DataSet
    from pipeline.data.photographs import Photographs

EXAMPLE = (
    "align a.safetensors b.safetensors --model torchvision.models:resnet18 --with num_classes=10 "
    "--data cifar10"
)


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("a", type=Path, help="weights of the network that is permuted")
    parser.add_argument("b", type=Path, help="weights of the network that it is taken onto")
    parser.add_argument(
        "--model", required=True,
        help="module:function that makes the network, or the name of a built-in one",
    )  # fmt: skip
    parser.add_argument(
        "--with", nargs="+", default=[], metavar="KEY=VALUE", dest="given",
        help="arguments of that function; classes, channels and size are given to one that names them",
    )  # fmt: skip
    parser.add_argument(
        "--data", required=True,
        help="data set, built-in or of config/datasets.yaml: matched on training images, measured "
        "on test images",
    )  # fmt: skip
    parser.add_argument(
        "--matcher", default="correlation", help="value of the match setting similarity"
    )
    parser.add_argument(
        "--match", nargs="+", default=[], metavar="KEY=VALUE", help="other settings of a matching"
    )
    parser.add_argument("--seed", type=int, default=0, help="of what the matcher draws (0)")
    parser.add_argument("--images", type=int, help="so many training images (all)")
    parser.add_argument("--batch-size", type=int, default=500, help="images at once (500)")
    parser.add_argument(
        "--points", type=int, default=25, help="points of the line, an odd number (25)"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("alignment"),
        help="folder for permutation.safetensors and report.md (alignment)",
    )  # fmt: skip


def run(config: Config, arguments: argparse.Namespace) -> None:
    import torch

    from pipeline.alignment import align
    from pipeline.alignment.report import Measured, page
    from pipeline.commands import settings
    from pipeline.data import load
    from pipeline.machine import gpu
    from pipeline.symmetry.trace import spec_of

    for name, least in (("batch_size", 1), ("images", 1), ("points", 3)):
        if (value := getattr(arguments, name)) is not None and value < least:
            raise UserError(f"--{name.replace('_', '-')}: {value}; expected {least} or more")
    if arguments.points % 2 == 0:
        raise UserError(f"--points: {arguments.points}; expected an odd number, 1/2 among them")
    if arguments.output.exists() and not arguments.output.is_dir():
        raise UserError(f"--output: {arguments.output} is a file; expected a folder")
    data = load(config.data_set(arguments.data, "--data"), config.data_root)
    device = torch.device("cuda" if gpu.usable(config.main.device) else "cpu")
    given = settings(arguments.given, "--with")
    a, b = (network(path, arguments.model, given, data) for path in (arguments.a, arguments.b))
    traced = spec_of(a, (data.channels, data.size, data.size))
    train, test = batches(data, device, arguments.images, arguments.batch_size)
    found = align(
        a.to(device), b.to(device), train, matcher=arguments.matcher, groups=traced.spec,
        seed=arguments.seed, **settings(arguments.match, "--match"),
    )  # fmt: skip
    corrections = possible(b)
    plain, aligned = (
        found.curve(
            test, corrections=corrections, points=arguments.points, permuted=permuted,
            statistics=train,
        )
        for permuted in (False, True)
    )  # fmt: skip
    told = {
        "a": f"`{arguments.a}`", "b": f"`{arguments.b}`", "network": f"`{arguments.model}`",
        "data": f"{arguments.data}, {len(data.test):,} test images for losses and accuracies",
        "matcher": " ".join([arguments.matcher, *arguments.match]),
        "training images looked at": f"{found.match.images:,}", "seed": str(arguments.seed),
    }  # fmt: skip
    found.save(arguments.output / "permutation.safetensors")
    text = page(found, Measured(plain, aligned, corrections), told, traced.stay)
    write_atomic(arguments.output / "report.md", text.encode())
    print(text, end="")


def network(
    path: Path, model: str, given: dict[str, Any], data: DataSet | Photographs
) -> nn.Module:
    """A network with the weights of a file, dense or sparse, in evaluation mode on the CPU.

    Raises:
        UserError: no such function or built-in network, or weights that do not fit it.
    """
    import inspect

    from pipeline import models
    from pipeline.connectivity.merge import check_same_shapes
    from pipeline.models import own
    from pipeline.weights import read_state

    shape = {"classes": data.classes, "channels": data.channels, "size": data.size}
    if ":" not in model:
        unknown = sorted(given.keys() - {"width"})
        if unknown:
            raise UserError(f"--with: {unknown[0]!r}: a built-in network takes width alone")
        made = models.build(model, width=given.get("width", 1.0), generator=None, **shape)
    else:
        try:
            function = own.factory(model)
            with own.telling("fails"):
                known = inspect.signature(function).parameters
                wanted = {name: value for name, value in shape.items() if name in known}
                made = own.checked(function(**(wanted | given)))
        except UserError as error:
            raise UserError(f"--model: {model} {error}") from None
    state = read_state(path, like=made.state_dict())
    try:
        check_same_shapes((made.state_dict(), state))
    except ValueError as error:
        raise UserError(f"{path}: does not fit {model}: {error}") from None
    made.load_state_dict(state)
    return made.eval()


def batches(
    data: DataSet | Photographs, device: torch.device, images: int | None, size: int
) -> tuple[
    Callable[[], Iterator[tuple[Tensor, Tensor]]], Callable[[], Iterator[tuple[Tensor, Tensor]]]
]:
    """What gives plain training images in an order drawn once, and the test images; normalised."""
    from pipeline.evaluation import Images, normalised
    from pipeline.streams import generator

    count = min(images or len(data.train), len(data.train))

    def train() -> Iterator[tuple[Tensor, Tensor]]:
        drawn = data.subset(count, batch_size=size, order=generator(0, "align-order"))
        return normalised(drawn, data.mean, data.std, device)

    return train, Images(data.test_split().to(device), data.mean, data.std, size)


def possible(model: nn.Module) -> list[str]:
    """The corrections that a network has a place for, none of them first."""
    from pipeline.connectivity.correction import CORRECTIONS, check_place, has_batch_norm

    found = []
    for correction in CORRECTIONS:
        try:
            check_place(model, correction)
        except ValueError:
            continue
        if correction != "reset" or has_batch_norm(model):
            found.append(correction)
    return found
