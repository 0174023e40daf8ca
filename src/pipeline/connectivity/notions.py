"""Weak, simultaneous and strong linear connectivity modulo permutation, and transitivity, as verdicts.

Sharma et al. (2024), Definitions 1-8, on a table of barriers: networks count as linearly connected
where their barrier is at most a threshold. A definition asks for permutations; a table has those
that were tried. So a verdict that holds has its witness, and one that does not says that none of
the permutations in the table will do, not that there is none.

Pure Python: a table has a row for each barrier that was measured.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from math import inf, isnan

Network = Hashable
#: Two networks, in whatever order; or the one that is moved before the one that is not.
Pair = frozenset[Network]
Ordered = tuple[Network, Network]


@dataclass(frozen=True)
class Barrier:
    """Height of the barrier between two networks under some permutation.

    ``under`` names what was applied: to the pair, or of an assignment Π, which has a permutation
    for each network, to both, Π(a)[a] and Π(b)[b]. Rows of one name belong together. ``moved_one``
    says that Π moved a alone, which the property of Entezari et al. asks about. ``at`` is the place
    in a sequence: an epoch, a level of pruning.
    """

    a: Network
    b: Network
    under: Hashable
    height: float
    at: Hashable = None
    moved_one: bool = False


@dataclass(frozen=True)
class Verdict:
    """Whether a definition holds on a table; None where barriers that it asks for are missing.

    ``worst``: the largest barrier that is left under the best choice of permutations (infinite
    where one was not finite). ``witness``: that choice, by pair, or the one assignment; of
    transitivity, the networks for which it fails.
    """

    holds: bool | None
    worst: float
    witness: object


def weak(table: Iterable[Barrier], threshold: float) -> Verdict:
    """Definitions 1 and 5: each pair is connected by a permutation of its own.

    Raises `ValueError` for a table of several places in a sequence: that is `simultaneous`.
    """
    rows = list(table)
    if len({row.at for row in rows}) > 1:
        raise ValueError("weak connectivity is of networks at one place, not along a sequence")
    return simultaneous(rows, threshold)


def simultaneous(table: Iterable[Barrier], threshold: float) -> Verdict:
    """Definition 3: each pair of sequences is connected by one permutation at all their places."""
    rows = [row for row in table if row.a != row.b]
    places = {row.at for row in rows}
    chosen: dict[Pair, Hashable] = {}
    worst = 0.0
    for pair, tried in _by_pair(rows).items():
        whole = {under: max(at.values()) for under, at in tried.items() if at.keys() == places}
        if whole:
            chosen[pair] = min(whole, key=whole.__getitem__)
            worst = max(worst, whole[chosen[pair]])
    missing = _pairs(rows) - chosen.keys()
    return Verdict(None if missing else worst <= threshold, worst, chosen)


def strong(table: Iterable[Barrier], threshold: float) -> Verdict:
    """Definitions 2 and 6: one permutation for each network connects all pairs at once."""
    rows = [row for row in table if row.a != row.b and not row.moved_one]
    return _assigned(rows, threshold, _pairs(rows))


def entezari(table: Iterable[Barrier], threshold: float) -> Verdict:
    """Definition 4: Π(a)[a] is connected to b itself, for all a and b, a = b among them."""
    rows = [row for row in table if row.moved_one]
    networks = _networks(rows)
    return _assigned(rows, threshold, {(a, b) for a in networks for b in networks})


def weakly_transitive(table: Iterable[Barrier], threshold: float) -> Verdict:
    """Definition 7: a ~ c and c ~ b imply a ~ b, where ~ is that some permutation connects.

    A barrier of an assignment counts as well: Π(a)⁻¹ after Π(b) is a permutation of the pair's.
    """
    rows = [row for row in table if row.a != row.b]
    lowest = _lowest(rows)
    connected = {pair for pair, height in lowest.items() if height <= threshold}
    failing, worst = [], 0.0
    for a, b in combinations(_networks(rows), 2):
        for c in _networks(rows):
            if {frozenset((a, c)), frozenset((c, b))} <= connected:
                implied = lowest.get(frozenset((a, b)), 0.0)
                worst = max(worst, implied)
                failing += [(a, c, b)] if implied > threshold else []
    missing = _pairs(rows) - lowest.keys()
    return Verdict(False if failing else None if missing else True, worst, failing)


def strongly_transitive(table: Iterable[Barrier], threshold: float, networks: int) -> Verdict:
    """Definition 8: weak transitivity, and any so many equivalent networks align at once."""
    rows = [row for row in table if row.a != row.b]
    weakly = weakly_transitive(rows, threshold)
    connected = {pair for pair, height in _lowest(rows).items() if height <= threshold}
    verdicts = {
        group: strong([row for row in rows if {row.a, row.b} <= {*group}], threshold)
        for group in combinations(_networks(rows), networks)
        if connected.issuperset(map(frozenset, combinations(group, 2)))
    }
    worst = max([weakly.worst, *(verdict.worst for verdict in verdicts.values())])
    failing = [group for group, verdict in verdicts.items() if verdict.holds is False]
    if failing or weakly.holds is False:
        return Verdict(False, worst, failing or weakly.witness)
    missing = weakly.holds is None or any(v.holds is None for v in verdicts.values())
    return Verdict(None if missing else True, worst, [])


def onset(instability: Mapping[int, float], threshold: float) -> int | None:
    """The onset of linear connectivity (Frankle et al., 2020; Sharma et al., Section 5.1): the first
    epoch from which children of one network are connected, and from all later ones as well.

    ``instability``: the mean barrier between such children at their end, by the epoch of their
    start. None where those of the last one are not connected.
    """
    found = None
    for epoch in sorted(instability, reverse=True):
        if not instability[epoch] <= threshold:  # nor one that is not a number
            break
        found = epoch
    return found


def _assigned(rows: list[Barrier], threshold: float, wanted: set[Pair] | set[Ordered]) -> Verdict:
    """The assignment with the lowest worst barrier, of those that have all that is wanted."""
    tried: dict[Hashable, dict[Pair | Ordered, float]] = {}
    for row in rows:
        own = tried.setdefault(row.under, {})
        key: Pair | Ordered = (row.a, row.b) if row.moved_one else frozenset((row.a, row.b))
        own[key] = max(_height(row), own.get(key, 0.0))
    whole = {under: max(own.values()) for under, own in tried.items() if wanted <= own.keys()}
    if not whole:
        return Verdict(None, 0.0, None)
    best = min(whole, key=whole.__getitem__)
    return Verdict(whole[best] <= threshold, whole[best], best)


def _networks(rows: Iterable[Barrier]) -> list[Network]:
    """All networks, in the order in which they first stand in a table."""
    return list(dict.fromkeys(network for row in rows for network in (row.a, row.b)))


def _pairs(rows: Iterable[Barrier]) -> set[Pair]:
    """All pairs of the networks in a table."""
    return {frozenset(pair) for pair in combinations(_networks(rows), 2)}


def _by_pair(rows: Iterable[Barrier]) -> dict[Pair, dict[Hashable, dict[Hashable, float]]]:
    """Heights by pair, by what was applied, by place."""
    found: dict[Pair, dict[Hashable, dict[Hashable, float]]] = {}
    for row in rows:
        tried = found.setdefault(frozenset((row.a, row.b)), {}).setdefault(row.under, {})
        tried[row.at] = max(_height(row), tried.get(row.at, 0.0))
    return found


def _lowest(rows: Iterable[Barrier]) -> dict[Pair, float]:
    """The lowest barrier of each pair, whatever was applied."""
    return {
        pair: min(height for at in tried.values() for height in at.values())
        for pair, tried in _by_pair(rows).items()
    }


def _height(row: Barrier) -> float:
    """A barrier that is not a number, of a network that diverged, connects nothing."""
    return inf if isnan(row.height) else row.height
