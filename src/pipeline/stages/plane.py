"""0-1 loss on the plane through LTH, dense and permuted solution modulo pi (paper, Figure 4b)."""

from __future__ import annotations

from torch import Tensor

from pipeline import symmetry
from pipeline.artifacts.record import recorded
from pipeline.artifacts.store import read_tensors
from pipeline.connectivity.plane import survey_plane
from pipeline.errors import UserError
from pipeline.runs import Match, Plane, Sparse
from pipeline.stages.job import Job
from pipeline.stages.lines import ground
from pipeline.weights import read_state

GRID = ("correction", "x", "y", "split", "loss", "error")


def execute(job: Job) -> None:
    """Write the grid of each correction and the coordinates of the three models.

    The LTH and the dense solution of a are brought to b's numbering by pi, where the permuted
    solution lives. Origin: LTH; the x axis points to the dense solution.
    """
    run, settings = job.run, job.recipe
    assert isinstance(run, Plane) and isinstance(run.permuted.match, Match)
    match = run.permuted.match
    if job.diverged(run.permuted.lth, run.permuted, match):
        job.write_csv("plane.csv", GRID, [])
        job.metrics(status="diverged", points=[])
        return
    at = ground(job, run.permuted.init)
    like = at.model.state_dict()
    permutation = read_tensors(job.input("permutation"))
    spec = job.spec(match)
    thetas = {
        "LTH": symmetry.apply(spec, permutation, _weights(job, run.permuted.lth, like)),
        "dense": symmetry.apply(spec, permutation, job.state("dense")),
        "permuted": _weights(job, run.permuted, like),
    }
    rows: list[dict[str, object]] = []
    points: list[dict[str, object]] = []
    for done, correction in enumerate(settings.corrections, start=1):
        found = survey_plane(
            at, thetas, grid=settings.grid, margin=settings.margin, correction=correction
        )
        rows += found.grid
        points = [
            {key: row[key] for key in ("model", "x", "y", "split", "error")} for row in found.models
        ]
        job.progress.step(done, len(settings.corrections))
    job.write_csv("plane.csv", GRID, rows)
    job.metrics(status="ok", points=points)


def _weights(job: Job, run: Sparse, like: dict[str, Tensor]) -> dict[str, Tensor]:
    """The final weights of a sparse run."""
    path = job.config.results / run.path("weights.safetensors")
    if not path.exists() and not recorded(path):
        raise UserError(
            f"{path}: not kept; set keep_weights: true in the sparse recipe {run.recipe!r} "
            "and run again"
        )
    return read_state(job.read(run, "weights.safetensors"), like=like)
