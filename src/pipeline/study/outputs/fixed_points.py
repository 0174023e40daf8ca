"""How much permutations agree, drawn."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.catalog.schema import option
from pipeline.errors import UserError
from pipeline.runs import Run
from pipeline.study.experiment import Experiment
from pipeline.study.outputs.base import Experiments, OfSweeps


@dataclass(frozen=True)
class FixedPoints(OfSweeps):
    """Share of units on which permutations agree: π_t with π of the end, indirect with direct, that
    of pruned networks with that of dense ones."""

    kind = "fixed-points"
    what = "figure"
    goes_over = ("epochs", "layers", "rounds", "triples")
    shows = (
        "Share of units that two permutations put to the same place, over all groups of units: that "
        "of an epoch and that of the end, or an indirect one and the direct one. Dotted: the share "
        "expected of unrelated permutations. Bands: ± one sample standard deviation over pairs, or over "
        "triangles of networks."
    )
    groups: bool = option(False, "a line for each group of units, the first ones dark")

    def check(self, experiments: Experiments, where: str) -> None:
        super().check(experiments, where)
        kinds = {one.over.over for one in self.chosen(experiments) if one.over}
        if "rounds" in kinds and len(kinds) > 1:
            raise UserError(f"{where}: sweeps over rounds stand in a figure of their own")

    def runs(self, experiment: Experiment) -> Iterable[Run]:
        return self.sweeps(experiment)
