"""Read a data set once, checksums included, and write down what it is."""

from __future__ import annotations

import hashlib

from torch import Tensor

from pipeline.artifacts.store import write_json
from pipeline.data import load
from pipeline.data.photographs import Files
from pipeline.errors import UserError
from pipeline.study.config import Config
from pipeline.study.graph import Graph


def write_facts(config: Config, name: str) -> None:
    """Write ``data/<name>/facts.json``: the entry, and digests of images and labels.

    Of photographs: of the names and sizes of the files.

    Raises:
        UserError: data missing or damaged, or not what the entry says.
    """
    info = config.data_set(name, "data")
    data = load(info, config.data_root)
    digests = {}
    splits = [("train", data.train), ("test", data.test), ("validation", data.validation)]
    for split, content in splits:
        if content is None:
            continue
        if isinstance(content, Files):
            digests[f"{split}_files"] = _listing(content)
        else:
            digests[f"{split}_images"] = _sum(content.images)
        digests[f"{split}_labels"] = _sum(content.labels)
    facts = Graph(config).facts(name) | {"test_images": len(data.test), "sha256": digests}
    write_json(config.results / "data" / name / "facts.json", facts)


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
