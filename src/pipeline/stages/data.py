"""Read a data set once, checksums included, and write down what it is."""

from __future__ import annotations

import hashlib

from torch import Tensor

from pipeline.artifacts.store import write_json
from pipeline.data import load
from pipeline.data.photographs import Files, Photographs
from pipeline.errors import UserError
from pipeline.study.config import Config
from pipeline.study.graph import Graph


def write_facts(config: Config, name: str) -> None:
    """Write ``data/<name>/facts.json``: the entry, and digests of images and labels.

    Of photographs: of the names and sizes of the files.

    Raises:
        UserError: data missing or damaged, or not what the entry says.
    """
    data = load(config.datasets[name], config.data_root)
    digests = {}
    if isinstance(data, Photographs):
        for split, files in (("train", data.train), ("test", data.test)):
            digests[f"{split}_files"] = _listing(files)
            digests[f"{split}_labels"] = _sum(files.labels)
        _write(config, name, len(data.test), digests)
        return
    for split, content in (("train", data.train), ("test", data.test)):
        for kind, tensor in (("images", content.images), ("labels", content.labels)):
            digests[f"{split}_{kind}"] = _sum(tensor)
    _write(config, name, len(data.test), digests)


def _sum(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.numpy().tobytes()).hexdigest()


def _listing(files: Files) -> str:
    """Digest of the names and sizes of a split's files: a million of them are not read for this.

    Raises:
        UserError: an empty file, as a copy that was broken off leaves it.
    """
    digest = hashlib.sha256()
    for name in files.names:
        size = (files.folder / name).stat().st_size
        if not size:
            raise UserError(f"{files.folder / name} is empty: copy the data again")
        digest.update(f"{name} {size}\n".encode())
    return digest.hexdigest()


def _write(config: Config, name: str, test_images: int, digests: dict[str, str]) -> None:
    facts = Graph(config).facts(name) | {"test_images": test_images}
    write_json(config.results / "data" / name / "facts.json", facts | {"sha256": digests})
