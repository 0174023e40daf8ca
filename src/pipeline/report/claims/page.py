"""Claims as a table and as a page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from pipeline.report.claims.judge import Claim, Part, alone
from pipeline.report.shown import Shown
from pipeline.report.statistics import Estimate
from pipeline.report.tables import names
from pipeline.report.tables.table import ABSENT, Table
from pipeline.study.outputs import Output

_READING = (
    "A claim says that its formula is on one side of 0; estimates are positive on the claim's side. "
    "The formula is taken for each pair of seeds, pairs that share a dense run are averaged first, "
    "and the mean over networks (over pairs, where there are fewer than three networks) has its 95 % "
    "interval by Student's t; a cell or network of fewer than three independent pairs decides "
    "nothing. Supported or contradicted: p, adjusted after Holm for all claims of this page, is at "
    "most 5 %; undecided: anything else. A claim of several parts is supported if all that have cells are. "
    "Literally: how many entries of the means are as the claim says, whatever their noise."
)
_PRINTED = (
    "Of published cells, mean and spread over three seeds are known. Cells of one network and method "
    "share dense runs, masks and permutations: those that are added up are taken as wholly "
    "dependent, and the reading with all cells independent stands beside it. Over three networks or "
    "more, the spread between networks takes the place of the printed ones."
)
_READ_OFF = (
    "Points were read off images in the authors' notebooks, VGG16 and ResNet20 with LayerNorm on "
    "CIFAR-10 (`pipeline.report.published.sharma`). A point is one mean over five pairs of networks, or "
    "paths through a third; its spread is not known, so no claim is supported or contradicted by them. "
    "What they say is the literal reading. Entries no larger than their points may have been misread "
    "are not told apart, and not counted. Errors and shares of units are in points, losses in nats."
)
_LONG = 40


def claims_table(
    output: Output, shown: Shown, claims: Sequence[Claim], *, beside: Iterable[Claim] | None = None
) -> Table:
    """Claims as a table: a row per claim that has cells; the tidy frame has a row per case.

    ``beside``: the same claims on other numbers (the published ones), whose verdicts get a column.
    """
    tidy = pd.concat(
        [claim.rows.assign(claim=claim.id, claim_verdict=claim.verdict) for claim in claims],
        ignore_index=True,
    )
    tidy = tidy[["claim", "claim_verdict", *tidy.columns.drop(["claim", "claim_verdict"])]]
    there = [claim for claim in claims if claim.of]
    absent = [claim.id for claim in claims if not claim.of]
    layout = pd.DataFrame(
        {
            "Claim": [f"{claim.sentence} ({claim.section})" for claim in there],
            "Verdict": [claim.verdict for claim in there],
            "Estimate (95 %)": [_parts(claim) for claim in there],
            "p (Holm)": [_p(claim.p) for claim in there],
            "Literally": [_literal(claim) for claim in there],
            "Formula": [claim.formula for claim in there],
        },
        index=pd.Index([claim.id for claim in there], name="Id"),
    )
    if beside is not None:
        known = {claim.id: claim.verdict for claim in beside}
        layout.insert(
            2, "On the published numbers", [known.get(claim.id, ABSENT) for claim in there]
        )
    notes = [
        _READING,
        *([f"Without cells here, so undecided: {', '.join(absent)}."] if absent else []),
    ]
    return shown.table(output, tidy, layout, notes)


def claims_markdown(
    claims: Sequence[Claim], title: str, said: Sequence[str] = (), about: str = _PRINTED
) -> str:
    """The claims as a page: a summary table, then every claim with formula and evidence.

    ``said``: paragraphs between the two; ``about``: what stands behind the numbers.
    """
    head = ["claim", "verdict", "all cells independent", "estimate (95 %)", "p (Holm)", "literally"]
    lines = [f"# {title}", "", _READING, "", about, "", *_row(head), *_row(["---"] * len(head))]
    for one in claims:
        decided = any(part.decided for part in one.parts)
        other = one.independent or ("the same" if decided else ABSENT)
        cells = [f"[{one.id}](#{one.id})", one.verdict, other]
        lines += _row([*cells, _parts(one), _p(one.p), _literal(one)])
    for paragraph in said:
        lines += ["", paragraph]
    for claim in claims:
        lines += ["", f"## {claim.id}", "", f"{claim.sentence} ({claim.section})", ""]
        lines += [f"- Formula: {claim.formula}", f"- Verdict: **{claim.verdict}**"]
        lines += [f"- {_part(part)}" for part in claim.parts]
        lines += [f"- Literally: {_literal(claim)}"]
        lines += [f"- {claim.note}"] if claim.note else []
        lines += _cases(claim)
    return "\n".join([*lines, ""])


def published_page(claims: Sequence[Claim], mark: str) -> str:
    """The claims on the published numbers. ``mark``: a line below the title."""
    said = ["Curves and barriers were published as pictures only; their claims wait for runs."]
    return claims_markdown(claims, f"The claims on the published numbers\n\n{mark}", said)


def points_page(claims: Sequence[Claim], mark: str) -> str:
    """The claims of Sharma et al. on points of their curves. ``mark``: a line below the title."""
    title = f"The claims of Sharma et al. on their own curves\n\n{mark}"
    return claims_markdown(claims, title, about=_READ_OFF)


def _row(cells: Iterable[str]) -> list[str]:
    return [f"| {' | '.join(cells)} |"]


def _cases(claim: Claim) -> list[str]:
    """The table of a claim's cases; of many, only those with an entry against the claim."""
    shown = claim.rows
    if len(shown) > _LONG:
        shown = shown[shown["held"] < shown["of"]]
    if not len(shown):
        return []
    head = ["case", "estimate (95 %)", "all cells independent", "literally", "entries"]
    lines = ["", *_row(head), *_row(["---"] * len(head))]
    for row in shown.to_dict("records"):
        held = f"{row['held']} of {row['of']}"
        intervals = (_interval(row["estimate"], row[end]) for end in ("reach", "reach_independent"))
        lines += _row([row["unit"], *intervals, held, row["values"]])
    return lines


def _parts(claim: Claim) -> str:
    found = [
        (f"{part.name}: " if part.name else "") + f"{_estimate(part.reading.estimate)}, {part.over}"
        for part in claim.parts
    ]
    return "; ".join(found) or "no cells"


def _part(part: Part) -> str:
    """One part of a claim in words."""
    one, other = part.reading.estimate, alone(part.reading)
    text = f"{part.name or 'Estimate'}: {_estimate(one)}, {part.over}"
    if part.decided:
        text += f", p = {_p(float(one.p))}"
        if part.reading.independent:
            text += f"; all cells independent: {_estimate(other)}, p = {_p(float(other.p))}"
    return f"{text}; {part.reading.note}" if part.reading.note else text


def _estimate(one: Estimate) -> str:
    return _interval(float(one.value), float(one.reach) if one.decides else np.nan)


def _interval(value: float, reach: float) -> str:
    """``+1.02 (0.61 … 1.43)``; the value alone without an interval."""
    if np.isnan(value):
        return ABSENT
    digits = 2 if abs(value) >= 0.1 else 3
    ends = (names.signed(value + side * reach, decimals=digits) for side in (-1, 1))
    text = names.signed(value, decimals=digits)
    return text + names.unless_nan(reach, f" ({' … '.join(ends)})")


def _p(p: float) -> str:
    return ABSENT if np.isnan(p) else f"{p:.2g}"


def _literal(claim: Claim) -> str:
    if not claim.of + claim.unclear:
        return "no cells"
    true = "true" if claim.held == claim.of else "not true"
    said = f"{true}: {claim.held} of {claim.of} {claim.counted}" if claim.of else "not known"
    return said + f"; {claim.unclear} not told apart" * bool(claim.unclear)
