"""The plane through the LTH, dense and permuted solutions, modulo the permutation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from pipeline.errors import UserError
from pipeline.runs.base import File, Study, network_words
from pipeline.runs.connectivity import Measured
from pipeline.runs.dense import Dense
from pipeline.runs.form import Form, Parts
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
    def parts(self) -> Mapping[str, object]:
        return {**self.permuted.parts, "connectivity": self.recipe}

    @classmethod
    def of(cls, parts: Parts) -> Self:
        return cls(Sparse.of(parts), parts["connectivity"])

    @property
    def networks(self) -> tuple[Dense, ...]:
        return self.permuted.networks

    @property
    def words(self) -> str:
        network = network_words(self.permuted.init, self.recipe)
        return f"plane {self.permuted.place} ({network})"

    def inputs(self, study: Study) -> dict[str, File]:
        match = self.permuted.match
        if match is None:
            raise UserError(f"{self.folder}: a plane needs a permuted run")
        return {
            "lth": File(self.permuted.lth, "metrics.json"),
            "dense": solution_of(match.a),
            "permuted": File(self.permuted, "metrics.json"),
            "permutation": File(match, "permutation.safetensors"),
        }

    def points(self, study: Study) -> int:
        return int(study.recipe(self).grid) ** 2
