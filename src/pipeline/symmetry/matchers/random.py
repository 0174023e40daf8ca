"""A random permutation, the control."""

from __future__ import annotations

from pipeline.study.settings import MatchSettings
from pipeline.symmetry import permutation
from pipeline.symmetry.matchers import Pair, matcher
from pipeline.symmetry.matching import Match


@matcher("random")
def random(pair: Pair, settings: MatchSettings) -> Match:
    """Uniform over all permutations of every group; it looks at no network."""
    del settings
    return Match(permutation.random(pair.spec, pair.generator("random-match")), {})
