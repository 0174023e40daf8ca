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

import argparse
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
from pipeline.report.comparison import standard_error, uncertainty, welch_p

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
    value, weights = now.taken(case.measure)
    return weights * (wanted - float(value[0])) / float(weights @ weights)


def printed_again(numbers: Numbers, draw: Draw) -> Numbers:
    """Numbers with a column for each draw: mean and spread of three seeds, to two decimals."""

    def draw_cells(values: Printed) -> Printed:
        rng = np.random.default_rng(draw.seed)
        groups = values.places.groupby(NOISE[draw.noise], sort=False).ngroup().to_numpy()
        z = rng.standard_normal((groups.max() + 1, SEEDS, draw.draws))[groups]
        sigma = (values.errors["mean"] * values.n**0.5).to_numpy()[:, None, None]
        # single runs have no spread; they stay as they are, and decide nothing
        noise = np.where(np.isnan(sigma), 0.0, sigma) * z
        seeds = values.means["mean"].to_numpy()[:, None, None] + noise
        means, spreads = seeds.mean(axis=1).round(2), seeds.std(axis=1, ddof=1).round(2)
        index = values.means.index
        spreads = np.where(values.errors.isna(), np.nan, spreads)
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
            found = pd.DataFrame([rates(stated, true, Draw(draws, noise)) for noise in NOISE])
            row = {
                "claim": stated.id,
                "truth": truth,
                **found.max(),
                "least": found[SUPPORTED].min(),
            }
            rows.append(row)
            print("{claim}, {truth}: {supported:.3f} {contradicted:.3f}".format(**row), flush=True)
    return pd.DataFrame(rows)


def cells(draws: int, sd: float = 0.2, shift: float = 0.3) -> pd.DataFrame:
    """How often one cell misses: equal processes, and a true difference; by both rules."""
    rows = []
    for ours, theirs in ((2, 3), (3, 3), (5, 3), (10, 3)):
        rng = np.random.default_rng(1)
        row: dict[str, float] = {"ours": ours, "published": theirs}
        for name, true in (("equal", 0.0), ("shifted", shift)):
            one, other = rng.normal(true, sd, (ours, draws)), rng.normal(0.0, sd, (theirs, draws))
            away = np.abs(one.mean(axis=0) - other.mean(axis=0))
            spreads = one.std(axis=0, ddof=1), ours, other.std(axis=0, ddof=1), theirs
            row[f"{name}, within"] = float((away > uncertainty(*spreads)).mean())
            row[f"{name}, 2 SE"] = float((away > 2 * standard_error(*spreads)).mean())
        rows.append(row)
    return pd.DataFrame(rows)


def tables(draws: int, sd: float = 0.2, number: int = 108) -> pd.DataFrame:
    """How often the test of a whole table decides; three seeds each, cells independent or as one."""
    rng, rows = np.random.default_rng(2), []
    truths = {
        "equal processes": np.zeros(number),
        "every cell 0.3 points off": np.full(number, 0.3),
        "one cell 2 points off": np.eye(number)[0] * 2.0,
    }
    for truth, shift in truths.items():
        row: dict[str, object] = {"truth": truth}
        for noise, independent in (("independent", number), ("as one", 1)):
            ours, theirs = rng.normal(0.0, sd, (2, SEEDS, independent, draws))
            ours, theirs = (np.broadcast_to(x, (SEEDS, number, draws)) for x in (ours, theirs))
            p = welch_p(
                ours.mean(axis=0) + shift[:, None], ours.std(axis=0, ddof=1), SEEDS,
                theirs.mean(axis=0), theirs.std(axis=0, ddof=1), SEEDS,
            )  # fmt: skip
            row[noise] = float((number * p.min(axis=0) <= 0.05).mean())
        rows.append(row)
    return pd.DataFrame(rows)


def page(verdicts: pd.DataFrame, draws: int) -> str:
    """docs/evidence/verdicts.md."""
    wrong = {
        "supported": verdicts.loc[verdicts["truth"].isin(["flat", "falling", "edge"])],
        "contradicted": verdicts.loc[verdicts["truth"].isin(["flat", "rising"])],
    }
    worst = {name: float(rows[name].max()) for name, rows in wrong.items()}
    alone_worst = {name: float(rows[f"independent {name}"].max()) for name, rows in wrong.items()}
    by_claim = []
    for name, rows in verdicts.groupby("claim", sort=False):
        at = rows.set_index("truth")
        edge = at[SUPPORTED].get("edge", float("nan"))
        by_claim.append(
            {
                "claim": name,
                "flat: supported": at.loc["flat", SUPPORTED],
                "flat: contradicted": at.loc["flat", CONTRADICTED],
                "one part flat: supported": edge,
                "falling: supported": at.loc["falling", SUPPORTED],
                "rising: contradicted": at.loc["rising", CONTRADICTED],
                "rising: supported (least)": at.loc["rising", "least"],
                "cells independent, flat: supported": at.loc["flat", f"independent {SUPPORTED}"],
                "contradicted": at.loc["flat", f"independent {CONTRADICTED}"],
            }
        )
    parts = [
        "# How often verdicts are wrong",
        "Measured by `python benchmarks/verdicts.py --write`, which writes this page.",
        "## Claims on published cells",
        f"{draws:,} draws of three seeds for every published cell, with the published spreads, printed "
        "as means and spreads of two decimals, and judged as the published ones are. A truth puts "
        "every network's statistic at 0 (flat), as far on the claim's side as its published size "
        "(rising), or as far on the other (falling); of a claim of several parts also one at 0 and "
        "the others rising. Noise is drawn for each cell, or shared by the columns of a row, by all "
        "cells of a network and method, or by all of a network: shares are of the worst of the four. "
        "Each claim is judged alone; Holm's adjustment for the page makes verdicts rarer still.",
        f"The worst share of false *supported* is {worst['supported']:.1%}, of false *contradicted* "
        f"{worst['contradicted']:.1%}. With all cells taken as independent, it would be "
        f"{alone_worst['supported']:.0%} and {alone_worst['contradicted']:.0%}.",
        _markdown(pd.DataFrame(by_claim)),
        "The last column but two says how often a truth of the published size is found, by the noise "
        "that hides it best: claims on one network or two see little, with three seeds a cell.",
        "## Cells beside the published ones",
        "Share of cells outside, at a standard deviation of 0.2 points over seeds on both sides: two "
        "equal processes, and one 0.3 points better. Within: Student's quantile; 2 SE: two standard "
        "errors.",
        _markdown(cells(100_000)),
        "## A table as one",
        "Share of tables of 108 cells, three seeds on both sides, whose p is at most 5 %: cells that "
        "vary independently, and cells that vary as one.",
        _markdown(tables(2_000)),
        "A far cell is found more often than a small difference everywhere; of that, the mean difference "
        "with its interval, which stands beside the p, says what can be said.",
    ]
    return "\n\n".join(parts) + "\n"


def _markdown(frame: pd.DataFrame) -> str:
    def text(value: object) -> str:
        if not isinstance(value, float):
            return str(value)
        return "–" if np.isnan(value) else f"{value:.3f}"

    rows = [[text(value) for value in row] for row in frame.itertuples(index=False)]
    lines = [list(frame.columns), ["---"] * len(frame.columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--write", action="store_true", help="write the page")
    options = parser.parse_args()
    text = page(study(options.draws), options.draws)
    print(text)
    if options.write:
        PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
