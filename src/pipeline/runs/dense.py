"""Dense run of a seed: T epochs from its initialisation, states kept on the way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from pipeline.runs.base import Run, Study
from pipeline.runs.form import Form, Parts

#: The folders of everything that is at home on a data set, a network and a dense recipe.
BASE = "<dataset>/<model>-w<width>/<dense>"


@dataclass(frozen=True)
class Dense(Run):
    """T epochs of ``recipe`` on ``dataset`` from the initialisation of ``seed``."""

    stage = "dense"
    form = Form(f"{BASE}/seed<s>")
    files = ("metrics.json", "weights.safetensors", "trunk.safetensors", "history.csv")
    title = "Dense runs"
    kind = "dense"
    priority = 90
    trains = True

    dataset: str
    model: str
    width: str
    recipe: str
    seed: int

    @property
    def parts(self) -> Parts:
        values = (self.dataset, self.model, self.width, self.recipe, self.seed)
        return dict(zip(self.form.words, values, strict=True))

    @classmethod
    def of(cls, parts: Parts, seed: str = "s") -> Self:
        return cls(parts["dataset"], parts["model"], parts["width"], parts["dense"], parts[seed])

    @classmethod
    def source(cls, parts: Parts) -> Self:
        """The dense run a, which may come from other data or another recipe."""
        dataset = parts["source_dataset"] or parts["dataset"]
        recipe = parts["source_dense"] or parts["dense"]
        return cls(dataset, parts["model"], parts["width"], recipe, parts["a"])

    def source_parts(self, home: Dense) -> Parts:
        """The parts ``[@<source_dataset>@<source_dense>]`` of this run beside those of ``home``."""
        foreign = (self.dataset, self.recipe) != (home.dataset, home.recipe)
        dataset, recipe = (self.dataset, self.recipe) if foreign else (None, None)
        return {"source_dataset": dataset, "source_dense": recipe}

    @property
    def network(self) -> tuple[str, str, str]:
        """Data set, model and width."""
        return self.dataset, self.model, self.width

    @property
    def networks(self) -> tuple[Dense, ...]:
        return (self,)

    @property
    def what(self) -> str:
        return f"dense seed {self.seed}"

    def trained_epochs(self, study: Study) -> int:
        return int(study.recipe(self).epochs)

    def disk(self, study: Study, network: float) -> float:
        recipe = study.recipe(self)
        return network * (1 + 2 * len(recipe.trunk) + len(recipe.series))


def epoch_prefix(epoch: int) -> str:
    """Prefix of the tensors of one epoch in ``trunk.safetensors``."""
    return f"epoch{epoch:04d}/"
