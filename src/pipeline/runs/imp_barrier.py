"""Barriers between the dense solution and the weights after each IMP round."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from pipeline.runs.base import File, Study, network_words
from pipeline.runs.connectivity import Measured
from pipeline.runs.dense import BASE, Dense
from pipeline.runs.form import Form, Parts
from pipeline.runs.imp import ImpBlock, block_of
from pipeline.runs.snapshot import solution_of


@dataclass(frozen=True)
class ImpBarrier(Measured):
    """The lines from the dense solution to the weights of the first ``rounds`` IMP rounds."""

    stage = "imp-barrier"
    form = Form(f"{BASE}/<imp>/<connectivity>/seed<s>/rounds<n>")
    files = ("barrier.csv", "metrics.json")
    title = "IMP barriers"

    dense: Dense
    imp: str
    recipe: str
    rounds: int

    @property
    def parts(self) -> Mapping[str, object]:
        own = {"imp": self.imp, "connectivity": self.recipe, "n": self.rounds}
        return {**self.dense.parts, **own}

    @classmethod
    def of(cls, parts: Parts) -> Self:
        return cls(Dense.of(parts), parts["imp"], parts["connectivity"], int(parts["n"]))

    @property
    def networks(self) -> tuple[Dense, ...]:
        return (self.dense,)

    @property
    def words(self) -> str:
        network = network_words(self.dense, self.recipe)
        return f"barriers of {self.rounds} IMP rounds seed {self.dense.seed} ({network})"

    def inputs(self, study: Study) -> dict[str, File]:
        last = block_of(study, self.dense, self.imp, self.rounds).block
        blocks = (ImpBlock(self.dense, self.imp, number) for number in range(1, last + 1))
        return {"dense": solution_of(self.dense)} | {
            f"block{block.block}": File(block, "rounds.safetensors") for block in blocks
        }

    def points(self, study: Study) -> int:
        return self.rounds * int(study.recipe(self).points)
