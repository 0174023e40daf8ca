"""Iterative magnitude pruning: rounds of a chain, in blocks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from pipeline.runs.base import File, Run, Study
from pipeline.runs.dense import BASE, Dense
from pipeline.runs.form import Form
from pipeline.runs.snapshot import solution_of, weights_at


class Rounds(Run):
    """A run that trains rounds of an IMP chain, by an IMP recipe."""

    kind = "imp"
    trains = True

    def round_inputs(self, study: Study) -> dict[str, File]:
        """The snapshot to which the chain returns, if it does, under its role."""
        recipe = study.recipe(self)
        if recipe.style != "rewind":
            return {}
        return {"rewind": weights_at(study, self.home, recipe.rewind_epoch)}

    def limits(self, study: Study) -> dict[str, int]:
        recipe = study.recipe(self)
        if recipe.style != "rewind":
            return {}
        return {"rewind_epoch of the imp recipe": recipe.rewind_epoch}

    def training(self, study: Study) -> Any:
        recipe = study.recipe(self)
        return recipe if recipe.style == "finetune" else study.recipe(self.home)

    def round_epochs(self, study: Study) -> int:
        """Epochs of one round: of fine-tuning, or from the rewind epoch (style lr-rewind: 0) to T."""
        return int(self.training(study).epochs - study.recipe(self).rewind_epoch)


@dataclass(frozen=True)
class ImpBlock(Rounds):
    """Rounds of an IMP chain that one job trains; block 1 starts at the dense solution."""

    stage = "imp"
    form = Form(f"{BASE}/<imp>/seed<s>/block<n>")
    files = ("metrics.json", "rounds.safetensors", "history.csv")
    title = "IMP rounds"
    priority = 85

    dense: Dense
    recipe: str
    block: int

    @property
    def what(self) -> str:
        return f"IMP block {self.block} seed {self.dense.who}"

    def rounds(self, study: Study) -> range:
        """The rounds that the block trains."""
        each = study.recipe(self).rounds_per_block
        return range((self.block - 1) * each + 1, self.block * each + 1)

    def inputs(self, study: Study) -> dict[str, File]:
        before = self.rounds(study).start - 1
        return {
            "start": round_weights(study, self.dense, self.recipe, before),
            **self.round_inputs(study),
        }

    def trained_epochs(self, study: Study) -> int:
        return len(self.rounds(study)) * self.round_epochs(study)

    def disk(self, study: Study, network: float) -> float:
        left: float = 1 - study.recipe(self).fraction
        rounds = self.rounds(study)
        return network * (sum(left**number for number in rounds) + len(rounds) / 32)


def round_prefix(number: int) -> str:
    """Prefix of the tensors of one IMP round in ``rounds.safetensors``."""
    return f"round{number:02d}/"


def block_of(study: Study, dense: Dense, recipe: str, number: int) -> ImpBlock:
    """The block that trains a round, counted from 1."""
    each = study.recipe(ImpBlock(dense, recipe, 1)).rounds_per_block
    return ImpBlock(dense, recipe, math.ceil(number / each))


def round_weights(study: Study, dense: Dense, recipe: str, number: int) -> File:
    """The weights after an IMP round; round 0 is the dense solution."""
    if number == 0:
        return solution_of(dense)
    block = block_of(study, dense, recipe, number)
    return File(block, "rounds.safetensors", round_prefix(number))
