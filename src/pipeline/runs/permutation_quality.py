"""What a permutation does to the ends of a and b, whatever it was found from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from pipeline.catalog.schema import without_defaults
from pipeline.errors import UserError
from pipeline.runs.base import File, Study
from pipeline.runs.connectivity import Measured
from pipeline.runs.dense import BASE
from pipeline.runs.form import Form
from pipeline.runs.match import WHO, Match, passes_of
from pipeline.runs.snapshot import solution_of


@dataclass(frozen=True)
class PermutationQuality(Measured):
    """Barrier and similarity of activations under a permutation, at the ends of both networks.

    ``match`` may have looked at an earlier b, at fewer images or at weights: by the same judge, a
    matching recipe that looks at activations, permutations of any origin can be compared.
    """

    stage = "permutation-quality"
    form = Form(f"{BASE}/<match>/<judge>/<connectivity>/{WHO.text}")
    files = ("metrics.json",)
    title = "Qualities of permutations"
    priority = 30

    match: Match
    judge: str
    recipe: str

    @property
    def judged(self) -> Match:
        """The matching whose images and measure of similarity count here."""
        return replace(self.match, recipe=self.judge, epoch=None)

    @property
    def what(self) -> str:
        return f"quality of {self.match.recipe} {self.match.who}"

    def inputs(self, study: Study) -> dict[str, File]:
        permutation = File(self.match, "permutation.safetensors")
        ends = {"a": solution_of(self.match.a), "b": solution_of(self.match.b)}
        return {**ends, "permutation": permutation}

    def beside(self, study: Study) -> dict[str, Any]:
        return {"judge": without_defaults(study.recipe(self.judged))}

    def check(self, study: Study) -> None:
        kind = study.recipe(self.judged).similarity
        if kind not in ("correlation", "inner"):
            raise UserError(
                f"{self.folder}: {self.judge} compares no activations (similarity: {kind}); the "
                "matching recipe of the experiment judges, and must be of correlation or inner"
            )

    def points(self, study: Study) -> int:
        return 2 * int(study.recipe(self).points)

    def passes(self, study: Study) -> float:
        judge = passes_of(study.recipe(self.judged), study.info(self).train_images)
        return super().passes(study) + judge
