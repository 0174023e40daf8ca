"""Permutations of a whole sweep: looked for one after another, or composed of those found."""

from __future__ import annotations

from typing import Any

from torch import Tensor

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
    for done, each in enumerate(wanted, start=1):
        a, b = (by_seed[file.run.home.seed] for file in (each.a, each.b))
        status[each.point], match = matched(job, spec, (a, b), (read(each.a), read(each.b)))
        found[each.point], measured[each.point] = match.permutation, quality(match)
        job.progress.step(done, len(wanted))
    for composition in sweep.compositions(run.members):
        found[composition.point] = _composed(composition, found)
    job.write_tensors(
        "permutations.safetensors",
        {f"{point}/{group}": p for point, own in found.items() for group, p in own.items()},
    )
    rows = []
    for point, own in found.items():
        reference = sweep.reference(point)
        for group, index in own.items():
            row: dict[str, Any] = {"point": point, "group": group, "size": len(index)}
            row["fixed_points"] = _agreeing(index, symmetry.identity(spec)[group])
            if reference is not None:
                row |= {"reference": reference, "alike": _agreeing(index, found[reference][group])}
            rows.append({**measured.get(point, {}).get(group, {}), **row})
    first = ("point", "group", "size", "fixed_points", "reference", "alike")
    more = dict.fromkeys(key for row in rows for key, value in row.items() if key not in first)
    plain = [key for key in more if not any(isinstance(r.get(key), list | dict) for r in rows)]
    header = (*first, *plain)
    job.write_csv("align.csv", header, ({key: row.get(key) for key in header} for row in rows))
    spoilt = sorted(point for point, found_status in status.items() if found_status != "ok")
    job.metrics(status="diverged" if spoilt else "ok", points=[*found], diverged=spoilt)


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


def _agreeing(left: Tensor, right: Tensor) -> int:
    """Units that two permutations put to the same place."""
    return int((left == right).sum())
