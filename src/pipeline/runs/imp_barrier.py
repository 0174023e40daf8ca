"""Barriers between the dense solution and the weights after each IMP round."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.runs.base import File, Study
from pipeline.runs.connectivity import Measured
from pipeline.runs.dense import BASE, Dense
from pipeline.runs.form import Form
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
    def what(self) -> str:
        return f"barriers of {self.rounds} IMP rounds seed {self.dense.seed}"

    def inputs(self, study: Study) -> dict[str, File]:
        last = block_of(study, self.dense, self.imp, self.rounds).block
        blocks = (ImpBlock(self.dense, self.imp, number) for number in range(1, last + 1))
        return {"dense": solution_of(self.dense)} | {
            f"block{block.block}": File(block, "rounds.safetensors") for block in blocks
        }

    def points(self, study: Study) -> int:
        return self.rounds * int(study.recipe(self).points)
