"""Small networks and a small study, shared by the tests that train something."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from pipeline import stages
from pipeline.artifacts.record import PROVENANCE
from pipeline.artifacts.store import digest, read_json, write_json
from pipeline.data import DataSet, Split, load
from pipeline.data.npz import write_npz
from pipeline.models import traced
from pipeline.runs import Dense, ImpBlock, Mask, Run, Solution
from pipeline.study.config import Config, read
from pipeline.study.experiment import Cell
from pipeline.study.graph import Graph
from pipeline.symmetry.permutation import PermutationSpec

REPOSITORY = Path(__file__).resolve().parents[1]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def same(left: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> bool:
    """Whether two states have the same names and the same numbers (0 and -0 are the same)."""
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


_SPECS: dict[object, PermutationSpec] = {}


def spec_of(name: str, model: nn.Module, taps: str = "last") -> PermutationSpec:
    """The groups of a built-in network, traced once for all of its shape: no weight plays a part."""
    key = name, taps, tuple((key, value.shape) for key, value in model.state_dict().items())
    if key not in _SPECS:
        _SPECS[key] = traced(name, model, taps=taps).spec
    return _SPECS[key]


def fit(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    labels: Tensor,
    batches: Iterable[Any],
) -> nn.Module:
    """A step for each of ``batches`` (indices or slices); the network in evaluation mode."""
    model.train()
    for index in batches:
        optimizer.zero_grad()
        cross_entropy(model(images[index]), labels[index]).backward()
        optimizer.step()
    return model.eval()


@functools.cache
def few(train: int = 512, test: int = 128) -> DataSet:
    """The first images of the digits."""
    data = load("digits", "nowhere")
    parts = [
        Split(part.images[:count].clone(), part.labels[:count].clone())
        for part, count in ((data.train, train), (data.test, test))
    ]
    return DataSet(
        "few", *parts, classes=10, mean=data.mean, std=data.std, flip=data.flip, pad=data.pad
    )


MAIN = "{study: tiny, results: results, data_root: data, device: cpu}\n"

RECIPES = """
dense:
  tiny: &tiny {epochs: 4, lr: 0.08, batch_size: 64, trunk: [0, 2], evaluate_every: 2}
  tiny-all: {<<: *tiny, trunk: [0, 1, 2, 3]}
  wild: {<<: *tiny, lr: 1e6, trunk: [0, 2, 3]}
imp:
  tiny: {epochs: 1, lr: 0.02, batch_size: 64, rounds_per_block: 2}
  tiny-rewind: {style: rewind, rewind_epoch: 1, rounds_per_block: 2}
  tiny-rate: {style: lr-rewind, rounds_per_block: 2}
match:
  tiny: {batch_size: 64}
  random: {similarity: random}
sparse:
  tiny: {lr: 0.02, batch_size: 64}
connectivity:
  tiny: {points: 3, grid: 3, images: 64, batch_size: 64, corrections: [none, repair]}
methods:
  lth: {init: a}
  naive: {init: b}
  permuted: {init: b, permute: true}
  random-mask: {init: b, mask: shuffled}
protocols:
  paper: {}
  authors-code: {rewind_offset: 1, imp: {prunable: no-shortcut}}
"""

STUDY = """
experiments:
  tiny: &tiny
    dataset: few
    width: 0.25
    dense: tiny
    imp: tiny
    match: tiny
    sparse: tiny
    connectivity: tiny
    sparsities: [0.5, 0.6]
    rewind_epochs: [0, 1]
    pairs: [[0, 1], [0, 2]]
  rewound: {<<: *tiny, imp: tiny-rewind}
  wild: {<<: *tiny, dense: wild}
  wild-rewound: {<<: *tiny, dense: wild, imp: tiny-rewind}
outputs: {}
"""


def write_study(root: Path, recipes: str = RECIPES, study: str = STUDY) -> Path:
    """A whole configuration for networks that train in half a second, with its data."""
    data = few()
    (root / "config" / "studies").mkdir(parents=True)
    arrays = {
        f"{kind}_{name}": getattr(split, field).numpy()
        for name, split in (("train", data.train), ("test", data.test))
        for kind, field in (("x", "images"), ("y", "labels"))
    }
    write_npz(root / "data" / "few.npz", arrays)
    entry = {
        "kind": "npz", "path": str(root / "data" / "few.npz"), "classes": 10, "channels": 1,
        "size": 8, "train_images": len(data.train), "test_images": len(data.test),
        "mean": list(data.mean), "std": list(data.std), "flip": data.flip, "pad": data.pad,
    }  # fmt: skip
    (root / "config.yaml").write_text(MAIN)
    (root / "config" / "datasets.yaml").write_text(json.dumps({"few": entry}))
    (root / "config" / "recipes.yaml").write_text(recipes)
    (root / "config" / "studies" / "tiny.yaml").write_text(study)
    return root


class Tiny:
    """The small study with results of its own; ``kept`` is a store of runs that others may have made."""

    def __init__(
        self, root: Path, results: Path, kept: Path | None = None, **overrides: Any
    ) -> None:
        self.root, self.kept = root, kept
        self.config: Config = read(root, {"results": str(results), **overrides})
        self.results, self.graph = results, Graph(self.config)

    def path(self, run: Run, name: str | None = None) -> Path:
        return self.results / run.path(name)

    def folder(self, run: Run) -> Path:
        return self.results / run.folder

    def run(self, run: Run) -> Path:
        """Execute one run, whether or not it is there; its folder."""
        stages.run(self.config, run.stage, run.key)
        return self.folder(run)

    def make(self, run: Run) -> Path:
        """Execute a run and its ancestors where they are not there yet; its folder.

        What the store keeps is copied from there, since equal digests are equal bits: for tests
        that need runs, and neither look at how they are made nor change it.
        """
        for each in self.graph.closure([run]):
            if self.path(each, PROVENANCE).exists():
                continue
            place = self.kept and self.kept / digest([each.folder, self.graph.digest(each)])
            if place and place.exists():
                shutil.copytree(place, self.folder(each), dirs_exist_ok=True)
                continue
            self.run(each)
            if place:
                part = Path(tempfile.mkdtemp(dir=self.kept))
                shutil.copytree(self.folder(each), part, dirs_exist_ok=True)
                with contextlib.suppress(OSError):  # another process has kept it by now
                    part.rename(place)
        return self.folder(run)

    def dense(self, seed: int = 0, recipe: str = "tiny") -> Dense:
        return Dense("few", "resnet20", "0.25", recipe, seed)

    def block(self, number: int = 1, recipe: str = "tiny", dense: str = "tiny") -> ImpBlock:
        return ImpBlock(self.dense(recipe=dense), recipe, number)

    def mask(self, sparsity: float = 0.6, experiment: str = "tiny") -> Mask:
        return self.config.experiments[experiment].mask(0, sparsity)

    def solution(self, sparsity: float = 0.6, experiment: str = "tiny") -> Solution:
        return Solution(self.mask(sparsity, experiment))

    def cell(
        self,
        method: str,
        *,
        k: int = 0,
        sparsity: float = 0.6,
        pair: tuple[int, int] = (0, 1),
        experiment: str = "tiny",
    ) -> Cell:
        """The one cell of a method, rewind epoch, sparsity and pair."""
        found = self.config.experiments[experiment].cells((sparsity,), (k,), (method,))
        (cell,) = (c for c in found if c.pair == pair)
        return cell


def contents(folder: Path) -> dict[str, str]:
    """Digest of every file of a run but its provenance, hidden ones too."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name != PROVENANCE
    }


def rewrite(folder: Path, **changes: object) -> None:
    """Change the record of a run as if it had been written so."""
    found = read_json(folder / PROVENANCE) | changes
    found.pop("record", None)
    write_json(folder / PROVENANCE, found | {"record": digest(found)})
