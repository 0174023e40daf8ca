"""Barriers between the states of a sweep, as they are and under its permutations."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import product
from typing import Any

import torch
from torch import Tensor

from pipeline import pruning, symmetry
from pipeline.artifacts.store import read_tensors
from pipeline.connectivity.barrier import alphas, barrier, curve
from pipeline.runs import Connect
from pipeline.runs.sweeps import Line
from pipeline.stages.job import Job
from pipeline.stages.lines import ground
from pipeline.stages.outcome import finite
from pipeline.weights import read_mask, under

#: What tells a line from another.
LINE = ("arm", "point", "a", "b", "matched_at", "evaluated_at")
HEADER = (
    *LINE, "distance", "correction", "split", "loss_barrier", "error_barrier", "loss_half",
    "error_half", "loss_a", "error_a", "loss_b", "error_b",
)  # fmt: skip
CURVE = (*LINE, "alpha", "correction", "split", "loss", "error")


def execute(job: Job) -> None:
    """Write the barriers of every line (eq. 3), the excess at 1/2, and what the ends themselves do.

    ``distance``: Euclidean, of the trained weights of pi(a) (or a) and b. A line to a network that
    diverged has no barrier. Points of alpha are written where the recipe keeps them.
    """
    run, settings = job.run, job.recipe
    assert isinstance(run, Connect)
    permutations = read_tensors(job.input("permutations"))
    read, spec, at = job.states(), job.spec(run.align), ground(job, run.home)
    trained = [name for name, _ in at.model.named_parameters()]
    rows: list[dict[str, Any]] = []
    points: list[dict[str, Any]] = []
    wanted, status = run.lines(job.graph), "ok"
    for done, line in enumerate(wanted, start=1):
        start, end = read(line.a), read(line.b)
        if line.point is not None:
            start = symmetry.apply(spec, under(f"{line.point}/", permutations), start)
        if line.mask is not None:
            end = pruning.apply(read_mask(job.read(line.mask.run, line.mask.name)), end)
        place = _place(line) | {"distance": distance(start, end, trained)}
        if finite(start) and finite(end):
            found = curve(
                at, start, end, alphas=alphas(settings.points), corrections=settings.corrections
            )
            points += [place | row for row in found] if settings.keep_curves else []
        else:
            found, status = [], "diverged"
        rows += [place | row for row in _barriers(found, settings)]
        job.progress.step(done, len(wanted))
    job.write_csv("barriers.csv", HEADER, rows)
    if settings.keep_curves:
        job.write_csv("curves.csv", CURVE, points)
    job.metrics(status=status, lines=len(wanted))


def _place(line: Line) -> dict[str, Any]:
    """The columns ``LINE``."""
    return {
        "arm": line.arm, "point": line.point, "a": line.a.run.home.who, "b": line.b.run.home.who,
        "matched_at": line.matched_at, "evaluated_at": line.evaluated_at,
    }  # fmt: skip


def distance(a: Mapping[str, Tensor], b: Mapping[str, Tensor], names: Iterable[str]) -> float:
    """Euclidean distance of two states over some of their tensors."""
    squares = [(a[name].double() - b[name].double()).square().sum() for name in names]
    return float(torch.stack(squares).sum().sqrt())


def _barriers(found: list[dict[str, Any]], settings: Any) -> Iterable[dict[str, Any]]:
    """A row per correction and split of a curve; of none, rows without numbers."""
    for correction, split in product(settings.corrections, settings.splits):
        row: dict[str, Any] = dict.fromkeys(HEADER[len(LINE) + 1 :])
        row |= {"correction": correction, "split": split}
        own = [r for r in found if (r["correction"], r["split"]) == (correction, split)]
        halved = any(math.isclose(r["alpha"], 0.5, abs_tol=1e-9) for r in own)
        for metric in ("loss", "error") if own else ():
            row[f"{metric}_barrier"] = barrier(own, correction, split, metric)
            if halved:
                row[f"{metric}_half"] = barrier(own, correction, split, metric, at=0.5)
            row |= {f"{metric}_a": own[0][metric], f"{metric}_b": own[-1][metric]}
        yield row
