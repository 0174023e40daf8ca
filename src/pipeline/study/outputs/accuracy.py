"""Accuracy of sparse runs, drawn against what they are made with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal

from pipeline.catalog.schema import option
from pipeline.errors import UserError
from pipeline.runs import Run
from pipeline.study.experiment import Experiment
from pipeline.study.outputs.base import OneAccuracy


@dataclass(frozen=True)
class Accuracy(OneAccuracy):
    """A row of panels per network, with a line for the dense networks."""

    what = "figure"
    #: What is drawn along x, and what tells the panels of a row apart.
    along: ClassVar[Literal["rewind_epoch", "sparsity"]]
    panels: ClassVar[Literal["rewind_epoch", "sparsity"]]

    def runs(self, experiment: Experiment) -> Iterable[Run]:
        yield from super().runs(experiment)
        yield from experiment.dense_runs()


@dataclass(frozen=True)
class AccuracyVsRewind(Accuracy):
    """Test accuracy against rewind epoch, a panel per width and sparsity: Figures 5-8, 11."""

    kind = "accuracy-vs-rewind"
    along, panels = "rewind_epoch", "sparsity"
    shows = (
        "Test accuracy against the rewind epoch k. Bands: ± one sample standard deviation over "
        "seeds; dashed: the dense runs."
    )


@dataclass(frozen=True)
class AccuracyVsSparsity(Accuracy):
    """Test accuracy against sparsity, a panel per width and rewind epoch: Figures 9, 10.

    By level (Sharma et al., Figures 2 and 13): against the share of weights left, a line for each
    way to a mask, and one for the rounds of pruning themselves; a row per network and matcher.
    """

    kind = "accuracy-vs-sparsity"
    along, panels = "sparsity", "rewind_epoch"
    shows = (
        "Test accuracy against the sparsity S. Bands: ± one sample standard deviation over seeds; "
        "dashed: the dense runs."
    )
    x: Literal["sparsity", "level"] = option(
        "sparsity", "what runs along x: S, or of experiments with levels the share of weights left"
    )

    def check_experiment(self, experiment: Experiment, where: str) -> None:
        super().check_experiment(experiment, where)
        if self.x == "sparsity":
            return
        if not experiment.levels:
            raise UserError(f"{where}: x: level: experiment {experiment.name!r} declares no levels")
        if len(self.rewind_epochs or experiment.rewind_epochs) > 1:
            raise UserError(f"{where}: x: level: choose one of the rewind_epochs")

    def runs(self, experiment: Experiment) -> Iterable[Run]:
        yield from super().runs(experiment)
        if self.x == "level":
            yield from (block for *_, block in experiment.rounds())
