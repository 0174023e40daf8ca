"""Barriers between the dense solution and those of iterative magnitude pruning."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from pipeline.catalog.schema import FRACTION, option
from pipeline.runs import ImpBarrier
from pipeline.runs.mask import target_rounds
from pipeline.study.experiment import Experiment
from pipeline.study.outputs.base import Output, check_measured, check_pairs
from pipeline.study.settings import Protocol


@dataclass(frozen=True)
class ImpBarriers(Output):
    """Barrier between the dense and the IMP solution against the IMP iteration: Figure 4a."""

    kind = "imp-barrier"
    what = "figure"
    shows = (
        "Barrier on the line between the dense solution and the weights after each IMP round, the "
        "last prune capped at the sparsity of the end. "
        "Bands: ± one sample standard deviation over seeds."
    )
    sparsity: float = option(0.9, "sparsity at which the chain ends", FRACTION)
    metric: Literal["loss", "error"] = option("error", "what is drawn")
    split: Literal["train", "test"] | None = option(
        None, "data on which it is measured; empty: the protocol's"
    )

    def under(self, protocol: Protocol) -> Output:
        return self if self.split else replace(self, split=protocol.barrier_split)

    def check_experiment(self, experiment: Experiment, where: str) -> None:
        check_measured(experiment, self.split or "train", (), where)
        check_pairs(experiment, where)

    def runs(self, experiment: Experiment) -> Iterable[ImpBarrier]:
        """The chains, each to the mask of the sparsity: its last prune is capped there."""
        for seed in experiment.seeds_a:
            target = experiment.mask(seed, self.sparsity).target
            rounds = target_rounds(target, experiment.fraction)
            full = target[0] == "P"  # the chain's own round
            yield ImpBarrier(
                experiment.source_run(seed), experiment.imp, experiment.connectivity, rounds,
                None if full else target,
            )  # fmt: skip
