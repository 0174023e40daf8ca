"""Sweep over the epochs from which children are spawned: instability, and the parents' permutation."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from pipeline.catalog.schema import AT_LEAST_ONE, NOT_NEGATIVE, option
from pipeline.errors import UserError
from pipeline.runs.base import Study
from pipeline.runs.dense import Dense, check_spawn
from pipeline.runs.snapshot import weights_at
from pipeline.runs.sweeps.base import Line, Matching, Sweep
from pipeline.runs.sweeps.epochs import END, Epochs, check_kept


@dataclass(frozen=True)
class Spawns(Sweep):
    """Children of both networks of a pair (Sharma et al., Section 5.1): those of one parent with
    each other, and those of a and b under the one permutation that matches their parents' ends.

    No permutation is looked for: it is that of the end of another sweep.
    """

    over = "spawns"

    permutations: str = option(
        "", "sweep over epochs whose permutation of the end is applied; must be given"
    )
    spawns: tuple[int, ...] = option(
        (), "epochs whose states children start from; trunk of the dense recipe must keep them",
        NOT_NEGATIVE, unique=True,
    )  # fmt: skip
    noises: tuple[int, int] = option(
        (2, 2), "children of a, and of b, from each of them; two of one parent show instability",
        AT_LEAST_ONE,
    )  # fmt: skip
    epochs: tuple[int, ...] = option(
        (), "epochs measured beside the end; trunk or series must keep them, and children are "
        "measured at those that child_series keeps", NOT_NEGATIVE, unique=True,
    )  # fmt: skip

    @property
    def lender(self) -> str | None:
        return self.permutations

    def check(self, where: str) -> None:
        if not self.permutations:
            raise UserError(f"{where}: permutations: name a sweep over epochs")
        if not self.spawns:
            raise UserError(f"{where}: spawns: name at least one epoch")
        if max(self.noises) < 2:
            raise UserError(f"{where}: noises: instability needs two children of a, or of b")

    def fit(self, seeds: Sequence[int], dense: Any, where: str) -> None:
        self.of_pair(seeds, where)
        for epoch in self.spawns:
            check_spawn(dense, epoch, f"{where}: spawns")
        check_kept(self.epochs, dense.epochs, dense, where)

    def matchings(self, study: Study, networks: Sequence[Dense]) -> Iterator[Matching]:
        del study, networks
        return iter(())

    def reference(self, point: str) -> str | None:
        return None

    def lines(self, study: Study, networks: Sequence[Dense], at: Collection[str]) -> Iterator[Line]:
        """Arms ``none`` and ``matched`` of the parents along training; of their children, behind
        each epoch that they start from, ``instability`` (of one parent) and ``children`` (of a and
        b, the n-th with the n-th, matched as their parents)."""
        del at
        end = study.recipe(networks[0]).epochs
        matched = self._matched(study, networks)
        for now in (*sorted(self.epochs), end):
            a, b = (weights_at(study, network, now) for network in networks)
            yield Line("none", None, None, now, a, b)
            yield Line("matched", END, matched, now, a, b)
            for spawn in sorted(self.spawns):
                born = [self.children(n, spawn, networks) for n in (0, 1)]
                if now <= spawn or now not in study.recipe(born[0][0]).kept:
                    continue
                of_a, of_b = ([weights_at(study, one, now) for one in own] for own in born)
                for left, right in (*combinations(of_a, 2), *combinations(of_b, 2)):
                    yield Line("instability", None, None, now, left, right)
                for left, right in zip(of_a, of_b, strict=False):
                    yield Line("children", END, matched, now, left, right)

    def children(self, which: int, spawn: int, networks: Sequence[Dense]) -> list[Dense]:
        """The children of a (0) or b (1) from an epoch."""
        noises = range(1, self.noises[which] + 1)
        return [replace(networks[which], spawn=spawn, noise=noise) for noise in noises]

    def _matched(self, study: Study, networks: Sequence[Dense]) -> int:
        """The epoch that stands for the end in the sweep whose permutation is applied."""
        lender = study.sweep(self.permutations, "permutations")
        assert isinstance(lender, Epochs)  # `pipeline.runs.Align.check`
        return lender.times(study, networks)[END]

    def roles(self, at: Collection[str]) -> Collection[str]:
        """``none`` and ``along`` of the parents; ``instability`` and ``children``."""
        del at
        return ("none", "along", "instability", "children")
