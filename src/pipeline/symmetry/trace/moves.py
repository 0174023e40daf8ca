"""How arrays of entries move with their tensors: what meets, what is summed over, views, parts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from math import prod
from typing import Any

import numpy as np
import torch

from pipeline.symmetry.trace.units import Carried, Units, Value


def met(shape: Sequence[int], values: Iterable[Value], reason: str) -> tuple[Carried, ...]:
    """Tensors that meet entry by entry, aligned at the right; an axis of length 1 asks nothing.

    What is carried along the same axes moves together, and stays with what is fixed there.
    """
    found: list[tuple[int, Carried]] = []
    fixed: list[tuple[int, set[int]]] = []
    for number, value in enumerate(values):
        shift = len(shape) - value.ndim
        units = value.units
        for each in value.carried:
            wide = [
                a for a in each.axes if value.shape[a] == shape[a + shift] and a not in value.equal
            ]
            if not wide and each.entries.size == 1:
                units.fix(each.entries, "")  # one for all: it changes places with none
            if wide:
                found.append(
                    (number, Carried(tuple(a + shift for a in wide), each.by(units, wide)))
                )
        covered = {axis for each in value.carried for axis in each.axes}
        fixed.append((number, {
            axis + shift for axis, length in enumerate(value.shape)
            if length > 1 and axis not in covered and axis not in value.equal
        }))  # fmt: skip
    still = set()
    for number, each in found:
        for other, axes in fixed:
            if other != number and axes & set(each.axes):
                units.fix(each.by(units, axes), reason)
                if axes >= set(each.axes):
                    still.add(each)
    for i, (_, left) in enumerate(found):
        for _, right in found[i + 1 :]:
            if both := set(left.axes) & set(right.axes):
                units.tie(left.by(units, both), right.by(units, both))
    return _largest([each for _, each in found if each not in still])


def _largest(carried: list[Carried]) -> tuple[Carried, ...]:
    """Without what others imply: those along some of the axes of another."""
    kept: list[Carried] = []
    for each in sorted(carried, key=lambda each: -len(each.axes)):
        if not any(set(each.axes) <= set(other.axes) for other in kept):
            kept.append(each)
    return tuple(kept)


def kept(value: Value, axes: Iterable[int]) -> tuple[Carried, ...]:
    """What is carried along some axes where the others are summed over, as blocks of those."""
    wanted = set(axes)
    found = []
    for each in value.carried:
        left = tuple(axis for axis in each.axes if axis in wanted)
        entries = each.by(value.units, left) if left else None
        if entries is not None:
            found.append(Carried(left, entries))
    return _largest(found)


def renumbered(carried: Iterable[Carried], places: Sequence[int]) -> tuple[Carried, ...]:
    """With each axis at its new place; the places of the axes that are carried rise."""
    return tuple(Carried(tuple(places[a] for a in each.axes), each.entries) for each in carried)


def summed(
    value: Value, axes: Iterable[int], keepdim: bool
) -> tuple[tuple[int, ...], tuple[Carried, ...]]:
    """Shape and carried entries where some axes are reduced, in no order."""
    gone = {axis % value.ndim for axis in axes}
    rest = [axis for axis in range(value.ndim) if axis not in gone]
    found = kept(value, rest)
    if keepdim:
        return tuple(1 if a in gone else n for a, n in enumerate(value.shape)), found
    places = [rest.index(a) if a in rest else -1 for a in range(value.ndim)]
    return tuple(value.shape[a] for a in rest), renumbered(found, places)


def in_order(value: Value, axes: Iterable[int], reason: str) -> Value:
    """Axes along which the order counts, as of pixels: nothing changes its place there."""
    along = {axis % value.ndim for axis in axes}
    for each in value.carried:
        if both := along & set(each.axes):
            value.units.fix(each.by(value.units, both), reason)
    rest = [axis for axis in range(value.ndim) if axis not in along]
    return Value(value.units, value.shape, kept(value, rest), value.data)


def viewed(value: Value, shape: Sequence[int], reason: str) -> Value:
    """Axes merged and split in row-major order."""
    segments = list(_segments(value.shape, shape))
    found: list[Carried] = []
    taken: set[int] = set()
    for each in sorted(value.carried, key=lambda each: -each.entries.size):
        touched = {i for i, (old, _) in enumerate(segments) if set(old) & set(each.axes)}
        if touched & taken and any(len(segments[i][0]) > 1 for i in touched & taken):
            value.units.fix(each.entries, reason)  # one axis for two that move
            continue
        taken |= touched
        lengths = [1] * value.ndim
        for axis in each.axes:
            lengths[axis] = value.shape[axis]
        wide, new, axes = list(lengths), [], []
        for i, (old, fresh) in enumerate(segments):
            for axis in old if i in touched else ():
                wide[axis] = value.shape[axis]
            new += [shape[axis] if i in touched else 1 for axis in fresh]
            axes += [axis for axis in fresh if i in touched]
        entries = np.broadcast_to(each.entries.reshape(lengths), wide).reshape(new)
        if axes:
            entries = entries.reshape([shape[axis] for axis in axes])
            found.append(Carried(tuple(axes), entries).tidy())
    return Value(value.units, tuple(shape), tuple(found), value.data)


def _segments(old: Sequence[int], new: Sequence[int]) -> Iterator[tuple[list[int], list[int]]]:
    """The shortest runs of axes of two shapes with the same number of entries."""
    i = j = 0
    while i < len(old) or j < len(new):
        left, right = ([i] if i < len(old) else []), ([j] if j < len(new) else [])
        i, j = i + len(left), j + len(right)
        while (a := prod(old[x] for x in left)) != (b := prod(new[x] for x in right)):
            if a < b:
                left.append(i)
                i += 1
            else:
                right.append(j)
                j += 1
        yield left, right


def through(
    value: Value, operation: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]
) -> list[Value]:
    """Views that choose or exchange axes: they act on entries as on the tensor itself.

    An axis of which nothing moves has stride 0, whatever becomes of it.
    """
    plain = torch.empty(1).as_strided(value.shape, [0] * value.ndim)
    shapes = [tuple(part.shape) for part in _several(operation(plain, *args, **kwargs))]
    found: list[list[Carried]] = [[] for _ in shapes]
    for each in value.carried:
        entries = torch.from_numpy(each.entries.copy(order="C"))  # whose strides are not 0
        strides = [0] * value.ndim
        for axis, stride in zip(each.axes, entries.stride(), strict=True):
            strides[axis] = stride
        moved = operation(entries.as_strided(value.shape, strides), *args, **kwargs)
        for part, carried in zip(_several(moved), found, strict=True):
            axes = tuple(axis for axis, stride in enumerate(part.stride()) if stride)
            for axis in set(range(part.ndim)) - set(axes):
                part = part.narrow(axis, 0, 1)
            if axes:
                lengths = [part.shape[axis] for axis in axes]
                carried.append(Carried(axes, part.reshape(lengths).numpy()).tidy())
            else:
                why = "one of them is taken by itself" if each.entries.size > 1 else ""
                value.units.fix(part.reshape(-1)[:1].numpy(), why)
    return [
        Value(value.units, shape, tuple(carried), value.data)
        for shape, carried in zip(shapes, found, strict=True)
    ]


def _several(result: Any) -> list[torch.Tensor]:
    return list(result) if isinstance(result, list | tuple) else [result]


def joined(values: Sequence[Value], axis: int, reason: str) -> tuple[Carried, ...]:
    """Tensors one after another along an axis."""
    units, axis = values[0].units, axis % values[0].ndim
    others = [a for a in range(values[0].ndim) if a != axis]
    carrying = {each.axes for value in values for each in value.carried if axis in each.axes}
    parts: list[Any] = []
    if len(carrying) == 1:
        (axes,) = carrying
        for value in values:
            own = [each.entries for each in value.carried if each.axes == axes]
            fixed = np.zeros([value.shape[a] for a in axes], dtype=np.int64)
            parts.append(own[0] if own else fixed)
        along = [Carried(axes, np.concatenate(parts, axes.index(axis)))]
    else:
        along = []
        for value in values:
            for each in value.carried:
                if axis in each.axes:
                    units.fix(each.entries, reason)
    apart = [
        Value(units, tuple(1 if a == axis else n for a, n in enumerate(value.shape)),
              tuple(each for each in value.carried if axis not in each.axes))
        for value in values
    ]  # fmt: skip
    shape = tuple(1 if a == axis else n for a, n in enumerate(values[0].shape))
    rest = [each for each in met(shape, apart, reason) if set(each.axes) <= set(others)]
    return (*along, *rest)


def padded(value: Value, pad: Sequence[int], units: Units) -> tuple[Carried, ...]:
    """Equal numbers before and after: entries of their own, which nothing else carries."""
    found = []
    for each in value.carried:
        entries = each.entries
        for i in range(len(pad) // 2):
            axis = value.ndim - 1 - i
            if axis not in each.axes:
                continue
            at = each.axes.index(axis)
            for side, count in enumerate(pad[2 * i : 2 * i + 2]):
                if count > 0:
                    shape = [count if k == at else n for k, n in enumerate(entries.shape)]
                    more = units.new(*shape)
                    entries = np.concatenate([entries, more] if side else [more, entries], at)
                elif count < 0:  # cut off
                    left = np.arange(entries.shape[at])
                    entries = entries.take(left[:count] if side else left[-count:], at)
        found.append(Carried(each.axes, entries))
    return tuple(found)
