"""What the axes of a tensor carry: entries, and what is asked of those that move.

An *entry* is one place along an axis, by a number of its own; 0 stands for what never moves. An
axis may be carried by itself or, after a view, together with others: a layer of heads x dims is an
array [heads, dims] of entries. Following a network means to move such arrays as the network moves
its tensors, and to note what its operations ask of a relabelling:

- entries that meet move alike (`Units.tie`), those that meet what is fixed stay (`Units.fix`);
- where some axes of an array are summed over, normalised or contracted, the entries of a row may
  change places and whole rows may, nothing else (`Units.blocks`: a block entry stands for a row).

`solve` reads off the largest set of relabellings that keeps all of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor, nn

Entries = np.ndarray


@dataclass
class Units:
    """All entries of a network, and what is asked of them."""

    count: int = 1
    same: list[tuple[Entries, Entries]] = field(default_factory=list)
    fixed: list[tuple[Entries, str]] = field(default_factory=list)
    """In time, with the reason; "" where that needs no word."""
    systems: list[tuple[Entries, Entries]] = field(default_factory=list)
    """Block entries [rows] and what each stands for [rows, entries]."""
    opened: list[tuple[Entries, str]] = field(default_factory=list)
    """Along the outputs of layers, with the layer's name, in time."""
    seen: list[Entries] = field(default_factory=list)
    """What lies along the axes of each tensor: a relabelling keeps each of these sets."""
    _known: dict[tuple[int, bytes], Entries] = field(default_factory=dict)

    def new(self, *shape: int) -> Entries:
        """Fresh entries, which nothing is asked of."""
        first, self.count = self.count, self.count + int(np.prod(shape))
        return np.arange(first, self.count).reshape(shape)

    def tie(self, left: Entries, right: Entries) -> None:
        """Entries at the same place of two arrays move together."""
        if left is not right:
            self.same.append((left.reshape(-1), right.reshape(-1)))

    def fix(self, entries: Entries, reason: str) -> None:
        """Nothing here moves; the first reason counts."""
        self.fixed.append((entries.reshape(-1), reason))

    def blocks(self, rows: Entries) -> Entries:
        """An entry for each row [rows, entries]: it moves as the row does, as a set."""
        if (rows == rows[:, :1]).all():
            return rows[:, 0]
        each, place = np.unique(np.sort(rows, axis=1), axis=0, return_inverse=True)
        key = (each.shape[1], each.tobytes())
        if key not in self._known:
            self._known[key] = self.new(len(each))
            self.systems.append((self._known[key], each))
        return self._known[key][place.reshape(-1)]


@dataclass(frozen=True, eq=False)
class Carried:
    """Entries along one axis of a tensor, or along several together; its axes are in order."""

    axes: tuple[int, ...]
    entries: Entries

    def by(self, units: Units, axes: Iterable[int]) -> Entries:
        """Entries along some of the axes alone: blocks of those along the others."""
        kept = [i for i, axis in enumerate(self.axes) if axis in set(axes)]
        if len(kept) == len(self.axes):
            return self.entries
        rest = [i for i in range(len(self.axes)) if i not in kept]
        lengths = [self.entries.shape[i] for i in kept]
        rows = self.entries.transpose(kept + rest).reshape(int(np.prod(lengths)), -1)
        return units.blocks(rows).reshape(lengths)

    def tidy(self) -> Carried:
        """Without axes along which all is equal, as far as one axis remains."""
        axes, entries = list(self.axes), self.entries
        for long in (True, False):
            for axis in list(axes):
                i = axes.index(axis)
                equal = bool((entries == entries.take([0], i)).all())
                if len(axes) > 1 and equal and (entries.shape[i] > 1) is long:
                    entries = entries.take(0, i)
                    axes.remove(axis)
        return Carried(tuple(axes), entries)


@dataclass(frozen=True, eq=False)
class Label:
    """The entries along one axis, for a rule of one's own."""

    units: Units
    entries: Entries


#: One for each axis of a tensor; None: nothing moves along it.
Labels = Sequence[Label | None]


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor of the network: its shape and what its axes carry."""

    units: Units
    shape: tuple[int, ...]
    carried: tuple[Carried, ...] = ()
    data: bool = False
    """Whether it depends on the images."""
    equal: frozenset[int] = frozenset()
    """Axes along which it is the same everywhere, by `expand`: they ask nothing."""
    key: int = 0
    """The weight of a convolution in groups: the ``id`` of its tensor, which `State` knows."""

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def labels(self) -> Labels:
        """Each axis by itself; of several that are carried together, the blocks along each."""
        found: list[Label | None] = [None] * self.ndim
        for each in self.carried:
            for axis in each.axes:
                found[axis] = Label(self.units, each.by(self.units, [axis]))
        return found

    def with_labels(self, labels: Labels) -> Value:
        """The same tensor with these labels."""
        carried = (Carried((i,), label.entries) for i, label in enumerate(labels) if label)
        return Value(self.units, self.shape, tuple(carried), self.data)


def join(left: Label | None, right: Label | None, reason: str) -> None:
    """Make two axes of the same length move together; both stay where one has no label."""
    if left is None or right is None:
        stay(left, reason)
        stay(right, reason)
    else:
        left.units.tie(left.entries, right.entries)


def stay(label: Label | None, reason: str) -> None:
    """Nothing along this axis moves; the first reason counts."""
    if label is not None:
        label.units.fix(label.entries, reason)


@dataclass(frozen=True, eq=False)
class Grouped:
    """The weight of a convolution in groups: its second axis means another thing in each group."""

    first: Entries
    """[groups, entries of axis 0 in each]."""
    second: Entries
    """[groups, length of axis 1]."""


class State:
    """The tensors of a network's state dict, with entries of their own along each axis.

    Whole numbers and tensors outside of the state dict cannot be permuted: nothing moves there.
    """

    def __init__(self, units: Units, model: nn.Module) -> None:
        self.units = units
        self.names: dict[int, str] = {}
        """A tensor's first name, by its ``id``."""
        for name, tensor in model.state_dict(keep_vars=True).items():
            self.names.setdefault(id(tensor), name)
        self.values: dict[int, Value] = {}
        self.grouped: dict[int, Grouped] = {}
        self._origin: list[tuple[int, str]] = []

    def value(self, key: int, tensor: Tensor) -> Value:
        """What a tensor carries, by its ``id``, the same at every use."""
        if key not in self.values:
            shape, carried = tuple(tensor.shape), []
            moves = key in self.names and (tensor.is_floating_point() or tensor.dtype.itemsize == 1)
            for axis, length in enumerate(shape if moves else ()):
                if length > 1 or axis < 2:
                    carried.append(Carried((axis,), self._new(key, length)))
            self.values[key] = Value(self.units, shape, tuple(carried))
            if key in self.grouped:
                self._one_for_all_groups(key)
        return self.values[key]

    def in_groups(self, key: int, groups: int, shape: tuple[int, ...]) -> Grouped:
        """What the weight of a convolution in groups carries along its first two axes."""
        if key not in self.grouped:
            first = self._new(key, groups, shape[0] // groups)
            self.grouped[key] = Grouped(first, self._new(key, groups, shape[1]))
            if key in self.values:
                self._one_for_all_groups(key)
        return self.grouped[key]

    def _one_for_all_groups(self, key: int) -> None:
        """A weight that is also read in another way has a second axis like any other."""
        plain = {each.axes[0]: each.entries for each in self.values[key].carried}
        each = self.grouped[key]
        self.units.tie(each.first, plain[0])
        for row in each.second:
            self.units.tie(row, plain[1])

    def _new(self, key: int, *shape: int) -> Entries:
        name = self.names[key]
        self._origin.append((self.units.count, name.rpartition(".")[0] or name))
        found = self.units.new(*shape)
        self._origin.append((self.units.count, ""))
        return found

    def layer(self, entries: Entries) -> str:
        """The layer whose tensor entries were made for; "" if for none."""
        starts = [start for start, _ in self._origin]
        at = int(np.searchsorted(starts, entries.reshape(-1)[0], side="right")) - 1
        return self._origin[at][1] if at >= 0 else ""
