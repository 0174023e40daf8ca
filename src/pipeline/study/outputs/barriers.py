"""Barriers of the curves between a and b, and pi(a) and b, as a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipeline.catalog.schema import option
from pipeline.study.experiment import Experiment
from pipeline.study.outputs.base import OfCurves, check_measured
from pipeline.study.settings import Correction


@dataclass(frozen=True)
class Barriers(OfCurves):
    """Barriers between a and b, and between pi(a) and b, by correction (eq. 3 and at 1/2)."""

    kind = "barriers"
    shows = (
        "Barrier on the straight line between two dense networks before and after matching, by "
        "correction of the merged network; mean ± sample standard deviation over pairs."
    )
    splits: tuple[Literal["train", "test"], ...] = option((), "only these; empty: all", unique=True)
    corrections: tuple[Correction, ...] = option((), "only these; empty: all", unique=True)

    def check_experiment(self, experiment: Experiment, where: str) -> None:
        for split in self.splits or experiment.line.splits:
            check_measured(experiment, split, self.corrections, where)
        super().check_experiment(experiment, where)
