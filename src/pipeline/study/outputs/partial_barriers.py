"""Barriers under permutations of mixed or pruned copies, drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipeline.catalog.layers import Kind
from pipeline.catalog.schema import choose, option
from pipeline.errors import UserError
from pipeline.runs.sweeps.layers import Layers
from pipeline.runs.sweeps.pruned import Pruned
from pipeline.study.experiment import Experiment
from pipeline.study.outputs.base import Experiments, OfSweeps, check_measured
from pipeline.study.settings import Correction


@dataclass(frozen=True)
class PartialBarriers(OfSweeps):
    """Barriers under what was found for copies: of a sweep over layers against the epoch t, a row of
    panels for each kind of mixture and a line for each k, between π_t and π of the end; of one over
    pruned copies against the fraction, a row for each network and a line for each criterion and t.
    """

    kind = "partial-barrier"
    what = "figure"
    shows = (
        "Error barrier: the largest excess of the error on the line between two networks over that on "
        "the chord of its ends; the loss barrier alike. Networks are measured whole, under the "
        "permutation of copies. Bands: ± one sample standard deviation over pairs."
    )
    kinds: tuple[Kind, ...] = option((), "only these kinds of mixture; empty: all", unique=True)
    last: bool = option(False, "pruned copies: those of the end of training alone")
    metrics: tuple[Literal["error", "loss"], ...] = option(("error",), "what is drawn", unique=True)
    splits: tuple[Literal["train", "test"], ...] = option(
        ("test",), "data on which it is measured", unique=True
    )
    correction: Correction = option("none", "correction of the merged networks")

    def check(self, experiments: Experiments, where: str) -> None:
        if not (self.metrics and self.splits):
            raise UserError(f"{where}: metrics and splits must name at least one each")
        super().check(experiments, where)
        over = {experiment.over.over for experiment in self.chosen(experiments) if experiment.over}
        if len(over) > 1:
            raise UserError(f"{where}: sweeps over layers and over pruned copies: a figure each")

    def check_experiment(self, experiment: Experiment, where: str) -> None:
        super().check_experiment(experiment, where)
        sweep = experiment.over
        if not isinstance(sweep, Layers | Pruned):
            raise UserError(
                f"{where}: experiment {experiment.name!r}: sweep {experiment.sweep!r} is neither over "
                "layers nor over pruned copies"
            )
        for kind in self.kinds:
            known = sweep.kinds if isinstance(sweep, Layers) else ()
            choose(kind, known, f"{where}: kinds: sweep {experiment.sweep!r}", "kind of mixture")
        for split in self.splits:
            check_measured(experiment, split, (self.correction,), where)
