"""What the walk found: groups with their points of observation, and the layers that stay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.symmetry.permutation import Group, PermutationSpec
from pipeline.symmetry.trace.units import Units, resolved, root
from pipeline.symmetry.trace.walk import Place, Side, Walk, refusal


@dataclass(frozen=True)
class Traced:
    """The groups of a network, and the layers whose units stay where they are, with the reason."""

    spec: PermutationSpec
    stay: dict[str, str]
    places: dict[str, dict[Place, int]]
    """Where each group's units can be seen, with their axis: before and after activations alike."""


def result(walk: Walk) -> Traced:
    """Groups with their taps, and the axes that carry them.

    Raises `UserError` if units that could move meet an unknown operation, or if none can move.
    """
    layers: dict[Units, str] = {}  # the first that opened the units
    for value in walk.state.values.values():
        for label in value.labels:
            if label and label[0].opened:
                layers.setdefault(root(label)[0], label[0].layer)
    for place, label in walk.unknown:
        found = resolved(label)
        if found is not None:
            raise refusal(
                f"{place}: it is not known what this does to the units of "
                f"{layers.get(found[0], found[0].layer)}; use layers and functions of torch that "
                "keep channels apart"
            )
    places, taps = _seen(walk)
    groups: dict[Units, Group] = {}
    stay: dict[str, str] = {}
    for units, layer in layers.items():
        if units.reason is None and units not in taps:
            units.reason = "no module reads or gives their activation, so it cannot be observed"
        if units.reason is None:
            groups[units] = Group(layer, units.size, *taps[units])
        elif units.reason:
            stay[layer] = units.reason
    if not groups:
        reasons = "; ".join(f"{layer}: {reason}" for layer, reason in stay.items())
        raise refusal(f"no hidden units are free to move ({reasons or 'it has no hidden layer'})")
    axes: dict[str, tuple[str | None, ...]] = {}
    positions: dict[str, int | tuple[int, ...]] = {}
    for name, tensor in walk.module.state_dict(keep_vars=True).items():
        known = walk.state.values.get(id(tensor))
        labels = [resolved(label) for label in known.labels] if known else [None] * tensor.ndim
        carried = [label if label and label[0] in groups else None for label in labels]
        axes[name] = tuple(label and groups[label[0]].name for label in carried)
        owned = {label[1] for label in carried if label}
        if owned - {1}:
            each = tuple(label[1] if label else 1 for label in carried)
            positions[name] = owned.pop() if len(owned) == 1 else each
    spec = PermutationSpec(tuple(groups.values()), axes, positions)
    return Traced(spec, stay, {group.name: places[units] for units, group in groups.items()})


def _seen(walk: Walk) -> tuple[dict[Units, dict[Place, int]], dict[Units, tuple[str, Side, int]]]:
    """Where hooks see units, if nothing changes them afterwards; and where they are observed.

    That is at their last activation that can be seen, or without one at their last tensor: at the
    module that computes it, or else the first that gives it, or else the first that reads it.
    """
    order = {n: number for number, n in enumerate(walk.values)}
    places: dict[Units, dict[Place, int]] = {}
    best: dict[Units, tuple[tuple[Any, ...], tuple[str, Side, int]]] = {}
    for (path, side), n in walk.recorder.seen.items():
        known = walk.operation(n)
        computes = side == "output" and (n.op, n.target) == ("call_module", path)
        changed = any(walk.writes_in_place(user) for user in n.users)
        shown = n in walk.values and n.op != "get_attr" and not changed
        for axis, label in enumerate(walk.values[n].labels if shown else ()):
            found = resolved(label)
            if axis and found and found[1] == 1:
                places.setdefault(found[0], {})[path, side] = axis
                active = known is not None and known.activation
                rank = (active, order[n], computes, side == "output")
                if found[0] not in best or rank > best[found[0]][0]:
                    best[found[0]] = (rank, (path, side, axis))
    return places, {units: tap for units, (_, tap) in best.items()}
