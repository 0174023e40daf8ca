"""Barriers of all lines of a sweep, measured in one job."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.runs.align import Align, states
from pipeline.runs.base import File, Study
from pipeline.runs.connectivity import Measured
from pipeline.runs.dense import BASE
from pipeline.runs.form import Form
from pipeline.runs.sweeps import Line


@dataclass(frozen=True)
class Connect(Measured):
    """Barriers between the states of a sweep, as they are and under its permutations."""

    stage = "connect"
    form = Form(f"{BASE}/<match>/<sweep>/<connectivity>/<seeds>")
    files = ("barriers.csv", "metrics.json")
    title = "Barriers of sweeps"
    priority = 30

    align: Align
    recipe: str

    @property
    def what(self) -> str:
        return f"barriers {self.align.sweep} {self.align.who}"

    def lines(self, study: Study) -> list[Line]:
        """What is measured, in order."""
        return self.align.lines(study, study.recipe(self).at)

    def inputs(self, study: Study) -> dict[str, File]:
        found = states(self.lines(study))
        lent = self.align.permutations(study)
        return found | {"permutations": File(lent, "permutations.safetensors")}

    def check(self, study: Study) -> None:
        self.align.check(study)

    def points(self, study: Study) -> int:
        return len(self.lines(study)) * int(study.recipe(self).points)
