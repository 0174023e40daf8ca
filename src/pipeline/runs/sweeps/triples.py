"""Sweep over triples of networks: from a to b at once, and by way of a third one."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from pipeline.catalog.schema import AT_LEAST_ONE, option
from pipeline.errors import UserError
from pipeline.runs.base import Study
from pipeline.runs.dense import Dense
from pipeline.runs.snapshot import solution_of
from pipeline.runs.sweeps.base import Composition, Line, Matching, Sweep
from pipeline.streams import stream_seed


def direct(a: int, b: int) -> str:
    """The point of a matching of seed a onto seed b."""
    return f"{a}-{b}"


@dataclass(frozen=True)
class Triples(Sweep):
    """Ends of three networks or more (Sharma et al., Section 5.3): a onto b, and a onto c onto b.

    All pairs a < b are matched once; the permutation of b onto a is the inverse.
    """

    over = "triples"

    triples: int | None = option(
        None, "paths a, c, b that are measured, drawn from all of the seeds; empty: all",
        AT_LEAST_ONE,
    )  # fmt: skip

    def members(self, pairs: Sequence[tuple[int, int]]) -> list[tuple[int, ...]]:
        """All seeds of an experiment together."""
        return [tuple(sorted({seed for pair in pairs for seed in pair}))]

    def fit(self, seeds: Sequence[int], dense: Any, where: str) -> None:
        if len(seeds) < 3:
            raise UserError(
                f"{where}: a sweep over triples needs three seeds or more, got {len(seeds)}"
            )
        most = len(seeds) * (len(seeds) - 1) * (len(seeds) - 2) // 2
        if self.triples and self.triples > most:
            raise UserError(f"{where}: triples: {len(seeds)} seeds have no more than {most}")

    def paths(self, seeds: Sequence[int]) -> list[tuple[int, int, int]]:
        """Those of (a, c, b) with a < b that are measured, in order."""
        every = [
            (a, c, b) for a, b in combinations(sorted(seeds), 2) for c in seeds if c not in (a, b)
        ]
        drawn = sorted(every, key=lambda path: stream_seed(0, "triples", *path))
        return sorted(drawn[: self.triples])

    def matchings(self, study: Study, networks: Sequence[Dense]) -> Iterator[Matching]:
        del study
        for a, b in combinations(networks, 2):
            yield Matching(direct(a.seed, b.seed), solution_of(a), solution_of(b))

    def compositions(self, networks: Sequence[Dense]) -> Iterator[Composition]:
        for a, c, b in self.paths([network.seed for network in networks]):
            steps = [(direct(min(step), max(step)), step[0] > step[1]) for step in ((a, c), (c, b))]
            yield Composition(f"{direct(a, b)}.{c}", tuple(steps))

    def reference(self, point: str) -> str | None:
        """The direct permutation of an indirect one."""
        found, dot, _ = point.partition(".")
        return found if dot else None

    def lines(self, study: Study, networks: Sequence[Dense], at: Collection[str]) -> Iterator[Line]:
        """Arms ``none``, ``direct`` and ``indirect`` of every pair a < b."""
        del at
        end = study.recipe(networks[0]).epochs
        indirect = [path.point for path in self.compositions(networks)]
        for a, b in combinations(networks, 2):
            ends = solution_of(a), solution_of(b)
            point = direct(a.seed, b.seed)
            yield Line("none", None, None, end, *ends)
            yield Line("direct", point, end, end, *ends)
            for path in indirect:
                if path.startswith(f"{point}."):
                    yield Line("indirect", path, end, end, *ends)

    def roles(self, at: Collection[str]) -> Collection[str]:
        del at
        return ("none", "direct", "indirect")
