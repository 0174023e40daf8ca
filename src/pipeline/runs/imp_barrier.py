"""Barriers between the dense solution and the weights after each IMP round."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.errors import UserError
from pipeline.runs.base import File, Study
from pipeline.runs.connectivity import Measured
from pipeline.runs.dense import BASE, Dense
from pipeline.runs.form import Form
from pipeline.runs.imp import ImpBlock, block_of
from pipeline.runs.mask import Mask
from pipeline.runs.snapshot import solution_of
from pipeline.runs.solution import Solution


@dataclass(frozen=True)
class ImpBarrier(Measured):
    """The lines from the dense solution to the weights of the first ``rounds`` IMP rounds.

    With a ``target`` the last prune is capped there: the last weights are the IMP solution of it.
    """

    stage = "imp-barrier"
    form = Form(f"{BASE}/<imp>/<connectivity>/seed<s>/rounds<n>[-<target>]")
    files = ("barrier.csv", "metrics.json")
    title = "IMP barriers"

    dense: Dense
    imp: str
    recipe: str
    rounds: int
    target: str | None = None

    @property
    def solution(self) -> Solution | None:
        """The solution at the target; None where the last round is a full one."""
        if self.target is None:
            return None
        return Solution(Mask(self.dense, self.imp, self.target))

    @property
    def what(self) -> str:
        end = f" to {self.solution.mask.sparsity_words}" if self.solution else ""
        return f"barriers of {self.rounds} IMP rounds{end} seed {self.dense.who}"

    def check(self, study: Study) -> None:
        if self.solution and (prunes := self.solution.mask.prunes(study)) != self.rounds:
            raise UserError(
                f"{self.folder}: {self.target} takes {prunes} rounds: write it as rounds{prunes}"
            )

    def inputs(self, study: Study) -> dict[str, File]:
        full = self.rounds - 1 if self.target else self.rounds
        last = block_of(study, self.dense, self.imp, full).block if full else 0
        blocks = (ImpBlock(self.dense, self.imp, number) for number in range(1, last + 1))
        files = {"dense": solution_of(self.dense)} | {
            f"block{block.block}": File(block, "rounds.safetensors") for block in blocks
        }
        if self.solution:
            files["solution"] = File(self.solution, "weights.safetensors")
        return files

    def points(self, study: Study) -> int:
        return self.rounds * int(study.recipe(self).points)
