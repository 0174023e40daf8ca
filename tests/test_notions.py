"""Laws of the definitions of connectivity modulo permutation, on tables made by hand."""

from __future__ import annotations

from itertools import combinations, product
from math import inf, nan
from random import Random
from typing import Any

import pytest

from pipeline.connectivity.notions import (
    Barrier,
    entezari,
    simultaneous,
    strong,
    strongly_transitive,
    weak,
    weakly_transitive,
)

#: Points of error, the threshold of all tables here.
LINE = 2.0


def table(under: str, heights: dict[str, float], **more: Any) -> list[Barrier]:
    """Rows from the names of two networks to the height between them."""
    return [Barrier(pair[0], pair[1], under, height, **more) for pair, height in heights.items()]


#: Each pair has a permutation of its own; aligned to a, b and c stay apart; aligned to b as well.
WEAK = [
    *table("own", {"ab": 1, "ac": 1.5, "bc": 0.5}),
    *table("to a", {"ab": 1, "ac": 1.5, "bc": 9}),
    *table("to b", {"ab": 1, "ac": 8, "bc": 0.5}),
]
#: Aligned to c all three are connected.
STRONG = [*WEAK[3:], *table("to c", {"ab": 1.9, "ac": 1.5, "bc": 0.5})]


def test_weak_without_strong() -> None:
    assert weak(WEAK[:3], LINE).holds is True
    found = strong(WEAK[3:], LINE)
    assert (found.holds, found.worst, found.witness) == (False, 8, "to b")


def test_strong_has_one_assignment_for_all() -> None:
    found = strong(STRONG, LINE)
    assert (found.holds, found.worst, found.witness) == (True, 1.9, "to c")


def test_the_threshold_is_inclusive() -> None:
    assert strong(STRONG, 1.9).holds is True and strong(STRONG, 1.8999).holds is False
    assert weak(WEAK[:3], 1.5).holds is True and weak(WEAK[:3], 1.4).holds is False


def test_strong_implies_weak_on_every_table() -> None:
    """Π(a)⁻¹ after Π(b) moves b onto a: what an assignment connects, a pair's permutation does."""
    draws, held = Random(0), 0
    for _ in range(300):
        rows = [
            row
            for under in ("Π", "Π'")
            for row in table(under, {x + y: draws.uniform(0, 4) for x, y in combinations("abc", 2)})
        ]
        if strong(rows, LINE).holds:
            held += 1
            assert weak(rows, LINE).holds and weakly_transitive(rows, LINE).holds
            assert strongly_transitive(rows, LINE, 3).holds
        assert weak(rows, LINE).worst <= strong(rows, LINE).worst
    assert 20 < held < 280


def test_a_higher_threshold_undoes_nothing_but_transitivity() -> None:
    for judge, rows in ((weak, WEAK[:3]), (strong, STRONG), (simultaneous, STRONG)):
        verdicts = [judge(rows, line / 4).holds for line in range(12)]
        assert verdicts == sorted(verdicts) and {*verdicts} == {False, True}


def test_strong_without_the_property_of_entezari() -> None:
    """Proposition 1: θ and π[θ], not connected. Π maps θ by π and the other by nothing, and both
    meet; but whatever Π does to θ, it misses one of the two where they are."""
    apart, one = 5.0, {"moved_one": True}
    met = table("π, 1", {"tp": 0.0})
    assert strong(met, LINE).holds is True
    rows = [
        *table("π, 1", {"tt": apart, "tp": 0, "pt": apart, "pp": 0}, **one),
        *table("1, 1", {"tt": 0, "tp": apart, "pt": apart, "pp": 0}, **one),
        *table("1, π⁻¹", {"tt": 0, "tp": apart, "pt": 0, "pp": apart}, **one),
        *table("π, π⁻¹", {"tt": apart, "tp": 0, "pt": 0, "pp": apart}, **one),
    ]
    found = entezari(rows, LINE)
    assert (found.holds, found.worst) == (False, apart)
    everywhere = {x + y: 1.0 for x, y in product("tp", repeat=2)}
    assert entezari([*rows, *table("Π", everywhere, **one)], LINE).witness == "Π"
    # nothing is judged without the diagonal, on which the third of them fails alone
    assert entezari([row for row in rows if row.a != row.b], LINE).holds is None


def test_simultaneous_is_one_permutation_at_all_places() -> None:
    """That of the end connects at every epoch; the early one does not, though each epoch has one."""
    late = {1: 0.1, 5: 0.9, 10: 1.8}
    early = {1: 0.0, 5: 0.5, 10: 40.0}
    rows = [
        Barrier("a", "b", under, height, at=epoch)
        for under, along in (("π1", early), ("π10", late))
        for epoch, height in along.items()
    ]
    found = simultaneous(rows, LINE)
    assert (found.holds, found.worst) == (True, 1.8)
    assert found.witness == {frozenset("ab"): "π10"}
    assert simultaneous([row for row in rows if row.under == "π1"], LINE).holds is False
    # a permutation that was not measured at all places is no witness
    assert simultaneous([row for row in rows if row != rows[-1]], 1e9).witness == {
        frozenset("ab"): "π1"
    }
    with pytest.raises(ValueError, match="sequence"):
        weak(rows, LINE)
    for epoch in late:
        assert weak([row for row in rows if row.at == epoch], LINE).holds is True


def test_transitivity() -> None:
    chain = table("own", {"ac": 1, "cb": 1, "ab": 7})
    found = weakly_transitive(chain, LINE)
    assert (found.holds, found.worst, found.witness) == (False, 7, [("a", "c", "b")])
    assert weakly_transitive(table("own", {"ac": 1, "cb": 7, "ab": 7}), LINE).holds is True
    # all three are equivalent, but no assignment in the table aligns them at once
    assert weakly_transitive(WEAK, LINE).holds is True
    loose = [*table("ab", {"ab": 1}), *table("ac", {"ac": 1.5}), *table("bc", {"bc": 0.5})]
    assert strongly_transitive(loose, LINE, 2).holds is True
    assert strongly_transitive(loose, LINE, 3).holds is None  # none was tried
    assert strongly_transitive([*loose, *WEAK[3:]], LINE, 3).witness == [("a", "b", "c")]
    assert strongly_transitive([*loose, *STRONG], LINE, 3).holds is True
    assert strongly_transitive(chain, LINE, 3).holds is False
    apart = table("own", {"ac": 7, "cb": 7, "ab": 7})
    assert strongly_transitive(apart, LINE, 3).holds is True  # no two are equivalent


def test_what_is_missing_or_diverged_is_no_connection() -> None:
    assert weak(WEAK[:2], LINE).holds is None
    assert weakly_transitive(WEAK[:2], LINE).holds is None
    assert strong(WEAK[:2], LINE).holds is None
    for height in (nan, inf):
        found = weak(table("own", {"ab": height, "ac": 0, "bc": 0}), 1e9)
        assert (found.holds, found.worst) == (False, inf)
        assert strong(table("Π", {"ab": height, "ac": 0, "bc": 0}), 1e9).holds is False
