"""Permutation groups of the built-in networks: traced, then named and observed as declared.

Which axes of which tensors move together, and how many units there are, is read off the forward
pass (`pipeline.symmetry.trace`). A network declares what no trace can know: what its groups are called, in
which order they come, and where the paper observes them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipeline.symmetry.permutation import PermutationSpec
from pipeline.symmetry.trace import Side, Traced


@dataclass(frozen=True)
class Observed:
    """Name and point of observation of the group that a layer opens."""

    layer: str
    """The first layer of the forward pass that writes to the group's units."""
    name: str
    tap: str
    """Dotted name of the module at which the group's post-ReLU activation is observed."""
    side: Side = "output"
    also: tuple[str, ...] = ()
    """Other modules that show the group, observed as well, at the same side."""


def named(traced: Traced, declared: Sequence[Observed]) -> PermutationSpec:
    """Traced groups under their declared names, in the declared order.

    Raises `ValueError` unless there is one declaration for each group, and each tap shows its
    group's units: the declaration or the network is wrong.
    """
    traced_of, declared_of = (
        Counter(list(traced.spec.sizes)),
        Counter(each.layer for each in declared),
    )
    if traced_of != declared_of:
        raise ValueError(
            f"groups that are traced and not declared: {sorted(traced_of - declared_of)}; "
            f"declared and not traced: {sorted(declared_of - traced_of)}"
        )
    names: dict[str | None, str] = {each.layer: each.name for each in declared}
    known = {group.name: group for group in traced.spec.groups}
    groups = []
    for each in declared:
        shown = traced.places[each.layer]
        axes_of = {tap: shown.get((tap, each.side)) for tap in (each.tap, *each.also)}
        axis = axes_of[each.tap]
        for tap, place in axes_of.items():
            if place is None or place != axis:
                raise ValueError(
                    f"group {each.name}: the {each.side} of {tap} does not show the units of "
                    f"{each.layer}"
                )
        assert axis is not None
        found = replace(known[each.layer], entries=None, averaged=(), weight="", also=each.also)
        found = replace(found, name=each.name, tap=each.tap, side=each.side, axis=axis)
        groups.append(replace(found, within=names.get(found.within)))
    axes = {
        tensor: tuple(None if layer is None else names[layer] for layer in carried)
        for tensor, carried in traced.spec.axes.items()
    }
    parts = tuple(replace(part, group=names[part.group]) for part in traced.spec.parts)
    return PermutationSpec(tuple(groups), axes, traced.spec.positions, parts)
