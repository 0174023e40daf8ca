"""Loss and error on the line from a to b, with and without a's permutation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from pipeline.runs.base import File, Study, network_words
from pipeline.runs.connectivity import Measured
from pipeline.runs.dense import BASE, Dense
from pipeline.runs.form import Form, Parts
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
    def parts(self) -> Mapping[str, object]:
        return {**self.match.parts, "connectivity": self.recipe}

    @classmethod
    def of(cls, parts: Parts) -> Self:
        return cls(Match.of(parts), parts["connectivity"])

    @property
    def networks(self) -> tuple[Dense, ...]:
        return self.match.networks

    @property
    def words(self) -> str:
        return f"curve {self.match.who} ({network_words(self.match.b, self.recipe)})"

    def inputs(self, study: Study) -> dict[str, File]:
        return {
            **study.inputs(self.match), "permutation": File(self.match, "permutation.safetensors"),
        }  # fmt: skip

    def points(self, study: Study) -> int:
        return 2 * int(study.recipe(self).points)
