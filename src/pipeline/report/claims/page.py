"""Claims as a table and as a page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from pipeline.report.claims.judge import FAILS, HOLDS, UNKNOWN, Claim
from pipeline.report.shown import Shown
from pipeline.report.tables.table import Table
from pipeline.study.outputs import Output

_READING = (
    "A claim holds when every unit that has its cells holds, and fails when one fails. Units share "
    "dense runs, masks and permutations and are not independent: a p of a sign test describes, it "
    "does not prove. A step is shown ± two standard errors where the spreads are known; the "
    "verdict looks at its sign alone."
)
_LONG = 40


def claims_table(
    output: Output, shown: Shown, claims: Sequence[Claim], *, beside: Iterable[Claim] | None = None
) -> Table:
    """Claims as a table: a row per claim; the tidy frame has a row per unit of every claim.

    ``beside``: the same claims on other numbers (the published ones), whose verdicts get a column.
    """
    tidy = pd.concat(
        [claim.rows.assign(claim=claim.id, claim_verdict=claim.verdict) for claim in claims],
        ignore_index=True,
    )[["claim", "claim_verdict", "unit", "verdict", "values"]]
    layout = pd.DataFrame(
        {
            "Claim": [f"{claim.sentence} ({claim.section})" for claim in claims],
            "Verdict": [claim.verdict for claim in claims],
            "Units": [_units(claim) for claim in claims],
            "Formula": [claim.formula for claim in claims],
            "Evidence": [claim.evidence for claim in claims],
        },
        index=pd.Index([claim.id for claim in claims], name="Id"),
    )
    if beside is not None:
        known = {claim.id: claim.verdict for claim in beside}
        layout.insert(2, "On the published numbers", [known[claim.id] for claim in claims])
    return shown.table(output, tidy, layout, [_READING])


def claims_markdown(claims: Sequence[Claim], title: str, said: Sequence[str] = ()) -> str:
    """The claims as a page: a summary table, then every claim with formula and evidence.

    ``said``: paragraphs between the two.
    """
    lines = [f"# {title}", "", _READING, "", "| claim | verdict | units |", "| --- | --- | --- |"]
    lines += [f"| [{one.id}](#{one.id}) | {one.verdict} | {_units(one)} |" for one in claims]
    for paragraph in said:
        lines += ["", paragraph]
    for claim in claims:
        lines += ["", f"## {claim.id}", "", f"{claim.sentence} ({claim.section})", ""]
        lines += [f"- Formula: {claim.formula}", f"- Verdict: **{claim.verdict}**"]
        lines += [f"- Units: {_units(claim)}", f"- Evidence: {claim.evidence}"]
        shown = claim.rows
        if len(shown) > _LONG:  # the units that hold are in the CSV; the others are the news
            shown = shown[shown["verdict"] != HOLDS]
        if len(shown):
            lines += ["", "| unit | verdict | values |", "| --- | --- | --- |"]
            lines += [f"| {' | '.join(row)} |" for row in shown.itertuples(index=False, name=None)]
    return "\n".join([*lines, ""])


def published_page(claims: Sequence[Claim], title: str, said: str) -> str:
    """The claims on published numbers, a paragraph on these, and what those that fail mean."""
    failing = [f"- **{claim.id}.** {claim.meaning}" for claim in claims if claim.verdict == FAILS]
    paragraphs = [said, "## What the failing claims say", "\n".join(failing)]
    return claims_markdown(claims, title, paragraphs)


def _units(claim: Claim) -> str:
    counts = claim.counts
    unknown = f", {counts[UNKNOWN]} without cells" if counts[UNKNOWN] else ""
    return f"{counts[HOLDS]} hold, {counts[FAILS]} fail{unknown}"
