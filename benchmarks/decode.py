"""Images a second that are read, cut out and resized: three ways to decode a JPEG, and the loader.

    DATA_ROOT=… python benchmarks/decode.py [--images 200] [--repeats 7] [--output FILE.md]

One process, one thread: Pillow as torchvision's ``ImageFolder`` uses it, Pillow decoding at a
reduced size where a crop allows it, and what this pipeline does (``torchvision.io``, resized on
tensors), all with the same random crops. Two workers: torchvision's ``ImageFolder`` with its
transforms in a ``DataLoader``, and ``Photographs.train_batches``. The photographs of imagenette-mini
are 224 pixels a side; ImageNet's are about twice as large, so mosaics of four stand for them.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
import torchvision
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import default_loader
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from pipeline.data.photographs import Box, Files, Photographs, cut_out, decode, random_box
from pipeline.study.shares import Shares

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def pillow(path: Path, box: Box, size: int, mirrored: bool) -> Tensor:
    """The plain way: decode all of it, crop, resize, flip."""
    left, top, right, bottom = box
    image = default_loader(str(path))
    cut = functional.resized_crop(image, top, left, bottom - top, right - left, [size, size])
    return functional.pil_to_tensor(functional.horizontal_flip(cut) if mirrored else cut)


def reduced(path: Path, box: Box, size: int, mirrored: bool) -> Tensor:
    """Pillow, decoding at a half, a quarter or an eighth where the crop allows it (``draft``)."""
    with Image.open(path) as image:
        width, height = image.size
        reduce = min(box[2] - box[0], box[3] - box[1]) / size
        if reduce >= 2:
            image.draft("RGB", (int(width / reduce), int(height / reduce)))
        across, down = image.size[0] / width, image.size[1] / height
        left, top, right, bottom = box
        place = (left * across, top * down, right * across, bottom * down)
        cut = image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR, place)
        return functional.pil_to_tensor(functional.horizontal_flip(cut) if mirrored else cut)


def own(path: Path, box: Box, size: int, mirrored: bool) -> Tensor:
    """This pipeline."""
    return cut_out(decode(path), box, size, mirrored)


WAYS: dict[str, Callable[[Path, Box, int, bool], Tensor]] = {
    "Pillow, whole image (ImageFolder)": pillow,
    "Pillow, at a reduced size where possible": reduced,
    "torchvision.io, resized by torch (this pipeline)": own,
}


def boxes(paths: Iterable[Path]) -> list[tuple[Path, Box, bool]]:
    """A crop and a flip for every file, the same for every way."""
    stream = random.Random(0)
    found = []
    for path in paths:
        with Image.open(path) as image:
            found.append((path, random_box(*image.size, stream), stream.random() < 0.5))
    return found


def mosaics(paths: list[Path], folder: Path, count: int) -> list[Path]:
    """Photographs of 448 x 336 pixels from four of 224 each, in JPEG quality 95 as ImageNet's."""
    made = []
    for number in range(count):
        sheet = Image.new("RGB", (448, 448))
        for quarter in range(4):
            part = Image.open(paths[(4 * number + quarter) % len(paths)]).convert("RGB")
            sheet.paste(part, (224 * (quarter % 2), 224 * (quarter // 2)))
        made.append(folder / "train" / str(number % 10) / f"{number:04d}.jpg")
        made[-1].parent.mkdir(parents=True, exist_ok=True)
        sheet.crop((0, 56, 448, 392)).save(made[-1], quality=95)
    return made


def rates(
    runs: dict[str, Callable[[], int]], repeats: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Images a second of every run, interleaved; one round before them warms the file cache."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(repeats + 1):
        for name, run in runs.items():
            started = clock()
            count = run()
            if repeat:
                found[name].append(count / (clock() - started))
    return found


def one_process(files: list[tuple[Path, Box, bool]], size: int) -> dict[str, Callable[[], int]]:
    def run(way: Callable[[Path, Box, int, bool], Tensor]) -> int:
        for path, box, mirrored in files:
            way(path, box, size, mirrored)
        return len(files)

    return {name: lambda way=way: run(way) for name, way in WAYS.items()}


def loaders(folder: Path, names: list[Path], size: int) -> dict[str, Callable[[], int]]:
    """Epochs of both loaders with two workers, in batches of 50."""
    labels = torch.zeros(len(names), dtype=torch.int64)
    files = Files(folder, tuple(str(path.relative_to(folder)) for path in names), labels)
    ours = Photographs("", 10, size, MEAN, STD, True, files, files)
    crop = v2.RandomResizedCrop(size)
    transform = v2.Compose([crop, v2.RandomHorizontalFlip(), v2.PILToTensor()])
    theirs = ImageFolder(str(folder), transform)

    def conventional() -> int:
        loader = DataLoader(theirs, 50, shuffle=True, num_workers=2, drop_last=True)
        return sum(len(images) for images, _ in loader)

    def pipeline() -> int:
        order = torch.Generator().manual_seed(0)
        batches = ours.train_batches(
            Shares(50, 50), order=order, augmentation_seed=0, epoch=0, workers=2
        )
        return sum(len(images) for images, _ in batches)

    return {"ImageFolder": conventional, "this pipeline": pipeline}


def difference(files: list[tuple[Path, Box, bool]], size: int) -> float:
    """Mean absolute difference between our crops and the plain ones, in grey levels of 255."""
    pairs = ((own(p, b, size, m), pillow(p, b, size, m)) for p, b, m in files)
    return float(np.mean([(a.float() - b.float()).abs().mean() for a, b in pairs]))


def table(title: str, found: dict[str, list[float]]) -> list[str]:
    first = statistics.median(next(iter(found.values())))
    lines = [f"### {title}", "", "| way | images/s | from – to | ratio |", "|---|---|---|---|"]
    for name, values in found.items():
        middle = statistics.median(values)
        spread = f"{min(values):,.0f} – {max(values):,.0f}"
        lines.append(f"| {name} | {middle:,.0f} | {spread} | {middle / first:.2f} |")
    return [*lines, ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    root = Path(os.environ.get("DATA_ROOT") or "data") / "imagenette-mini"
    paths = sorted(root.glob("train/*/*.jpg"))
    if not paths:
        sys.exit(f"no photographs in {root}")
    paths = random.Random(0).sample(paths, len(paths))
    lines = [
        "# Decoding photographs",
        "",
        "`DATA_ROOT=… python benchmarks/decode.py --output docs/evidence/decode.md`",
        "",
        f"{os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}; torch "
        f"{torch.__version__}, torchvision {torchvision.__version__}, Pillow {Image.__version__}. "
        f"Training crops (RandomResizedCrop and flip) of {arguments.images} JPEG files, median of "
        f"{arguments.repeats} interleaved repeats. One process: per second of its processor; two "
        "workers: per second of the clock, beside other work on the machine.",
        "",
    ]
    with tempfile.TemporaryDirectory() as name:
        large = mosaics(paths, Path(name), arguments.images)
        small = paths[: arguments.images]
        for title, files, size in (
            ("448×336 pixels to crops of 224 (ImageNet's sizes)", large, 224),
            ("448×336 pixels to crops of 64", large, 64),
            ("224×224 pixels to crops of 64 (study imagenette)", small, 64),
        ):
            cuts = boxes(files)
            found = rates(one_process(cuts, size), arguments.repeats, time.process_time)
            lines += table(f"One process, {title}", found)
            lines += [
                f"Mean absolute difference of our crops from the plain ones: "
                f"{difference(cuts, size):.2f} of 255 grey levels.",
                "",
            ]
        batches = loaders(Path(name) / "train", large, 224)
        both = rates(batches, arguments.repeats, time.perf_counter)
        lines += table("Two workers, 448×336 pixels to crops of 224, in batches", both)
    text = "\n".join(lines).rstrip() + "\n"
    print(text)
    if arguments.output:
        arguments.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
