"""Random pruning, the control: every weight that is left is as likely to go."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from pipeline.pruning.criteria import Occasion, criterion


@criterion("random")
def random(occasion: Occasion) -> Mapping[str, Tensor]:
    """Uniform draws, in the order of the layers' names; it looks at no weight."""
    drawn = occasion.generator("random")
    scores = {
        name: torch.rand(occasion.weights[name].shape, generator=drawn)
        for name in sorted(occasion.weights)
    }
    return {name: scores[name] for name in occasion.weights}
