"""Curves between pi(a) and b, drawn."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from pipeline.catalog.schema import option
from pipeline.study.experiment import Experiment
from pipeline.study.outputs.base import OfCurves, Output, check_measured
from pipeline.study.settings import Correction, Protocol


@dataclass(frozen=True)
class Interpolation(OfCurves):
    """Loss along the line from pi(a) to b, a line per width: Figure 3."""

    kind = "interpolation"
    what = "figure"
    shows = (
        "Loss or error on the straight line between the permuted network π(a) and b, by width. "
        "Bands: ± one sample standard deviation over pairs."
    )
    metric: Literal["loss", "error"] = option("loss", "what is drawn")
    split: Literal["train", "test"] = option("test", "data on which it is measured")
    corrections: tuple[Correction, ...] = option(
        (), "corrections drawn; empty: the protocol's", unique=True
    )
    unmatched: bool = option(True, "also the line without a permutation")

    def under(self, protocol: Protocol) -> Output:
        return self if self.corrections else replace(self, corrections=(protocol.correction,))

    def check_experiment(self, experiment: Experiment, where: str) -> None:
        check_measured(experiment, self.split, self.corrections, where)
        super().check_experiment(experiment, where)
