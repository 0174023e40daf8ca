"""Sweep over the epochs of training: one permutation for each, and that of the end."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.catalog.schema import AT_LEAST_ONE, NOT_NEGATIVE, option
from pipeline.errors import UserError
from pipeline.runs.base import Study
from pipeline.runs.dense import Dense
from pipeline.runs.snapshot import weights_at
from pipeline.runs.sweeps.base import Line, Matching, Sweep

END = "end"


def point_at(epoch: int) -> str:
    """The point of an epoch before the end."""
    return f"t{epoch:04d}"


def check_kept(epochs: Sequence[int], end: int, dense: Any, where: str) -> None:
    """Raise UserError where runs of a dense recipe do not keep some epochs below an end, or that."""
    for epoch in (*epochs, end):
        if epoch not in dense.kept:
            raise UserError(
                f"{where}: epoch {epoch} is kept by neither trunk nor series of the dense "
                f"recipe; kept: {', '.join(map(str, dense.kept))}"
            )
    if late := [epoch for epoch in epochs if epoch >= end]:
        raise UserError(f"{where}: epochs: {late[0]} must lie below the end, {end}")


@dataclass(frozen=True)
class Epochs(Sweep):
    """States of a pair along training (Sharma et al., Section 5.1): a permutation for each epoch.

    The end is always there, as the point ``end``.
    """

    over = "epochs"

    epochs: tuple[int, ...] = option(
        (), "epochs matched beside the end; trunk or series of the dense recipe must keep them",
        NOT_NEGATIVE, unique=True,
    )  # fmt: skip
    final: int | None = option(None, "epoch that stands for the end; empty: T", AT_LEAST_ONE)

    def fit(self, seeds: Sequence[int], dense: Any, where: str) -> None:
        self.of_pair(seeds, where)
        end = self.final or dense.epochs
        check_kept(self.epochs, end, dense, where)

    def times(self, study: Study, networks: Sequence[Dense]) -> dict[str, int]:
        """Every point and its epoch, in order of time, the end last."""
        end = self.final or study.recipe(networks[0]).epochs
        return {point_at(epoch): epoch for epoch in sorted(self.epochs)} | {END: end}

    def matchings(self, study: Study, networks: Sequence[Dense]) -> Iterator[Matching]:
        a, b = networks
        for point, epoch in self.times(study, networks).items():
            yield Matching(point, weights_at(study, a, epoch), weights_at(study, b, epoch))

    def reference(self, point: str) -> str | None:
        return END

    def lines(self, study: Study, networks: Sequence[Dense], at: Collection[str]) -> Iterator[Line]:
        """Arm ``none``: a and b as they are, at every epoch measured; ``matched``: pi(a) and b."""
        times = self.times(study, networks)
        end = times[END]
        for now in times.values():
            wanted = [
                (point, then)
                for point, then in times.items()
                if "all" in at
                or ("own" in at and then == now)
                or ("end" in at and now == end)
                or ("along" in at and then == end)
            ]
            if wanted:
                a, b = (weights_at(study, network, now) for network in networks)
                yield Line("none", None, None, now, a, b)
                for point, then in wanted:
                    yield Line("matched", point, then, now, a, b)

    def roles(self, at: Collection[str]) -> Collection[str]:
        """``own``: pi_t at t; ``end``: pi_t at the end; ``along``: that of the end at every t;
        ``fixed``: each of them at every epoch."""
        every = {"own", "end", "along", "fixed"}
        return {"none"} | (every if "all" in at else {*at})
