"""What the axes of a tensor carry: units, which move together as far as they were joined."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn


class Units:
    """Units that move together; joined with others, they point to those that speak for them."""

    def __init__(self, size: int, layer: str) -> None:
        self.size, self.layer = size, layer
        self.into: tuple[Units, int] | None = None
        self.opened = False  # a layer writes along the axis: they may be a group
        self.reason: str | None = None  # why they stay; "" where that needs no word


#: Units along an axis, and how many consecutive entries each of them owns; None: nothing moves.
Label = tuple[Units, int] | None
#: One for each axis of a tensor.
Labels = list[Label]


@dataclass(frozen=True)
class Value:
    """A tensor of the network: its shape and the units along each axis."""

    shape: tuple[int, ...]
    labels: Labels

    @property
    def ndim(self) -> int:
        return len(self.shape)


class State:
    """The tensors of a network's state dict, with units of their own along each axis.

    Other tensors cannot be permuted: nothing moves along their axes.
    """

    def __init__(self, model: nn.Module) -> None:
        self._names: dict[int, str] = {}  # a tensor's first
        for name, tensor in model.state_dict(keep_vars=True).items():
            self._names.setdefault(id(tensor), name)
        self.values: dict[int, Value] = {}
        """By a tensor's ``id``, in the order of their first use."""

    def value(self, tensor: Tensor) -> Value:
        """The value of a tensor, the same one at every use."""
        if id(tensor) not in self.values:
            name = self._names.get(id(tensor))
            labels: Labels = [None] * tensor.ndim
            if name and tensor.is_floating_point():
                for axis, count in enumerate(tensor.shape):
                    if count > 1 or axis < 2:
                        labels[axis] = (Units(count, name.rpartition(".")[0] or name), 1)
            self.values[id(tensor)] = Value(tuple(tensor.shape), labels)
        return self.values[id(tensor)]


def root(label: tuple[Units, int]) -> tuple[Units, int]:
    """The label by the units that speak for its own, whether they move or stay."""
    while label[0].into is not None:
        units, factor = label[0].into
        label = (units, label[1] * factor)
    return label


def resolved(label: Label) -> Label:
    """The label by the units that speak for its own; None if they stay."""
    found = label and root(label)
    return found if found and found[0].reason is None else None


def stay(label: Label, reason: str) -> None:
    """Nothing along this axis moves; the first reason counts."""
    found = resolved(label)
    if found is not None:
        found[0].reason = reason


def join(left: Label, right: Label, reason: str) -> None:
    """Make two axes of the same length move together, or both stay where that is not possible."""
    a, b = resolved(left), resolved(right)
    if a is None or b is None:
        stay(left, reason)
        stay(right, reason)
    elif a[0] is not b[0]:
        if a[1] < b[1]:
            a, b = b, a
        if a[1] % b[1]:
            stay(a, reason)
            stay(b, reason)
            return
        # The units of b are finer: as many of them as fit into one of a move with it.
        b[0].into = (a[0], a[1] // b[1])
    elif a[1] != b[1]:
        stay(a, reason)
