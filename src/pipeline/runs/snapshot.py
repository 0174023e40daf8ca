"""Snapshot of a dense run between two of its trunk states, and the weights of any epoch."""

from __future__ import annotations

from dataclasses import dataclass

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
        return f"snapshot k={self.epoch} seed {self.dense.seed}"

    def inputs(self, study: Study) -> dict[str, File]:
        del study
        return {"trunk": File(self.dense, "trunk.safetensors")}

    def limits(self, study: Study) -> dict[str, int]:
        return {"epoch": self.epoch}

    def trained_epochs(self, study: Study) -> int:
        last: int = max(e for e in study.recipe(self).trunk if e <= self.epoch)
        return self.epoch - last

    def disk(self, study: Study, network: float) -> float:
        return network


def weights_at(study: Study, dense: Dense, epoch: int) -> File:
    """The weights of a dense run after ``epoch`` epochs: its end, a state that it kept or a
    snapshot.

    Raises:
        UserError: an epoch beyond the end.
    """
    settings = study.recipe(dense)
    if epoch > settings.epochs:
        raise UserError(f"{dense.folder}: epoch {epoch} lies beyond T = {settings.epochs}")
    if epoch == settings.epochs:
        return solution_of(dense)
    if epoch in settings.kept:
        return File(dense, "trunk.safetensors", epoch_prefix(epoch) + "weights/")
    return File(Snapshot(dense, epoch), "weights.safetensors")


def solution_of(dense: Dense) -> File:
    """The weights of a dense run at its end."""
    return File(dense, "weights.safetensors")
