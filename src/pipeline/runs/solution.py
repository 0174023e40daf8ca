"""The IMP solution at a target: one more round of training under the mask."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from pipeline.runs.base import File, Run, Study, network_words
from pipeline.runs.dense import Dense
from pipeline.runs.form import Parts
from pipeline.runs.imp import rewind, rewind_limit, round_epochs, round_settings
from pipeline.runs.mask import Mask


@dataclass(frozen=True)
class Solution(Run):
    """A round of the chain, trained under the mask."""

    stage = "solution"
    form = Mask.form
    files = ("metrics.json", "history.csv", "weights.safetensors", "logits.safetensors")
    title = "IMP solutions"
    kind = "imp"
    priority = 20
    trains = True
    leaves_weights = True

    mask: Mask

    @property
    def parts(self) -> Mapping[str, object]:
        return self.mask.parts

    @classmethod
    def of(cls, parts: Parts) -> Self:
        return cls(Mask.of(parts))

    @property
    def label(self) -> str:
        return self.mask.recipe

    @property
    def networks(self) -> tuple[Dense, ...]:
        return self.mask.networks

    @property
    def words(self) -> str:
        dense = self.mask.dense
        network = network_words(dense, self.label)
        return f"IMP solution {self.mask.sparsity_words} seed {dense.seed} ({network})"

    def inputs(self, study: Study) -> dict[str, File]:
        return {
            "mask": File(self.mask, "mask.safetensors"),
            "start": self.mask.source(study),
            **rewind(study, self.mask.dense, study.recipe(self)),
        }

    def limits(self, study: Study) -> dict[str, tuple[int, Dense]]:
        return rewind_limit(study.recipe(self), self.mask.dense)

    def training(self, study: Study) -> Any:
        return round_settings(study, self.mask.dense, study.recipe(self))

    def trained_epochs(self, study: Study) -> int:
        return round_epochs(study, self.mask.dense, study.recipe(self))

    def disk(self, study: Study, network: float) -> float:
        return self.mask.disk_of_sparse(study, network)
