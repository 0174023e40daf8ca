"""Notions of connectivity (`pipeline.connectivity.notions`) as verdicts on the barriers of sweeps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd

from pipeline.connectivity import notions
from pipeline.connectivity.notions import Barrier, Verdict
from pipeline.report.shown import Shown
from pipeline.report.tables.cells import varying
from pipeline.report.tables.table import ABSENT, Table, row_labels
from pipeline.results import PLACE, Results
from pipeline.study.outputs.notions import Notions

#: So many networks are to align at once in Definition 8.
_AT_ONCE = 3
_JUDGES: dict[str, Callable[[list[Barrier], float], Verdict]] = {
    "weak (1)": lambda rows, most: notions.weak(_at_the_end(rows), most),
    "simultaneous (3)": notions.simultaneous,
    "strong (2)": notions.strong,
    "weakly transitive (7)": notions.weakly_transitive,
    f"{_AT_ONCE}-wise transitive (8)": lambda rows, most: notions.strongly_transitive(
        rows, most, _AT_ONCE
    ),
}
#: What the lines of each kind of sweep can say.
_OF_SWEEP = {
    "epochs": ("weak (1)", "simultaneous (3)"),
    "rounds": ("simultaneous (3)",),
    "triples": tuple(name for name in _JUDGES if name != "simultaneous (3)"),
}
_ROW = [*PLACE, "match"]


def read(output: Notions, results: Results) -> pd.DataFrame:
    """The lines of the output's sweeps."""
    return results.connections(output)


def build(output: Notions, shown: Shown, connections: pd.DataFrame) -> Table:
    """Rows: networks and matching; columns: definitions. Every run of a sweep is judged by itself:
    a pair of networks, or all networks of a sweep over triples."""
    tidy = judged(output, connections)
    rows = tidy[_ROW].drop_duplicates()
    columns = [name for name in _JUDGES if name in set(tidy["notion"])]
    found = {key: _text(own) for key, own in tidy.groupby([*_ROW, "notion"])}
    layout = pd.DataFrame(
        [
            [found.get((*row, name), ABSENT) for name in columns]
            for row in rows.itertuples(index=False, name=None)
        ],
        index=row_labels(rows[[*varying(rows, PLACE), "match"]].rename(columns={"match": "π"})),
        columns=columns,
    )
    notes = [
        f"Connected: an error barrier of at most {output.threshold:g} points on {output.split} images. "
        "A definition that fails says that none of the permutations that were found will do, not that "
        "there is none; in brackets its number in the work. Transitivity holds of no more than there is: "
        "also where no networks are connected (0.00)."
    ]
    if missing := int(
        tidy.drop_duplicates([*_ROW, "sweep", "seeds"])["status"].eq("missing").sum()
    ):
        notes.append(f"Missing sweeps: {missing}.")
    return shown.table(output, tidy, layout, notes)


def judged(output: Notions, connections: pd.DataFrame) -> pd.DataFrame:
    """A row for each run of a sweep and notion: whether it holds, and the largest barrier left."""
    return pd.DataFrame(_judged(output, connections))


def _judged(output: Notions, connections: pd.DataFrame) -> Iterator[dict[str, Any]]:
    keys = [*_ROW, "sweep", "seeds", "status", "over"]
    wanted = connections["correction"].eq(output.correction) & connections["split"].eq(output.split)
    for key, lines in connections.groupby(keys, sort=False):
        place = dict(zip(keys, key, strict=True))
        barriers = list(_barriers(lines[wanted[lines.index]]))
        for notion in _OF_SWEEP[place["over"]]:
            verdict = _JUDGES[notion](barriers, output.threshold)
            holds = verdict.holds if barriers else None
            yield place | {
                "notion": notion, "holds": holds,
                "worst": math.nan if holds is None else verdict.worst,
            }  # fmt: skip


def _barriers(lines: pd.DataFrame) -> Iterator[Barrier]:
    """The lines of one run as a table of barriers; a line is a row under all that it stands for."""
    for line in lines.to_dict("records"):
        pair = int(line["a"]), int(line["b"])
        for under in _under(line["arm"], line["point"], pair):
            yield Barrier(*pair, under, float(line["error_barrier"]), line["evaluated_at"])


def _under(arm: str, point: Any, pair: tuple[int, int]) -> list[object]:
    """The names of the permutations, or assignments Π, that a line is measured under.

    Π by way of c permutes every network as it is matched to c, and c not at all: between two others
    that is the line by way of c, between c and another the direct one. A line to a network pruned
    at once is not between networks of one level.
    """
    if arm == "one-shot":
        return []
    if arm == "direct":
        return [("by way of", seed) for seed in pair]
    if arm == "indirect":
        return [("by way of", int(point.rpartition(".")[2]))]
    return ["as they are" if arm == "none" else point]


def _at_the_end(rows: list[Barrier]) -> list[Barrier]:
    last = max((row.at for row in rows), default=None)  # type: ignore[type-var]
    return [row for row in rows if row.at == last]


def _text(runs: pd.DataFrame) -> str:
    """``holds (1.30)``; of several runs of a sweep ``3 of 5 hold (7.80)``, the largest barrier."""
    known = runs[runs["holds"].notna()]
    if known.empty:
        return "missing" if runs["status"].eq("missing").all() else "not measured"
    held, worst = int(known["holds"].astype(bool).sum()), float(known["worst"].max())
    largest = f"{worst:.2f}" if math.isfinite(worst) else "diverged"
    if len(runs) == 1:
        return f"{'holds' if held else 'fails'} ({largest})"
    return f"{held} of {len(known)} hold ({largest})"
