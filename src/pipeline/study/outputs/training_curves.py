"""Histories of training, drawn."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.catalog.schema import FRACTION, NOT_NEGATIVE, option
from pipeline.runs import Run
from pipeline.study.experiment import Experiment
from pipeline.study.outputs.base import Output, check_declared


@dataclass(frozen=True)
class TrainingCurves(Output):
    """Loss and accuracy per epoch of dense and sparse runs, a column per experiment."""

    kind = "training-curves"
    what = "figure"
    shows = (
        "Above: training loss per epoch; below: accuracy on test images (solid) and on augmented "
        "training images (dotted). Sparse runs begin at their rewind epoch k. Bands: ± one sample "
        "standard deviation over seeds."
    )
    sparsity: float = option(0.9, "sparsity of the sparse runs", FRACTION)
    rewind_epoch: int = option(10, "rewind epoch of the sparse runs", NOT_NEGATIVE)

    def check_experiment(self, experiment: Experiment, where: str) -> None:
        check_declared(experiment, self.sparsity, self.rewind_epoch, where)

    def runs(self, experiment: Experiment) -> Iterable[Run]:
        yield from experiment.dense_runs()
        for cell in experiment.cells((self.sparsity,), (self.rewind_epoch,)):
            yield cell.run
