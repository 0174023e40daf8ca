"""Iterative magnitude pruning: rounds of a chain, in blocks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from pipeline.runs.base import File, Run, Study, network_words
from pipeline.runs.dense import BASE, Dense
from pipeline.runs.form import Form, Parts
from pipeline.runs.snapshot import solution_of, weights_at


@dataclass(frozen=True)
class ImpBlock(Run):
    """Rounds of an IMP chain that one job trains; block 1 starts at the dense solution."""

    stage = "imp"
    form = Form(f"{BASE}/<imp>/seed<s>/block<n>")
    files = ("metrics.json", "rounds.safetensors", "history.csv")
    title = "IMP rounds"
    kind = "imp"
    priority = 85
    trains = True
    leaves_weights = True

    dense: Dense
    recipe: str
    block: int

    @property
    def parts(self) -> Mapping[str, object]:
        return {**self.dense.parts, "imp": self.recipe, "n": self.block}

    @classmethod
    def of(cls, parts: Parts) -> Self:
        return cls(Dense.of(parts), parts["imp"], int(parts["n"]))

    @property
    def networks(self) -> tuple[Dense, ...]:
        return (self.dense,)

    @property
    def words(self) -> str:
        network = network_words(self.dense, self.recipe)
        return f"IMP block {self.block} seed {self.dense.seed} ({network})"

    def rounds(self, study: Study) -> range:
        """The rounds that the block trains."""
        each = study.recipe(self).rounds_per_block
        return range((self.block - 1) * each + 1, self.block * each + 1)

    def inputs(self, study: Study) -> dict[str, File]:
        before = self.rounds(study).start - 1
        return {
            "start": round_weights(study, self.dense, self.recipe, before),
            **rewind(study, self.dense, study.recipe(self)),
        }

    def limits(self, study: Study) -> dict[str, tuple[int, Dense]]:
        return rewind_limit(study.recipe(self), self.dense)

    def training(self, study: Study) -> Any:
        return round_settings(study, self.dense, study.recipe(self))

    def trained_epochs(self, study: Study) -> int:
        return len(self.rounds(study)) * round_epochs(study, self.dense, study.recipe(self))

    def disk(self, study: Study, network: float) -> float:
        left: float = 1 - study.recipe(self).fraction
        rounds = self.rounds(study)
        return network * (sum(left**number for number in rounds) + len(rounds) / 32)


def round_prefix(number: int) -> str:
    """Prefix of the tensors of one IMP round in ``rounds.safetensors``."""
    return f"round{number:02d}/"


def block_of(study: Study, dense: Dense, recipe: str, number: int) -> ImpBlock:
    """The block that trains a round, counted from 1."""
    return ImpBlock(
        dense, recipe, math.ceil(number / study.resolve("imp", recipe).rounds_per_block)
    )


def round_weights(study: Study, dense: Dense, recipe: str, number: int) -> File:
    """The weights after an IMP round; round 0 is the dense solution."""
    if number == 0:
        return solution_of(dense)
    block = block_of(study, dense, recipe, number)
    return File(block, "rounds.safetensors", round_prefix(number))


def rewind(study: Study, dense: Dense, settings: Any) -> dict[str, File]:
    """The snapshot to which a chain returns, if it does, under its role."""
    if settings.style == "finetune":
        return {}
    return {"rewind": weights_at(study, dense, settings.rewind_epoch)}


def rewind_limit(settings: Any, dense: Dense) -> dict[str, tuple[int, Dense]]:
    """That snapshot's epoch, as `Run.limits` gives it."""
    if settings.style == "finetune":
        return {}
    return {"rewind_epoch of the imp recipe": (settings.rewind_epoch, dense)}


def round_settings(study: Study, dense: Dense, settings: Any) -> Any:
    """The settings by which a round trains: fine-tuning's own, or the dense recipe's."""
    return settings if settings.style == "finetune" else study.recipe(dense)


def round_epochs(study: Study, dense: Dense, settings: Any) -> int:
    """Epochs of one round of a chain: of fine-tuning, or from the rewind epoch to T."""
    if settings.style == "finetune":
        return int(settings.epochs)
    return int(study.recipe(dense).epochs - settings.rewind_epoch)
