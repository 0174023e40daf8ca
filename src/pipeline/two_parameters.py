"""The network of two weights that illustrates the problem (paper, Figures 1 and 12; thesis, 3.1-3.3).

A single layer of two units on a single input, f(x) = phi(w_0 x) + phi(w_1 x), is to be phi(2 x) for
inputs in (0, 1]: the loss has the two symmetric minima (2, 0) and (0, 2). Everything of the method
is there: dense training of a and b, a's mask by magnitude (one of two weights), the permutation of
a onto b by activation matching, and training a's or b's initialisation under a's mask. The works
draw this by hand; here it is trained, for as many random pairs as wanted at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.streams import generator
from pipeline.symmetry.matching import Statistics, match

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {"relu": torch.relu, "tanh": torch.tanh}
#: The weight of the one unit that is to be learnt.
TARGET = 2.0
#: What is trained: both dense networks, and the sparse ones in the order of the paper.
RUNS = ("dense a", "dense b", "lth", "naive", "permuted")
METHODS = RUNS[2:]
_INPUTS = torch.arange(1, 33, dtype=torch.float64) / 32
_RATE, _STEPS = 0.5, 1000
#: A run has failed where its loss ends above this share of that of a network without weights.
_FAILED = 0.01


@dataclass(frozen=True)
class Trained:
    """All runs of ``pairs`` random pairs.

    paths: of every run in `RUNS`, the weights at each step, float64 [steps + 1, pairs, 2]; the first
    is the initialisation, the masked one of a sparse run. starts: the initialisations themselves,
    [pairs, 2]. losses: at the end, [pairs]. failed: bool [pairs].
    """

    paths: Mapping[str, Tensor]
    starts: Mapping[str, Tensor]
    losses: Mapping[str, Tensor]
    failed: Mapping[str, Tensor]

    @property
    def sound(self) -> Tensor:
        """Pairs whose dense networks have both learnt their task, bool [pairs]."""
        return ~(self.failed["dense a"] | self.failed["dense b"])


def loss(activation: str, weights: Tensor) -> Tensor:
    """Mean squared error of networks with ``weights`` [..., 2] over the inputs, [...]."""
    phi = ACTIVATIONS[activation]
    found = phi(weights[..., None] * _INPUTS).sum(-2)
    return (found - phi(TARGET * _INPUTS)).square().mean(-1)


def train(activation: str, pairs: int, seed: int = 0) -> Trained:
    """Train ``pairs`` pairs of networks with standard normal initialisations, and their tickets.

    Gradient descent on all inputs at once. Equal arguments give equal initialisations for every
    activation.
    """
    a, b = (
        torch.randn(pairs, 2, generator=generator(seed, f"two-parameters-{which}")).double()
        for which in "ab"
    )
    dense = _descend(activation, torch.stack((a, b)))
    end_a, end_b = dense[-1]
    mask = functional.one_hot(end_a.abs().argmax(-1), 2).double()
    units = [_matched(activation, *ends) for ends in zip(end_a, end_b, strict=True)]
    masks = torch.stack((mask, mask, mask.gather(1, torch.stack(units))))
    sparse = _descend(activation, torch.stack((a, b, b)) * masks, masks)
    paths = dict(zip(RUNS, (*dense.unbind(1), *sparse.unbind(1)), strict=True))
    losses = {name: loss(activation, path[-1]) for name, path in paths.items()}
    bound = _FAILED * loss(activation, torch.zeros(2, dtype=torch.float64))
    starts = dict(zip(RUNS, (a, b, a, b, b), strict=True))
    return Trained(paths, starts, losses, {name: end > bound for name, end in losses.items()})


def _descend(activation: str, start: Tensor, mask: Tensor | float = 1.0) -> Tensor:
    """The weights [..., 2] at every step of gradient descent under a mask, [steps + 1, ..., 2]."""
    path = [start]
    for _ in range(_STEPS):
        weights = path[-1].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(activation, weights).sum(), weights)
        path.append(path[-1] - _RATE * gradient * mask)
    return torch.stack(path)


def _matched(activation: str, a: Tensor, b: Tensor) -> Tensor:
    """For each unit of b the unit of a that is matched to it (paper, eq. 1), int64 [2].

    By correlation as everywhere; where a network is dead there is nothing to match, and the units
    keep their order.
    """
    units = torch.stack([ACTIVATIONS[activation](w[:, None] * _INPUTS) for w in (a, b)])
    mean, variance = units.mean(-1), units.var(-1, correction=0)
    covariance = units[1] @ units[0].T / len(_INPUTS) - torch.outer(mean[1], mean[0])
    found = Statistics(len(_INPUTS), mean, variance, units.std(-1), covariance)
    return match({"units": found}).permutation["units"]
