"""Laws of the random streams: one per seed and purpose, none disturbs another."""

from __future__ import annotations

import hashlib

import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.streams import generator, stream_seed

PURPOSES = st.text(st.characters(codec="ascii", exclude_characters="/"), min_size=1, max_size=8)
NAMES = st.tuples(st.integers(0, 999), PURPOSES, st.lists(st.integers(0, 999), max_size=2))


def test_seeds_are_the_same_on_every_machine() -> None:
    assert stream_seed(0, "init") == 1519069808562059438
    text = b"3/imp-order/2/17"
    expected = int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1
    assert stream_seed(3, "imp-order", 2, 17) == expected


@given(st.lists(NAMES, unique_by=str, min_size=2, max_size=20))
def test_different_names_give_different_streams(names: list[tuple[int, str, list[int]]]) -> None:
    seeds = [stream_seed(seed, purpose, *index) for seed, purpose, index in names]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_generator_neither_reads_nor_moves_the_global_one() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = torch.rand(5, generator=generator(0, "order", 3))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(first, torch.rand(5, generator=generator(0, "order", 3)))
    for other in (generator(1, "order", 3), generator(0, "init", 3), generator(0, "order", 4)):
        assert not torch.equal(first, torch.rand(5, generator=other))
