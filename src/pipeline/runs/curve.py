"""Loss and error on the line from a to b, with and without a's permutation."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.runs.base import File, Study
from pipeline.runs.connectivity import Measured
from pipeline.runs.dense import BASE
from pipeline.runs.form import Form
from pipeline.runs.match import WHO, Match


@dataclass(frozen=True)
class Curve(Measured):
    """The line from a, and from pi(a), to b."""

    stage = "curve"
    form = Form(f"{BASE}/<match>/<connectivity>/{WHO.text}")
    files = ("curve.csv", "metrics.json")
    title = "Interpolations"
    priority = 30

    match: Match
    recipe: str

    @property
    def what(self) -> str:
        return f"curve {self.match.who}"

    def inputs(self, study: Study) -> dict[str, File]:
        permutation = File(self.match, "permutation.safetensors")
        return {**study.inputs(self.match), "permutation": permutation}

    def points(self, study: Study) -> int:
        return 2 * int(study.recipe(self).points)
