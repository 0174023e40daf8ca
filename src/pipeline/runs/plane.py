"""The plane through the LTH, dense and permuted solutions, modulo the permutation."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.errors import UserError
from pipeline.runs.base import File, Study
from pipeline.runs.connectivity import Measured
from pipeline.runs.form import Form
from pipeline.runs.match import Match
from pipeline.runs.snapshot import solution_of
from pipeline.runs.sparse import Sparse


@dataclass(frozen=True)
class Plane(Measured):
    """The plane of a permuted sparse run, of the LTH run beside it and of a's dense run."""

    stage = "plane"
    form = Form(f"<connectivity>/{Sparse.form.text}")
    files = ("plane.csv", "metrics.json")
    title = "Loss planes"

    permuted: Sparse
    recipe: str

    @property
    def what(self) -> str:
        return f"plane {self.permuted.place}"

    def inputs(self, study: Study) -> dict[str, File]:
        match = self.permuted.match
        if not isinstance(match, Match):
            raise UserError(
                f"{self.folder}: a plane needs a permuted run, of a matching of dense networks"
            )
        return {
            "lth": File(self.permuted.lth, "metrics.json"),
            "dense": solution_of(match.a),
            "permuted": File(self.permuted, "metrics.json"),
            "permutation": File(match, "permutation.safetensors"),
        }

    def points(self, study: Study) -> int:
        return int(study.recipe(self).grid) ** 2
