"""Loss planes under the permutations of a sweep, and the trajectories of training in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from pipeline import symmetry
from pipeline.artifacts.store import read_tensors
from pipeline.connectivity.plane import project, span, survey_plane
from pipeline.runs import Landscape
from pipeline.stages.job import Job
from pipeline.stages.lines import ground
from pipeline.stages.outcome import finite
from pipeline.symmetry.permutation import PermutationSpec
from pipeline.weights import under

GRID = ("plane", "point", "correction", "x", "y", "split", "loss", "error")
PATHS = ("plane", "point", "network", "epoch", "x", "y", "distance")
State = Mapping[str, Tensor]

#: The networks that span each plane, at their ends: its origin, which the x axis leaves, and where
#: it points. What stands behind @ is at its start.
PLANES = {
    "ends": ("b", "a", "π(a)"),
    "permutations": ("b", "π_T(a)", "π(a)"),
    "start": ("b", "b@0", "π(a)"),
}


def execute(job: Job) -> None:
    """Write the grid of each plane, and where the epochs of its networks lie in it and how far off.

    Each plane goes through three networks at their ends (Sharma et al., Figures 22 and 23): π is the
    permutation of the point, π_T that of the end. One state is read at a time beside these three.
    """
    run, settings = job.run, job.recipe
    assert isinstance(run, Landscape)
    permutations = read_tensors(job.input("permutations"))
    at, spec = ground(job, run.home), job.spec(run.align)
    trained = [name for name, _ in at.model.named_parameters()]
    grid: list[dict[str, Any]] = []
    paths: list[dict[str, Any]] = []
    status, points = "ok", run.matched(job.graph)
    for done, point in enumerate(points, start=1):
        state = _states(job, run, spec, {"π": under(f"{point}/", permutations),
                                         "π_T": under("end/", permutations)})  # fmt: skip
        for plane in settings.planes:
            place = {"plane": plane, "point": point}
            thetas = {name: state(name, None) for name in PLANES[plane]}
            if not all(map(finite, thetas.values())):
                status = "diverged"
                continue
            corners = tuple(thetas.values())
            try:
                flat = span(corners, trained)
            except ValueError as error:  # such as a permutation that is that of the end already
                print(f"{plane} of {point}: {error}", flush=True)
                continue
            own: list[dict[str, Any]] = []
            for name in dict.fromkeys(each.removesuffix("@0") for each in thetas):
                for epoch in run.states(job.graph, run.home):
                    x, y, off = project(flat, corners, state(name, epoch), trained)
                    own.append({"network": name, "epoch": epoch, "x": x, "y": y, "distance": off})
            paths += [place | row for row in own]
            for correction in settings.corrections:
                survey = survey_plane(
                    at, thetas, grid=settings.grid, margin=settings.margin, correction=correction,
                    also=[(row["x"], row["y"]) for row in own],
                )  # fmt: skip
                grid += [place | row for row in survey.grid]
        job.progress.step(done, len(points))
    job.write_csv("planes.csv", GRID, grid)
    job.write_csv("paths.csv", PATHS, paths)
    job.metrics(status=status, points=points)


def _states(
    job: Job, run: Landscape, spec: PermutationSpec, permutations: Mapping[str, State]
) -> Callable[[str, int | None], State]:
    """The weights of a network by its name in ``PLANES`` after an epoch (None: where it names)."""
    read = job.states()
    members = dict(zip("ab", run.align.members, strict=True))

    def state(name: str, epoch: int | None) -> State:
        bare, _, start = name.partition("@")
        which, _, whose = bare.rpartition("(")
        files = run.states(job.graph, members[whose.rstrip(")")])
        now = epoch if epoch is not None else 0 if start else max(files)
        found: State = read(files[now])
        return symmetry.apply(spec, permutations[which], found) if which else found

    return state
