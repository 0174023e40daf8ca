"""A user's own data set from one npz file, and one such file made from the digits.

The file holds ``x_train``, ``x_test``: uint8 [N, C, H, W] (or [N, H, W] for one channel), and
``y_train``, ``y_test``: integers [N] in 0..classes-1. Pickled (object) arrays are never read, so a
file from elsewhere can run nothing.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pipeline.artifacts.store import write_atomic
from pipeline.catalog.datasets import NPZ_ARRAYS, DataInfo, locate
from pipeline.data import Split
from pipeline.data.digits import read_digits
from pipeline.errors import UserError, brief


def read_npz(info: DataInfo, root: str | Path) -> tuple[Split, Split]:
    """Training and test split, uint8 [N, C, H, W]; ``UserError`` if not as declared."""
    place = locate(info, root, info.files[0][0])
    arrays = {}
    key = ""
    try:
        with np.load(place, allow_pickle=False) as file:
            for key in NPZ_ARRAYS:
                arrays[key] = file[key]
                if not isinstance(arrays[key], np.ndarray):  # numpy hands out foreign bytes as such
                    raise TypeError("not an array")
    except Exception as error:  # a broken file makes numpy and zipfile raise all kinds
        raise UserError(
            f"data set '{info.name}': cannot read {key or 'the arrays'} of {place} ({brief(error)}); "
            f"expected {info.how_to_get}"
        ) from error
    return (
        _checked(info, place, "train", arrays, info.train_images),
        _checked(info, place, "test", arrays, info.test_images),
    )


def _checked(
    info: DataInfo, place: Path, split: str, arrays: Mapping[str, np.ndarray], count: int
) -> Split:
    images, labels = arrays[f"x_{split}"], arrays[f"y_{split}"]
    full = (count, info.channels, info.size, info.size)
    shapes = [full] + ([(count, info.size, info.size)] if info.channels == 1 else [])

    def refused(array: str, found: str, expected: str) -> UserError:
        where = f"data set '{info.name}': {array}_{split} of {place}"
        return UserError(f"{where} {found}, expected {expected}")

    if images.dtype != np.uint8 or images.shape not in shapes:
        allowed = " or ".join(str(list(shape)) for shape in shapes)
        raise refused("x", f"is {images.dtype} {list(images.shape)}", f"uint8 {allowed}")
    if labels.dtype.kind not in "iu" or labels.shape != (count,):
        raise refused("y", f"is {labels.dtype} {list(labels.shape)}", f"integers {[count]}")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= info.classes:
        expected = f"0 to {info.classes - 1} ({info.classes} classes)"
        raise refused("y", f"holds labels from {low} to {high}", expected)
    return Split.from_arrays(images.reshape(full), labels)


def write_npz(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays as an uncompressed npz file, atomically; same arrays, same bytes."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
        for key, array in arrays.items():
            # a ZipInfo without a date has the first day of 1980: no clock in the bytes
            with archive.open(zipfile.ZipInfo(f"{key}.npy"), "w") as member:
                np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)
    write_atomic(Path(path), content.getvalue())


def write_digits_turned(path: str | Path) -> None:
    """Write the digits turned by 90 degrees and inverted (255 - x) as an npz data set.

    A second real data set that needs no network, of the same shape, classes and split as digits:
    masks found on one can be reused on the other. Same bytes every time.
    """
    arrays: dict[str, np.ndarray] = {}
    for name, split in zip(("train", "test"), read_digits(), strict=True):
        arrays[f"x_{name}"] = np.ascontiguousarray(
            255 - np.rot90(split.images.numpy(), axes=(2, 3))
        )
        arrays[f"y_{name}"] = split.labels.numpy()
    write_npz(path, arrays)
