"""Which definitions of KL and JS the printed rows of Table 1 exclude."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import pandas as pd

from pipeline.diversity import Variants
from pipeline.report import published
from pipeline.report.tables import names

# Three decimals are printed.
_ROUNDING = 0.0005

_TEXT = """\
# KL and JS of Table 1

{mark}

Table 1 prints KL and JS divergences without their definitions. Two of the same networks bound each \
other: with both in one unit and JS halved, as usual, JS is at most a quarter of KL averaged over both \
directions, and at most 0.347 of KL over one (`greatest_ratio` in `src/pipeline/diversity.py`, with \
the reason). No printed row fits the first, and four of eight do not fit the second: the paper's \
definitions are others, and which could not be found out. Neither divergence is judged against the \
printed numbers.

What can be set (`kl`, `js`, `js_unit` of a table of kind `diversity`), the greatest JS / KL that is \
possible with it, and which rows cannot have been computed so:

{table}

A row is excluded where even the smallest ratio that rounds to the printed numbers is too large. \
What is not excluded need not be what was meant. Of the two averages of an ensemble (`ensemble`: \
probabilities or logits) the printed numbers exclude neither.
"""


def variants() -> Iterator[Variants]:
    """Every definition of KL and JS that can be set."""
    for kl, js, unit in product(("ordered", "forward"), ("halved", "whole"), ("nats", "bits")):
        yield Variants(kl=kl, js=js, js_unit=unit)


def rows() -> pd.DataFrame:
    """The published rows with both divergences: place, method, kl, js, and the least JS / KL."""
    frame = published.diversity().dropna(subset=["kl", "js"]).reset_index(drop=True)
    least = (frame["js"] - _ROUNDING) / (frame["kl"] + _ROUNDING)
    return frame.assign(least_ratio=least)


def excluded(variant: Variants) -> pd.Series:
    """Which of ``rows()`` cannot be of these definitions, bool."""
    return rows()["least_ratio"] > variant.greatest_ratio


def page(mark: str) -> str:
    """The page: what can be set, and which rows it excludes. ``mark``: a line below the title."""
    frame = rows()
    heads = [
        f"{names.data(row['dataset'])}, {names.method(row['method'])}"
        for row in frame.to_dict("records")
    ]
    kinds = list(variants())
    lines = [["KL", "JS", "greatest JS / KL", *heads]]
    lines.append(["---", "---", "---:", *["---"] * len(heads)])
    ratios = [f"{ratio:.3f}" for ratio in frame["js"] / frame["kl"]]
    lines.append(["printed", "", "", *ratios])
    for one in kinds:
        verdicts = ["excluded" if out else "possible" for out in excluded(one)]
        lines.append([one.kl, f"{one.js}, {one.js_unit}", f"{one.greatest_ratio:.3f}", *verdicts])
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return _TEXT.format(mark=mark, table=table)
