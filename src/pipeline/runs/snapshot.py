"""Snapshot of a dense run between two of its trunk states, and the weights of any epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from pipeline.errors import UserError
from pipeline.runs.base import File, Run, Study, network_words
from pipeline.runs.dense import Dense, epoch_prefix
from pipeline.runs.form import Form, Parts


@dataclass(frozen=True)
class Snapshot(Run):
    """Weights of a dense run after ``epoch`` epochs, continued from the trunk state before it."""

    stage = "snapshot"
    form = Form(f"{Dense.form.text}/epoch<k>")
    files = ("weights.safetensors",)
    title = "Rewind snapshots"
    kind = "dense"
    priority = 80
    trains = True
    leaves_weights = True

    dense: Dense
    epoch: int

    @property
    def parts(self) -> Mapping[str, object]:
        return {**self.dense.parts, "k": self.epoch}

    @classmethod
    def of(cls, parts: Parts) -> Self:
        return cls(Dense.of(parts), int(parts["k"]))

    @property
    def label(self) -> str:
        return self.dense.recipe

    @property
    def networks(self) -> tuple[Dense, ...]:
        return (self.dense,)

    @property
    def words(self) -> str:
        network = network_words(self.dense, self.label)
        return f"snapshot k={self.epoch} seed {self.dense.seed} ({network})"

    def inputs(self, study: Study) -> dict[str, File]:
        del study
        return {"trunk": File(self.dense, "trunk.safetensors")}

    def limits(self, study: Study) -> dict[str, tuple[int, Dense]]:
        return {"epoch": (self.epoch, self.dense)}

    def trained_epochs(self, study: Study) -> int:
        last: int = max(e for e in study.recipe(self).trunk if e <= self.epoch)
        return self.epoch - last

    def disk(self, study: Study, network: float) -> float:
        return network


def weights_at(study: Study, dense: Dense, epoch: int) -> File:
    """The weights of a dense run after ``epoch`` epochs: its end, a trunk state or a snapshot.

    Raises:
        UserError: an epoch beyond the end.
    """
    settings = study.recipe(dense)
    if epoch > settings.epochs:
        raise UserError(f"{dense.folder}: epoch {epoch} lies beyond T = {settings.epochs}")
    if epoch == settings.epochs:
        return solution_of(dense)
    if epoch in settings.trunk:
        return File(dense, "trunk.safetensors", epoch_prefix(epoch) + "weights/")
    return File(Snapshot(dense, epoch), "weights.safetensors")


def solution_of(dense: Dense) -> File:
    """The weights of a dense run at its end."""
    return File(dense, "weights.safetensors")
