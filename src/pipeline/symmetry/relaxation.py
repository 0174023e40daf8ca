"""Permutations relaxed to matrices of non-negative entries whose rows and columns sum to one.

Such a doubly stochastic matrix is a mean of permutation matrices (Birkhoff). In row i it has the
shares of the units of network a that are mixed at place i, so that weights under it are a smooth
function of it, and gradients say where to go. What comes out is rounded to a permutation.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from pipeline.errors import UserError
from pipeline.symmetry.permutation import Part, Permutation, PermutationSpec
from pipeline.symmetry.weight_matching import Problem

Matrices = dict[str, Tensor]
"""Group name to [size, size]: places of the permuted network in rows, units in columns."""


#: Matchers that relax permutations, and whether they know units in blocks, such as attention heads.
RELAXED = {"c2m3": True, "sinkhorn": False}


def refused(spec: PermutationSpec) -> dict[str, str]:
    """The matchers of `RELAXED` that do not know all units, and which ones.

    None of them knows those of convolutions in groups, whose columns mean other units in each row.
    """
    found = {}
    grouped = [part.tensor for part in spec.parts if part.rows is not None]
    within = [group.name for group in spec.groups if group.within is not None]
    for matcher, blocks in RELAXED.items():
        if grouped or (within and not blocks):
            what = f"{grouped[0]} (in groups)" if grouped else f"{within[0]} (units in blocks)"
            found[matcher] = (
                f"matcher {matcher} does not know {what}; correlation, inner and weights do"
            )
    return found


def check(spec: PermutationSpec, matcher: str) -> None:
    """Raise `UserError` if a matcher is `refused`."""
    if problem := refused(spec).get(matcher):
        raise UserError(problem)


def matrices(permutation: Permutation, like: Tensor) -> Matrices:
    """A permutation as matrices, of the type and on the device of ``like``."""
    return {
        name: torch.eye(len(index), dtype=like.dtype, device=like.device)[index]
        for name, index in permutation.items()
    }


def rounded(problem: Problem, scores: Mapping[str, Tensor]) -> Permutation:
    """The permutation of the largest total score, [places, units] of every group."""
    found: Permutation = {}
    for family in problem.families:
        chosen = problem.assigned(family, {g: scores[g] for g in problem.families[family]})
        found |= {name: torch.from_numpy(index) for name, (_, index) in chosen.items()}
    return {name: found[name] for name in problem.spec.sizes}


def mixed(
    problem: Problem, found: Mapping[str, Tensor], state: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Tensors of the problem with their units mixed along every axis that carries some.

    For matrices of a permutation they are those that `pipeline.symmetry.apply` gives. Gradients
    flow to both.
    """
    result = dict(state)
    for group, parts in problem.parts.items():
        for part in parts:
            result[part.tensor] = _mixed(problem, found[group], result[part.tensor], part)
    return result


def _mixed(problem: Problem, matrix: Tensor, tensor: Tensor, part: Part) -> Tensor:
    units = matrix @ problem.units(tensor, part)
    front = tensor.movedim(part.axis, 0)
    if problem.spec.axes[part.tensor][part.axis] is not None:
        return units.reshape(front.shape).movedim(0, part.axis)
    places = torch.tensor(part.index, device=tensor.device).flatten()
    put = front.index_copy(0, places, units.reshape(-1, *front.shape[1:]))
    return put.movedim(0, part.axis)
