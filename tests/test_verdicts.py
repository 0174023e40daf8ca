"""How often verdicts on published cells are wrong, by the simulation that writes the page of it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

DRAWS = 400
#: 5 % and three standard errors of a share of so many draws.
ALLOWED = 0.05 + 3 * (0.05 * 0.95 / DRAWS) ** 0.5


@pytest.fixture(scope="module")
def verdicts() -> ModuleType:
    path = Path(__file__).resolve().parents[1] / "benchmarks" / "verdicts.py"
    spec = importlib.util.spec_from_file_location("verdicts", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["verdicts"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def judgeable(verdicts: ModuleType) -> dict[str, tuple[Any, Any]]:
    """Each claim of the simulation, and its numbers."""
    return {stated.id: (stated, numbers) for stated, numbers in verdicts.judgeable()}


CLAIMS = (
    "permuted-at-least-naive", "gap-grows-with-sparsity", "gap-grows-with-width",
    "vgg-permuted-near-lth", "early-matching-suffices", "mask-reuse", "zero-helps-neither",
)  # fmt: skip


@pytest.mark.parametrize("claim", CLAIMS)
def test_noise_is_not_taken_for_a_verdict(
    verdicts: ModuleType, judgeable: dict[str, tuple[Any, Any]], claim: str
) -> None:
    """Of a flat truth, or one of two parts that is flat, at most 5 % are decided on either side."""
    stated, numbers = judgeable[claim]
    parts = {case.part for case in stated.compute(numbers)}
    for truth in ("flat", *(["edge"] if len(parts) > 1 else [])):
        true = verdicts.moved(stated, numbers, truth)
        for noise in verdicts.NOISE:
            found = verdicts.rates(stated, true, verdicts.Draw(DRAWS, noise))
            assert found["supported"] <= ALLOWED, (truth, noise)
            assert found["contradicted"] <= ALLOWED, (truth, noise)


def test_columns_that_share_runs_are_not_independent(
    verdicts: ModuleType, judgeable: dict[str, tuple[Any, Any]]
) -> None:
    """Taken as such, a flat truth is decided far too often."""
    stated, numbers = judgeable["gap-grows-with-width"]
    true = verdicts.moved(stated, numbers, "flat")
    found = verdicts.rates(stated, true, verdicts.Draw(DRAWS, "columns share"))
    assert found["independent supported"] + found["independent contradicted"] > 0.15


def test_truths_are_where_they_are_said_to_be(
    verdicts: ModuleType, judgeable: dict[str, tuple[Any, Any]]
) -> None:
    for claim in CLAIMS:
        stated, numbers = judgeable[claim]
        published = [case.measure(case.values.means).iloc[0] for case in stated.compute(numbers)]
        for truth, factor in verdicts.TRUTHS.items():
            true = verdicts.moved(stated, numbers, truth)
            found = [case.measure(case.values.means).iloc[0] for case in stated.compute(true)]
            assert found == pytest.approx(
                [factor * abs(size) for size in published], abs=0.01, nan_ok=True
            )
