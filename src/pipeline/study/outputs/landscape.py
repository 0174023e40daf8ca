"""Planes under the permutations of a sweep, drawn."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from pipeline.catalog.schema import AT_LEAST_ONE, choose, option
from pipeline.errors import UserError
from pipeline.runs import Align, Run
from pipeline.runs import Landscape as LandscapeRun
from pipeline.study.experiment import Experiment
from pipeline.study.outputs.base import OfSweeps, check_measured
from pipeline.study.settings import Correction

PlaneName = Literal["ends", "permutations", "start"]


@dataclass(frozen=True)
class Landscape(OfSweeps):
    """Error on planes in weight space with the trajectories of training, a column per epoch."""

    kind = "landscape"
    what = "figure"
    goes_over = ("epochs",)
    shows = (
        "Error on planes through three networks in weight space, a column for each epoch t whose "
        "permutation π_t is applied to a. Lines: the epochs of training, projected onto the plane; "
        "the larger a mark, the nearer it lies to the plane; the ring is the end."
    )
    planes: tuple[PlaneName, ...] = option(
        ("ends",), "rows of panels; what the connectivity recipe says", unique=True
    )
    split: Literal["train", "test"] = option("test", "data on which it is measured")
    correction: Correction = option("none", "correction at each point of the plane")
    pair: int = option(1, "which pair of the experiment, counted from 1", AT_LEAST_ONE)
    scheme: bool = option(False, "a drawn scheme of the planes as the first column")

    def check_experiment(self, experiment: Experiment, where: str) -> None:
        super().check_experiment(experiment, where)
        check_measured(experiment, self.split, (self.correction,), where)
        for plane in self.planes:
            place = f"{where}: connectivity recipe {experiment.connectivity!r}: planes"
            choose(plane, experiment.line.planes, place, "plane")
        if not self.planes:
            raise UserError(f"{where}: planes: name at least one")
        if self.pair > len(experiment.pairs):
            raise UserError(f"{where}: pair: the experiment has {len(experiment.pairs)} pairs")

    def pairs(self, experiment: Experiment) -> tuple[tuple[int, int], ...]:
        return experiment.pairs[self.pair - 1 : self.pair]

    def sweeps(self, experiment: Experiment) -> Iterable[Align]:
        """The first matching's, of the pair."""
        every = super().sweeps(experiment)
        own = (each for each in every if (self._seeds(each),) == self.pairs(experiment))
        return islice(own, 1)

    @staticmethod
    def _seeds(align: Align) -> tuple[int, ...]:
        return tuple(member.seed for member in align.members)

    def runs(self, experiment: Experiment) -> Iterable[Run]:
        for align in self.sweeps(experiment):
            yield LandscapeRun(align, experiment.connectivity)
