"""What a solution costs by each method."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.runs import Run
from pipeline.study.experiment import Experiment
from pipeline.study.outputs.base import Cells


@dataclass(frozen=True)
class Cost(Cells):
    """Epochs and measured device time per method, matching apart: Appendix D."""

    kind = "cost"
    shows = "Epochs and measured device time of one solution by each method."

    def runs(self, experiment: Experiment) -> Iterable[Run]:
        yield from super().runs(experiment)
        for pair in experiment.pairs:
            yield experiment.matching(pair)
        for _, mask in experiment.masks(self.sparsities):
            yield mask
