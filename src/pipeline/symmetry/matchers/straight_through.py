"""The straight-through estimator of Git Re-Basin (Ainsworth et al., 2023, Section 3.3).

The loss half way between pi(a) and b is lowered over weights that stand for pi(a). In the forward
pass they are replaced by the nearest permutation of a, which weight matching finds, starting from
the last one; the gradient goes to them as if they had not been. They begin as b. Of the permutations
at the end of each pass over the batches, the one with the least loss half way counts.

A step costs a weight matching from a good start, and a forward and backward pass on a batch. It
needs labels.
"""

from __future__ import annotations

from itertools import islice

import torch
from torch import Tensor

from pipeline.study.settings import MatchSettings
from pipeline.symmetry import permutation
from pipeline.symmetry.matchers import Pair, matcher
from pipeline.symmetry.matching import Match
from pipeline.symmetry.midpoint import Midpoint
from pipeline.symmetry.permutation import Permutation, apply
from pipeline.symmetry.weight_matching import Problem

#: Weights learn at this share of the rate of Sinkhorn's scores.
SHARE = 0.01


@matcher("straight-through")
def straight_through(pair: Pair, settings: MatchSettings) -> Match:
    """From the identity, for so many ``steps``."""
    middle = Midpoint(pair, settings)
    problem, order = middle.problem, pair.generator("straight-through-order")
    free = {name: b.clone().requires_grad_() for name, b in problem.b.items()}
    optimiser = torch.optim.Adam(free.values(), SHARE * settings.rate)
    at = permutation.identity(pair.spec)
    found: tuple[float, Permutation] | None = None
    left, device = settings.steps, next(iter(free.values())).device

    def moved() -> dict[str, Tensor]:
        return apply(pair.spec, at, problem.a)

    while left:
        for batch in islice(pair.labelled(), left):
            near = Problem(pair.spec, problem.a, free, free, device)
            at = near.climb(at, order, sweeps=settings.sweeps, order=settings.order).permutation
            now = moved()
            through = {name: t + (now[name] - t).detach() for name, t in free.items()}
            optimiser.zero_grad()
            middle.loss(through, batch).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            left -= 1
        whole = middle.whole(moved())
        if found is None or whole < found[0]:
            found = whole, at
    assert found is not None
    loss, best = found
    told = {"loss_midpoint": loss, "steps": settings.steps}
    return Match(best, problem.quality(best), search=told)
