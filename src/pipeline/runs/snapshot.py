"""Snapshot of a dense run between two of its trunk states, and the weights of any epoch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.errors import UserError
from pipeline.runs.base import File, Run, Study
from pipeline.runs.dense import Dense, epoch_prefix
from pipeline.runs.form import Form


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

    dense: Dense
    epoch: int

    @property
    def what(self) -> str:
        return f"snapshot k={self.epoch} seed {self.dense.who}"

    def own(self, recipe: Any) -> Any:
        return self.dense.own(recipe)

    def begin(self, study: Study) -> tuple[Dense, int]:
        """The run, and the epoch of its trunk, from whose state it goes on: of a child its parent."""
        if self.dense.parent and self.dense.spawn is not None:
            return self.dense.parent, self.dense.spawn
        return self.dense, max(e for e in study.recipe(self).trunk if e <= self.epoch)

    def inputs(self, study: Study) -> dict[str, File]:
        return {"trunk": File(self.begin(study)[0], "trunk.safetensors")}

    def limits(self, study: Study) -> dict[str, int]:
        return {"epoch": self.epoch}

    def trained_epochs(self, study: Study) -> int:
        return self.epoch - self.begin(study)[1]

    def disk(self, study: Study, network: float) -> float:
        return network


def weights_at(study: Study, dense: Dense, epoch: int) -> File:
    """The weights of a dense run after ``epoch`` epochs: its end, a state that it kept or a
    snapshot; of a child up to its spawn its parent's.

    Raises:
        UserError: an epoch beyond the end.
    """
    settings = study.recipe(dense)
    if epoch > settings.epochs:
        raise UserError(f"{dense.folder}: epoch {epoch} lies beyond T = {settings.epochs}")
    if dense.parent and dense.spawn is not None and epoch <= dense.spawn:
        return weights_at(study, dense.parent, epoch)
    if epoch == settings.epochs:
        return solution_of(dense)
    if epoch in settings.kept:
        return File(dense, "trunk.safetensors", epoch_prefix(epoch) + "weights/")
    return File(Snapshot(dense, epoch), "weights.safetensors")


def solution_of(dense: Dense) -> File:
    """The weights of a dense run at its end."""
    return File(dense, "weights.safetensors")
