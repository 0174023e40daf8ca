"""Planes through ends of training and permuted ends, with the trajectories projected."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.errors import UserError
from pipeline.runs.align import Align
from pipeline.runs.base import File, Study
from pipeline.runs.connect import Connect
from pipeline.runs.connectivity import Measured
from pipeline.runs.dense import Dense
from pipeline.runs.snapshot import solution_of, weights_at
from pipeline.runs.sweeps.epochs import END, Epochs


@dataclass(frozen=True)
class Landscape(Measured):
    """For every epoch of a sweep the planes of the recipe, and both trajectories in them."""

    stage = "landscape"
    form = Connect.form
    files = ("planes.csv", "paths.csv", "metrics.json")
    title = "Landscapes of sweeps"
    priority = 30

    align: Align
    recipe: str

    @property
    def what(self) -> str:
        return f"landscape {self.align.sweep} {self.align.who}"

    def states(self, study: Study, network: Dense) -> dict[int, File]:
        """The states that a dense run left up to the sweep's end, by epochs trained, in order."""
        end = self._times(study)[END]
        kept = [epoch for epoch in study.recipe(network).kept if epoch <= end]
        return {epoch: weights_at(study, network, epoch) for epoch in kept}

    def _times(self, study: Study) -> dict[str, int]:
        sweep = self.align.over(study)
        if not isinstance(sweep, Epochs):
            raise UserError(f"{self.folder}: a landscape needs a sweep over epochs")
        return sweep.times(study, self.align.members)

    def matched(self, study: Study) -> list[str]:
        """Points of the sweep whose permutations have planes: all before the end."""
        return [point for point in self._times(study) if point != END]

    def inputs(self, study: Study) -> dict[str, File]:
        ends = (
            file
            for network in self.align.members
            for file in (File(network, "trunk.safetensors"), solution_of(network))
        )
        files = {f"state{number}": file for number, file in enumerate(ends, start=1)}
        return files | {"permutations": File(self.align, "permutations.safetensors")}

    def check(self, study: Study) -> None:
        self.align.check(study)
        if not self.matched(study):
            raise UserError(f"{self.folder}: a landscape needs an epoch before the end")

    def points(self, study: Study) -> int:
        recipe = study.recipe(self)
        return len(self.matched(study)) * len(recipe.planes) * int(recipe.grid) ** 2
