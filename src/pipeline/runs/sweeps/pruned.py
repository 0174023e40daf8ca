"""Sweep over how much of two networks is pruned before they are matched."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

from pipeline.catalog.schema import Bounds, option
from pipeline.errors import UserError
from pipeline.runs.base import Study
from pipeline.runs.dense import Dense
from pipeline.runs.snapshot import weights_at
from pipeline.runs.sweeps.base import Line, Matching, Prune
from pipeline.runs.sweeps.epochs import Epochs


@dataclass(frozen=True)
class Pruned(Epochs):
    """Copies that are pruned before matching (Sharma et al., Appendix H.2), at each of several epochs.

    The permutation found for the copies is that of the networks themselves, which are measured with
    all their weights. What is found without pruning is a point, too.
    """

    over = "pruned"

    fractions: tuple[float, ...] = option(
        (), "shares of the weights that are pruned", Bounds(0, 1, open_high=True), unique=True
    )
    criteria: tuple[Literal["magnitude", "random"], ...] = option(
        ("magnitude", "random"),
        "which ones: the smallest of all layers, or random ones",
        unique=True,
    )
    random: Literal["within", "over", "alike"] = option(
        "within",
        "random weights: of each layer as many as are among the smallest; drawn over all layers; the "
        "same share of each layer",
    )
    prunable: Literal["all", "no-head"] = option("all", "layers pruned: all, or not the last")

    def check(self, where: str) -> None:
        if not (self.fractions and self.criteria):
            raise UserError(f"{where}: fractions and criteria must name at least one each")
        for fraction in self.fractions:
            if float(f"{fraction:g}") != fraction:
                raise UserError(f"{where}: fractions: {fraction!r}: at most six digits")

    def copies(self, study: Study, networks: Sequence[Dense]) -> Iterator[tuple[str, int, Prune]]:
        """Point, epoch and pruning of everything matched but the networks themselves."""
        for at, epoch in self.times(study, networks).items():
            for criterion, fraction in product(self.criteria, self.fractions):
                point = f"{criterion}.{fraction:g}.{at}"
                yield point, epoch, Prune(criterion, fraction, self.random, self.prunable)

    def matchings(self, study: Study, networks: Sequence[Dense]) -> Iterator[Matching]:
        yield from super().matchings(study, networks)
        for point, epoch, prune in self.copies(study, networks):
            a, b = (weights_at(study, network, epoch) for network in networks)
            yield Matching(point, a, b, prune)

    def reference(self, point: str) -> str | None:
        """The permutation of the same epoch, found without pruning; of that, the one of the end."""
        parts = point.split(".")
        return parts[-1] if len(parts) > 1 else super().reference(point)

    def level(self, point: str) -> float | None:
        """The fraction pruned."""
        inner = point.partition(".")[2].rpartition(".")[0]
        return float(inner) if inner else None

    def lines(self, study: Study, networks: Sequence[Dense], at: Collection[str]) -> Iterator[Line]:
        """At every epoch: arms ``none``, ``matched`` and the criteria."""
        del at
        copies = [*self.copies(study, networks)]
        for point, now in self.times(study, networks).items():
            a, b = (weights_at(study, network, now) for network in networks)
            yield Line("none", None, None, now, a, b)
            yield Line("matched", point, now, now, a, b)
            for copied, epoch, prune in copies:
                if epoch == now:
                    yield Line(prune.criterion, copied, now, now, a, b)

    def roles(self, at: Collection[str]) -> Collection[str]:
        del at
        return ("none", "own", *self.criteria)
