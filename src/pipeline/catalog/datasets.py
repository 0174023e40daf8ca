"""Facts about the data sets, for validation and planning before any job starts.

Pure Python (standard library only): the Snakefile imports this module. `pipeline.data` reads the
images.
"""

from __future__ import annotations

import importlib.util
import os
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

from pipeline.catalog.schema import (
    AT_LEAST_ONE,
    NOT_NEGATIVE,
    POSITIVE,
    Bounds,
    check_name,
    choose,
    describe,
    mapping,
    option,
    parse,
    quote,
)
from pipeline.errors import UserError, brief

FILE = "config/datasets.yaml"

#: Between the name of a data set and the number of its training images that are withheld.
WITHHELD = "+validation="

File = tuple[str, int | None, str | None]  # path relative to the data root, bytes, md5


@dataclass(frozen=True)
class DataInfo:
    """What is known of a data set without reading it.

    ``label`` is how tables write it. ``size`` is the side of the square images in pixels; ``mean``
    and ``std`` (one value per channel) normalise pixels scaled to [0, 1]; ``flip`` and ``pad``
    (pixels) are its augmentation: horizontal flip with probability 0.5, random crop after zero
    padding (photographs, of kind ``image_folder``, are cropped at random scales instead).
    ``files`` are what is read. A set of kind ``torchvision`` is read by the class ``torchvision``
    of that package, its training and test images as the ``splits`` of these names (none: as
    ``train=True`` and ``train=False``), and unpacked from ``archives``; of another kind,
    ``how_to_get`` says where it comes from, with ``{root}`` for the data root. ``validation``: of
    the training images that are read, how many are withheld; ``train_images`` are the others.
    """

    name: str
    label: str
    kind: Literal["sklearn", "torchvision", "npz", "image_folder"]
    classes: int
    channels: int
    size: int
    train_images: int
    test_images: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    flip: bool
    pad: int
    files: tuple[File, ...] = ()
    archives: tuple[File, ...] = ()
    torchvision: str = ""
    splits: tuple[str, ...] = ()
    how_to_get: str = ""
    validation: int = 0

    @property
    def whole(self) -> DataInfo:
        """The data set of which nothing is withheld."""
        if not self.validation:
            return self
        count = self.train_images + self.validation
        name = self.name.partition(WITHHELD)[0]
        return replace(self, name=name, train_images=count, validation=0)

    def without(self, count: int, where: str) -> DataInfo:
        """The data set with ``count`` training images withheld; itself for 0.

        Raises:
            UserError: as many as there are, or more.
        """
        if count >= self.train_images:
            raise UserError(
                f"{where}: validation: {count:,} of the {self.train_images:,} training images of "
                f"{self.name}: at least one must be left"
            )
        name = f"{self.name}{WITHHELD}{count}"
        left = self.train_images - count
        return replace(self, name=name, train_images=left, validation=count) if count else self

    @property
    def shape(self) -> dict[str, int]:
        """What decides the shapes of the tensors of a network, beside its width."""
        return {"classes": self.classes, "channels": self.channels, "size": self.size}


def _files(folder: str, table: str) -> tuple[File, ...]:
    """Files of a folder, a line each of name, bytes and md5 sum; "-": no size is certain."""
    rows = (line.split() for line in table.strip().splitlines())
    return tuple(
        (folder + name, None if size == "-" else int(size), md5) for name, size, md5 in rows
    )


# Normalisation constants are those of the authors' code (ImageNet's for CIFAR-10). md5 sums are
# torchvision's; torchvision has none for the unpacked files of FashionMNIST and MNIST, those below are
# the widely published ones. A byte size is given where it is certain.
INFO: dict[str, DataInfo] = {
    info.name: info
    for info in (
        DataInfo(
            name="digits", label="digits", kind="sklearn", how_to_get="pip install scikit-learn",
            classes=10, channels=1, size=8, train_images=1437, test_images=360,
            mean=(0.3058,), std=(0.3761,),  # over the training split; a test computes both
            flip=False,  # a mirrored digit is not a digit
            pad=1,  # one pixel of eight is already a large shift
        ),
        DataInfo(
            name="cifar10", label="CIFAR-10", kind="torchvision", torchvision="CIFAR10",
            classes=10, channels=3, size=32, train_images=50_000, test_images=10_000,
            mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), flip=True, pad=4,
            files=_files("cifar-10-batches-py/", """
                data_batch_1 31_035_704 c99cafc152244af753f735de768cd75f
                data_batch_2 31_035_320 d4bba439e000b95fd0a9bffe97cbabec
                data_batch_3 31_035_999 54ebc095f3ab1f0389bbae665268c751
                data_batch_4 31_035_696 634d18415352ddfa80567beed471001a
                data_batch_5 31_035_623 482c414d41f54cd18b22e5b47cb7c3cb
                test_batch 31_035_526 40351d587109b95175f43aff81a1287e
                batches.meta 158 5ff9c542aee3614f3951f8cda6e48888
            """),
            archives=_files("", "cifar-10-python.tar.gz 170_498_071 c58f30108f718f92721af3b95e74349a"),
        ),
        DataInfo(
            name="cifar100", label="CIFAR-100", kind="torchvision", torchvision="CIFAR100",
            classes=100, channels=3, size=32, train_images=50_000, test_images=10_000,
            mean=(0.5071, 0.4865, 0.4409), std=(0.2673, 0.2564, 0.2762), flip=True, pad=4,
            files=_files("cifar-100-python/", """
                train 155_249_918 16019d7e3df5f24257cddd939b257f8d
                test - f0ef6b0ae62326f3e7ffdfab6717acfc
                meta - 7973b15100ade9c7d40fb424638fde48
            """),
            archives=_files("", "cifar-100-python.tar.gz 169_001_437 eb9058c3a382ffc7106e4002c42a8d85"),
        ),
        DataInfo(
            # the 73,257 images of "train" only; "extra" is not used
            name="svhn", label="SVHN", kind="torchvision", torchvision="SVHN",
            splits=("train", "test"),
            classes=10, channels=3, size=32, train_images=73_257, test_images=26_032,
            mean=(0.4377, 0.4438, 0.4728), std=(0.1980, 0.2010, 0.1970), flip=False, pad=4,
            files=_files("", """
                train_32x32.mat 182_040_794 e26dedcc434d2e4c54c9b2d4a06d8373
                test_32x32.mat 64_275_384 eb5a983be6a315427106f1b164d9cef3
            """),
        ),
        DataInfo(
            name="fashionmnist", label="FashionMNIST", kind="torchvision", torchvision="FashionMNIST",
            classes=10, channels=1, size=28, train_images=60_000, test_images=10_000,
            mean=(0.2860,), std=(0.3530,), flip=True,
            pad=4,  # the CIFAR crop carried over, the customary choice (Zhong et al., 2020)
            files=_files("FashionMNIST/raw/", """
                train-images-idx3-ubyte 47_040_016 f4a8712d7a061bf5bd6d2ca38dc4d50a
                train-labels-idx1-ubyte 60_008 9018921c3c673c538a1fc5bad174d6f9
                t10k-images-idx3-ubyte 7_840_016 8181f5470baa50b63fa0f6fddb340f0a
                t10k-labels-idx1-ubyte 10_008 15d484375f8d13e6eb1aabb0c3f46965
            """),
            archives=_files("FashionMNIST/raw/", """
                train-images-idx3-ubyte.gz 26_421_880 8d4fb7e6c68d591d4c3dfef9ec88bf0d
                train-labels-idx1-ubyte.gz 29_515 25c81989df183df01b3e8a0aad5dffbe
                t10k-images-idx3-ubyte.gz 4_422_102 bef4ecab320f06d8554ea6380940ec79
                t10k-labels-idx1-ubyte.gz 5_148 bb300cfdad3c16e7a12a480ee83cd310
            """),
        ),
        DataInfo(
            name="mnist", label="MNIST", kind="torchvision", torchvision="MNIST",
            classes=10, channels=1, size=28, train_images=60_000, test_images=10_000,
            mean=(0.1307,), std=(0.3081,), flip=False, pad=0,  # as Sharma et al. (2024) train on it
            files=_files("MNIST/raw/", """
                train-images-idx3-ubyte 47_040_016 6bbc9ace898e44ae57da46a324031adb
                train-labels-idx1-ubyte 60_008 a25bea736e30d166cdddb491f175f624
                t10k-images-idx3-ubyte 7_840_016 2646ac647ad5339dbf082846283269ea
                t10k-labels-idx1-ubyte 10_008 27ae3e4e09519cfbb04c329615203637
            """),
            archives=_files("MNIST/raw/", """
                train-images-idx3-ubyte.gz 9_912_422 f68b3c2dcbeaaa9fbdd348bbdeb94873
                train-labels-idx1-ubyte.gz 28_881 d53e105ee54ea40749a09fcbcd1e9432
                t10k-images-idx3-ubyte.gz 1_648_877 9fb629c4189551a2d022fa330f9573f3
                t10k-labels-idx1-ubyte.gz 4_542 ec29112dd5afa0611ce80d1b7f02629c
            """),
        ),
        DataInfo(
            name="imagenet", label="ImageNet", kind="image_folder",
            classes=1000, channels=3, size=224, train_images=1_281_167, test_images=50_000,
            mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), flip=True, pad=0,
            files=(("imagenet", None, None),),
            how_to_get=(
                "a folder of JPEG files for each class, {root}/imagenet/train/<class>/*.JPEG and "
                "{root}/imagenet/val/<class>/*.JPEG, from the archives of image-net.org"
            ),
        ),
    )
}  # fmt: skip

NPZ_ARRAYS = ("x_train", "y_train", "x_test", "y_test")

#: Endings of the names of image files in folders, in small letters: those of ``ImageFolder``.
IMAGE_FILES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
#: Folders of an image data set, for training and for testing.
IMAGE_SPLITS = ("train", "val")


def find(name: str | DataInfo) -> DataInfo:
    """The facts of a data set by name (a ``DataInfo`` is passed through); else ``UserError``."""
    if isinstance(name, DataInfo):
        return name
    return INFO[choose(name, INFO, "built-in data sets", "data set")]


def locate(info: DataInfo, root: str | Path, path: str) -> Path:
    """Where a file of the data set lies: ``path`` below the data root unless it is absolute."""
    return Path(root).expanduser() / Path(path).expanduser()


def advice(info: DataInfo, root: str | Path) -> str:
    """How to get the data, with the data root filled in."""
    text = info.how_to_get
    if info.torchvision:
        # one call downloads all images where splits have no names
        splits = [f"'{split}', " for split in info.splits] or [""]
        calls = "; ".join(f"d.{info.torchvision}('{{root}}', {s}download=True)" for s in splits)
        text = f'python -c "from torchvision import datasets as d; {calls}"'
    return text.replace("{root}", str(Path(root).expanduser()))


def status(info: DataInfo, root: str | Path) -> str | None:
    """None if every file is there with its right size, else one line that says what is wrong.

    The line tells where it looked, what it expected and how to get it. Nothing is hashed or
    unpickled, so this is cheap enough for every dry run; ``pipeline.data.load`` checks the sums.
    """
    if info.kind == "sklearn":
        if importlib.util.find_spec("sklearn"):
            return None
        return f"data set '{info.name}' comes with scikit-learn; get it: {advice(info, root)}"
    problem = (_folder_problem if info.kind == "image_folder" else _file_problem)(info, root)
    return problem and f"data set '{info.name}': {problem}"


def _file_problem(info: DataInfo, root: str | Path) -> str | None:
    missing: list[str] = []
    for path, size, _ in info.files:
        place = locate(info, root, path)
        try:
            found = place.stat().st_size if place.is_file() else None
        except OSError as error:
            return f"cannot read {place}: {error.strerror}"
        if found is None:
            missing.append(f"{place} of {size:,} bytes" if size is not None else str(place))
        elif found == 0 or (size is not None and found != size):
            expected = f"{size:,} bytes" if size is not None else "more than that"
            return (
                f"{place} has {found:,} bytes, expected {expected}: truncated or not the original; "
                f"delete it and get it again: {advice(info, root)}"
            )
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        return (
            f"looked in {locate(info, root, '.')} (DATA_ROOT or data_root), expected the file "
            f"{missing[0]}{more}; get it: {advice(info, root)}"
        )
    return _npz_problem(info, root) if info.kind == "npz" else None


def class_folders(folder: Path) -> list[str]:
    """The folders of classes in a split, sorted; hidden ones are none. OSErrors go on."""
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))


def some(names: Iterable[str], most: int = 5) -> str:
    """The first of some names, for a message."""
    ordered = [name if name.isprintable() else quote(name) for name in sorted(names)]
    more = f" and {len(ordered) - most:,} more" if len(ordered) > most else ""
    return ", ".join(ordered[:most]) + more


def _folder_problem(info: DataInfo, root: str | Path) -> str | None:
    """Whether there is a folder for each class; the files in them are not looked at."""
    for split in IMAGE_SPLITS:
        folder = locate(info, root, info.files[0][0]) / split
        try:
            found = class_folders(folder)
        except OSError as error:
            return (
                f"looked in {folder} (below DATA_ROOT or data_root): {error.strerror}; expected "
                f"{advice(info, root)}"
            )
        if len(found) != info.classes:
            return (
                f"{folder} has {len(found):,} folders ({some(found) or 'none'}), expected one for "
                f"each of {info.classes:,} classes: {advice(info, root)}"
            )
    return None


def _npz_problem(info: DataInfo, root: str | Path) -> str | None:
    """A cut npz file has lost the directory at its end: seen without reading the arrays."""
    place = locate(info, root, info.files[0][0])
    try:
        with zipfile.ZipFile(place) as archive:
            names = set(archive.namelist())
    except (OSError, zipfile.BadZipFile, NotImplementedError) as error:
        return (
            f"{place} is truncated or not an npz file ({brief(error)}); expected {info.how_to_get}"
        )
    absent = [array for array in NPZ_ARRAYS if f"{array}.npy" not in names]
    return f"{place} lacks {', '.join(absent)}; expected {info.how_to_get}" if absent else None


# --- a user's own data set -------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """A data set of the user's own. Every key is required: normalisation and augmentation belong
    to the data set and are never guessed."""

    kind: Literal["npz", "image_folder"] = option(help="how it is stored")
    path: str = option(
        help="the file or folder, absolute or below the data root; `{results}` stands for the "
        "results folder",
    )  # fmt: skip
    classes: int = option(help="number of classes", bounds=Bounds(2))
    size: int = option(help="pixels a side of the images, or of their crops", bounds=AT_LEAST_ONE)
    train_images: int = option(help="number of training images", bounds=AT_LEAST_ONE)
    test_images: int = option(help="number of test images", bounds=AT_LEAST_ONE)
    mean: tuple[float, ...] = option(help="of pixels scaled to [0, 1], a number per channel")
    std: tuple[float, ...] = option(
        help="of pixels scaled to [0, 1], a number per channel", bounds=POSITIVE
    )
    flip: bool = option(help="horizontal flip with probability 0.5, in training")


@dataclass(frozen=True)
class Npz(Entry):
    """One file of arrays."""

    channels: int = option(help="channels of the images", bounds=AT_LEAST_ONE)
    pad: int = option(
        help="pixels of zero padding before a random crop, in training; at most `size`",
        bounds=NOT_NEGATIVE,
    )

    @property
    def how_to_get(self) -> str:
        sides = f"{self.size}, {self.size}]"
        plain = f" or [N, {sides}" if self.channels == 1 else ""
        return (
            f"an npz file with x_train, x_test (uint8 [N, {self.channels}, {sides}{plain}) "
            f"and y_train, y_test (integers [N], 0 to {self.classes - 1})"
        )


@dataclass(frozen=True)
class ImageFolder(Entry):
    """Photographs, a folder for each class, cropped at random scales in training."""

    channels: ClassVar[int] = 3
    pad: ClassVar[int] = 0

    @property
    def how_to_get(self) -> str:
        return (
            f"a folder of image files for each class, {self.path}/train/<class>/*.jpg and "
            f"{self.path}/val/<class>/*.jpg"
        )


KINDS: dict[str, type[Npz | ImageFolder]] = {"npz": Npz, "image_folder": ImageFolder}


def own_data_sets(raw: object, results: Path) -> dict[str, DataInfo]:
    """The entries of ``config/datasets.yaml``, checked; ``{results}`` in a path is filled in.

    Raises `UserError` as `parse_entry` does.
    """
    entries = mapping(raw, FILE)
    return {name: parse_entry(name, value, results) for name, value in entries.items()}


def parse_entry(name: str, raw: object, results: Path = Path("results")) -> DataInfo:
    """One entry as a data set.

    Raises `UserError` for a name that is taken or cannot stand in a path, and for settings that
    are missing or not allowed.
    """
    if check_name(name, FILE) in INFO:
        raise UserError(f"{FILE}: {name!r} is the name of a built-in data set")
    where = f"{FILE}: {name}"
    kind = choose(mapping(raw, where).get("kind", "npz"), KINDS, where, "kind")
    entry = parse(KINDS[kind], raw, where)
    entry = replace(entry, path=entry.path.replace("{results}", str(results.resolve())))
    if not entry.path.strip() or not entry.path.isprintable():
        raise UserError(f"{where}: path: {quote(entry.path)} is no name of a file or folder")
    for key in ("mean", "std"):
        values = getattr(entry, key)
        if len(values) != entry.channels:
            raise UserError(
                f"{where}: {key}: expected a number for each channel ({entry.channels}), "
                f"got {describe(list(values))}"
            )
    as_they_are = set(entry.mean) == {0.0} and set(entry.std) == {1.0}
    for key, most in () if as_they_are else (("mean", 1.0), ("std", 0.5)):
        if odd := [value for value in getattr(entry, key) if not 0 <= value <= most]:
            raise UserError(
                f"{where}: {key}: {odd[0]} is not of pixels scaled to [0, 1], where it is at most "
                f"{most}; divide what was computed of 0 to 255 by 255"
            )
    if entry.pad > entry.size:
        raise UserError(f"{where}: pad: {entry.pad} must not exceed size = {entry.size}")
    facts = {key: value for key, value in vars(entry).items() if key != "path"}
    return DataInfo(
        name=name, label=name, files=((entry.path, None, None),), how_to_get=entry.how_to_get,
        **facts | {"channels": entry.channels, "pad": entry.pad},
    )  # fmt: skip
