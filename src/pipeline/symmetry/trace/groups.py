"""What the walk found: groups with their points of observation, and the layers that stay."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace

import numpy as np

from pipeline.symmetry.permutation import Group, Part, PermutationSpec
from pipeline.symmetry.trace.record import Place, refusal
from pipeline.symmetry.trace.solve import Solution, solve
from pipeline.symmetry.trace.taps import Kind, Owner, observed
from pipeline.symmetry.trace.units import Entries
from pipeline.symmetry.trace.walk import Walk

UNSEEN = "no module reads or gives their activation, so it cannot be observed"


@dataclass(frozen=True)
class Traced:
    """The groups of a network, and the layers whose units stay where they are, with the reason."""

    spec: PermutationSpec
    stay: dict[str, str]
    places: dict[str, dict[Place, int]]
    """Where all units of a group can be seen, one by one, with their axis: before and after
    activations alike."""


def result(walk: Walk) -> Traced:
    """Groups with their taps, and the axes that carry them.

    Raises `UserError` if units that could move meet an unknown operation, or if none can move.
    """
    while True:
        solution = solve(walk.units)
        kinds = _kinds(walk, solution)
        taps, places = observed(walk, solution, kinds)
        blocks = {kind.within for kind in kinds if kind.name in taps}
        unseen = [kind for kind in kinds if kind.name not in taps and kind.name not in blocks]
        if not unseen:
            break
        for kind in unseen:  # they stay, and so do the blocks in which they lie
            walk.units.fix(np.array(kind.units), UNSEEN)
    _refuse_unknown(walk, solution)
    groups = [
        replace(taps.get(kind.name, Group(kind.name, len(kind.units), "")), within=kind.within)
        for kind in kinds
    ]
    stay = _stay(walk, solution)
    if not groups:
        reasons = "; ".join(f"{layer}: {reason}" for layer, reason in stay.items())
        raise refusal(f"no hidden units are free to move ({reasons or 'it has no hidden layer'})")
    spec = _spec(walk, solution, groups, kinds)
    return Traced(spec, stay, {group.name: places.get(group.name, {}) for group in groups})


def _refuse_unknown(walk: Walk, solution: Solution) -> None:
    moving: dict[int, str] = {}
    for opened, layer in walk.units.opened:
        for unit in solution.unit[opened].tolist():
            moving.setdefault(unit, layer)
    for place, entries in walk.unknown:
        for unit in solution.unit[entries].reshape(-1).tolist():
            if unit not in solution.reasons and unit in moving:
                raise refusal(
                    f"{place}: it is not known what this does to the units of {moving[unit]}; use "
                    "other functions of torch, or give it a rule"
                )


def _kinds(walk: Walk, solution: Solution) -> list[Kind]:
    """Units that may change places, kind by kind, with names: blocks before what lies in them."""
    order: dict[int, int] = {}  # of the units, as layers open them
    layers: dict[int, str] = {}
    widths: dict[str, list[int]] = defaultdict(list)
    for entries, layer in walk.units.opened:
        for unit in solution.unit[entries].tolist():
            order.setdefault(unit, len(order))
            layers.setdefault(unit, layer)
        if layer not in widths:
            widths[layer] = solution.unit[entries].tolist()
    found: dict[int, list[int]] = defaultdict(list)
    for unit in order:
        if unit not in solution.reasons:
            found[int(solution.colour[unit])].append(unit)
    kinds: list[Kind] = []
    named: dict[int, Kind] = {}
    for colour, members in found.items():
        layer = layers[members[0]]
        if len(members) == 1 and len(set(widths[layer])) > 1:
            solution.reasons[members[0]] = "no other unit is read as each of its units is"
            continue
        inside = set(members)
        own = [i for i, unit in enumerate(widths[layer]) if unit in inside]
        whole = inside >= set(widths[layer])
        name = layer if whole or not own else f"{layer}[{own[0]}:{own[-1] + 1}]"
        if name in {kind.name for kind in kinds}:
            name = f"{name}.{len(kinds)}"
        above = None
        parents = [solution.parent[unit] for unit in members if unit in solution.parent]
        if parents:
            above = named.get(int(solution.colour[parents[0]]))
            if above is None:
                above = Kind(f"{name}.blocks", layer, list(dict.fromkeys(parents)))
                named[int(solution.colour[parents[0]])] = above
                kinds.append(above)
            place = {unit: number for number, unit in enumerate(above.units)}
            members.sort(key=lambda unit: (place[solution.parent[unit]], order[unit]))
        kind = Kind(name, layer, members, above.name if above else None)
        named.setdefault(colour, kind)
        kinds.append(kind)
    return kinds


def _stay(walk: Walk, solution: Solution) -> dict[str, str]:
    """Layers with units in no group, and the reason where there is one to tell."""
    found: dict[str, str] = {}
    for entries, layer in walk.units.opened:
        units = np.unique(solution.unit[entries]).tolist()
        held = [unit for unit in units if unit in solution.reasons]
        reasons = [solution.reasons[unit] for unit in held if solution.reasons[unit]]
        if reasons and layer not in found:
            part = "" if len(held) == len(units) else f"{len(held)} of {len(units)} units: "
            found[layer] = part + reasons[0]
    return found


def _spec(
    walk: Walk, solution: Solution, groups: list[Group], kinds: list[Kind]
) -> PermutationSpec:
    owner = Owner(solution, kinds)
    axes: dict[str, tuple[str | None, ...]] = {}
    positions: dict[str, int | tuple[int, ...]] = {}
    parts: list[Part] = []
    for name, tensor in walk.model.state_dict(keep_vars=True).items():
        carried: list[str | None] = [None] * tensor.ndim
        owned = [1] * tensor.ndim
        value, grouped = walk.state.values.get(id(tensor)), walk.state.grouped.get(id(tensor))
        along = {each.axes[0]: each.entries for each in value.carried} if value else {}
        if grouped and not value:
            along = {0: grouped.first.reshape(-1)}
            parts += _in_groups(name, grouped.second, tensor.shape[0], owner)
        for axis, entries in along.items():
            found = owner.indices(entries)
            for group, index in found.items():
                if len(found) == 1 and index.reshape(-1).tolist() == list(range(len(entries))):
                    carried[axis], owned[axis] = group, index.shape[1]
                else:
                    parts.append(Part(name, axis, group, _rows(index)))
        axes[name] = tuple(carried)
        several = {n for n, group in zip(owned, carried, strict=True) if group}
        if several - {1}:
            positions[name] = several.pop() if len(several) == 1 else tuple(owned)
    return PermutationSpec(tuple(groups), axes, positions, tuple(parts))


def _in_groups(name: str, second: Entries, length: int, owner: Owner) -> list[Part]:
    """The second axis of a convolution in groups, whose meaning depends on the rows."""
    groups, width = second.shape
    each = length // groups
    parts = []
    for group, index in owner.indices(second.reshape(-1)).items():
        for column in index.T:  # as often as a unit is read
            rows = column[:, None] // width * each + np.arange(each)
            parts.append(Part(name, 1, group, _rows(column[:, None] % width), _rows(rows)))
    return parts


def _rows(index: Entries) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(row) for row in index.tolist())
