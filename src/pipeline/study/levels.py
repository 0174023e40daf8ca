"""Levels of pruning in an experiment: what they stand for, and whether methods find what they need."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.catalog.networks import Network
from pipeline.errors import UserError
from pipeline.runs.sweeps.rounds import Rounds
from pipeline.study.experiment import ExperimentEntry
from pipeline.study.recipes import Library
from pipeline.study.settings import Method, Protocol

#: The least share of weights that a level leaves: sparsities are told apart by six digits.
LEAST = 1e-5


@dataclass(frozen=True)
class Masks:
    """How masks of an experiment of a network are cut under a protocol."""

    recipes: Library
    protocol: Protocol
    network: Network

    def of(
        self,
        entry: ExperimentEntry,
        labels: Mapping[str, Any],
        ways: Mapping[str, Method],
        where: str,
    ) -> dict[str, Any]:
        """The sparsities of the levels, and the recipe of masks of one prune, as a label.

        Raises:
            UserError: a level that cannot be reached, or a method that needs what is not declared.
        """
        imp = self.recipes.resolve("imp", labels["imp"])
        reference = {"recipe": entry.imp} if isinstance(entry.imp, str) else dict(entry.imp)
        if self.protocol.one_shot and imp.style == "rewind":
            reference["one_shot"] = self.protocol.one_shot
        one_shot = self.recipes.label("imp", reference, self.protocol, f"{where}: imp")
        found: dict[str, Any] = {"one_shot": one_shot}
        if entry.levels:
            weights = self.network.parameters(entry.width)
            place = f"{where}: levels"
            found["sparsities"] = sparsities_of(entry.levels, imp.fraction, weights, place)
        over = labels.get("over")
        if isinstance(over, Rounds):
            by_level = any(method.view == "level" for method in ways.values())
            place = f"{where}: sweep {labels['sweep']!r}"
            over.reaches(entry.levels if by_level else (), labels["imp"], place)
        for name, method in ways.items():
            place = f"{where}: methods: {name}"
            if method.cut == "one-shot" and not entry.levels:
                raise UserError(f"{place}: cut: one-shot needs levels")
            if method.view == "level" and not (entry.levels and isinstance(over, Rounds)):
                raise UserError(f"{place}: view: level needs levels and a sweep over rounds")
        return found


def sparsities_of(
    levels: Sequence[int], fraction: float, weights: int, where: str
) -> tuple[float, ...]:
    """The sparsities by which levels are shown: 1 - (1 - fraction)^n, to six digits.

    ``weights``: of the network, 0 where their number is not known.

    Raises:
        UserError: a level leaves no weight, or a smaller share than ``LEAST``.
    """
    least = max(LEAST, 1 / weights if weights else 0)
    last = math.floor(math.log(least) / math.log(1 - fraction))
    for level in levels:
        if level > last:
            raise UserError(f"{where}: {level} prunes leave next to nothing; allowed: up to {last}")
    return tuple(round(1 - (1 - fraction) ** level, 6) for level in levels)
