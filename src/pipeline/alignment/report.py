"""An alignment on one page of Markdown: how alike the groups are, the barriers, the merged networks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.alignment import SPLIT, Alignment
from pipeline.connectivity.barrier import barrier
from pipeline.connectivity.survey import Row


@dataclass(frozen=True)
class Measured:
    """What was measured on the lines from a and from pi(a) to b, by `Alignment.curve`."""

    plain: Sequence[Row]
    aligned: Sequence[Row]
    corrections: Sequence[str]


def page(
    found: Alignment, measured: Measured, facts: Mapping[str, str], stay: Mapping[str, str]
) -> str:
    """The page; ``facts`` say what was aligned and on what, ``stay`` why layers are in no group."""
    parts = [
        "# Alignment of two networks",
        "\n".join(f"- {name}: {fact}" for name, fact in facts.items()),
        "## Is it any good?",
        _verdict(measured),
        "Loss barrier: the largest excess of the loss on the line from a to b over the line between "
        "their losses, in nats; error barrier: the same of the error, in points of percent.",
        _table(
            ("correction", "loss barrier, as they are", "aligned", "error barrier, as they are",
             "aligned"),
            _barriers(measured),
        ),
        "Accuracy in % of the network half way between the two:",
        _table(("network", "as they are", "aligned"), _accuracies(measured)),
        "## Groups of units",
        _groups(found),
    ]  # fmt: skip
    if stay:
        rows = stay.items()
        parts += ["Layers whose units stay where they are:", _table(("layer", "why"), rows)]
    return "\n\n".join(parts) + "\n"


def _verdict(measured: Measured) -> str:
    before, after = (
        min(barrier(rows, c, SPLIT, "loss") for c in measured.corrections)
        for rows in (measured.plain, measured.aligned)
    )
    if not before > 0:
        return "The networks are connected as they are: there is no barrier between them to lower."
    if not math.isfinite(before):
        return f"The least loss barrier goes from {_number(before)} to {_number(after)} nats."
    return (
        f"The least loss barrier goes from {_number(before)} to {_number(after)} nats, "
        f"{_number(100 * after / before, 0)} % of what it was."
    )


def _barriers(measured: Measured) -> Iterable[Sequence[str]]:
    both = (measured.plain, measured.aligned)
    for correction in measured.corrections:
        losses = (barrier(rows, correction, SPLIT, "loss") for rows in both)
        errors = (barrier(rows, correction, SPLIT, "error") for rows in both)
        yield correction, *(_number(x) for x in losses), *(_number(x, 2) for x in errors)


def _accuracies(measured: Measured) -> Iterable[Sequence[str]]:
    both = (measured.plain, measured.aligned)
    ends = {"a": 0.0, "b": 1.0}
    for name, alpha in ends.items():
        yield name, *(_accuracy(rows, measured.corrections[0], alpha) for rows in both)
    for correction in measured.corrections:
        yield f"merged, {correction}", *(_accuracy(rows, correction, 0.5) for rows in both)


def _accuracy(rows: Sequence[Row], correction: str, alpha: float) -> str:
    (row,) = (r for r in rows if r["correction"] == correction and math.isclose(r["alpha"], alpha))
    return _number(100 - row["error"], 2)


def _groups(found: Alignment) -> str:
    if not found.quality:
        return "The matcher tells no quality of its groups."
    said = (
        "Similarity: the mean over matched pairs of live units, beside that of the units as they "
        "stand and that of a random permutation. Dead units are alike to all others."
    )
    header = (
        "group", "units", "similarity", "as they stand", "at random", "dead in a", "dead in b",
        "not moved",
    )  # fmt: skip
    rows = (
        (
            f"`{name}`", str(each.size), *(_number(x) for x in
            (each.matched, each.identity, each.random)), str(each.dead_a), str(each.dead_b),
            str(each.fixed_points),
        )
        for name, each in found.quality.items()
    )  # fmt: skip
    return f"{said}\n\n{_table(header, rows)}"


def _number(value: float, digits: int = 3) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "not finite"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    sides = ["---", *["---:"] * (len(header) - 1)]
    lines = (f"| {' | '.join(row)} |" for row in (header, sides, *rows))
    return "\n".join(lines)
