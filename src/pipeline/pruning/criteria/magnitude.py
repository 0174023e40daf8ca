"""Magnitude: the smallest weights of all layers together (paper, A.3), or of each layer alike."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from pipeline.pruning.criteria import Occasion, criterion


@criterion("magnitude")
def magnitude(occasion: Occasion) -> Mapping[str, Tensor]:
    """|w|, in one ranking over all layers."""
    return occasion.weights


@criterion("layerwise")
def layerwise(occasion: Occasion) -> Mapping[str, Tensor]:
    """The rank of |w| in its layer, as a share of what is left there: every layer loses as much."""
    return {
        name: shares(weight.abs(), occasion.mask[name]) for name, weight in occasion.weights.items()
    }


def shares(values: Tensor, kept: Tensor) -> Tensor:
    """For each value that is kept its rank among them in (0, 1), equal ones in their order; else 0.

    Rank r of n is (r - 1/2) / n, so that of every layer the nearest whole number of weights goes.
    """
    found = torch.zeros(values.numel())
    at = torch.nonzero(kept.flatten()).flatten()
    order = values.flatten()[at].float().nan_to_num(0).argsort(stable=True)
    found[at[order]] = (torch.arange(len(at)) + 0.5) / max(1, len(at))
    return found.reshape(values.shape)
