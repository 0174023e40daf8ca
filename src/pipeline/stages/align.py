"""Permutations of a whole sweep: looked for one after another, or composed of those found."""

from __future__ import annotations

from typing import Any

from pipeline import symmetry
from pipeline.catalog.networks import find
from pipeline.runs import Align
from pipeline.runs.sweeps import Composition, Mixture
from pipeline.stages.copies import matched_states
from pipeline.stages.job import Job
from pipeline.stages.match import matched, quality
from pipeline.symmetry.mixing import mixture, owners
from pipeline.symmetry.permutation import Permutation, PermutationSpec


def execute(job: Job) -> None:
    """Write the permutation of every point, and per point and group how good it is.

    ``alike`` counts the units on which it agrees with the permutation of its reference point, the
    fixed points of the two (Sharma et al., Appendix H.5); ``fixed_points`` those with the identity.
    """
    run = job.run
    assert isinstance(run, Align)
    spec, sweep, wanted = job.spec(run), run.over(job.graph), run.matchings(job.graph)
    read = job.states(keep=max(len(each.files) for each in wanted))
    by_seed = {member.seed: member for member in run.members}
    found: dict[str, Permutation] = {}
    measured: dict[str, dict[str, dict[str, Any]]] = {}
    status: dict[str, str] = {}
    searches: dict[str, Any] = {}
    for done, each in enumerate(wanted, start=1):
        a, b = (by_seed[file.run.home.seed] for file in (each.a, each.b))
        states = matched_states(job, each, (a, b), read)
        status[each.point], match = matched(job, spec, (a, b), states)
        found[each.point], measured[each.point] = match.permutation, quality(match)
        searches[each.point] = dict(match.search)
        job.progress.step(done, len(wanted))
    for composition in sweep.compositions(run.members):
        found[composition.point] = _composed(composition, found, spec, run)
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


def _composed(
    composition: Composition | Mixture,
    found: dict[str, Permutation],
    spec: PermutationSpec,
    run: Align,
) -> Permutation:
    """The permutation of steps that are applied one after another, or of two put together."""
    if isinstance(composition, Mixture):
        owner = owners(spec, find(run.home.model).layers)
        early, late = found[composition.early], found[composition.late]
        return mixture(owner, composition.layers, early, late)
    steps = [
        symmetry.inverse(found[point]) if inverted else found[point]
        for point, inverted in composition.steps
    ]
    whole = steps[0]
    for step in steps[1:]:
        whole = symmetry.compose(step, whole)
    return whole
