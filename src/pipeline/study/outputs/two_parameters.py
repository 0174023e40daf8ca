"""The network of two weights, drawn from its own training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipeline.catalog.schema import AT_LEAST_ONE, NOT_NEGATIVE, option
from pipeline.errors import UserError
from pipeline.study.outputs.base import Experiments, Output


@dataclass(frozen=True)
class TwoParameters(Output):
    """Loss surface and training of a network of two weights: Figures 1 and 12.

    Trained where it is drawn, in seconds: it has no runs and no experiments.
    """

    kind = "two-parameters"
    what = "figure"
    shows = (
        "Two units on one input, φ(w₀x) + φ(w₁x), trained to be φ(2x). Surfaces: loss; lines: "
        "gradient descent from the ring to the dot, under a mask along its axis. The pair drawn is "
        "the first one whose dense networks learn and in which only naive fails with ReLU; bars: how "
        "often each method fails over all random pairs, and over those whose dense networks learn, "
        "± one binomial standard error."
    )
    random_pairs: int = option(300, "random pairs that are trained", AT_LEAST_ONE)
    seed: int = option(0, "seed of their initialisations", NOT_NEGATIVE)
    panels: tuple[Literal["dense", "lth", "transfer"], ...] = option(
        ("dense", "lth", "transfer"),
        "surfaces drawn: dense training and pruning, LTH, and a's mask on b, naive and permuted",
        unique=True,
    )

    def check(self, experiments: Experiments, where: str) -> None:
        if self.experiments:
            raise UserError(f"{where}: experiments: {self.kind} shows none")
        if not self.panels:
            raise UserError(f"{where}: panels: name at least one")
