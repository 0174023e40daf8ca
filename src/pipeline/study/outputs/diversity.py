"""How differently networks decide, and what an ensemble of them gains."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from pipeline.catalog.schema import FRACTION, NOT_NEGATIVE, choose, option
from pipeline.errors import UserError
from pipeline.runs import Run
from pipeline.study.experiment import Experiment
from pipeline.study.outputs.base import Experiments, Output, check_declared


@dataclass(frozen=True)
class Diversity(Output):
    """Ensembles and functional diversity of dense, IMP, LTH, permuted and naive runs: Table 1.

    A block of rows per experiment: dense and IMP runs of ``imp_seeds``, LTH runs (one mask and
    start, a data order per replicate), permuted and naive runs (one mask, a partner per pair), at
    ``sparsity`` and ``rewind_epoch``.
    """

    kind = "diversity"
    numbers = ("1", "4.3")
    shows = (
        "Accuracy of single networks and of their ensemble, and how differently the networks "
        "decide, per method; ± sample standard deviation."
    )

    sparsity: float = option(0.9, "sparsity of all sparse runs", FRACTION)
    rewind_epoch: int = option(20, "rewind epoch of all sparse runs", NOT_NEGATIVE)
    ensemble: Literal["softmax", "logits"] = option("softmax", "what an ensemble averages")
    kl: Literal["ordered", "forward"] = option("ordered", "pairs over which KL is averaged")
    js: Literal["halved", "whole"] = option(
        "halved", "JS: mean of both divergences from the middle, or their sum"
    )
    js_unit: Literal["nats", "bits"] = option("nats", "unit of JS")
    block_sparsities: dict[str, float] | None = option(
        None, "sparsity of single experiments, where it differs", FRACTION
    )
    block_rewind_epochs: dict[str, int] | None = option(
        None, "rewind epoch of single experiments, where it differs", NOT_NEGATIVE
    )
    imp_seeds: tuple[int, ...] = option(
        (0, 1, 2, 3, 4), "seeds of the dense and IMP rows", NOT_NEGATIVE, unique=True
    )

    def at(self, experiment: Experiment) -> tuple[float, int]:
        """Sparsity and rewind epoch of one block."""
        sparsity = (self.block_sparsities or {}).get(experiment.name, self.sparsity)
        return sparsity, (self.block_rewind_epochs or {}).get(experiment.name, self.rewind_epoch)

    def members(self, experiment: Experiment) -> dict[str, list[Run]]:
        """The runs of each row of a block, in the order of the table."""
        sparsity, k = self.at(experiment)
        rows: dict[str, list[Run]] = {
            "dense": [experiment.source_run(seed) for seed in self.imp_seeds],
            "imp": [experiment.solution(seed, sparsity) for seed in self.imp_seeds],
        }
        for name, method in experiment.ways.items():
            runs = [
                cell.run
                for cell in experiment.cells((sparsity,), (k,), (name,))
                # one mask: a's of the first pair; LTH by data order, the others by partner
                if cell.pair[0] == experiment.pairs[0][0]
                and (method.init == "a" or cell.run.replicate == 0)
            ]
            rows[name] = list(dict.fromkeys(runs))
        return rows

    def check(self, experiments: Experiments, where: str) -> None:
        for blocks in (self.block_sparsities, self.block_rewind_epochs):
            for name in blocks or ():
                choose(name, self.experiments, where, "block")
        super().check(experiments, where)

    def check_experiment(self, experiment: Experiment, where: str) -> None:
        check_declared(experiment, *self.at(experiment), where)
        for name, runs in self.members(experiment).items():
            if len(runs) < 2:
                raise UserError(
                    f"{where}: experiment {experiment.name!r} gives {len(runs)} runs for "
                    f"{name!r}; an ensemble needs at least 2 (pairs with one a, replicates, "
                    "imp_seeds)"
                )

    def runs(self, experiment: Experiment) -> Iterable[Run]:
        for runs in self.members(experiment).values():
            yield from runs
