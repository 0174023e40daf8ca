"""Claims of Sharma et al. (2024) on children: onset of connectivity, the parents' permutation, stability.

Values are error barriers on test images: between children of one network (instability), between
those of a and b under the permutation of their parents, and between these parents.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from pipeline.connectivity.notions import onset
from pipeline.report.claims.judge import Case, claim
from pipeline.report.claims.measures import Measure, of
from pipeline.report.claims.numbers import END, Numbers
from pipeline.report.claims.values import Values, units
from pipeline.report.tables import names
from pipeline.results import NETWORK

#: Points of error up to which networks count as connected: the dotted line of Figures 3 and 14.
CONNECTED = 2.0
#: Where "around 5 epochs" lies, for the work's numbers of epochs.
_FROM, _TO = 3, 8
_REGIME = [*NETWORK, "dense"]


@claim(
    "Section 5.1, Figure 1 (right)",
    "instability of t = 0 − 2 points > 0, and 2 points − instability of the last t ≥ 0",
    note="Of trainings of which children start at several epochs.",
)
def children_come_to_be_connected(numbers: Numbers) -> Iterator[Case]:
    """Children that start from one initialisation end apart, those of a later epoch connected."""
    for name, cells, spawns in _instability(numbers):
        if len(spawns) > 1 and spawns[0] == 0:
            first, last = (cells.where(spawn=spawns[end]) for end in (0, -1))
            yield Case(name, first, Measure(_apart), "start")
            yield Case(name, last, Measure(_apart, sign=-1, ties=True), "last")


@claim(
    "Section 5.1, Figure 1 (right)",
    "max over t ≥ 2 of instability − 2 points > 0 (t* ≥ 3), and 2 points − max over t ≥ 8 of "
    "instability ≥ 0 (t* ≤ 8)",
    note="t*, the onset, is the first epoch from which children are connected, and at all later ones; "
    "the work says around 5 epochs, read here as 3 to 8. Of trainings of which children start at 2, "
    "and at 8 or later.",
)
def onset_is_at_about_epoch_five(numbers: Numbers) -> Iterator[Case]:
    """The onset of linear connectivity is at about 5 epochs of training."""
    for name, cells, spawns in _instability(numbers):
        if _FROM - 1 in spawns and spawns[-1] >= _TO:
            before, after = (
                cells.where(spawn=[t for t in spawns if t >= start]) for start in (_FROM - 1, _TO)
            )
            yield Case(
                name, before, Measure(lambda frame: _apart(frame).max().to_frame().T), "from 3"
            )
            yield Case(name, after, Measure(_apart, pd.DataFrame.max, sign=-1, ties=True), "to 8")


def _apart(frame: pd.DataFrame) -> pd.DataFrame:
    """How far barriers lie above those of connected networks."""
    return frame - CONNECTED


@claim(
    "Section 5.1, Figure 1 (right)",
    "mean over t ≥ t* of barrier(parents, π) − barrier(children of t, π) ≥ 0, at the end",
    note="t* is that of the mean instability, 2 points; without one there are no cells.",
)
def parents_permutation_serves_children(numbers: Numbers) -> Iterator[Case]:
    """From the onset on, the permutation of the parents aligns their children as well as them."""
    yield from _served(numbers, Measure(lambda frame: _below(frame, "along"), ties=True))


@claim(
    "Section 5.1, Figure 1 (right), by another reading",
    "mean over t ≥ t* of (barrier(parents, π) + barrier(parents))/2 − barrier(children of t, π) > 0, "
    "at the end",
    note="t* is that of the mean instability, 2 points; without one there are no cells.",
)
def parents_permutation_keeps_most(numbers: Numbers) -> Iterator[Case]:
    """From the onset on, children keep most of what the permutation brings their parents."""
    yield from _served(
        numbers, Measure(lambda frame: (_below(frame, "along") + _below(frame, "none")) / 2)
    )


def _served(numbers: Numbers, measure: Measure) -> Iterator[Case]:
    """A case for each training and matcher whose children come to be connected."""
    for regime, cells in units(numbers.children, _REGIME):
        unstable = _at_end(cells.where(arm="instability"))
        start = onset(_mean_by_spawn(unstable), CONNECTED)
        if start is None:
            continue
        late = _at_end(cells.where(spawn=[t for t in _spawns(cells) if t >= start]))
        parents = _at_end(cells.where(arm=("none", "along")))
        for matcher in late.where(arm="children").places["matcher"].unique():
            chosen = _either(cells, late.where(arm="children", matcher=matcher), parents.where(
                matcher=(matcher, "")
            ))  # fmt: skip
            yield Case(f"{_name(regime)}, {matcher}", chosen, measure)


def _below(frame: pd.DataFrame, arm: str) -> pd.DataFrame:
    """How far the barriers of children lie below that of their parents."""
    parents, own = (of(frame, each, "arm") for each in (arm, "children"))
    return own.rsub(parents.iloc[0], axis=1)


@claim(
    "Appendix H.4, Figures 6 and 20",
    "instability of t = 0 above 2 points: ⅓ barrier(end) − max over epochs of barrier(π of the end, "
    "activations) > 0",
    "epochs",
    note="Which trainings are unstable at the start is measured: by the mean over pairs.",
)
def stability_is_not_needed(numbers: Numbers) -> Iterator[Case]:
    """Networks that are unstable at initialisation can be aligned at every epoch all the same."""
    for name, cells in _regimes(numbers, stable=False):
        chosen = cells.where(arm=("none", "along"), matcher=("", "activations"))
        if "along" in set(chosen.places["arm"]):
            yield Case(name, chosen, Measure(_below_a_third, pd.DataFrame.min))


def _below_a_third(frame: pd.DataFrame) -> pd.DataFrame:
    """A third of the barrier without π at the end, less those along training under π."""
    last = frame[frame.index.get_level_values("epoch") == END]
    return of(frame, "along", "arm").rsub(of(last, "none", "arm").iloc[0] / 3, axis=1)


@claim(
    "Appendix H.4, Figures 6 and 19",
    "instability of t = 0 at most 2 points: min over matchers of barrier(π, end) − 2 points > 0",
    "matchers",
    note="Which trainings are stable from the start is measured: by the mean over pairs. By no matcher "
    "that was tried is not by none: the work itself draws no conclusion from that.",
)
def stability_is_not_enough(numbers: Numbers) -> Iterator[Case]:
    """Networks that are stable from initialisation on may be aligned by neither matching."""
    for name, cells in _regimes(numbers, stable=True):
        ends = _at_end(cells.where(arm="along"))
        if {"weights", "activations"} <= set(ends.places["matcher"]):
            yield Case(name, ends, Measure(_apart, pd.DataFrame.min))


def _regimes(numbers: Numbers, stable: bool) -> Iterator[tuple[str, Values]]:
    """The trainings whose children of the initialisation end connected, or those whose do not."""
    for regime, cells in units(numbers.children, _REGIME):
        start = _mean_by_spawn(_at_end(cells.where(arm="instability"))).get(0)
        if start is not None and (start <= CONNECTED) == stable:
            yield _name(regime), cells


def _instability(numbers: Numbers) -> Iterator[tuple[str, Values, list[int]]]:
    """Barriers at the end between children of one network, by training, and the epochs of these."""
    for regime, cells in units(numbers.children, _REGIME):
        found = _at_end(cells.where(arm="instability"))
        yield _name(regime), found, _spawns(found)


def _spawns(cells: Values) -> list[int]:
    """The epochs that children start from, in order."""
    born = cells.where(arm=("instability", "children")).places["spawn"]
    return sorted({int(epoch) for epoch in born})


def _mean_by_spawn(cells: Values) -> dict[int, float]:
    means = cells.means.iloc[:, 0].groupby(level="spawn").mean()
    return {int(epoch): float(value) for epoch, value in means.items()}


def _at_end(cells: Values) -> Values:
    return cells.where(epoch=END)


def _either(cells: Values, *parts: Values) -> Values:
    """The cells that are in one of these parts of them."""
    wanted = {place for part in parts for place in part.means.index}
    return cells.take([place in wanted for place in cells.means.index])


def _name(regime: dict[str, Any]) -> str:
    network = {key: regime[key] for key in NETWORK}
    return f"{names.place(**network)}, {regime['dense']}"
