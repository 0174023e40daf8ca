"""How often a verdict on published cells is wrong, and what the comparison of cells can see.

``python benchmarks/verdicts.py --write`` draws three seeds for every published cell from made-up
truths with the published spreads, prints them as means and spreads of two decimals, and judges every
claim that has cells; it writes docs/evidence/verdicts.md. A truth puts the statistic of every case of
a claim at 0 (flat), as far above 0 as published (rising), or as far below (falling). Noise is drawn
independently for every cell, or shared by the columns of a row, by all cells of a network and method,
or by all of a network. The worst of the four counts. Each claim is judged alone: Holm's adjustment
for the page only makes verdicts rarer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.report import claims, published
from pipeline.report.claims.judge import (
    CONTRADICTED,
    STATED,
    SUPPORTED,
    Case,
    Statement,
    alone,
    gather,
    verdicts_on,
)
from pipeline.report.claims.numbers import Numbers
from pipeline.report.claims.values import Printed

PAGE = Path(__file__).resolve().parents[1] / "docs" / "evidence" / "verdicts.md"
SEEDS = 3
#: Noise -> the keys whose cells share it.
NOISE = {
    "every cell its own": ["dataset", "model", "width", "sparsity", "method", "rewind_epoch",
                           "matching_epoch"],
    "columns share": ["dataset", "model", "width", "sparsity", "method"],
    "a network's method shares": ["dataset", "model", "width", "method"],
    "a network shares": ["dataset", "model", "width"],
}  # fmt: skip
#: Truth -> how far each case lies on the claim's side, as a multiple of what was published.
TRUTHS = {"flat": 0.0, "rising": 1.0, "falling": -1.0}
_START = {"naive": 90.0, "permuted": 91.0, "lth": 92.0}


@dataclass(frozen=True)
class Draw:
    """What is drawn: how many prints of all cells, by which noise, from which stream."""

    draws: int
    noise: str
    seed: int = 0


def judgeable() -> Iterator[tuple[Statement, Numbers]]:
    """The claims that the published cells decide or could decide, with the numbers behind them."""
    numbers = claims.published_numbers(published.cells())
    for part in claims.SUBJECTS:
        for stated in STATED[part.__name__]:
            if any(one.decided for one in gather(stated.compute(numbers), stated.over)):
                yield stated, numbers


def rates(stated: Statement, truth: Numbers, draw: Draw) -> dict[str, float]:
    """Shares of the draws with each verdict, dependent reading and independent."""
    drawn = printed_again(truth, draw)
    parts = gather(stated.compute(drawn), stated.over)
    estimates = [part.reading.estimate for part in parts], [alone(part.reading) for part in parts]
    verdict, other = (verdicts_on([own])[0][0] for own in estimates)
    return {
        SUPPORTED: float(np.mean(verdict == SUPPORTED)),
        CONTRADICTED: float(np.mean(verdict == CONTRADICTED)),
        f"independent {SUPPORTED}": float(np.mean(other == SUPPORTED)),
        f"independent {CONTRADICTED}": float(np.mean(other == CONTRADICTED)),
    }


def moved(stated: Statement, numbers: Numbers, truth: str) -> Numbers:
    """Numbers whose means put every case of the claim where the truth says.

    "edge": a claim of several parts, the first at 0 and the others as far above as published.
    """
    cases = list(stated.compute(numbers))
    means = pd.concat(
        [
            values.places["method"].map(_START).set_axis(values.means.index)
            for values in _held(numbers)
        ]
    )
    for _ in range(3):  # cases may share cells, and a ratio is not linear
        for case in cases:
            size = abs(case.measure(case.values.means).iloc[0])
            factor = (case.part != cases[0].part) if truth == "edge" else TRUTHS[truth]
            change = _change(case, means, factor * size)
            means = means.add(change.reindex(means.index).fillna(0.0))
    return _each(numbers, lambda values: replace(values, means=_column(means, values)))


def _held(numbers: Numbers) -> list[Printed]:
    return [v for v in (numbers.cells, numbers.reuse) if isinstance(v, Printed)]


def _column(means: pd.Series, values: Printed) -> pd.DataFrame:
    return means.reindex(values.means.index).to_frame("mean")


def _change(case: Case, means: pd.Series, wanted: float) -> pd.Series:
    """What moves the case's cells along its derivative until its statistic is what is wanted."""
    assert isinstance(case.values, Printed)
    now = replace(case.values, means=_column(means, case.values))
    weights = now.weights(case.measure)
    missing = wanted - float(case.measure(now.means).iloc[0])
    return weights * missing / float(weights @ weights)


def printed_again(numbers: Numbers, draw: Draw) -> Numbers:
    """Numbers with a column for each draw: mean and spread of three seeds, to two decimals."""

    def draw_cells(values: Printed) -> Printed:
        rng = np.random.default_rng(draw.seed)
        groups = values.places.groupby(NOISE[draw.noise], sort=False).ngroup().to_numpy()
        z = rng.standard_normal((groups.max() + 1, SEEDS, draw.draws))[groups]
        sigma = (values.errors["mean"] * values.n**0.5).to_numpy()[:, None, None]
        seeds = values.means["mean"].to_numpy()[:, None, None] + sigma * z
        means, spreads = seeds.mean(axis=1).round(2), seeds.std(axis=1, ddof=1).round(2)
        index = values.means.index
        errors = pd.DataFrame(spreads, index).div(values.n**0.5, axis=0)
        return replace(values, means=pd.DataFrame(means, index), errors=errors)

    return _each(numbers, draw_cells)


def _each(numbers: Numbers, change: Callable[[Printed], Printed]) -> Numbers:
    found = {
        name: change(values)
        for name in ("cells", "reuse")
        if isinstance(values := getattr(numbers, name), Printed)
    }
    return replace(numbers, top5=None, diversity=None, **found)


def study(draws: int) -> pd.DataFrame:
    """Worst rates over noises: a row for each claim and truth."""
    rows = []
    for stated, numbers in judgeable():
        several = len({case.part for case in stated.compute(numbers)}) > 1
        for truth in (*TRUTHS, *(["edge"] if several else [])):
            true = moved(stated, numbers, truth)
            found = [rates(stated, true, Draw(draws, noise)) for noise in NOISE]
            rows.append({"claim": stated.id, "truth": truth, **pd.DataFrame(found).max()})
    return pd.DataFrame(rows)
