"""The mask of a sparsity target, and what the targets mean.

A target is ``S<sparsity>``, met exactly by a last prune that is capped, or ``P<n>``, n full prunes,
or ``O<n>``: one prune of the dense weights, by as many as n full prunes take.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.artifacts.store import file_digest
from pipeline.errors import UserError
from pipeline.runs.base import File, Run, Study
from pipeline.runs.dense import BASE, Dense
from pipeline.runs.form import Form, sparsity_text
from pipeline.runs.imp import round_weights
from pipeline.runs.snapshot import weights_at
from pipeline.runs.trial import Trial

#: A prune counts as reaching S when it misses it by less than this (rounding of 1 - 0.8^n).
ROUNDING = 1e-9


@dataclass(frozen=True)
class Mask(Run):
    """The mask of a target, a function of the weights after one round."""

    stage = "mask"
    form = Form(f"{BASE}/<imp>/seed<s>/<target>")
    files = ("mask.safetensors", "metrics.json")
    title = "Masks"
    kind = "imp"
    priority = 80
    computes = False

    dense: Dense
    recipe: str
    target: str

    @property
    def sparsity_words(self) -> str:
        """The target for people."""
        kind, number = self.target[0], self.target[1:]
        return f"S={number}" if kind == "S" else f"{number} prunes" + " at once" * (kind == "O")

    @property
    def what(self) -> str:
        return f"mask {self.sparsity_words} seed {self.dense.who}"

    def prunes(self, study: Study) -> int:
        """Prunes that lead to the target, the last one from `source`."""
        if study.recipe(self).prune_at == "start":
            return 1
        return target_rounds(self.target, study.recipe(self).fraction)

    def source(self, study: Study) -> File:
        """The weights from which the mask is cut: those after one round less than its prunes.

        Or those of the initialisation, if the recipe prunes at the start.
        """
        recipe = study.recipe(self)
        if recipe.prune_at == "start":
            return weights_at(study, self.dense, 0)
        if self.target[0] == "O" and recipe.one_shot == "rewound":
            return weights_at(study, self.dense, recipe.rewind_epoch)
        return round_weights(study, self.dense, self.recipe, self.prunes(study) - 1)

    def inputs(self, study: Study) -> dict[str, File]:
        return {"weights": self.source(study)}

    def own_file(self, study: Study) -> Path | None:
        """The file of the user's own that is its mask, if its recipe names one."""
        name: str | None = study.recipe(self).mask_file
        if name is None:
            return None
        words = {"seed": self.dense.who, "sparsity": self.target[1:]}
        for word, value in words.items():
            name = name.replace(f"{{{word}}}", str(value))
        return Path(name)

    def beside(self, study: Study) -> dict[str, Any]:
        path = self.own_file(study)
        if path is None:
            return {}
        try:
            return {"mask_file": file_digest(path)}
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}: the mask_file of {self.recipe}") from None

    def check(self, study: Study) -> None:
        if study.recipe(self).prune_at == "start" and self.target[0] != "S":
            raise UserError(
                f"{self.folder}: pruning at the start meets S itself, with no number of prunes; take "
                "a protocol without sparsity_prunes and sparsity_tolerance for it"
            )

    def obstacle(self, study: Study, trial: Trial) -> str | None:
        recipe = study.recipe(self)
        left = entries = trial.prunable[recipe.prunable]
        exact = self.target[0] == "S"
        full = self.prunes(study) - 1 if exact else int(self.target[1:])
        for _ in range(full):  # as `pipeline.pruning` rounds them
            left -= round(recipe.fraction * left)
        if exact:
            last = entries - round(float(self.target[1:]) * entries)
            if last > left:
                return (
                    f"{full} full prunes of its {entries:,} weights that may be pruned leave {left:,}, "
                    f"fewer than {self.sparsity_words} ({last:,})"
                )
            left = last
        if left < 1:
            return (
                f"{self.sparsity_words} leaves none of its {entries:,} weights that may be pruned"
            )
        return None

    def kept(self, study: Study) -> float:
        """Share of the prunable weights that the mask keeps."""
        if self.target[0] == "S":
            return 1 - float(self.target[1:])
        return float((1 - study.recipe(self).fraction) ** int(self.target[1:]))

    def disk(self, study: Study, network: float) -> float:
        return network / 32

    def disk_of_sparse(self, study: Study, network: float) -> float:
        """Bytes of weights under the mask, with its bits, and of the logits on the test set."""
        info = study.info(self)
        logits = 2.0 * info.test_images * info.classes
        return network * (self.kept(study) + 1 / 32) + logits


def rounds_for(sparsity: float, fraction: float = 0.2) -> int:
    """Prunes of ``fraction`` of the remaining weights that reach S, the last one capped; at least 1."""
    rounds = 1
    while 1 - (1 - fraction) ** rounds < sparsity - ROUNDING:
        rounds += 1
    return rounds


def mask_target(sparsity: float, fraction: float, tolerance: float) -> str:
    """``S<sparsity>`` (exact), or ``P<n>`` where n full prunes end within the tolerance below S."""
    rounds = max(1, rounds_for(sparsity - tolerance, fraction))
    if rounds < rounds_for(sparsity, fraction):
        return f"P{rounds}"
    return f"S{sparsity_text(sparsity)}"


def target_rounds(target: str, fraction: float) -> int:
    """Prunes that lead to a mask target; the mask is cut from the weights after one round less."""
    if target[0] == "O":
        return 1
    return int(target[1:]) if target[0] == "P" else rounds_for(float(target[1:]), fraction)
