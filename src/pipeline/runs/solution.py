"""The IMP solution at a target: one more round of training under the mask."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.errors import UserError
from pipeline.runs.base import File, Study
from pipeline.runs.imp import Rounds
from pipeline.runs.mask import Mask


@dataclass(frozen=True)
class Solution(Rounds):
    """A round of the chain, trained under the mask."""

    stage = "solution"
    form = Mask.form
    files = ("metrics.json", "history.csv", "weights.safetensors", "logits.safetensors")
    title = "IMP solutions"
    priority = 20

    mask: Mask

    @property
    def what(self) -> str:
        return f"IMP solution {self.mask.sparsity_words} seed {self.mask.dense.who}"

    def check(self, study: Study) -> None:
        if study.recipe(self).prune_at == "start":
            raise UserError(
                f"{self.folder}: what is pruned at the start has no round of training after it; its "
                "recipe has sparse runs, and no IMP solution"
            )

    def inputs(self, study: Study) -> dict[str, File]:
        return {
            "mask": File(self.mask, "mask.safetensors"),
            "start": self.mask.source(study),
            **self.round_inputs(study),
        }

    def trained_epochs(self, study: Study) -> int:
        return self.round_epochs(study)

    def disk(self, study: Study, network: float) -> float:
        return self.mask.disk_of_sparse(study, network)
