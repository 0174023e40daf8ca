"""Sweep over the rounds of iterative magnitude pruning: a permutation for each, and the dense one."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.catalog.schema import Bounds, option
from pipeline.errors import UserError
from pipeline.runs.base import File, Study
from pipeline.runs.dense import Dense
from pipeline.runs.imp import round_weights
from pipeline.runs.mask import Mask
from pipeline.runs.snapshot import solution_of
from pipeline.runs.sweeps.base import Line, Matching, Sweep
from pipeline.runs.sweeps.epochs import END


def point_of(level: int) -> str:
    """The point of the networks that so many prunes have left."""
    return f"r{level:02d}"


@dataclass(frozen=True)
class Rounds(Sweep):
    """A pair along pruning (Sharma et al., Section 5.2): a permutation for the ends of each round.

    That of the dense ends is always there, as the point ``end``.
    """

    over = "rounds"

    imp: str = option(help="recipe of iterative magnitude pruning, that of the experiment")
    rounds: int = option(help="rounds, from the first on", bounds=Bounds(1, 9999))

    def recipes(self) -> Mapping[str, str]:
        return {"imp": self.imp}

    def fit(self, seeds: Sequence[int], dense: Any, where: str) -> None:
        del dense
        self.of_pair(seeds, where)

    def reaches(self, levels: Iterable[int], imp: str, where: str) -> None:
        """Raise UserError where masks of a level have no permutation here, or are of another chain."""
        if imp != self.imp:
            raise UserError(f"{where}: its rounds are of imp recipe {self.imp!r}, masks of {imp!r}")
        if deeper := [level for level in levels if level > self.rounds]:
            raise UserError(
                f"{where}: level {deeper[0]} has no permutation; its rounds: up to {self.rounds}"
            )

    def matchings(self, study: Study, networks: Sequence[Dense]) -> Iterator[Matching]:
        for level in range(1, self.rounds + 1):
            a, b = (round_weights(study, network, self.imp, level) for network in networks)
            yield Matching(point_of(level), a, b)
        a, b = map(solution_of, networks)
        yield Matching(END, a, b)

    def reference(self, point: str) -> str | None:
        return END

    def lines(self, study: Study, networks: Sequence[Dense], at: Collection[str]) -> Iterator[Line]:
        """Arms ``none``, ``dense`` (the permutation of the dense ends) and ``sparse`` (that of the
        level) at every level, and ``one-shot``: the dense permutation, to b's dense end under a mask
        of one prune to the same level. Epochs are levels here; the dense ends are level 0.
        """
        del at
        dense_b = solution_of(networks[1])
        for level in range(self.rounds + 1):
            a, b = (round_weights(study, network, self.imp, level) for network in networks)
            yield Line("none", None, None, level, a, b)
            yield Line("dense", END, 0, level, a, b)
            if level:
                yield Line("sparse", point_of(level), level, level, a, b)
                mask = File(Mask(networks[1], self.imp, f"O{level}"), "mask.safetensors")
                yield Line("one-shot", END, 0, level, a, dense_b, mask)

    def roles(self, at: Collection[str]) -> Collection[str]:
        del at
        return ("none", "dense", "sparse", "one-shot")
