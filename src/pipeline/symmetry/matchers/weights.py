"""Weight matching (Ainsworth et al., 2023; Sharma et al., 2024), one ascent or several.

No image is looked at. A sweep costs for each group of n units a Gram product of n² times the
weights of one and an assignment of O(n³), in double precision; `docs/evidence/weight-matching.md`
has the numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

from pipeline.study.settings import MatchSettings
from pipeline.symmetry import permutation
from pipeline.symmetry.matchers import Pair, matcher
from pipeline.symmetry.matching import Match, collect, match
from pipeline.symmetry.permutation import Permutation
from pipeline.symmetry.weight_matching import best


@matcher("weights")
def weights(pair: Pair, settings: MatchSettings) -> Match:
    """The best of ``starts`` ascents over all parameters, of equal ones the first.

    Buffers, such as BatchNorm's statistics, play no part. ``search`` tells of every start and
    sweep, and how much of what is possible at most the best one reached.
    """
    problem = pair.problem(settings)
    ascents = []
    for number, (named, start) in enumerate(_starts(pair, settings), start=1):
        ascent = problem.climb(
            start, pair.generator(f"weight-order-{number}"), named=named, sweeps=settings.sweeps,
            order=settings.order,
        )  # fmt: skip
        height, count = ascent.objectives[-1], len(ascent.moved)
        print(f"start {number} ({named}): objective {height:.6g} in {count} sweeps", flush=True)
        ascents.append(ascent)
    chosen = best(ascents)
    found = ascents[chosen]
    bound = sum(problem.bounds.values())
    told = [{k: v for k, v in asdict(each).items() if k != "permutation"} for each in ascents]
    return Match(
        found.permutation,
        problem.quality(found.permutation),
        search={
            "objective": found.objectives[-1],
            "objective_identity": problem.objective(permutation.identity(pair.spec)),
            "bound": bound,
            "chosen": chosen + 1,
            "starts": told,
        },
    )


def _starts(pair: Pair, settings: MatchSettings) -> Iterator[tuple[str, Permutation]]:
    """The first start as the settings say, by its name; further ones are drawn at random."""
    drawn = pair.generator("weight-start")
    for number in range(settings.starts):
        if number or settings.start == "random":
            yield "random", permutation.random(pair.spec, drawn)
        elif settings.start == "activations":
            statistics = collect(*pair.networks(), pair.spec, pair.batches())
            yield "activations", match(statistics, similarity="inner").permutation
        else:
            yield "identity", permutation.identity(pair.spec)
