"""Networks, and permutations of them, of which some layers are of one epoch and some of another.

Sharma et al. (2024), Appendix H.3; which layers a network has: `pipeline.catalog.layers`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from torch import Tensor

from pipeline.catalog.layers import Layer, layer_of
from pipeline.symmetry.permutation import Permutation, PermutationSpec


def owners(spec: PermutationSpec, layers: Sequence[Layer]) -> dict[str, int]:
    """The layer of each group of units, from 1: the first one whose output the units are.

    A residual stream belongs to the layer that opens it, not to the blocks that add to it.
    """
    found: dict[str, int] = {}
    for tensor, axes in spec.axes.items():
        if axes and axes[0] is not None:
            own = layer_of(tensor, layers)
            found[axes[0]] = min(own, found.get(axes[0], own))
    return {group.name: found[group.name] for group in spec.groups}


def mixture(
    owner: Mapping[str, int], wanted: Collection[int], early: Permutation, late: Permutation
) -> Permutation:
    """``early`` on the groups that the layers ``wanted`` own, ``late`` on the others."""
    return {
        group: early[group] if owner[group] in wanted else index for group, index in late.items()
    }


def mixed(
    names: Collection[str], early: Mapping[str, Tensor], late: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The state ``late`` with the tensors ``names`` of the state ``early``."""
    return {name: early[name] if name in names else tensor for name, tensor in late.items()}
