"""Sinkhorn re-basin (Peña et al., 2023): doubly stochastic matrices, learnt by gradients.

For each group a matrix of scores X makes a doubly stochastic one, by Sinkhorn's normalisation of
exp(X / temperature), row and column in turn, and Adam lowers a cost of the weights under these: the
squared distance to b, the loss of the network half way, or that anywhere on the line (the paper's
C_L2, C_Mid, C_Rnd). The result is rounded by an assignment. Gradients go through the normalisation
as it is computed; the paper's implicit ones are those of its limit.

A step costs a product of each weight with the matrices of its groups, and ``ROUNDS`` normalisations
of n² entries; by the loss, also a forward and backward pass on a batch. Units in blocks and
convolutions in groups are not known to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import torch
from torch import Tensor

from pipeline.study.settings import MatchSettings
from pipeline.symmetry.matchers import Pair, matcher
from pipeline.symmetry.matching import Match
from pipeline.symmetry.midpoint import Batch, Midpoint
from pipeline.symmetry.relaxation import Matrices, check, mixed, rounded

#: Normalisations of rows and of columns, as in the authors' code.
ROUNDS = 20


@matcher("sinkhorn")
def sinkhorn(pair: Pair, settings: MatchSettings) -> Match:
    """From scores of the identity, for so many ``steps``."""
    middle = Midpoint(pair, settings)
    problem = middle.problem
    check(pair.spec, "sinkhorn")
    like = next(iter(problem.a.values()))
    scores = {
        name: torch.eye(size, dtype=like.dtype, device=like.device).requires_grad_()
        for name, size in problem.spec.sizes.items()
    }
    drawn = pair.generator("sinkhorn-line")
    optimiser = torch.optim.Adam(scores.values(), settings.rate)
    costs = []

    def cost(batch: Batch | None) -> Tensor:
        moved = mixed(problem, soft(scores, settings.temperature), problem.a)
        if batch is None:
            apart = [(moved[name] - b).square().sum() for name, b in problem.b.items()]
            return torch.stack(apart).sum()
        alpha = float(torch.rand((), generator=drawn)) if settings.cost == "line" else 0.5
        return middle.loss(moved, batch, alpha)

    for batch in islice(_batches(pair, settings), settings.steps):
        optimiser.zero_grad()
        now = cost(batch)
        now.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        costs.append(float(now.detach()))
    with torch.no_grad():
        found = rounded(problem, soft(scores, settings.temperature))
    told = {"cost_first": costs[0], "cost_last": costs[-1], "steps": len(costs)}
    return Match(found, problem.quality(found), search=told)


def soft(scores: Matrices, temperature: float) -> Matrices:
    """Doubly stochastic matrices of scores [size, size]: rows exactly, columns but for rounding."""
    found = {}
    for name, score in scores.items():
        logarithm = score / temperature
        for _ in range(ROUNDS):
            logarithm = logarithm - logarithm.logsumexp(0, keepdim=True)
            logarithm = logarithm - logarithm.logsumexp(1, keepdim=True)
        found[name] = logarithm.exp()
    return found


def _batches(pair: Pair, settings: MatchSettings) -> Iterator[Batch | None]:
    """The labelled batches again and again, or nothing to look at."""
    while True:
        yield from pair.labelled() if settings.learns else (None,)
