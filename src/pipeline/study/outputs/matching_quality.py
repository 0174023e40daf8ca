"""How good the permutations are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.runs import Run
from pipeline.study.experiment import Experiment
from pipeline.study.outputs.base import Output, check_pairs


@dataclass(frozen=True)
class MatchingQuality(Output):
    """Mean similarity of matched units per permutation group, a row per experiment."""

    kind = "matching-quality"
    what = "figure"
    shows = (
        "Mean similarity of the units that the permutation pairs, per group of units, beside the "
        "identity and a random matching. Bands: ± one sample standard deviation over pairs."
    )

    def check_experiment(self, experiment: Experiment, where: str) -> None:
        check_pairs(experiment, where)

    def runs(self, experiment: Experiment) -> Iterable[Run]:
        return (match for _, _, match in experiment.matchings())
