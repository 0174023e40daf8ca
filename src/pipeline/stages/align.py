"""Permutations of a whole sweep: looked for one after another, or composed of those found."""

from __future__ import annotations

from typing import Any

from pipeline import symmetry
from pipeline.runs import Align
from pipeline.runs.sweeps import Composition
from pipeline.stages.job import Job
from pipeline.stages.match import matched, quality
from pipeline.symmetry.permutation import Permutation


def execute(job: Job) -> None:
    """Write the permutation of every point, and per point and group how good it is.

    ``alike`` counts the units on which it agrees with the permutation of its reference point, the
    fixed points of the two (Sharma et al., Appendix H.5); ``fixed_points`` those with the identity.
    """
    run = job.run
    assert isinstance(run, Align)
    read, spec, sweep = job.states(), job.spec(run), run.over(job.graph)
    wanted = run.matchings(job.graph)
    by_seed = {member.seed: member for member in run.members}
    found: dict[str, Permutation] = {}
    measured: dict[str, dict[str, dict[str, Any]]] = {}
    status: dict[str, str] = {}
    searches: dict[str, Any] = {}
    for done, each in enumerate(wanted, start=1):
        a, b = (by_seed[file.run.home.seed] for file in (each.a, each.b))
        status[each.point], match = matched(job, spec, (a, b), (read(each.a), read(each.b)))
        found[each.point], measured[each.point] = match.permutation, quality(match)
        searches[each.point] = dict(match.search)
        job.progress.step(done, len(wanted))
    for composition in sweep.compositions(run.members):
        found[composition.point] = _composed(composition, found)
    job.write_tensors(
        "permutations.safetensors",
        {f"{point}/{group}": p for point, own in found.items() for group, p in own.items()},
    )
    identity = symmetry.identity(spec)
    rows: list[dict[str, Any]] = []
    for point, own in found.items():
        reference = sweep.reference(point)
        fixed = symmetry.fixed_points(own, identity)
        alike = symmetry.fixed_points(own, found[reference]) if reference else {}
        for group, index in own.items():
            row = {
                "point": point, "group": group, "size": len(index), "fixed_points": fixed[group],
                "reference": reference, "alike": alike.get(group),
            }  # fmt: skip
            rows.append(row | measured.get(point, {}).get(group, {}))
    header = dict.fromkeys(key for row in rows for key in row)
    job.write_csv("align.csv", [*header], ({**dict.fromkeys(header), **row} for row in rows))
    spoilt = [point for point, each in status.items() if each != "ok"]
    job.metrics(
        status="diverged" if spoilt else "ok", points=[*found], diverged=spoilt,
        searches={point: search for point, search in searches.items() if search},
    )  # fmt: skip


def _composed(composition: Composition, found: dict[str, Permutation]) -> Permutation:
    """The permutation of steps that are applied one after another."""
    steps = [
        symmetry.inverse(found[point]) if inverted else found[point]
        for point, inverted in composition.steps
    ]
    whole = steps[0]
    for step in steps[1:]:
        whole = symmetry.compose(step, whole)
    return whole
