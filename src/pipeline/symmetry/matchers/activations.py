"""Activation matching (paper, eq. 1 and 2).

One forward pass of each network over the batches, and for a group of n units a Gram product of n²
entries a sample and an assignment of O(n³).
"""

from __future__ import annotations

from pipeline.study.settings import MatchSettings
from pipeline.symmetry.matchers import Pair, matcher
from pipeline.symmetry.matching import Match, collect, match


@matcher("correlation", "inner")
def activations(pair: Pair, settings: MatchSettings) -> Match:
    """Collect all groups' statistics in one pass, and assign."""
    return match(
        collect(*pair.networks(), pair.spec, pair.batches()),
        similarity=settings.similarity,
        std=settings.std,
        epsilon=settings.epsilon,
    )
