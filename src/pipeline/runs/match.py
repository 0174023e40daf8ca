"""The permutation that matches a's units to b's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from pipeline.runs.base import File, Run, Study
from pipeline.runs.dense import BASE, Dense
from pipeline.runs.form import Form, Parts
from pipeline.runs.snapshot import solution_of, weights_at
from pipeline.runs.trial import Trial

#: Who is matched; a may come from other data or another recipe, b from an earlier epoch.
WHO = Form("a<a>[@<source_dataset>@<source_dense>]-b<b>[@t<t>]")


@dataclass(frozen=True)
class Match(Run):
    """The permutation of ``a`` at its end onto ``b`` at ``epoch`` (None: its end)."""

    stage = "match"
    form = Form(f"{BASE}/<match>/{WHO.text}")
    files = ("permutation.safetensors", "metrics.json")
    title = "Permutations"
    kind = "match"
    priority = 70

    a: Dense
    b: Dense
    recipe: str
    epoch: int | None = None

    @property
    def parts(self) -> Parts:
        return {
            **self.b.parts, **self.a.source_parts(self.b), "match": self.recipe,
            "a": self.a.who, "b": self.b.who, "t": self.epoch,
        }  # fmt: skip

    @classmethod
    def of(cls, parts: Parts) -> Self:
        return cls(Dense.source(parts), Dense.of(parts, "b"), parts["match"], parts["t"])

    @property
    def networks(self) -> tuple[Dense, ...]:
        return (self.b, self.a)

    @property
    def who(self) -> str:
        """a and b, as they stand in the path."""
        return WHO.write(self.parts)

    @property
    def what(self) -> str:
        return f"matching {self.who}"

    def inputs(self, study: Study) -> dict[str, File]:
        end = study.recipe(self.b).epochs if self.epoch is None else self.epoch
        return {"a": solution_of(self.a), "b": weights_at(study, self.b, end)}

    def obstacle(self, study: Study, trial: Trial) -> str | None:
        similarity = study.recipe(self).similarity
        return trial.problems.get("groups") or trial.problems.get(similarity)

    def limits(self, study: Study) -> dict[str, int]:
        return {} if self.epoch is None else {"matching epoch t": self.epoch}

    def passes(self, study: Study) -> float:
        return passes_of(study.recipe(self), study.info(self).train_images)

    def images(self, study: Study) -> float:
        """The observed activations of a batch, of both networks."""
        return 270 * float(study.recipe(self).batch_size) * max(1.0, float(self.b.width))


def passes_of(recipe: Any, available: int) -> float:
    """Forward passes of one matching over a training set of ``available`` images, as in `Run`."""
    if not recipe.looks:
        return 0.0
    share = min(1.0, recipe.images / available) if recipe.images else 1.0
    if recipe.learns:
        return float(recipe.steps * recipe.batch_size) / available
    return 2 * share / 3
