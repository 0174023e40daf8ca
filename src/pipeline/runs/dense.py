"""Dense run of a seed: T epochs from its initialisation, or from a state of another dense run."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, Self

from pipeline.errors import UserError
from pipeline.runs.base import File, Run, Study
from pipeline.runs.form import Form, Parts

#: The folders of everything that is at home on a data set, a network and a dense recipe.
BASE = "<dataset>/<model>-w<width>/<dense>"


@dataclass(frozen=True)
class Dense(Run):
    """T epochs of ``recipe`` on ``dataset`` from the initialisation of ``seed``.

    With ``spawn`` it is a child of that run (Frankle et al., 2020; Sharma et al., Section 5.1): it
    starts from its parent's state after that many epochs, momentum included, and trains on to T
    with minibatch ``noise`` of its own, orders and augmentation. Noise is counted from 1; 0 is the
    parent's own, which no path can name. Children have no children.
    """

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
    spawn: int | None = None
    noise: int | None = None

    @property
    def who(self) -> str:
        """The seed as it stands in paths: ``3``, or ``3t5n1`` for child 1 of epoch 5."""
        return str(self.seed) if self.spawn is None else f"{self.seed}t{self.spawn}n{self.noise}"

    @property
    def stream(self) -> str:
        """What its random streams are named by, but for the initialisation's: those of a child are
        its own, and with noise 0 its parent's."""
        return self.who if self.noise else str(self.seed)

    @property
    def parent(self) -> Dense | None:
        """The run from whose state it starts."""
        return None if self.spawn is None else replace(self, spawn=None, noise=None)

    @property
    def parts(self) -> Parts:
        values = (self.dataset, self.model, self.width, self.recipe, self.who)
        return dict(zip(self.form.words, values, strict=True))

    @classmethod
    def of(cls, parts: Parts, seed: str = "s") -> Self:
        place = (parts["dataset"], parts["model"], parts["width"], parts["dense"])
        return cls(*place, *seed_numbers(parts[seed]))

    @classmethod
    def source(cls, parts: Parts) -> Self:
        """The dense run a, which may come from other data or another recipe."""
        dataset = parts["source_dataset"] or parts["dataset"]
        recipe = parts["source_dense"] or parts["dense"]
        return cls(dataset, parts["model"], parts["width"], recipe, *seed_numbers(parts["a"]))

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
        return f"dense seed {self.who}"

    def own(self, recipe: Any) -> Any:
        """What a child keeps decides no bit of its parent, nor what a parent keeps one of a child.

        So each can be changed without the other; a child keeps weights alone.
        """
        if self.spawn is None:
            return replace(recipe, child_series=()) if recipe.child_series else recipe
        kept = tuple(epoch for epoch in recipe.child_series if epoch > self.spawn)
        return replace(recipe, trunk=(), series=kept, child_series=())

    def inputs(self, study: Study) -> dict[str, File]:
        del study
        return {"trunk": File(self.parent, "trunk.safetensors")} if self.parent else {}

    def check(self, study: Study) -> None:
        if self.parent and self.spawn is not None:
            check_spawn(study.recipe(self.parent), self.spawn, self.folder)

    def trained_epochs(self, study: Study) -> int:
        return int(study.recipe(self).epochs) - (self.spawn or 0)

    def disk(self, study: Study, network: float) -> float:
        recipe = study.recipe(self)
        return network * (1 + 2 * len(recipe.trunk) + len(recipe.series))


def seed_numbers(text: str) -> tuple[int, ...]:
    """Seed, and of a child epoch and noise, of a seed as it stands in paths."""
    return tuple(map(int, re.split("[tn]", text)))


def check_spawn(recipe: Any, epoch: int, where: str) -> None:
    """Raise UserError where runs of a dense recipe keep no whole state of an epoch."""
    if epoch not in recipe.trunk:
        raise UserError(
            f"{where}: epoch {epoch} is no trunk epoch of the dense recipe; a child starts from a "
            f"whole state, momentum included: trunk: {', '.join(map(str, sorted(recipe.trunk)))}"
        )


def epoch_prefix(epoch: int) -> str:
    """Prefix of the tensors of one epoch in ``trunk.safetensors``."""
    return f"epoch{epoch:04d}/"
