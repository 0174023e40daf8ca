"""The smallest network of each of torchvision's families: its symmetry is found and is right."""

from __future__ import annotations

import pytest
import torch
from families import BEGIN, END, FAMILIES, PAGE, Family, table
from small import seeded

from pipeline import symmetry
from pipeline.symmetry import trace


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.network)
def test_a_family_has_the_groups_that_were_counted_by_hand(family: Family) -> None:
    """And permuting all of them keeps its function, to rounding in double precision."""
    model = family.build()
    found = trace.trace(model, torch.zeros(2, 3, family.size, family.size))
    blocks = {group.within for group in found.spec.groups if group.within}
    assert (len(found.spec.groups) - len(blocks), len(blocks)) == (family.units, family.blocks)
    assert bool(found.stay) == bool(family.stays)
    network = trace.proof.drawn(model, seeded(0))
    del model
    images = torch.randn(2, 3, family.size, family.size, generator=seeded(1), dtype=torch.float64)
    assert symmetry.prove(network, found.spec, images, seeded(2)) < 1e-12


def test_the_page_has_the_table() -> None:
    """If not: ``python tests/families.py``."""
    written = PAGE.read_text().partition(BEGIN)[2].partition(END)[0]
    assert written == f"\n{table()}\n"
