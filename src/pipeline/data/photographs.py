"""Photographs in folders of classes: decoded, cropped and mirrored as they are needed.

A data set of JPEG files (torchvision's ``ImageFolder`` layout) does not fit in memory as tensors,
and decoding is what bounds a node's throughput: worker processes decode, and give whole
micro-batches of uint8 images. Training crops are torchvision's ``RandomResizedCrop`` and flip, test
images a resized centre crop, with the shares of ImageNet: 256 pixels for a crop of 224.

The augmentation of an image is drawn from (seed, epoch, index of the image) alone: the same
whatever the number of workers and processes, and in a run that was resumed.
"""

from __future__ import annotations

import math
import os
import random
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from pipeline.catalog.datasets import (
    IMAGE_FILES,
    IMAGE_SPLITS,
    DataInfo,
    class_folders,
    locate,
    some,
)
from pipeline.cli import ENDS
from pipeline.data import Split, withheld
from pipeline.errors import UserError, brief
from pipeline.streams import stream_seed
from pipeline.study.shares import Shares

Batch = tuple[Tensor, Tensor]
Box = tuple[int, int, int, int]
#: How an image is cut out: (seed, epoch) of its augmentation, or None for a centre crop.
Draw = tuple[int, int] | None

# RandomResizedCrop of torchvision: share of the area, and width : height.
SCALE, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)
#: Shorter side of a test image before the centre crop, as a share of the crop (256 : 224).
RESIZE = 256 / 224
#: How files begin that torchvision decodes: JPEG and PNG.
FAST = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")


@dataclass(frozen=True)
class Files:
    """The photographs of a split in the order of class and name, and their classes."""

    folder: Path
    names: tuple[str, ...]
    labels: Tensor

    def __len__(self) -> int:
        return len(self.names)

    def chosen(self, indices: Tensor) -> Files:
        """Those of the photographs that int64 ``indices`` name."""
        names = tuple(self.names[index] for index in indices.tolist())
        return Files(self.folder, names, self.labels[indices])


@dataclass(frozen=True, eq=False)  # tensors have no single truth value
class Photographs:
    """A data set of image files; like ``DataSet``, but its images are read when asked for.

    ``size`` is the side of the square crops in pixels; ``mean`` and ``std`` normalise pixels in
    [0, 1], per channel.
    """

    name: str
    classes: int
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    flip: bool
    train: Files
    test: Files
    channels: int = 3
    validation: Files | None = None

    def without(self, info: DataInfo) -> Photographs:
        """The data set under the name of ``info``, its validation images withheld."""
        if not info.validation:
            return self
        left, apart = (self.train.chosen(i) for i in withheld(info.validation, len(self.train)))
        return replace(self, name=info.name, train=left, validation=apart)

    def to(self, device: torch.device | str) -> Photographs:
        """Itself: images are read on the CPU, and moved batch by batch."""
        del device
        return self

    def train_batches(
        self,
        shares: Shares,
        rank: int = 0,
        *,
        order: torch.Generator,
        augmentation_seed: int | None,
        epoch: int,
        start: int = 0,
        workers: int,
    ) -> Iterator[Batch]:
        """This process's micro-batches of an epoch: uint8 [chunk, 3, size, size], int64 [chunk].

        The epoch's order is one permutation of all images, drawn from ``order``. Step ``s`` has its
        images ``s * batch`` to ``(s + 1) * batch``, dealt to the processes as ``shares`` says; the
        last incomplete batch is dropped. The epoch begins with step ``start``. Without
        ``augmentation_seed`` images are cropped as test images are.

        Raises:
            UserError: there is not one whole batch, or an image cannot be read.
        """
        batch, images = shares.batch, len(self.train)
        if not 1 <= batch <= images:
            raise UserError(
                f"batch_size is {batch}: must be 1 to {images}, the training images of {self.name}"
            )
        indices = torch.randperm(images, generator=order)
        tasks = [
            indices[step * batch + place : step * batch + place + shares.chunk].tolist()
            for step in range(start, images // batch)
            for place in shares.starts(rank)
        ]
        draw = None if augmentation_seed is None else (augmentation_seed, epoch)
        return self._load(self.train, tasks, draw, workers)

    def test_batches(
        self, rank: int = 0, world: int = 1, *, chunk: int, workers: int
    ) -> Iterator[Batch]:
        """This process's test images in order: a consecutive part, each image in one process."""
        return self.plain_batches(self.test, rank, world, chunk=chunk, workers=workers)

    def plain_batches(
        self, files: Files, rank: int = 0, world: int = 1, *, chunk: int, workers: int
    ) -> Iterator[Batch]:
        """As ``test_batches``, of any split."""
        first, last = (len(files) * part // world for part in (rank, rank + 1))
        return self._load(files, _cut(range(first, last), chunk), None, workers)

    def subset(
        self, count: int, *, batch_size: int, order: torch.Generator,
        augmentation: torch.Generator | None = None,
    ) -> Iterator[Batch]:  # fmt: skip
        """As ``DataSet.subset``, on the CPU; without ``augmentation`` cropped as test images are."""
        indices = torch.randperm(len(self.train), generator=order)[:count].tolist()
        draw = None if augmentation is None else (augmentation.initial_seed(), 0)
        return self._load(self.train, _cut(indices, batch_size), draw, default_workers())

    def training_split(self, count: int, *, order: torch.Generator) -> Split:
        """As ``DataSet.training_split``."""
        count = min(count, len(self.train))
        return self._kept(self.subset(count, batch_size=64, order=order), count)

    def test_split(self) -> Split:
        """As ``DataSet.test_split``."""
        return self._kept(self.test_batches(chunk=64, workers=default_workers()), len(self.test))

    def look(self, count: int) -> Tensor:
        """Some training images, cropped as test images are: uint8 [n, 3, size, size].

        At most ``count``, evenly spread over the files; as many test images are decoded as well.
        Raises UserError for an image that cannot be read.
        """
        for files in (self.test, self.train):
            tasks = _cut(range(0, len(files), -(-len(files) // count)), 8)
            seen = [images for images, _ in self._load(files, tasks, None, workers=0)]
        return torch.cat(seen)

    def part(self, count: int, *, order: torch.Generator) -> Photographs:
        """As ``DataSet.part``."""
        chosen = torch.randperm(len(self.train), generator=order)[:count]
        names = tuple(self.train.names[index] for index in chosen)
        return replace(self, train=Files(self.train.folder, names, self.train.labels[chosen]))

    def _kept(self, batches: Iterator[Batch], count: int) -> Split:
        """The images of ``batches``, ``count`` in all, decoded once and kept in memory as uint8."""
        images = torch.empty((count, self.channels, self.size, self.size), dtype=torch.uint8)
        labels = torch.empty(count, dtype=torch.int64)
        end = 0
        for part, classes in batches:
            start, end = end, end + len(part)
            images[start:end], labels[start:end] = part, classes
        if end != count:
            raise UserError(f"expected {count} images, got {end}")
        return Split(images, labels)

    def _load(
        self, files: Files, tasks: Sequence[Sequence[int]], draw: Draw, workers: int
    ) -> Iterator[Batch]:
        import torchvision.io  # noqa: F401  (once, before workers are forked)

        loader = DataLoader(
            _Reader(files, self.size, self.flip, draw),
            batch_size=None,
            sampler=tasks,
            num_workers=workers,
            worker_init_fn=_stay,
            pin_memory=torch.cuda.is_available() and torch.cuda.is_initialized(),  # type: ignore[no-untyped-call]
            generator=torch.Generator(),  # else its start would move the global one
        )
        for images, indices, problem in loader:
            if problem:
                raise UserError(f"data set '{self.name}': {problem}")
            yield images, files.labels[indices]


def default_workers(processes: int = 1) -> int:
    """Worker processes that decode for each of ``processes`` on this machine.

    ``PIPELINE_WORKERS``, else the processors that this process may use, shared evenly. Their number
    changes no bit of a result.
    """
    given = os.environ.get("PIPELINE_WORKERS")
    if given is not None:
        return int(given)
    return max(1, len(os.sched_getaffinity(0)) // processes)


def read_photographs(info: DataInfo, root: str | Path) -> Photographs:
    """List the files of a data set; the images are read later. ``UserError`` if not as declared."""
    folder = locate(info, root, info.files[0][0])
    parts = []
    for split, count in zip(IMAGE_SPLITS, (info.train_images, info.test_images), strict=True):
        part, others = _list(info, folder / split)
        if len(part) != count:
            rest = f"; no images by their names: {some(others)}" if others else ""
            raise UserError(
                f"data set '{info.name}': {part.folder} has {len(part):,} images, expected "
                f"{count:,}{rest}"
            )
        parts.append(part)
    train, test = parts
    names = [{name.partition("/")[0] for name in part.names} for part in parts]
    if odd := names[0] ^ names[1]:
        raise UserError(
            f"data set '{info.name}': {folder}: {' and '.join(IMAGE_SPLITS)} differ in classes: "
            f"{some(odd)}"
        )
    return Photographs(
        info.name, info.classes, info.size, info.mean, info.std, info.flip, train, test
    )


def _list(info: DataInfo, folder: Path) -> tuple[Files, list[str]]:
    """The image files of a split, and the other files in its folders that are not hidden.

    As torchvision's ``ImageFolder`` lists them: classes are numbered in the order of their
    folders' names, subfolders belong to their class, links to folders are followed. What is hidden
    (a name that begins with a dot) is left out.
    """
    names: list[str] = []
    labels: list[int] = []
    others: list[str] = []
    for label, kind in enumerate(class_folders(folder)):
        found = []
        for place, below, files in os.walk(folder / kind, followlinks=True):
            below[:] = [name for name in below if not name.startswith(".")]
            inside = os.path.relpath(place, folder)
            shown = [f"{inside}/{name}" for name in files if not name.startswith(".")]
            found.append((place, sorted(n for n in shown if n.lower().endswith(IMAGE_FILES))))
            others += [name for name in shown if not name.lower().endswith(IMAGE_FILES)]
        images = [name for _, part in sorted(found) for name in part]
        if not images:
            raise UserError(f"data set '{info.name}': {folder / kind} holds no images")
        names += images
        labels += [label] * len(images)
    return Files(folder, tuple(names), torch.tensor(labels, dtype=torch.int64)), others


class _Reader(Dataset[tuple[Tensor, list[int], str]]):
    """What a worker does: the images of a list of indices, or why one cannot be read."""

    def __init__(self, files: Files, size: int, flip: bool, draw: Draw) -> None:
        self.files, self.size, self.flip, self.draw = files, size, flip, draw

    def __getitem__(self, indices: list[int]) -> tuple[Tensor, list[int], str]:
        images = torch.empty((len(indices), 3, self.size, self.size), dtype=torch.uint8)
        for place, index in enumerate(indices):
            path = self.files.folder / self.files.names[index]
            try:
                images[place] = self._read(path, index)
            except (OSError, RuntimeError, ValueError) as error:
                # an exception would reach the main process as a traceback
                return (
                    torch.empty(0),
                    indices,
                    f"{path} cannot be read as an image: {brief(error, lines=1)}",
                )
        return images, indices, ""

    def _read(self, path: Path, index: int) -> Tensor:
        """One image, uint8 [3, size, size]."""
        image = decode(path)
        height, width = image.shape[1:]
        if self.draw is None:
            return cut_out(image, centre_box(width, height), self.size, mirrored=False)
        seed, epoch = self.draw
        stream = random.Random(stream_seed(seed, "photograph", epoch, index))
        box = random_box(width, height, stream)
        return cut_out(image, box, self.size, stream.random() < 0.5 and self.flip)


def decode(path: Path) -> Tensor:
    """An image file as uint8 [3, H, W], by what it holds whatever its name; an error if damaged.

    torchvision's decoder with resizing on tensors is the fastest of what installs everywhere that
    the pipeline does: benchmarks/decode.py. It reads JPEG and PNG, of 16 bits a channel the upper
    8; Pillow, which it brings, reads the rest.

    Raises:
        OSError, RuntimeError, ValueError: it is no image, or damaged.
    """
    from torchvision.io import ImageReadMode, decode_image

    content = bytearray(path.read_bytes())  # torchvision's own reader needs names that are text
    if not content.startswith(FAST):
        return _pillow(path)
    image: Tensor = decode_image(
        torch.frombuffer(content, dtype=torch.uint8), mode=ImageReadMode.RGB
    )
    if image.dtype == torch.uint16:
        image = (image.int() >> 8).to(torch.uint8)
    return image


def _pillow(path: Path) -> Tensor:
    """As ``decode``, of any format that Pillow reads; of several images in a file the first."""
    import numpy as np
    from torchvision.datasets import folder

    try:
        with folder.Image.open(path) as image:  # the one that torchvision reads folders with
            if image.mode.startswith("I"):  # Pillow itself would make them white
                deep = np.array(image)
                if not 0 <= deep.min() <= deep.max() < 1 << 16:
                    raise ValueError("more than 16 bits a pixel")
                pixels = np.repeat((deep >> 8).astype(np.uint8)[..., None], 3, axis=2)
            elif image.mode == "F":
                raise ValueError("pixels are floating-point numbers")
            else:
                pixels = np.array(image.convert("RGB"))
    except Exception as error:  # a broken file makes Pillow raise all kinds
        raise ValueError(brief(error, lines=1)) from None
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def centre_box(width: int, height: int) -> Box:
    """The part of an image that Resize(256) and CenterCrop(224) show: left, top, right, bottom."""
    side = max(1, round(min(width, height) / RESIZE))
    return _centred(width, height, side, side)


def random_box(width: int, height: int, stream: random.Random) -> Box:
    """The crop of torchvision's ``RandomResizedCrop``: left, top, right, bottom, whole pixels."""
    for _ in range(10):
        area = width * height * stream.uniform(*SCALE)
        ratio = math.exp(stream.uniform(math.log(RATIO[0]), math.log(RATIO[1])))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = stream.randint(0, width - w), stream.randint(0, height - h)
            return left, top, left + w, top + h
    # an image so long that no crop fits: the centre, at the nearest ratio that is allowed
    ratio = min(max(width / height, RATIO[0]), RATIO[1])
    return _centred(
        width, height, min(width, round(height * ratio)), min(height, round(width / ratio))
    )


def _centred(width: int, height: int, w: int, h: int) -> Box:
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def cut_out(image: Tensor, box: Box, size: int, mirrored: bool) -> Tensor:
    """The box of an image [3, H, W], resized (bilinear, antialiased): uint8 [3, size, size]."""
    left, top, right, bottom = box
    cut = functional.interpolate(
        image[None, :, top:bottom, left:right], (size, size), mode="bilinear", antialias=True
    )[0]
    return cut.flip(-1) if mirrored else cut


def _stay(worker: int) -> None:
    """Leave what reaches a job's whole group to the training: it saves, and ends these."""
    del worker
    for number in ENDS:
        signal.signal(number, signal.SIG_IGN)


def _cut(indices: Sequence[int], chunk: int) -> list[list[int]]:
    return [list(indices[start : start + chunk]) for start in range(0, len(indices), chunk)]
