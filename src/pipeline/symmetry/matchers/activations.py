"""Activation matching (paper, eq. 1 and 2)."""

from __future__ import annotations

from dataclasses import replace

from pipeline.study.settings import MatchSettings
from pipeline.symmetry.matchers import Pair, matcher
from pipeline.symmetry.matching import Match, collect, match


@matcher("correlation", "inner")
def activations(pair: Pair, settings: MatchSettings) -> Match:
    """Collect all groups' statistics in one pass, and assign."""
    found = match(
        collect(*pair.networks(), pair.spec, pair.batches()),
        similarity=settings.similarity,
        std=settings.std,
        epsilon=settings.epsilon,
    )
    return replace(found, images=pair.images)
