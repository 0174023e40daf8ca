"""Barriers of sweeps, drawn."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from pipeline.catalog.schema import AT_LEAST_ONE, NOT_NEGATIVE, POSITIVE, choose, option
from pipeline.errors import UserError
from pipeline.study.experiment import Experiment
from pipeline.study.outputs.base import Experiments, OfSweeps, check_measured
from pipeline.study.settings import Correction

Role = Literal[
    "none", "own", "along", "end", "fixed", "direct", "indirect", "instability", "children",
    "dense", "sparse", "one-shot",
]  # fmt: skip
#: Roles of lines between children.
CHILDREN = ("instability", "children")


@dataclass(frozen=True)
class SweepBarriers(OfSweeps):
    """Barriers against epoch, width or the share of weights left, a line per role and matching.

    Roles of a sweep over epochs: `none` (a and b as they are), `own` (π_t at t), `along` (π of the
    end at every epoch), `end` (π_t at the end), `fixed` (a line for each π_t, at every epoch, and a
    row for each matching). Of one over triples: `none`, `direct` and `indirect`, by width. Of one
    over spawns: `none` and `along` of the parents, `instability` (children of one network) and
    `children` (of a and b, under π of their parents).
    row for each matching). Of one over triples: `none`, `direct` and `indirect`, by width. Of one
    over rounds: `none`, `dense` (π of the dense ends), `sparse` (π of the level) and `one-shot` (b's
    dense end pruned at once), by the share of weights left.
    """

    kind = "barrier"
    what = "figure"
    shows = (
        "Error barrier: the largest excess of the error on the line between two networks over that on "
        "the chord of its ends; the loss barrier alike. Bands: ± one sample standard deviation over pairs."
    )
    lines: tuple[Role, ...] = option(("none", "along"), "roles drawn", unique=True)
    metrics: tuple[Literal["error", "loss"], ...] = option(("error",), "what is drawn", unique=True)
    splits: tuple[Literal["train", "test"], ...] = option(
        ("test",), "data on which it is measured", unique=True
    )
    correction: Correction = option("none", "correction of the merged networks")
    x: Literal["epoch", "spawn"] = option(
        "epoch",
        "what children are drawn against: the epochs of training, a line for each epoch that they "
        "start from, or that epoch, at the end of training",
    )
    spawns: tuple[int, ...] = option(
        (), "only children that start from these epochs; empty: all", NOT_NEGATIVE, unique=True
    )
    widths: tuple[float, ...] = option(
        (), "widths of the experiments that are shown; empty: all", POSITIVE, unique=True
    )
    rows: Literal["network", "line"] = option("network", "what tells the rows of panels apart")
    until: tuple[int, ...] = option(
        (), "a row of panels up to each of these epochs beside that of all", AT_LEAST_ONE,
        unique=True,
    )  # fmt: skip
    threshold: float | None = option(
        None, "error, in points, up to which networks count as connected", POSITIVE
    )

    def check(self, experiments: Experiments, where: str) -> None:
        if not (self.lines and self.metrics and self.splits):
            raise UserError(f"{where}: lines, metrics and splits must name at least one each")
        other = [line for line in self.lines if line not in CHILDREN]
        if self.x == "spawn" and other:
            raise UserError(f"{where}: x: spawn is of {' and '.join(CHILDREN)}, not of {other[0]}")
        if self.spawns and {*other} == {*self.lines}:
            raise UserError(f"{where}: spawns go with lines of {' and '.join(CHILDREN)}")
        super().check(experiments, where)
        declared = [experiment.width for experiment in self.chosen(experiments)]
        for width in self.widths:
            if width not in declared:
                known = ", ".join(f"{each:g}" for each in sorted({*declared}))
                raise UserError(
                    f"{where}: widths: {width:g} is the width of none of its experiments; "
                    f"allowed: {known}"
                )

    def check_experiment(self, experiment: Experiment, where: str) -> None:
        super().check_experiment(experiment, where)
        assert experiment.over is not None
        known = experiment.over.roles(experiment.line.at)
        for line in self.lines:
            place = f"{where}: lines: sweep {experiment.sweep!r} as {experiment.connectivity!r} measures it"
            choose(line, known, place, "line")
        for spawn in self.spawns:
            if spawn not in getattr(experiment.over, "spawns", ()):
                raise UserError(
                    f"{where}: spawns: sweep {experiment.sweep!r} has no children of epoch {spawn}"
                )
        for split in self.splits:
            check_measured(experiment, split, (self.correction,), where)

    def chosen(self, experiments: Experiments) -> list[Experiment]:
        every: Iterable[Experiment] = super().chosen(experiments)
        return [one for one in every if not self.widths or one.width in self.widths]
