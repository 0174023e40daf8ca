"""What a data set is: written down when it is first read, compared whenever it is read again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor

from pipeline.artifacts.store import mend, read_json, write_json
from pipeline.data import DataSet, Split, load
from pipeline.errors import UserError
from pipeline.study.config import Config
from pipeline.study.graph import Graph

if TYPE_CHECKING:
    from pipeline.data.photographs import Files, Photographs

    Data: TypeAlias = DataSet | Photographs

#: Networks expect inputs of order one: how far from 0 the mean of a channel may lie once it is
#: normalised, and by which factor its standard deviation may differ from 1.
FAR, FACTOR = 2.0, 4.0
#: Photographs that are decoded when a data set is looked at, of each split.
SAMPLE = 64


def facts_file(config: Config, name: str) -> Path:
    """Where the facts of a data set are written down."""
    return config.results / "data" / name / "facts.json"


def write_facts(config: Config, name: str) -> None:
    """Write ``data/<name>/facts.json``: the entry, and digests of images and labels.

    Of photographs: of the names and sizes of the files.

    Raises:
        UserError: data missing or damaged, or not what the entry says.
    """
    data = load(config.data_set(name, "data"), config.data_root)
    check_scale(data)
    write_json(facts_file(config, name), _facts(config, data))


def compare_facts(config: Config, data: Data, *, renew: bool = True) -> bool:
    """Compare a data set with what was written down when it was first read; False: nothing was.

    An entry that says other things of its data has other runs: its facts are written anew, unless
    ``renew`` is false.

    Raises:
        UserError: other images or labels lie under the same name, or the facts are damaged.
    """
    path = facts_file(config, data.name)
    if not path.exists():
        return False
    recorded, found = read_json(path), _facts(config, data)
    try:
        before, now = recorded.pop("sha256"), found["sha256"]
        changed = sorted(part for part in now if before.get(part) != now[part])
    except (AttributeError, KeyError, TypeError):
        raise UserError(f"{path}: damaged; {mend(path)}") from None
    if recorded != {key: value for key, value in found.items() if key != "sha256"}:
        if renew:
            write_json(path, found)
    elif changed:
        parts = ", ".join(part.replace("_", " ") for part in changed)
        raise UserError(
            f"data set '{data.name}': not the data that {path} was written of: other {parts}; put "
            "the old ones back, or give the new ones a name of their own"
        )
    return True


def check_scale(data: Data) -> None:
    """Raise UserError where mean and std, as declared, do not normalise the training images.

    Of photographs some are decoded; one that cannot be read is a UserError, too.
    """
    images = data.train.images if isinstance(data.train, Split) else data.look(SAMPLE)
    pixels = torch.arange(256, dtype=torch.float64) / 255
    for channel, (mean, std) in enumerate(zip(data.mean, data.std, strict=True)):
        counts = torch.bincount(images[:, channel].flatten(), minlength=256).double()
        average = float((counts * pixels).sum() / counts.sum())
        spread = float((counts * (pixels - average).square()).sum() / counts.sum()) ** 0.5
        if abs(average - mean) > FAR * std or not std / FACTOR <= spread <= std * FACTOR:
            raise UserError(
                f"data set '{data.name}': channel {channel} of the training images has mean "
                f"{average:.4f} and std {spread:.4f} (pixels scaled to [0, 1]), which the declared "
                f"mean {mean} and std {std} do not normalise"
            )


def _facts(config: Config, data: Data) -> dict[str, Any]:
    return Graph(config).facts(data.name) | {
        "test_images": len(data.test),
        "sha256": dict(_digests(data)),
    }


def _digests(data: Data) -> Iterator[tuple[str, str]]:
    splits = {"train": data.train, "test": data.test, "validation": data.validation}
    for split, content in splits.items():
        if content is None:
            continue
        if isinstance(content, Split):
            yield f"{split}_images", _sum(content.images)
        else:
            yield f"{split}_files", _listing(content)
        yield f"{split}_labels", _sum(content.labels)


def _sum(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.numpy().tobytes()).hexdigest()


def _listing(files: Files) -> str:
    """Digest of the names and sizes of a split's files: a million of them are not read for this.

    Raises:
        UserError: an empty file, as a copy that was broken off leaves it, or one that has gone.
    """
    digest = hashlib.sha256()

    def size(name: str) -> int:
        return (files.folder / name).stat().st_size

    try:
        with ThreadPoolExecutor(16) as pool:  # a network file system answers many at once
            for name, found in zip(files.names, pool.map(size, files.names), strict=True):
                if not found:
                    raise UserError(f"{files.folder / name} is empty: copy the data again")
                digest.update(os.fsencode(f"{name} {found}\n"))
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror}") from None
    return digest.hexdigest()
