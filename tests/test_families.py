"""The smallest network of each of torchvision's families: its symmetry is found and is right."""

from __future__ import annotations

import pytest
import torch
from families import BEGIN, END, FAMILIES, PAGE, Family, Seen, table
from small import seeded

from pipeline import symmetry
from pipeline.symmetry import trace


@pytest.fixture(scope="module")
def rows() -> dict[Family, str]:
    """The lines of the page's table that were found so far."""
    return {}


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.network)
def test_a_family_has_the_groups_that_were_counted_by_hand(
    family: Family, rows: dict[Family, str]
) -> None:
    """And permuting all of them keeps its function, to rounding in double precision."""
    seen = Seen.of(family)
    assert seen.groups == (family.units, family.blocks)
    spec = seen.found.spec
    assert bool(seen.found.stay) == bool(family.stays)
    rows[family] = seen.row
    network = trace.proof.drawn(seen.model, seeded(0))
    del seen
    images = torch.randn(2, 3, family.size, family.size, generator=seeded(1), dtype=torch.float64)
    assert symmetry.prove(network, spec, images, seeded(2)) < 1e-12


def test_the_page_has_the_table(rows: dict[Family, str]) -> None:
    """If not: ``python tests/families.py``."""
    written = PAGE.read_text().partition(BEGIN)[2].partition(END)[0]
    every = [rows.get(family) or Seen.of(family).row for family in FAMILIES]
    assert written == f"\n{table(every)}\n"
