"""The data sets of torchvision, read by its own classes, which the catalog names.

The CIFAR batches are pickles, and reading a pickle can run anything: no file is opened before its
checksum matches. That is checked here for every file of every set, because torchvision itself
checks the unpacked files of FashionMNIST for existence only.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import socket
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.catalog.datasets import DataInfo, File, advice, locate, status
from pipeline.data import Split
from pipeline.errors import UserError, brief

DOWNLOAD_TIMEOUT = 30.0  # seconds without an answer; a node without network must not hang


def read_torchvision(info: DataInfo, root: str | Path) -> tuple[Split, Split]:
    """Training and test split, uint8 [N, C, H, W]; ``UserError`` if damaged."""
    root = Path(root).expanduser()
    try:
        for file in info.files:
            place = locate(info, root, file[0])
            if not _matches(place, file):
                raise UserError(
                    f"data set '{info.name}': {place} is damaged: its md5 is not {file[2]}; nothing"
                    f" was loaded. Delete it and get it again: {advice(info, root)}"
                )
        train, test = _construct(info, root, download=False)
    except (RuntimeError, OSError) as error:
        raise UserError(f"data set '{info.name}': cannot read {root}: {brief(error)}") from error
    return _split(train), _split(test)


def _construct(info: DataInfo, root: Path, *, download: bool) -> tuple[Any, Any]:
    """Torchvision's data sets for training and test."""
    from torchvision import datasets

    kind = getattr(datasets, info.torchvision)
    if issubclass(kind, datasets.MNIST):
        # not the files that its old versions processed, which it prefers: they have no checksums
        kind = type(kind.__name__, (kind,), {"_check_legacy_exist": lambda self: False})
    named = [{"split": name} for name in info.splits]
    train, test = named or ({"train": True}, {"train": False})
    return kind(root, **train, download=download), kind(root, **test, download=download)


def _split(dataset: Any) -> Split:
    """Torchvision keeps [N, H, W, C] (CIFAR), [N, C, H, W] (SVHN) or [N, H, W] (FashionMNIST)."""
    images = np.asarray(dataset.data)
    if images.ndim == 3:
        images = images[:, None]
    elif images.shape[-1] == 3:
        images = images.transpose(0, 3, 1, 2)
    labels = dataset.labels if hasattr(dataset, "labels") else dataset.targets
    return Split.from_arrays(images, np.asarray(labels))


def download_missing(info: DataInfo, root: str | Path) -> None:
    """Where files are missing, let torchvision download into a hidden folder, and move those.

    A download that is killed leaves no partial file, and two jobs that download at the same time
    do not disturb each other. Archives that already lie in the root are unpacked, not downloaded.
    """
    root = Path(root).expanduser()
    if all(locate(info, root, path).is_file() for path, _, _ in info.files):
        return
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT)
    try:
        root.mkdir(parents=True, exist_ok=True)
        mine = f".download-{platform.node()}-"
        for left in root.glob(f"{mine}*"):  # by a process that was killed
            try:
                os.kill(int(left.name.removeprefix(mine).partition("-")[0]), 0)
            except ProcessLookupError:
                shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=root, prefix=f"{mine}{os.getpid()}-") as folder:
            for archive in info.archives:
                if _matches(locate(info, root, archive[0]), archive):
                    link = Path(folder, archive[0])
                    link.parent.mkdir(parents=True, exist_ok=True)
                    link.symlink_to(locate(info, root, archive[0]).resolve())
            _construct(info, Path(folder), download=True)
            for path, _, _ in info.files:
                target = locate(info, root, path)
                if not target.exists():
                    target.parent.mkdir(parents=True, exist_ok=True)
                    Path(folder, path).replace(target)
    except Exception as error:  # whatever network, archive or disk may raise: one line to the user
        problem = status(info, root) or f"data set '{info.name}': looked in {root}"
        raise UserError(f"{problem} (downloading failed: {brief(error)})") from error
    finally:
        socket.setdefaulttimeout(before)


def _matches(place: Path, file: File) -> bool:
    """Whether the file is there with its size and md5."""
    _, size, md5 = file
    if not place.is_file() or (size is not None and place.stat().st_size != size):
        return False
    with place.open("rb") as stream:
        # usedforsecurity=False: md5 is refused otherwise where FIPS rules
        digest = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False))
    return digest.hexdigest() == md5
