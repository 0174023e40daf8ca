"""Read a data set once, checksums included, and write down what it is."""

from __future__ import annotations

import hashlib

from pipeline.artifacts.store import write_json
from pipeline.data import load
from pipeline.study.config import Config
from pipeline.study.graph import Graph


def write_facts(config: Config, name: str) -> None:
    """Write ``data/<name>/facts.json``: the entry, and digests of images and labels.

    Raises:
        UserError: data missing or damaged, or not what the entry says.
    """
    data = load(config.datasets[name], config.data_root)
    digests = {}
    for split, content in (("train", data.train), ("test", data.test)):
        for kind, tensor in (("images", content.images), ("labels", content.labels)):
            digests[f"{split}_{kind}"] = hashlib.sha256(tensor.numpy().tobytes()).hexdigest()
    facts = Graph(config).facts(name) | {"test_images": len(data.test)}
    write_json(config.results / "data" / name / "facts.json", facts | {"sha256": digests})
