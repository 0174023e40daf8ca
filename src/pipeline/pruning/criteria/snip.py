"""SNIP (Lee et al., 2019): connection sensitivity |w ∂L/∂w| of the loss on a batch.

How much the loss changes, to first order, when a connection is cut. One forward and backward pass;
with the setting ``prune_at: start`` all is pruned at once, as in the paper.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from pipeline.pruning.criteria import Occasion, criterion


@criterion("snip")
def snip(occasion: Occasion) -> Mapping[str, Tensor]:
    """|w ∂L/∂w|, in one ranking over all layers."""
    slopes = occasion.gradients()
    return {name: (weight * slopes[name]).abs() for name, weight in occasion.weights.items()}
