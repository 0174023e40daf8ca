"""The plane in weight space through three solutions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from pipeline.catalog.schema import AT_LEAST_ONE, FRACTION, NOT_NEGATIVE, choose, option
from pipeline.errors import UserError
from pipeline.runs import Plane
from pipeline.study.experiment import Experiment
from pipeline.study.outputs.base import Output, check_measured
from pipeline.study.settings import Correction


@dataclass(frozen=True)
class LossPlane(Output):
    """0-1 loss on the plane through LTH, dense and permuted solution modulo pi: Figure 4b."""

    kind = "plane"
    what = "figure"
    shows = "Error on the plane in weight space through three solutions."
    sparsity: float = option(0.9, "sparsity of the sparse solutions", FRACTION)
    rewind_epoch: int = option(10, "rewind epoch of the sparse solutions", NOT_NEGATIVE)
    method: str = option("permuted", "method beside LTH and dense")
    correction: Correction = option("reset", "correction at each point of the plane")
    split: Literal["train", "test"] = option("test", "data on which it is measured")
    pair: int = option(1, "which pair of the experiment, counted from 1", AT_LEAST_ONE)

    def check_experiment(self, experiment: Experiment, where: str) -> None:
        check_measured(experiment, self.split, (self.correction,), where)
        choose(self.method, experiment.methods, f"{where}: method", "method")
        if self.pair > len(experiment.pairs):
            raise UserError(f"{where}: pair: the experiment has {len(experiment.pairs)} pairs")
        if not any(self.runs(experiment)):
            raise UserError(
                f"{where}: experiment {experiment.name!r} declares no run at "
                f"sparsity {self.sparsity} and rewind epoch {self.rewind_epoch}"
            )

    def pairs(self, experiment: Experiment) -> tuple[tuple[int, int], ...]:
        return experiment.pairs[self.pair - 1 : self.pair]

    def runs(self, experiment: Experiment) -> Iterable[Plane]:
        if self.sparsity in experiment.sparsities and self.rewind_epoch in experiment.rewind_epochs:
            cells = experiment.cells((self.sparsity,), (self.rewind_epoch,), (self.method,))
            of_pair = (cell.run for cell in cells if cell.pair in self.pairs(experiment))
            for run in islice((run for run in of_pair if run.match), 1):
                yield Plane(run, experiment.connectivity)
