"""How the masks spread their sparsity over the layers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.catalog.schema import FRACTION, option
from pipeline.errors import UserError
from pipeline.runs import Run
from pipeline.study.experiment import Experiment
from pipeline.study.outputs.base import Output, check_declared


@dataclass(frozen=True)
class MaskSparsity(Output):
    """Share of pruned weights per layer of the masks, a row per experiment, a line per sparsity."""

    kind = "mask-sparsity"
    what = "figure"
    shows = (
        "Share of pruned weights in each layer of the masks. Bands: ± one sample standard deviation "
        "over seeds; dotted: the sparsity of the whole network."
    )
    sparsities: tuple[float, ...] = option((), "only these; empty: all", FRACTION, unique=True)

    def check_experiment(self, experiment: Experiment, where: str) -> None:
        for sparsity in self.sparsities:
            check_declared(experiment, sparsity, None, where)
        if not any(self.runs(experiment)):
            raise UserError(f"{where}: experiment {experiment.name!r} declares no masks")

    def runs(self, experiment: Experiment) -> Iterable[Run]:
        return (mask for _, mask in experiment.masks(self.sparsities))
