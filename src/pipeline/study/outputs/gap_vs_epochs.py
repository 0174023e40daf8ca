"""Whether more epochs close a gap: differences between methods against the length of training."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.catalog.schema import NOT_NEGATIVE, option
from pipeline.errors import UserError
from pipeline.study.experiment import Experiment
from pipeline.study.outputs.base import Experiments, OneAccuracy


@dataclass(frozen=True)
class GapVsEpochs(OneAccuracy):
    """Permuted minus naive and LTH minus permuted against T, a point for each experiment.

    Experiments differ in the epochs T of their dense runs, and each shows one cell of a network;
    the published cell of the same network and sparsity can stand beside them, at the paper's T.
    """

    kind = "gap-vs-epochs"
    what = "figure"
    shows = (
        "Differences in accuracy on the same pairs of seeds against the epochs T of a dense run; "
        "bars: 95 % interval by Student's t over pairs. Hollow: the published cell, where it is shown."
    )
    published_rewind_epoch: int | None = option(
        None, "rewind epoch of the published cell drawn beside; empty: none", NOT_NEGATIVE
    )

    def check(self, experiments: Experiments, where: str) -> None:
        super().check(experiments, where)
        places = {self._place(experiment) for experiment in self.chosen(experiments)}
        if len(places) > 1:
            raise UserError(f"{where}: experiments: of one network, data set and sparsity")

    def check_experiment(self, experiment: Experiment, where: str) -> None:
        super().check_experiment(experiment, where)
        for label in ("sparsities", "rewind_epochs"):
            shown = getattr(self, label) or getattr(experiment, label)
            if len(shown) != 1:
                raise UserError(
                    f"{where}: {label}: experiment {experiment.name!r} shows {len(shown)}; name one"
                )
        for name in ("lth", "naive", "permuted"):
            if name not in (self.methods or experiment.methods):
                raise UserError(f"{where}: experiment {experiment.name!r} has no method {name}")

    def _place(self, experiment: Experiment) -> tuple[object, ...]:
        sparsities = self.sparsities or experiment.sparsities
        return (experiment.dataset, experiment.model, experiment.width, sparsities)
