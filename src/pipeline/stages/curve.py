"""Loss and error on the line from a to b, with and without a's permutation (paper, Figure 3)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import product
from typing import Any, Literal

from torch import Tensor

from pipeline import symmetry
from pipeline.artifacts.store import read_tensors
from pipeline.connectivity.barrier import alphas, barrier, curve
from pipeline.connectivity.survey import Ground
from pipeline.runs import Curve
from pipeline.stages.job import Job
from pipeline.stages.lines import ground, loss_at_initialisation
from pipeline.stages.outcome import finite
from pipeline.study.settings import ConnectivitySettings

State = Mapping[str, Tensor]
Row = dict[str, Any]

METRICS: tuple[Literal["loss", "error"], ...] = ("loss", "error")
HEADER = ("matched", "alpha", "correction", "split", "loss", "error")


def execute(job: Job) -> None:
    """Write the curves, their barriers by eq. (3) and at 1/2, and the loss at initialisation."""
    run, settings = job.run, job.recipe
    assert isinstance(run, Curve)
    a, b = job.state("a"), job.state("b")
    at = ground(job, run.match.b)
    rows: list[Row] = []
    barriers: list[Row] = []
    status = "diverged"
    if finite(a) and finite(b):
        moved = symmetry.apply(job.spec(run.match), read_tensors(job.input("permutation")), a)
        (rows, barriers), status = lines(at, settings, moved, a, b), "ok"
    job.write_csv("curve.csv", HEADER, rows)
    start_loss = loss_at_initialisation(job, run.match.b, at)
    job.metrics(status=status, barriers=barriers, at_initialisation=start_loss)


def lines(
    at: Ground, settings: ConnectivitySettings, moved: State, a: State, b: State
) -> tuple[list[Row], list[Row]]:
    """Points of the lines from pi(a) and from a to b, and their barriers by eq. (3) and at 1/2."""
    rows: list[Row] = []
    barriers: list[Row] = []
    places = alphas(settings.points)
    for matched, start in ((True, moved), (False, a)):
        found = curve(at, start, b, alphas=places, corrections=settings.corrections)
        rows += [{"matched": matched, **row} for row in found]
        for correction, split, metric in product(settings.corrections, settings.splits, METRICS):
            whole = barrier(found, correction, split, metric)
            half = barrier(found, correction, split, metric, at=0.5) if 0.5 in places else math.nan
            barriers.append(
                {"matched": matched, "correction": correction, "split": split, "metric": metric,
                 "barrier": _finite(whole), "at_half": _finite(half)}
            )  # fmt: skip
    return rows, barriers


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
