"""Where the units of each group are observed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.symmetry.permutation import Group
from pipeline.symmetry.trace.record import Place, Side

if TYPE_CHECKING:
    from pipeline.symmetry.trace.solve import Solution
    from pipeline.symmetry.trace.units import Carried, Entries
    from pipeline.symmetry.trace.walk import Walk


@dataclass
class Kind:
    """Units of one kind in their order, under the name of their group."""

    name: str
    layer: str
    units: list[int]
    within: str | None = None


class Owner:
    """The group of each entry, and its unit's number in it."""

    def __init__(self, solution: Solution, kinds: list[Kind]) -> None:
        self.names = [kind.name for kind in kinds]
        self._unit = solution.unit
        self._kind = np.full(len(solution.unit), -1)
        self._number = np.zeros(len(solution.unit), dtype=np.int64)
        for kind, each in enumerate(kinds):
            self._kind[each.units] = kind
            self._number[each.units] = np.arange(len(each.units))

    def any(self, entries: Entries) -> bool:
        """Whether a group has one of these entries."""
        return bool((self._kind[self._unit[entries]] >= 0).any())

    def indices(self, entries: Entries) -> dict[str, Entries]:
        """For each group of an axis the places [units, places of one] of its units, in order."""
        unit = self._unit[entries]
        kind = self._kind[unit]
        found = {}
        for each in np.unique(kind[kind >= 0]).tolist():
            places = np.flatnonzero(kind == each)
            numbers = self._number[unit[places]]
            order = places[np.argsort(numbers, kind="stable")]
            found[self.names[each]] = order.reshape(len(np.unique(numbers)), -1)
        return found


@dataclass(frozen=True)
class _Seen:
    """Units of a group in a tensor that a hook sees."""

    axis: int
    entries: tuple[tuple[int, ...], ...] | None
    """Places of each unit along the axis; None: all of it, unit by unit."""
    others: tuple[int, ...]
    """Other axes along which something moves."""

    @property
    def single(self) -> bool:
        """Whether each unit has one place."""
        return self.entries is None or len(self.entries[0]) == 1


def observed(
    walk: Walk, solution: Solution, kinds: list[Kind]
) -> tuple[dict[str, Group], dict[str, dict[Place, int]]]:
    """Groups with their points of observation, and all places where whole axes show their units.

    A group is observed at its last activation that can be seen, or without one at its last tensor:
    at the module that computes it, or else the first that gives it, or else the first that reads
    it; where nothing else moves along the tensor's axes and each unit has one place, if it can be.
    Units that no
    module shows are observed by what their weights make of what the module around them reads.
    """
    owner = Owner(solution, kinds)
    sizes = {kind.name: len(kind.units) for kind in kinds}
    places: dict[str, dict[Place, int]] = {}
    best: dict[str, tuple[tuple[Any, ...], Group]] = {}
    for (path, side), sight in walk.recording.seen.items():
        value = walk.values.get(sight.ref.number)
        if value is None or not walk.recording.shown(sight):
            continue
        computes = side == "output" and walk.computes(sight, path)
        passed = walk.passes_on(path)
        for name, seen in _visible(value.carried, owner, sizes):
            if seen.entries is None:
                places.setdefault(name, {})[path, side] = seen.axis
            active = walk.activates(sight.writer) and not passed
            given = (sight.writer, passed, computes, side == "output")
            rank = (not seen.others, seen.single, active, *given)
            if name not in best or rank > best[name][0]:
                group = Group(name, sizes[name], path, side, seen.axis, seen.entries, seen.others)
                best[name] = (rank, group)
    taps = {name: group for name, (_, group) in best.items()}
    for kind in kinds:
        by_weights = None if kind.name in taps else _by_weights(walk, solution, kind, owner)
        if by_weights is not None:
            taps[kind.name] = by_weights
    return taps, places


def _visible(
    carried: tuple[Carried, ...],
    owner: Owner,
    sizes: dict[str, int],
) -> Iterator[tuple[str, _Seen]]:
    """Groups all of whose units lie along one axis of a tensor; not its first, of the images."""
    moving = [each for each in carried if owner.any(each.entries)]
    for each in moving:
        if len(each.axes) > 1 or each.axes[0] == 0:
            continue
        others = tuple(a for other in moving if other is not each for a in other.axes)
        if 0 in others:
            continue
        for name, index in owner.indices(each.entries).items():
            if len(index) == sizes[name]:
                plain = index.reshape(-1).tolist() == list(range(len(each.entries)))
                whole = plain and index.shape[1] == 1
                entries = None if whole else tuple(tuple(row) for row in index.tolist())
                yield name, _Seen(each.axes[0], entries, tuple(sorted(others)))


def _by_weights(walk: Walk, solution: Solution, kind: Kind, owner: Owner) -> Group | None:
    """Units of a linear layer within a module that shows none of them."""
    for key, value in walk.state.values.items():
        along = {each.axes[0]: each.entries for each in value.carried}
        if value.ndim != 2 or 0 not in along or 1 not in along:
            continue
        index = owner.indices(along[0]).get(kind.name)
        if index is None or len(index) < len(kind.units):
            continue
        name = walk.state.names[key]
        path = name
        while path:
            path = path.rpartition(".")[0]
            if _reads(walk, solution, path, solution.unit[along[1]], owner):
                entries = tuple(tuple(row) for row in index.tolist())
                sight = walk.recording.seen[path, "input"]
                axis = len(walk.recording.shapes[sight.ref.number]) - 1
                return Group(kind.name, len(kind.units), path, "input", axis, entries, (), name)
    return None


def _reads(walk: Walk, solution: Solution, path: str, units: Entries, owner: Owner) -> bool:
    """Whether the last axis of what a module reads carries these units, and no other does any."""
    side: Side = "input"
    sight = walk.recording.seen.get((path, side))
    value = walk.values.get(sight.ref.number) if sight else None
    if sight is None or value is None or not walk.recording.shown(sight):
        return False
    moving = [each for each in value.carried if owner.any(each.entries)]
    return (
        len(moving) == 1
        and moving[0].axes == (value.ndim - 1,)
        and np.array_equal(solution.unit[moving[0].entries], units)
    )
