"""Permutation symmetry: which axes of which tensors move together, and moving them.

Relabelling the hidden units of a layer changes nothing as long as everything that touches these
units is relabelled alike: rows of the layer's weight, its bias, its BatchNorm, columns of the
layers that read it, and the masks and momenta of all of these. A `PermutationSpec` says what
touches what; `apply` is the only function that moves entries; `prove` shows on the network itself
that a spec is right (paper, eq. 2).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Generator, Tensor, nn

from pipeline.errors import UserError

Permutation = dict[str, Tensor]
"""Group name to index vector p (int64 [size]): position i of the permuted network holds unit p[i].

``pi(a)[i] = a[p[i]]`` along every axis that carries the group.
"""


@dataclass(frozen=True)
class Group:
    """Units that are relabelled together: a layer, or all layers that write to one stream."""

    name: str
    size: int
    tap: str
    """Dotted name of the module at which the group's post-ReLU activation is observed."""
    side: Literal["output", "input"] = "output"
    """What of the module is observed: what it gives, or what it reads."""
    axis: int = 1
    """The axis of the activation that has the units; [N, size, ...] unless given."""
    also: tuple[str, ...] = ()
    """Other modules at which the group is observed in the same way; what they show is added."""

    @property
    def taps(self) -> tuple[str, ...]:
        """All modules at which the group is observed."""
        return (self.tap, *self.also)


@dataclass(frozen=True)
class PermutationSpec:
    """The groups of a network and the axes that carry them.

    ``axes[tensor name]`` names the group carried by each axis of that entry of the state dict
    (None for an axis that is free). ``positions[tensor name]``, 1 unless given, is how many
    consecutive entries each unit owns along the group's axis: after a flatten of [C, H, W] a
    linear layer has H x W columns per unit. A tuple gives the number of each axis.
    """

    groups: tuple[Group, ...]
    axes: dict[str, tuple[str | None, ...]]
    positions: dict[str, int | tuple[int, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [group.name for group in self.groups]
        if len(set(names)) < len(names):
            raise ValueError(f"two groups share a name: {names}")
        for tensor, carried in self.axes.items():
            for name in carried:
                if name is not None and name not in names:
                    raise ValueError(f"{tensor} carries {name!r}, which is not a group")

    @property
    def sizes(self) -> dict[str, int]:
        """Units of each group."""
        return {group.name: group.size for group in self.groups}

    def owned(self, tensor: str, axis: int) -> int:
        """Consecutive entries that each unit owns along an axis of a tensor."""
        positions = self.positions.get(tensor, 1)
        return positions if isinstance(positions, int) else positions[axis]


def identity(spec: PermutationSpec) -> Permutation:
    """The permutation that moves nothing."""
    return {group.name: torch.arange(group.size) for group in spec.groups}


def random(spec: PermutationSpec, generator: Generator) -> Permutation:
    """A uniformly random permutation of every group, drawn in the order of the groups."""
    return {group.name: torch.randperm(group.size, generator=generator) for group in spec.groups}


def inverse(permutation: Permutation) -> Permutation:
    """``apply(spec, inverse(p), apply(spec, p, x))`` is ``x``."""
    return {name: torch.argsort(index) for name, index in permutation.items()}


def compose(outer: Permutation, inner: Permutation) -> Permutation:
    """``apply(spec, compose(outer, inner), x)`` is ``apply(spec, outer, apply(spec, inner, x))``.

    Raises `UserError` if the two do not have the same groups.
    """
    _alike(outer, inner)
    return {name: inner[name][index] for name, index in outer.items()}


def fixed_points(left: Permutation, right: Permutation) -> dict[str, int]:
    """How many units of each group two permutations put to the same place.

    Their sum divided by that of the sizes is the total fraction of Sharma et al. (2024), Appendix G;
    of unrelated permutations one unit a group is expected. Raises `UserError` if the two do not have
    the same groups.
    """
    _alike(left, right)
    return {name: int((index == right[name]).sum()) for name, index in left.items()}


def _alike(left: Permutation, right: Permutation) -> None:
    if left.keys() != right.keys():
        raise UserError(
            f"permutations of different groups: {', '.join(left)} and {', '.join(right)}"
        )


def validate(permutation: Mapping[str, Tensor], spec: PermutationSpec) -> None:
    """Raise `UserError` unless there is one true permutation of the right size for every group."""
    sizes = spec.sizes
    missing = [name for name in sizes if name not in permutation]
    extra = [name for name in permutation if name not in sizes]
    if missing or extra:
        raise UserError(
            f"permutation does not fit the network: groups missing {missing}, unknown {extra}"
        )
    for name, size in sizes.items():
        index = permutation[name]
        if index.dtype != torch.int64 or tuple(index.shape) != (size,):
            raise UserError(
                f"permutation of {name}: expected int64 [{size}], "
                f"got {index.dtype} {list(index.shape)}"
            )
        if not torch.equal(index.sort().values.cpu(), torch.arange(size)):
            raise UserError(f"permutation of {name}: not each of 0 ... {size - 1} exactly once")


@torch.no_grad()
def apply(
    spec: PermutationSpec, permutation: Mapping[str, Tensor], tensors: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Permuted copies of ``tensors``: a state dict, masks keyed by weight name, or momenta.

    Any subset of the spec's tensors may be given, on any device and of any dtype. Tensors that
    carry no group are copied as they are; the result shares no memory with the input.

    Raises `UserError` if the permutation does not fit the spec, if a tensor does not have the
    shape that the spec expects, or if no name at all is known to the spec (a mask whose names
    carry a foreign prefix must not pass through unpermuted).
    """
    validate(permutation, spec)
    if tensors and not any(name in spec.axes for name in tensors):
        raise UserError(f"none of these tensors belongs to the network: {', '.join(tensors)}")
    return {name: _permuted(spec, permutation, name, tensor) for name, tensor in tensors.items()}


def _permuted(
    spec: PermutationSpec, permutation: Mapping[str, Tensor], name: str, tensor: Tensor
) -> Tensor:
    carried = spec.axes.get(name, (None,) * tensor.ndim)
    if len(carried) != tensor.ndim:
        raise UserError(f"{name} has {tensor.ndim} axes, expected {len(carried)}")
    result = tensor.detach().clone()
    for axis, group in enumerate(carried):
        if group is None:
            continue
        index = permutation[group].to(tensor.device)
        positions = spec.owned(name, axis)
        if tensor.shape[axis] != len(index) * positions:
            raise UserError(
                f"axis {axis} of {name} has {tensor.shape[axis]} entries, "
                f"expected {len(index) * positions} ({group})"
            )
        if positions > 1:
            offsets = torch.arange(positions, device=index.device)
            index = (index[:, None] * positions + offsets).flatten()
        result = result.index_select(axis, index)
    return result


@torch.inference_mode()
def prove(model: nn.Module, spec: PermutationSpec, images: Tensor, generator: Generator) -> float:
    """How much a random permutation of every group changes the network's function; 0 is right.

    A right spec gives rounding error: about 1e-6 in single, 1e-14 in double precision.
    """
    return change(model, spec, random(spec, generator), images)


@torch.no_grad()
def change(
    model: nn.Module, spec: PermutationSpec, permutation: Permutation, images: Tensor
) -> float:
    """How much a permutation changes the network's function.

    Largest absolute change of a logit over ``images`` (normalised, [N, C, H, W], on the model's
    device and of its dtype), divided by the largest absolute logit; in evaluation mode. The model
    is left untouched.
    """
    original = copy.deepcopy(model).eval()
    permuted = copy.deepcopy(original)
    permuted.load_state_dict(apply(spec, permutation, original.state_dict()))
    before, after = original(images), permuted(images)
    return float((after - before).abs().max() / before.abs().max())
