"""C²M³ (Crisostomi et al., 2024): several networks aligned at once, with cycle consistency.

Each network p gets a permutation π_p to an order of units common to all, so that the way from p to
q, π_q⁻¹ π_p, and ways around a circle contradict each other nowhere. What is to be large is the sum
over all pairs of the inner product of the weights, Σ_{p<q} <π_p(p), π_q(q)>. Frank and Wolfe's
algorithm moves all groups of a network together: the gradient at doubly stochastic matrices is a
score, its best permutations are where to go (an assignment for each group), and how far is best on
the way there. So no order of groups plays a part, as it does in weight matching.

The order of the first network is the common one, for only orders relative to each other count. Each
other is first taken to the sum of those before it, then, in sweeps, to the sum of all others. (The
paper moves all at once; two networks then each make the whole of the move that one should make.)

A sweep costs for each network a gradient, which is a product of each weight with matrices of its
groups, as much for a few points of the way, and an assignment of O(size³) per group. No image is
looked at. Convolutions in groups are not known to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.polynomial import Polynomial
from torch import Tensor

from pipeline.study.settings import MatchSettings
from pipeline.symmetry import permutation
from pipeline.symmetry.matchers import Several, joint
from pipeline.symmetry.permutation import Permutation
from pipeline.symmetry.relaxation import Matrices, check, matrices, mixed, rounded
from pipeline.symmetry.weight_matching import GAIN, Problem

State = Mapping[str, Tensor]


@joint("c2m3")
def c2m3(several: Several, settings: MatchSettings) -> list[Permutation]:
    """From identities, or random permutations, until no network gains or for so many ``steps``."""
    first, second, *_ = several.states
    problem = Problem(several.spec, first, second, several.names, several.device)
    check(several.spec, "c2m3")
    states = [
        {name: state[name].to(several.device, torch.float64) for name in problem.a}
        for state in several.states
    ]
    still, drawn = permutation.identity(several.spec), several.generator("c2m3-start")
    random = settings.start == "random"
    at = [
        matrices(permutation.random(several.spec, drawn) if n and random else still, like(state))
        for n, state in enumerate(states)
    ]
    moved = [states[0]]
    least = GAIN * float(sum(t.square().sum() for state in states for t in state.values()))

    def better(number: int, others: Sequence[State]) -> bool:
        """Move a network towards the sum of others; whether that gained."""
        total = {name: torch.stack([o[name] for o in others]).sum(0) for name in problem.a}
        step = _step(problem, at[number], states[number], total, least)
        if step is not None:
            at[number] = step
        return step is not None

    for number in range(1, len(states)):
        for _ in range(settings.steps):
            if not better(number, moved):
                break
        moved.append(mixed(problem, at[number], states[number]))
    for _ in range(settings.steps):
        gained = False
        for number in range(1, len(states)) if len(states) > 2 else ():
            if better(number, [m for n, m in enumerate(moved) if n != number]):
                gained, moved[number] = True, mixed(problem, at[number], states[number])
        if not gained:
            break
    return [rounded(problem, own) for own in at]


def like(state: State) -> Tensor:
    """Any tensor of a state, for type and device."""
    return next(iter(state.values()))


def _step(
    problem: Problem, own: Matrices, state: State, others: State, least: float
) -> Matrices | None:
    """One of Frank and Wolfe's steps on <mixed state, others>; None where it gains too little."""
    slope = _slope(problem, own, state, others)
    end = matrices(rounded(problem, slope), like(slope))
    if float(sum((slope[name] * (end[name] - own[name])).sum() for name in own)) <= least:
        return None
    carried = [part.tensor for parts in problem.parts.values() for part in parts]
    degree = max(map(carried.count, carried))  # on the way, the height is a polynomial
    shares = np.linspace(0, 1, degree + 1)
    heights = [
        float(_height(mixed(problem, _between(own, end, share), state), others))
        for share in shares.tolist()
    ]
    line = Polynomial.fit(shares, heights, degree)
    turns = map(complex, line.deriv().roots())
    inside = [t.real for t in turns if abs(t.imag) < 1e-9 and 0 < t.real < 1]
    best = max([1.0, *inside], key=lambda share: float(line(share)))
    return _between(own, end, best) if float(line(best)) - heights[0] > least else None


def _slope(problem: Problem, own: Matrices, state: State, others: State) -> Matrices:
    """Gradient of <mixed state, others> with respect to the matrices."""
    leaves = {name: matrix.clone().requires_grad_() for name, matrix in own.items()}
    value = _height(mixed(problem, leaves, state), others)
    found = torch.autograd.grad(value, [*leaves.values()], allow_unused=True)
    return {
        name: torch.zeros_like(leaf) if slope is None else slope
        for (name, leaf), slope in zip(leaves.items(), found, strict=True)
    }


def _height(moved: State, others: State) -> Tensor:
    return torch.stack([(moved[name] * others[name]).sum() for name in others]).sum()


def _between(own: Matrices, end: Matrices, share: float) -> Matrices:
    return {name: matrix + share * (end[name] - matrix) for name, matrix in own.items()}
