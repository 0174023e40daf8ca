"""What a better alignment buys: accuracy of sparse runs against how well their permutation aligns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from pipeline.catalog.schema import option
from pipeline.errors import UserError
from pipeline.runs import Align, Match, PermutationQuality, Run
from pipeline.study.experiment import Cell, Experiment
from pipeline.study.outputs.base import OneAccuracy, check_measured
from pipeline.study.settings import Correction, Protocol


@dataclass(frozen=True)
class AccuracyVsAlignment(OneAccuracy):
    """Accuracy against the barrier from pi(a) to b, and against the similarity of paired units.

    Every method that trains b under a mask of a is a point of each pair: one that permutes stands
    at its permutation's barrier and similarity, one that does not at those of a as it is. Whatever
    a permutation was found from, both are measured at the ends of a and b, the similarity by the
    experiment's own matching recipe.
    """

    kind = "accuracy-vs-alignment"
    what = "figure"
    shows = (
        "Accuracy of sparse runs of b under a's mask, against the barrier between π(a) and b and "
        "against the mean similarity of the units that π pairs (naive: of a as it is), both at the "
        "end of training. A line joins the runs of a pair of seeds; slope: least squares within a "
        "pair, mean over pairs with its 95 % interval by Student's t."
    )
    barrier: Literal["loss", "error"] = option("loss", "barrier in nats, or in points of error")
    split: Literal["train", "test"] | None = option(
        None, "images of the barrier; empty: the protocol's"
    )
    correction: Correction | None = option(None, "of the merged network; empty: the protocol's")

    def under(self, protocol: Protocol) -> AccuracyVsAlignment:
        return replace(
            self,
            split=self.split or protocol.barrier_split,
            correction=self.correction or protocol.correction,
        )

    def check_experiment(self, experiment: Experiment, where: str) -> None:
        super().check_experiment(experiment, where)
        check_measured(experiment, self.split or "train", [self.correction or "none"], where)
        if not any(match for _, match in self.cells(experiment)):
            raise UserError(
                f"{where}: experiment {experiment.name!r} has no method that permutes; add one"
            )

    def cells(self, experiment: Experiment) -> Iterator[tuple[Cell, Match | None]]:
        """The runs of b under a's own mask, and the matching of the dense ends that permuted it."""
        for cell in experiment.cells(self.sparsities, self.rewind_epochs, self.methods):
            run, match = cell.run, cell.run.match
            if run.paired and not run.shuffled and not isinstance(match, Align):
                yield cell, match

    def quality(self, experiment: Experiment, match: Match) -> PermutationQuality:
        """What measures a permutation."""
        return PermutationQuality(match, experiment.match, experiment.connectivity)

    def runs(self, experiment: Experiment) -> Iterable[Run]:
        for cell, match in self.cells(experiment):
            yield cell.run
            if match:
                yield self.quality(experiment, match)
