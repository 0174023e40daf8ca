"""Notions of connectivity as verdicts, as a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipeline.catalog.schema import POSITIVE, option
from pipeline.errors import UserError
from pipeline.study.experiment import Experiment
from pipeline.study.outputs.base import OfSweeps, check_measured
from pipeline.study.settings import Correction


@dataclass(frozen=True)
class Notions(OfSweeps):
    """Weak, simultaneous and strong connectivity modulo permutation, and transitivity (Sharma et
    al., Definitions 1 to 8), as verdicts on the barriers of sweeps.

    Of a sweep over epochs: weak at the end, and simultaneous; of one over rounds of pruning:
    simultaneous. Of one over triples: weak, strong, and both kinds of transitivity.
    """

    kind = "notions"
    goes_over = ("epochs", "rounds", "triples")
    shows = (
        "Whether networks are linearly connected modulo permutation in the sense of each definition, "
        "by the permutations that were found; beside it the largest error barrier that is left, in "
        "points."
    )
    threshold: float = option(
        2.0, "error barrier, in points, up to which networks count as connected", POSITIVE
    )
    split: Literal["train", "test"] = option("test", "data on which it is measured")
    correction: Correction = option("none", "correction of the merged networks")

    def check_experiment(self, experiment: Experiment, where: str) -> None:
        super().check_experiment(experiment, where)
        check_measured(experiment, self.split, (self.correction,), where)
        if self.published:
            raise UserError(f"{where}: published: the authors gave no verdicts to put beside")
