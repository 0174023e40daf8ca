"""Laws of data sets of photographs: who sees which image, how it is cut out, what is told of errors."""

from __future__ import annotations

import os
import random
import struct
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import draw, folder
from PIL import Image
from small import few, seeded
from torch import Tensor
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import IMG_EXTENSIONS
from torchvision.transforms import RandomResizedCrop, v2

from pipeline.catalog.datasets import IMAGE_FILES, INFO, DataInfo, parse_entry, status
from pipeline.data import load
from pipeline.data.photographs import (
    RATIO,
    SCALE,
    Photographs,
    centre_box,
    cut_out,
    decode,
    random_box,
)
from pipeline.errors import UserError
from pipeline.runs import Curve, Dense, Match
from pipeline.stages import lines as paths
from pipeline.stages.data import _listing
from pipeline.study.settings import ConnectivitySettings
from pipeline.study.shares import Shares

TRAIN, TEST, SIZE = 48, 16, 24


def entry(**changes: object) -> dict[str, object]:
    base: dict[str, object] = {
        "kind": "image_folder", "path": "shapes", "classes": 4, "size": SIZE,
        "train_images": TRAIN, "test_images": TEST,
        "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "flip": True,
    }  # fmt: skip
    return base | changes


def info(**changes: object) -> DataInfo:
    return parse_entry("shapes", entry(**changes))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("data")
    folder(place / "shapes")
    return place


@pytest.fixture(scope="module")
def data(root: Path) -> Photographs:
    found = load(info(), root)
    assert isinstance(found, Photographs)
    return found


def epoch(
    data: Photographs, batch: int = 16, chunk: int = 8, world: int = 1, **more: int
) -> list[Tensor]:
    options = {"order": seeded(1), "augmentation_seed": 3, "epoch": 2, "workers": 0} | more
    batches = data.train_batches(Shares(batch, chunk, world), **options)  # type: ignore[arg-type]
    return [images for images, _ in batches]


def same(left: Iterable[Tensor], right: Iterable[Tensor]) -> bool:
    left, right = list(left), list(right)
    return len(left) == len(right) and all(
        torch.equal(a, b) for a, b in zip(left, right, strict=True)
    )


# -- who sees what --------------------------------------------------------------------------------


def test_labels_are_those_of_torchvisions_image_folder(root: Path, data: Photographs) -> None:
    theirs = ImageFolder(str(root / "shapes" / "train"))
    assert [str(data.train.folder / name) for name in data.train.names] == [
        path for path, _ in theirs.samples
    ]
    assert data.train.labels.tolist() == theirs.targets
    assert (len(data.train), len(data.test)) == (TRAIN, TEST)
    assert (data.channels, data.size) == (3, SIZE)


def test_an_epoch_has_every_image_once_with_its_label(data: Photographs) -> None:
    order = torch.randperm(TRAIN, generator=seeded(1))
    batches = data.train_batches(
        Shares(16, 8), order=seeded(1), augmentation_seed=3, epoch=0, workers=0
    )
    found = torch.cat([labels for _, labels in batches])
    assert torch.equal(found, data.train.labels[order])


def test_the_last_incomplete_batch_is_dropped(data: Photographs) -> None:
    assert [len(images) for images in epoch(data, batch=20, chunk=10)] == [10, 10, 10, 10]


@pytest.mark.parametrize("workers", [1, 2])
def test_the_number_of_workers_changes_no_bit(data: Photographs, workers: int) -> None:
    assert same(epoch(data, workers=workers), epoch(data))


@settings(max_examples=20, deadline=None)
@given(world=st.sampled_from([1, 2, 4]), chunk=st.sampled_from([1, 2, 4]))
def test_processes_share_each_step_evenly_and_in_order(
    data: Photographs, world: int, chunk: int
) -> None:
    """Step by step, the processes' parts one after the other are the single process's step."""
    alone = epoch(data, batch=16, chunk=chunk)
    parts = [epoch(data, batch=16, chunk=chunk, rank=rank, world=world) for rank in range(world)]
    own = 16 // chunk // world
    merged = [
        image
        for step in range(TRAIN // 16)
        for part in parts
        for image in part[step * own : (step + 1) * own]
    ]
    assert same(merged, alone)


def test_an_epoch_goes_on_at_any_step(data: Photographs) -> None:
    assert same(epoch(data, start=2), epoch(data)[4:])
    assert epoch(data, start=3) == []


def test_an_image_is_cut_out_by_seed_epoch_and_index_alone(data: Photographs) -> None:
    def images(order: int, **draw: int) -> dict[int, Tensor]:
        found = data.train_batches(
            Shares(TRAIN, TRAIN), order=seeded(order), workers=0,
            augmentation_seed=draw.get("seed", 3), epoch=draw.get("epoch", 0),
        )  # fmt: skip
        indices = torch.randperm(TRAIN, generator=seeded(order)).tolist()
        return dict(zip(indices, next(iter(found))[0], strict=True))

    first = images(1)
    assert all(torch.equal(image, first[index]) for index, image in images(2).items())
    for other in (images(1, epoch=1), images(1, seed=4)):
        assert not any(torch.equal(image, first[index]) for index, image in other.items())


def test_the_global_generator_is_left_alone(data: Photographs) -> None:
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    epoch(data, workers=1)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("world", [1, 3, 5])
def test_every_test_image_is_seen_by_one_process(data: Photographs, world: int) -> None:
    parts = [
        batch
        for rank in range(world)
        for batch in data.test_batches(rank=rank, world=world, chunk=3, workers=0)
    ]
    alone = data.test_split()
    assert torch.equal(torch.cat([images for images, _ in parts]), alone.images)
    assert torch.equal(torch.cat([labels for _, labels in parts]), alone.labels)
    assert torch.equal(alone.labels, data.test.labels)


def test_withheld_photographs_are_no_training_images(data: Photographs) -> None:
    found = data.without(info().without(5, "here"))
    assert found.validation is not None
    names = (*found.train.names, *found.validation.names)
    assert sorted(names) == sorted(data.train.names) and len(found.validation) == 5
    label = dict(zip(data.train.names, data.train.labels.tolist(), strict=True))
    for files in (found.train, found.validation):
        assert [label[name] for name in files.names] == files.labels.tolist()
    seen = list(found.plain_batches(found.validation, chunk=2, workers=0))
    assert torch.cat([labels for _, labels in seen]).equal(found.validation.labels)
    assert data.without(info()) is data


@pytest.mark.parametrize("kind", ["in memory", "photographs"])
def test_a_subset_is_the_beginning_of_a_fixed_order(
    data: Photographs, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIPELINE_WORKERS", "0")
    found = data if kind == "photographs" else few(TRAIN, TEST)
    order = torch.randperm(TRAIN, generator=seeded(5))
    for draws in (seeded(7), None):
        parts = list(found.subset(10, batch_size=4, order=seeded(5), augmentation=draws))
        assert [len(images) for images, _ in parts] == [4, 4, 2]
        assert torch.equal(torch.cat([y for _, y in parts]), found.train.labels[order[:10]])
    split = found.training_split(10, order=seeded(5))
    assert torch.equal(split.images, torch.cat([images for images, _ in parts]))
    assert len(found.test_split()) == TEST
    assert len(found.training_split(1000, order=seeded(5))) == TRAIN


def test_training_may_see_some_of_the_images_and_plain_ones(data: Photographs) -> None:
    """A part is as `DataSet.part`; without augmentation images are cut out as for testing."""
    part = data.part(8, order=seeded(5))
    chosen = torch.randperm(TRAIN, generator=seeded(5))[:8]
    assert torch.equal(part.train.labels, data.train.labels[chosen])
    assert part.train.names == tuple(data.train.names[index] for index in chosen)
    assert len(data.part(1000, order=seeded(5)).train) == TRAIN
    found = part.train_batches(
        Shares(8, 8), order=seeded(1), augmentation_seed=None, epoch=0, workers=0
    )
    (images, labels), = found  # fmt: skip
    plain = torch.cat([x for x, _ in part.subset(8, batch_size=4, order=seeded(1))])
    assert torch.equal(images, plain) and sorted(labels) == sorted(part.train.labels)


# -- how an image is cut out -------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 600), st.integers(1, 600), st.integers(0, 2**32))
def test_a_random_box_obeys_its_bounds(width: int, height: int, seed: int) -> None:
    left, top, right, bottom = random_box(width, height, random.Random(seed))
    assert 0 <= left < right <= width and 0 <= top < bottom <= height
    if width == height and width >= 50:
        share = (right - left) * (bottom - top) / (width * height)
        ratio = (right - left) / (bottom - top)
        assert 0.9 * SCALE[0] < share <= 1
        assert 0.9 * RATIO[0] < ratio < 1.1 * RATIO[1]


def test_random_boxes_are_distributed_as_torchvisions() -> None:
    torch.manual_seed(0)
    image = torch.empty(3, 150, 200)
    stream = random.Random(0)
    theirs = torch.tensor(
        [RandomResizedCrop.get_params(image, list(SCALE), list(RATIO)) for _ in range(4000)],
        dtype=torch.float64,
    )  # top, left, height, width
    boxes = torch.tensor([random_box(200, 150, stream) for _ in range(4000)], dtype=torch.float64)
    left, top, right, bottom = boxes.T
    ours = torch.stack([top, left, bottom - top, right - left], dim=1)
    for mine, other in ((ours.mean(0), theirs.mean(0)), (ours.std(0), theirs.std(0))):
        assert torch.allclose(mine, other, atol=2.5)  # pixels; standard error below 0.7


def test_test_images_are_a_resized_centre_crop(root: Path) -> None:
    """Nearly what Resize(256 / 224 of the crop) and CenterCrop give: rounding apart."""
    path = sorted((root / "shapes" / "val").glob("*/*"))[0]
    image = decode(path)
    height, width = image.shape[1:]
    ours = cut_out(image, centre_box(width, height), SIZE, mirrored=False)
    resize = v2.Compose([v2.Resize(round(SIZE * 256 / 224), antialias=True), v2.CenterCrop(SIZE)])
    assert (ours.float() - resize(image).float()).abs().mean() < 12
    left, top, right, bottom = centre_box(500, 375)
    assert (right - left, bottom - top) == (328, 328) and (left, top) == (86, 23)


def test_half_of_the_training_images_are_mirrored(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIPELINE_WORKERS", "0")
    found = Counter()
    for flip in (True, False):
        data = load(info(flip=flip), root)
        assert isinstance(data, Photographs)
        images = data.subset(TRAIN, batch_size=TRAIN, order=seeded(0), augmentation=seeded(1))
        found[flip] = next(iter(images))[0]
    pairs = zip(found[True], found[False], strict=True)
    mirrored = [torch.equal(a, b.flip(-1)) for a, b in pairs]
    equal = [torch.equal(a, b) for a, b in zip(found[True], found[False], strict=True)]
    assert all(a or b for a, b in zip(mirrored, equal, strict=True))
    assert TRAIN / 4 < sum(mirrored) < 3 * TRAIN / 4


@pytest.mark.parametrize(
    ("mode", "ending"), [("CMYK", "jpg"), ("L", "jpg"), ("RGBA", "png"), ("P", "png")]
)
def test_every_kind_of_file_in_imagenet_is_read(tmp_path: Path, mode: str, ending: str) -> None:
    """CMYK and grey JPEG files, and a PNG file under a JPEG's name."""
    path = tmp_path / f"image.{ending}"
    Image.new("RGB", (20, 10), (200, 30, 30)).convert(mode).save(path)
    path = path.rename(tmp_path / "image.JPEG")
    image = decode(path)
    assert image.shape == (3, 10, 20) and image.dtype == torch.uint8


def png(pixels: np.ndarray, kind: int, depth: int = 16) -> bytes:
    """A PNG file of pixels [H, W, channels], unsigned of 8 or 16 bits."""

    def chunk(name: bytes, content: bytes) -> bytes:
        length, check = len(content), zlib.crc32(name + content)
        return struct.pack(">I", length) + name + content + struct.pack(">I", check)

    height, width, _ = pixels.shape
    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(f">u{depth // 8}").tobytes() for row in pixels)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )  # fmt: skip


@pytest.mark.parametrize(("kind", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_png_files_of_16_bits_have_the_pixels_of_their_upper_8(
    tmp_path: Path, kind: int, channels: int
) -> None:
    """Grey and colour, with and without transparency."""
    pixels = np.random.default_rng(0).integers(0, 1 << 16, (9, 7, channels))
    pixels[0, 0] = 0x8000
    (tmp_path / "deep.png").write_bytes(png(pixels, kind))
    found = decode(tmp_path / "deep.png")
    shown = pixels[..., :3] if channels > 2 else pixels[..., :1].repeat(3, axis=2)
    assert found.dtype == torch.uint8 and found[0, 0, 0] == 128
    assert torch.equal(found, torch.from_numpy(shown >> 8).permute(2, 0, 1).to(torch.uint8))


@pytest.mark.parametrize("ending", ["tif", "pgm", "png"])
def test_grey_files_of_16_bits_are_read_alike_whatever_their_format(
    tmp_path: Path, ending: str
) -> None:
    pixels = np.random.default_rng(0).integers(0, 1 << 16, (9, 7), dtype=np.uint16)
    Image.fromarray(pixels).save(tmp_path / f"deep.{ending}")
    expected = torch.from_numpy((pixels >> 8).astype(np.uint8))
    assert torch.equal(decode(tmp_path / f"deep.{ending}"), expected.expand(3, -1, -1))


def test_the_endings_are_those_of_image_folder() -> None:
    assert set(IMAGE_FILES) == set(IMG_EXTENSIONS)


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "LA", "1", "CMYK"])
@pytest.mark.parametrize("ending", [e.removeprefix(".") for e in IMG_EXTENSIONS])
def test_every_ending_and_mode_has_pillows_pixels(tmp_path: Path, ending: str, mode: str) -> None:
    source = draw("disc", 41, 23, random.Random(1)).convert(mode)
    path = tmp_path / f"image.{ending}"
    try:
        source.save(path)
    except (OSError, KeyError, ValueError):
        return  # there is no such file
    with Image.open(path) as image:
        expected = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
    found = decode(path).int()
    near = 3 if ending in ("jpg", "jpeg") else 0  # two decoders, and for CMYK two conversions
    assert found.shape == expected.shape
    assert (found - expected.int()).abs().float().mean() <= near


def test_folders_are_read_as_image_folder_reads_them(tmp_path: Path) -> None:
    """Subfolders, links to folders, endings in capitals; hidden and foreign files are no images."""
    place = folder(tmp_path / "shapes", train=3, test=1)
    (place / "train" / "disc" / "b" / "c").mkdir(parents=True)
    (place / "train" / "disc" / "a").mkdir()
    picture = draw("disc", 30, 30, random.Random(0))
    for name in ("b/c/1.png", "b/2.PNG", "a/9.bmp", "a.ppm", "zz.WEBP"):
        picture.save(place / "train" / "disc" / name)
    elsewhere = folder(tmp_path / "elsewhere", classes=1, train=2, test=1) / "train" / "cross"
    (place / "train" / "disc" / "linked").symlink_to(elsewhere)
    reference = ImageFolder(place / "train")
    for name in ("disc/notes.txt", "disc/Thumbs.db", "disc/.DS_Store", "disc/._000.jpg"):
        (place / "train" / name).write_bytes(b"nothing")
    (place / "train" / "disc" / ".cache").mkdir()
    picture.save(place / "train" / "disc" / ".cache" / "1.png")
    (place / "train" / ".ipynb_checkpoints").mkdir()
    (place / "train" / "README").write_text("not a folder")
    count = len(reference.samples)
    assert status(info(test_images=4), tmp_path) is None
    data = load(info(train_images=count, test_images=4), tmp_path)
    assert isinstance(data, Photographs)
    read = [(str(data.train.folder / name), label) for name, label in
            zip(data.train.names, data.train.labels.tolist(), strict=True)]  # fmt: skip
    assert read == reference.samples
    data.look(8)


def test_what_is_no_image_or_class_is_named(tmp_path: Path) -> None:
    place = folder(tmp_path / "shapes")
    (place / "train" / "disc" / "photo.heic").write_bytes(b"other")
    with pytest.raises(UserError, match=r"48 images, expected 49; .*: disc/photo\.heic"):
        load(info(train_images=49), tmp_path)
    (place / "val" / "__MACOSX").mkdir()
    told = status(info(), tmp_path)
    assert told is not None and "5 folders" in told and "__MACOSX" in told
    (place / "val" / "__MACOSX").rmdir()
    (place / "val" / "disc").rename(place / "val" / "\n")
    with pytest.raises(UserError, match=r"differ in classes: '\\n', disc"):
        load(info(), tmp_path)


@pytest.mark.parametrize("ending", ["tif", "bmp", "webp", "pgm"])
@pytest.mark.parametrize("content", [b"", b"II*\0", b"BM", b"P5\n9", b"RIFF\0\0\0\0WEBP"])
def test_broken_files_of_other_formats_are_named_in_one_line(
    tmp_path: Path, ending: str, content: bytes
) -> None:
    place = folder(tmp_path / "shapes", train=12, test=4)
    path = place / "val" / "disc" / f"000.{ending}"
    (place / "val" / "disc" / "000.jpg").unlink()
    path.write_bytes(content)
    data = load(info(), tmp_path)
    assert isinstance(data, Photographs)
    with pytest.raises(UserError) as caught:
        list(data.test_batches(chunk=4, workers=0))
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_whose_name_is_no_text_is_one_of_the_data(tmp_path: Path) -> None:
    place = folder(tmp_path / "shapes")
    path = place / "train" / "disc" / "000.jpg"
    path.rename(path.with_name(os.fsdecode(b"\xff.jpg")))
    data = load(info(), tmp_path)
    assert isinstance(data, Photographs) and len(_listing(data.train)) == 64
    data.look(TRAIN)


# -- what is told of errors ---------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("content", [b"", b"no image at all", None])
def test_a_damaged_image_is_named_in_one_line(
    tmp_path: Path, content: bytes | None, workers: int
) -> None:
    folder(tmp_path / "shapes", train=12, test=4)
    path = tmp_path / "shapes" / "val" / "disc" / "001.JPEG"
    path.write_bytes(path.read_bytes()[:300] if content is None else content)
    data = load(info(), tmp_path)
    assert isinstance(data, Photographs)
    with pytest.raises(UserError) as caught:
        list(data.test_batches(chunk=4, workers=workers))
    text = str(caught.value)
    assert str(path) in text and "\n" not in text


def test_a_data_set_that_is_not_there_is_told_before_any_job(tmp_path: Path) -> None:
    text = status(info(), tmp_path)
    assert text is not None and str(tmp_path / "shapes" / "train") in text and "<class>" in text
    folder(tmp_path / "shapes", classes=3)
    text = status(info(), tmp_path)
    assert text is not None and "3 folders" in text and "4 classes" in text
    imagenet = status(INFO["imagenet"], tmp_path)
    assert imagenet is not None and "imagenet/train" in imagenet and "image-net.org" in imagenet


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [({"train_images": 49}, "48 images, expected 49"), ({"test_images": 1}, "expected 1")],
)
def test_numbers_of_images_are_checked(root: Path, changes: dict[str, int], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        load(info(**changes), root)


def test_train_and_val_have_the_same_classes(tmp_path: Path) -> None:
    place = folder(tmp_path / "shapes")
    (place / "val" / "disc").rename(place / "val" / "circle")
    with pytest.raises(UserError, match="differ in classes: circle, disc"):
        load(info(), tmp_path)
    (place / "val" / "circle").rename(place / "val" / "disc")
    for path in (place / "val" / "disc").iterdir():
        path.unlink()
    with pytest.raises(UserError, match="holds no images"):
        load(info(), tmp_path)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"kind": "folder"}, "allowed: image_folder, npz"),
        ({"pad": 4}, "unknown key 'pad'"),
        ({"channels": 3}, "unknown key 'channels'"),
        ({"mean": [0.5]}, "mean: expected a number for each channel"),
        ({"size": 0}, "size: 0 is not allowed"),
    ],
)
def test_an_entry_is_checked(changes: dict[str, object], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        parse_entry("shapes", entry(**changes))


def test_more_training_images_than_fit_are_refused(
    data: Photographs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "KEPT", TRAIN * SIZE**2)
    a, b = (Dense("shapes", "resnet50", "0.25", "dense", seed) for seed in (0, 1))
    run = Curve(Match(a, b, "activations"), "line")
    job = SimpleNamespace(data=data, device="cpu", recipe=ConnectivitySettings(), run=run)
    with pytest.raises(UserError, match="give the connectivity recipe 'line' a number of images"):
        paths.ground(job, b)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("batch", "chunk", "world"), [(49, 1, 1), (16, 5, 1), (16, 8, 4), (16, 0, 1), (0, 1, 1)]
)
def test_batches_that_cannot_be_cut_are_refused(
    data: Photographs, batch: int, chunk: int, world: int
) -> None:
    with pytest.raises(UserError):
        epoch(data, batch=batch, chunk=chunk, world=world)


def test_the_command_lists_photographs(root: Path, tmp_path: Path) -> None:
    """`python -m pipeline data` in a folder of its own, with the entry declared."""
    place = tmp_path / "study"
    repository = Path(__file__).resolve().parents[1]
    (place / "config" / "studies").mkdir(parents=True)
    for name in ("config.yaml", "config/recipes.yaml", "config/studies/demo.yaml"):
        (place / name).write_text((repository / name).read_text())
    (place / "config" / "datasets.yaml").write_text(
        "shapes: {kind: image_folder, path: shapes, classes: 4, size: 24, train_images: 48, "
        "test_images: 16, mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25], flip: true}\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "data", "shapes"],
        cwd=place, env={"DATA_ROOT": str(root), "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "shapes: 48 training and 16 test images, 3×24×24: fine\n"
