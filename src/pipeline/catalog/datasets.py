"""Facts about the data sets, for validation and planning before any job starts.

Pure Python (standard library only): the Snakefile imports this module. Reading the images is the
business of the other modules of this package.
"""

from __future__ import annotations

import difflib
import importlib.util
import os
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.catalog.schema import LARGEST, quote
from pipeline.errors import UserError

File = tuple[str, int | None, str | None]  # path relative to the data root, bytes, md5


@dataclass(frozen=True)
class DataInfo:
    """What is known of a data set without reading it.

    ``size`` is the side of the square images in pixels; ``mean`` and ``std`` (one value per
    channel) normalise pixels scaled to [0, 1]; ``flip`` and ``pad`` (pixels) are its augmentation:
    horizontal flip with probability 0.5, random crop after zero padding (photographs, of kind
    ``image_folder``, are cropped at random scales instead).
    ``files`` are what is read, ``archives`` what torchvision downloads and unpacks them from.
    ``{root}`` in ``how_to_get`` stands for the data root.
    """

    name: str
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
    how_to_get: str = ""


def _torchvision(*calls: str) -> str:
    """The shell command that lets torchvision download a data set into ``{root}``."""
    statements = "; ".join(f"d.{call}" for call in calls)
    return f'python -c "from torchvision import datasets as d; {statements}"'


# Normalisation constants are those of the authors' code (ImageNet's for CIFAR-10). md5 sums are
# torchvision's; torchvision has none for the unpacked files of FashionMNIST, those below are the
# widely published ones. A byte size is given where it is certain.
INFO: dict[str, DataInfo] = {
    info.name: info
    for info in (
        DataInfo(
            name="digits",
            kind="sklearn",
            classes=10,
            channels=1,
            size=8,
            train_images=1437,
            test_images=360,
            mean=(0.3058,),  # over the training split, as is the next line; a test computes both
            std=(0.3761,),
            flip=False,  # a mirrored digit is not a digit
            pad=1,  # one pixel of eight is already a large shift
            how_to_get="pip install scikit-learn",
        ),
        DataInfo(
            name="cifar10",
            kind="torchvision",
            classes=10,
            channels=3,
            size=32,
            train_images=50_000,
            test_images=10_000,
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
            flip=True,
            pad=4,
            files=(
                (
                    "cifar-10-batches-py/data_batch_1",
                    31_035_704,
                    "c99cafc152244af753f735de768cd75f",
                ),
                (
                    "cifar-10-batches-py/data_batch_2",
                    31_035_320,
                    "d4bba439e000b95fd0a9bffe97cbabec",
                ),
                (
                    "cifar-10-batches-py/data_batch_3",
                    31_035_999,
                    "54ebc095f3ab1f0389bbae665268c751",
                ),
                (
                    "cifar-10-batches-py/data_batch_4",
                    31_035_696,
                    "634d18415352ddfa80567beed471001a",
                ),
                (
                    "cifar-10-batches-py/data_batch_5",
                    31_035_623,
                    "482c414d41f54cd18b22e5b47cb7c3cb",
                ),
                ("cifar-10-batches-py/test_batch", 31_035_526, "40351d587109b95175f43aff81a1287e"),
                ("cifar-10-batches-py/batches.meta", 158, "5ff9c542aee3614f3951f8cda6e48888"),
            ),
            archives=(("cifar-10-python.tar.gz", 170_498_071, "c58f30108f718f92721af3b95e74349a"),),
            how_to_get=_torchvision("CIFAR10('{root}', download=True)"),
        ),
        DataInfo(
            name="cifar100",
            kind="torchvision",
            classes=100,
            channels=3,
            size=32,
            train_images=50_000,
            test_images=10_000,
            mean=(0.5071, 0.4865, 0.4409),
            std=(0.2673, 0.2564, 0.2762),
            flip=True,
            pad=4,
            files=(
                ("cifar-100-python/train", 155_249_918, "16019d7e3df5f24257cddd939b257f8d"),
                ("cifar-100-python/test", None, "f0ef6b0ae62326f3e7ffdfab6717acfc"),
                ("cifar-100-python/meta", None, "7973b15100ade9c7d40fb424638fde48"),
            ),
            archives=(
                ("cifar-100-python.tar.gz", 169_001_437, "eb9058c3a382ffc7106e4002c42a8d85"),
            ),
            how_to_get=_torchvision("CIFAR100('{root}', download=True)"),
        ),
        DataInfo(
            name="svhn",  # the 73,257 images of "train" only; "extra" is not used
            kind="torchvision",
            classes=10,
            channels=3,
            size=32,
            train_images=73_257,
            test_images=26_032,
            mean=(0.4377, 0.4438, 0.4728),
            std=(0.1980, 0.2010, 0.1970),
            flip=False,
            pad=4,
            files=(
                ("train_32x32.mat", 182_040_794, "e26dedcc434d2e4c54c9b2d4a06d8373"),
                ("test_32x32.mat", 64_275_384, "eb5a983be6a315427106f1b164d9cef3"),
            ),
            how_to_get=_torchvision(
                "SVHN('{root}', 'train', download=True)", "SVHN('{root}', 'test', download=True)"
            ),
        ),
        DataInfo(
            name="fashionmnist",
            kind="torchvision",
            classes=10,
            channels=1,
            size=28,
            train_images=60_000,
            test_images=10_000,
            mean=(0.2860,),
            std=(0.3530,),
            flip=True,
            pad=4,  # the CIFAR crop carried over, the customary choice (Zhong et al., 2020)
            files=(
                (
                    "FashionMNIST/raw/train-images-idx3-ubyte",
                    47_040_016,
                    "f4a8712d7a061bf5bd6d2ca38dc4d50a",
                ),
                (
                    "FashionMNIST/raw/train-labels-idx1-ubyte",
                    60_008,
                    "9018921c3c673c538a1fc5bad174d6f9",
                ),
                (
                    "FashionMNIST/raw/t10k-images-idx3-ubyte",
                    7_840_016,
                    "8181f5470baa50b63fa0f6fddb340f0a",
                ),
                (
                    "FashionMNIST/raw/t10k-labels-idx1-ubyte",
                    10_008,
                    "15d484375f8d13e6eb1aabb0c3f46965",
                ),
            ),
            archives=(
                (
                    "FashionMNIST/raw/train-images-idx3-ubyte.gz",
                    26_421_880,
                    "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
                ),
                (
                    "FashionMNIST/raw/train-labels-idx1-ubyte.gz",
                    29_515,
                    "25c81989df183df01b3e8a0aad5dffbe",
                ),
                (
                    "FashionMNIST/raw/t10k-images-idx3-ubyte.gz",
                    4_422_102,
                    "bef4ecab320f06d8554ea6380940ec79",
                ),
                (
                    "FashionMNIST/raw/t10k-labels-idx1-ubyte.gz",
                    5_148,
                    "bb300cfdad3c16e7a12a480ee83cd310",
                ),
            ),
            how_to_get=_torchvision("FashionMNIST('{root}', download=True)"),
        ),
        DataInfo(
            name="imagenet",
            kind="image_folder",
            classes=1000,
            channels=3,
            size=224,
            train_images=1_281_167,
            test_images=50_000,
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
            flip=True,
            pad=0,
            files=(("imagenet", None, None),),
            how_to_get=(
                "a folder of JPEG files for each class, {root}/imagenet/train/<class>/*.JPEG and "
                "{root}/imagenet/val/<class>/*.JPEG, from the archives of image-net.org"
            ),
        ),
    )
}

NPZ_ARRAYS = ("x_train", "y_train", "x_test", "y_test")

#: Endings of the names of image files in folders, in small letters.
IMAGE_FILES = (".jpg", ".jpeg", ".png")
#: Folders of an image data set, for training and for testing.
IMAGE_SPLITS = ("train", "val")


def find(name: str | DataInfo) -> DataInfo:
    """The facts of a data set by name (a ``DataInfo`` is passed through); else ``UserError``."""
    if isinstance(name, DataInfo):
        return name
    if name not in INFO:
        close = difflib.get_close_matches(str(name), INFO, n=1)
        hint = f" (did you mean '{close[0]}'?)" if close else ""
        raise UserError(
            f"unknown data set '{name}'{hint}: choose one of {', '.join(INFO)} "
            "or declare it in config/datasets.yaml"
        )
    return INFO[name]


def locate(info: DataInfo, root: str | Path, path: str) -> Path:
    """Where a file of the data set lies: ``path`` below the data root unless it is absolute."""
    return Path(root).expanduser() / Path(path).expanduser()


def advice(info: DataInfo, root: str | Path) -> str:
    """How to get the data, with the data root filled in."""
    return info.how_to_get.replace("{root}", str(Path(root).expanduser()))


def status(name: str | DataInfo, root: str | Path) -> str | None:
    """None if every file is there with its right size, else one line that says what is wrong.

    The line tells where it looked, what it expected and how to get it. Nothing is hashed or
    unpickled, so this is cheap enough for every dry run; ``pipeline.data.load`` checks the sums.
    """
    info = find(name)
    if info.kind == "image_folder":
        return _folder_status(info, root)
    if info.kind == "sklearn" and importlib.util.find_spec("sklearn") is None:
        return f"data set '{info.name}' comes with scikit-learn; get it: {advice(info, root)}"
    missing: list[File] = []
    for file in info.files:
        path, size, _ = file
        place = locate(info, root, path)
        try:
            found = place.stat().st_size if place.is_file() else None
        except OSError as error:
            return f"data set '{info.name}': cannot read {place}: {error.strerror}"
        if found is None:
            missing.append(file)
        elif found == 0 or (size is not None and found != size):
            expected = f"{size:,} bytes" if size is not None else "more than that"
            return (
                f"data set '{info.name}': {place} has {found:,} bytes, expected {expected}: "
                f"truncated or not the original; delete it and get it again: {advice(info, root)}"
            )
    if missing:
        path, size, _ = missing[0]
        expected = f" of {size:,} bytes" if size is not None else ""
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        return (
            f"data set '{info.name}': looked in {locate(info, root, '.')} (DATA_ROOT or data_root),"
            f" expected the file {locate(info, root, path)}{expected}{more};"
            f" get it: {advice(info, root)}"
        )
    return _npz_status(info, root) if info.kind == "npz" else None


def _folder_status(info: DataInfo, root: str | Path) -> str | None:
    """Whether there is a folder for each class; the files in them are not looked at."""
    folder = locate(info, root, info.files[0][0])
    for split in IMAGE_SPLITS:
        try:
            found = sum(entry.is_dir() for entry in os.scandir(folder / split))
        except OSError as error:
            return (
                f"data set '{info.name}': looked in {folder / split} (below DATA_ROOT or "
                f"data_root): {error.strerror}; expected {advice(info, root)}"
            )
        if found != info.classes:
            return (
                f"data set '{info.name}': {folder / split} has {found:,} folders, expected one for "
                f"each of {info.classes:,} classes: {advice(info, root)}"
            )
    return None


def _npz_status(info: DataInfo, root: str | Path) -> str | None:
    """A cut npz file has lost the directory at its end: seen without reading the arrays."""
    place = locate(info, root, info.files[0][0])
    try:
        with zipfile.ZipFile(place) as archive:
            names = set(archive.namelist())
    except (OSError, zipfile.BadZipFile, NotImplementedError) as error:
        return (
            f"data set '{info.name}': {place} is truncated or not an npz file ({error});"
            f" expected {info.how_to_get}"
        )
    absent = [array for array in NPZ_ARRAYS if f"{array}.npy" not in names]
    if absent:
        return (
            f"data set '{info.name}': {place} lacks {', '.join(absent)}; expected {info.how_to_get}"
        )
    return None


# --- a user's own data set -------------------------------------------------------------------

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+=-]*")
_KEYS = {
    "kind": "'npz' or 'image_folder'",
    "path": "the path of the file or folder, absolute or below the data root",
    "classes": "an integer of at least 2",
    "channels": "an integer of at least 1",
    "size": "an integer of at least 1 (pixels along a side of the images, or of their crops)",
    "train_images": "an integer of at least 1",
    "test_images": "an integer of at least 1",
    "mean": "a list of one number per channel",
    "std": "a list of one positive number per channel",
    "flip": "true or false",
    "pad": "an integer of at least 0 (pixels) and at most size",
}
#: Photographs have three channels, and are cropped at random scales rather than padded.
_FOLDER_KEYS = {key: text for key, text in _KEYS.items() if key not in ("channels", "pad")}


def parse_entry(name: str, raw: dict[str, Any]) -> DataInfo:
    """A user's own data set from ``config/datasets.yaml``, validated.

    Every key of its kind is required: normalisation and augmentation belong to the data set and
    are never guessed. Raises ``UserError`` naming the key and what is allowed.
    """
    where = f"data set {quote(name)}"
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UserError(
            f"{where}: a name consists of letters, digits and _ . + = - (it becomes part of paths)"
        )
    if name in INFO:
        raise UserError(f"{where}: the name is taken by a built-in data set; choose another")
    if not isinstance(raw, dict):
        raise UserError(f"{where}: must be a mapping with the keys {', '.join(_KEYS)}")
    kind = raw.get("kind", "npz")
    if kind not in ("npz", "image_folder"):
        raise UserError(f"{where}: kind must be {_KEYS['kind']}, is {quote(kind)}")
    folder = kind == "image_folder"
    keys = _FOLDER_KEYS if folder else _KEYS
    for key in raw:
        if key not in keys:
            close = difflib.get_close_matches(str(key), keys, n=1)
            hint = f" (did you mean '{close[0]}'?)" if close else ""
            raise UserError(f"{where}: unknown key {quote(key)}{hint}; allowed: {', '.join(keys)}")
    for key, allowed in keys.items():
        if key not in raw:
            raise UserError(f"{where}: key '{key}' is missing; it must be {allowed}")

    def require(key: str, fine: bool) -> None:
        if not fine:
            raise UserError(f"{where}: {key} must be {keys[key]}, is {quote(raw[key])}")

    def integer(key: str, least: int) -> int:
        value = raw[key]
        require(key, isinstance(value, int) and not isinstance(value, bool))
        require(key, least <= value < LARGEST)
        return int(value)

    def numbers(key: str, count: int, positive: bool) -> tuple[float, ...]:
        value = raw[key]
        require(key, isinstance(value, list | tuple) and len(value) == count)
        for x in value:
            require(key, isinstance(x, int | float) and not isinstance(x, bool))
            require(key, -LARGEST < x < LARGEST and (x > 0 or not positive))
        return tuple(float(x) for x in value)

    require("path", isinstance(raw["path"], str) and raw["path"].strip() != "")
    require("path", raw["path"].isprintable())
    require("flip", isinstance(raw["flip"], bool))
    classes, size = integer("classes", 2), integer("size", 1)
    channels = 3 if folder else integer("channels", 1)
    train_images, test_images = integer("train_images", 1), integer("test_images", 1)
    pad = 0 if folder else integer("pad", 0)
    if pad > size:
        require("pad", False)
    plain = f" or [N, {size}, {size}]" if channels == 1 else ""
    return DataInfo(
        name=name,
        kind="image_folder" if folder else "npz",
        classes=classes,
        channels=channels,
        size=size,
        train_images=train_images,
        test_images=test_images,
        mean=numbers("mean", channels, positive=False),
        std=numbers("std", channels, positive=True),
        flip=raw["flip"],
        pad=pad,
        files=((raw["path"], None, None),),
        how_to_get=(
            f"a folder of JPEG files for each class, {raw['path']}/train/<class>/*.jpg and "
            f"{raw['path']}/val/<class>/*.jpg"
            if folder
            else f"an npz file with x_train, x_test (uint8 [N, {channels}, {size}, {size}]{plain}) "
            f"and y_train, y_test (integers [N], 0 to {classes - 1})"
        ),
    )
