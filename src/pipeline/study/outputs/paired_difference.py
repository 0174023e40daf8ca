"""Differences between methods, pair of seeds by pair of seeds."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.errors import UserError
from pipeline.study.experiment import Experiment
from pipeline.study.outputs.base import Cells


@dataclass(frozen=True)
class PairedDifference(Cells):
    """Differences between methods on the same pairs of seeds, with a 95 % interval."""

    kind = "paired-difference"
    shows = (
        "Mean difference in test accuracy between two methods on the same pairs of seeds, in "
        "percentage points, with its 95 % interval over pairs."
    )

    def check_experiment(self, experiment: Experiment, where: str) -> None:
        super().check_experiment(experiment, where)
        if len(self.methods or experiment.methods) < 2:
            raise UserError(f"{where}: experiment {experiment.name!r} has one method only")
