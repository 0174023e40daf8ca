"""Loss and error on the line from a to b, with and without a's permutation (paper, Figure 3)."""

from __future__ import annotations

import math

from pipeline import symmetry
from pipeline.artifacts.store import read_tensors, write_csv
from pipeline.connectivity.barrier import barrier, curve
from pipeline.runs import Curve
from pipeline.stages.job import Job
from pipeline.stages.lines import alphas, csv_rows, ground, loss_at_initialisation
from pipeline.stages.outcome import finite

HEADER = ("matched", "alpha", "correction", "split", "loss", "error")


def execute(job: Job) -> None:
    """Write the curves, their barriers by eq. (3) and at 1/2, and the loss at initialisation."""
    run, settings = job.run, job.recipe
    assert isinstance(run, Curve)
    a, b = job.state("a"), job.state("b")
    permutation = read_tensors(job.input("permutation"))
    at = ground(job, run.match.b)
    rows: list[dict[str, object]] = []
    barriers: list[dict[str, object]] = []
    status = "ok" if finite(a) and finite(b) else "diverged"
    for matched in (True, False) if status == "ok" else ():
        start = symmetry.apply(job.spec(run.match), permutation, a) if matched else a
        found = curve(
            at, start, b, alphas=alphas(settings.points), corrections=settings.corrections
        )
        rows += [{"matched": matched, **row} for row in found]
        barriers += [
            {"matched": matched, "correction": c, "split": s, "metric": m, "barrier": _finite(v[0]),
             "at_half": _finite(v[1])}
            for c in settings.corrections for s in settings.splits for m in ("loss", "error")
            for v in [_barriers(found, c, s, m)]
        ]  # fmt: skip
    write_csv(job.folder / "curve.csv", HEADER, csv_rows(rows, HEADER))
    start_loss = loss_at_initialisation(job, run.match.b, at)
    job.metrics(status=status, barriers=barriers, at_initialisation=start_loss)
    job.finish("curve.csv", "metrics.json")


def _barriers(
    rows: list[dict[str, object]], correction: str, split: str, metric: str
) -> tuple[float, float]:
    supremum = barrier(rows, correction, split, metric)  # type: ignore[arg-type]
    has_half = any(row["alpha"] == 0.5 for row in rows)
    half = barrier(rows, correction, split, metric, at=0.5) if has_half else math.nan  # type: ignore[arg-type]
    return supremum, half


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
