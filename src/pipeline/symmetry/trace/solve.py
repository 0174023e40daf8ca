"""The largest set of relabellings that keeps all that is asked of the entries of a network.

Entries that are tied are one *unit*. Units may change places if nothing tells them apart: each set
that a tensor carries has both or none, and they stand in blocks that may change places as well.
This is found by refinement of colours, until those of a colour are alike in all respects:

- a unit that is the only one of its colour in its block moves as the block does: they are tied;
- blocks of the same units are tied;
- units lie in blocks of one kind at most, and blocks in none: where more is asked, the later
  blocks stay in their places, and the units move within each.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from pipeline.symmetry.trace.units import Entries, Units


@dataclass
class Solution:
    """The unit of each entry, those that stay with their reason, and kinds of the others."""

    unit: Entries
    """By entry: the unit's number."""
    reasons: dict[int, str]
    """Of the units that stay."""
    colour: Entries
    """By unit: units of a colour may change places."""
    parent: dict[int, int]
    """The unit that stands for the block in which a unit lies, where blocks move."""


def solve(units: Units) -> Solution:
    """Units that move together, which of them may change places, and in which blocks."""
    pairs = list(units.same)
    still: list[tuple[Entries, str]] = [(np.zeros(1, dtype=np.int64), "")]
    while True:
        unit = _components(units.count, pairs)
        reasons = _reasons(unit, units, still)
        colour = _colours(unit, units, reasons)
        ties = _alone(unit, units, colour) + _same_blocks(unit, units)
        if ties:
            pairs += ties
            continue
        parent, held = _parents(unit, units, colour, reasons)
        if held is None:
            return Solution(unit, reasons, colour, parent)
        still.append((held, ""))


def _components(count: int, pairs: list[tuple[Entries, Entries]]) -> Entries:
    """The smallest entry that each one is tied to."""
    found = np.arange(count)
    if not pairs:
        return found
    left, right = (np.concatenate([pair[side] for pair in pairs]) for side in (0, 1))
    while True:
        a, b = found[left], found[right]
        if (a == b).all():
            return found
        np.minimum.at(found, np.maximum(a, b), np.minimum(a, b))
        while (found != found[found]).any():
            found = found[found]


def _reasons(unit: Entries, units: Units, still: list[tuple[Entries, str]]) -> dict[int, str]:
    """Units that stay, with the first reason; a block with one that stays does as well."""
    found: dict[int, str] = {}
    for entries, reason in [*units.fixed, *still]:
        for each in np.unique(unit[entries]).tolist():
            found[each] = found.get(each) or reason
    before = -1
    while before < len(found):
        before = len(found)
        for blocks, rows in units.systems:
            stays = np.isin(unit[rows], list(found)).any(1)
            for each in np.unique(unit[blocks[stays]]).tolist():
                found.setdefault(each, "")
    return found


def _mixed(numbers: Entries) -> Entries:
    """Numbers of 64 bits that look random, the same for the same ones (splitmix64)."""
    x = numbers.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _colours(unit: Entries, units: Units, reasons: dict[int, str]) -> Entries:
    """A number for each unit, the same for those that nothing tells apart."""
    colour = np.zeros(len(unit), dtype=np.uint64)
    marks = _mixed(np.arange(1, len(units.seen) + 1))
    for entries, mark in zip(units.seen, marks, strict=True):
        which, times = np.unique(unit[entries], return_counts=True)
        colour[which] += times.astype(np.uint64) * mark
    stays = np.array(sorted(reasons), dtype=np.int64)
    colour[stays] = _mixed(stays + len(units.seen) + 2)
    slots = [_slots(unit[blocks], unit[rows]) for blocks, rows in units.systems]
    kinds = -1
    while kinds < (now := len(np.unique(colour))):
        kinds, before = now, _mixed(colour)
        for number, (blocks, rows) in enumerate(units.systems):
            of, inside = unit[blocks], unit[rows]
            own = _mixed(slots[number] + (number << 32))
            np.add.at(colour, of, _mixed(before[inside].sum(1) ^ own))
            above = np.repeat(_mixed(before[of] + own), rows.shape[1])
            np.add.at(colour, inside.reshape(-1), above)
    return np.unique(colour, return_inverse=True)[1]


def _slots(blocks: Entries, rows: Entries) -> Entries:
    """For blocks that are tied to others of their system: the how many-th each is."""
    known: dict[int, dict[bytes, int]] = defaultdict(dict)
    found = []
    for block, row in zip(blocks.tolist(), np.sort(rows, axis=1), strict=True):
        found.append(known[block].setdefault(row.tobytes(), len(known[block])))
    return np.array(found)


def _inside(unit: Entries, blocks: Entries, rows: Entries) -> Entries:
    """Pairs [n, 2] of the unit of a block and a unit in it, each once."""
    of = np.repeat(unit[blocks], rows.shape[1])
    return np.unique(np.stack([of, unit[rows].reshape(-1)], 1), axis=0)


def _alone(unit: Entries, units: Units, colour: Entries) -> list[tuple[Entries, Entries]]:
    """Blocks with the units that are the only ones of their colour in them."""
    ties = []
    for blocks, rows in units.systems:
        pairs = _inside(unit, blocks, rows)
        keys = np.stack([pairs[:, 0], colour[pairs[:, 1]]], 1)
        _, place, times = np.unique(keys, axis=0, return_inverse=True, return_counts=True)
        alone = pairs[(times[place.reshape(-1)] == 1) & (pairs[:, 0] != pairs[:, 1])]
        if len(alone):
            ties.append((alone[:, 0], alone[:, 1]))
    return ties


def _same_blocks(unit: Entries, units: Units) -> list[tuple[Entries, Entries]]:
    """Blocks that hold the same units."""
    known: dict[bytes, int] = {}
    ties = []
    for blocks, rows in units.systems:
        for block, row in zip(unit[blocks].tolist(), unit[rows], strict=True):
            other = known.setdefault(np.unique(row).tobytes(), block)
            if other != block:
                ties.append((np.array([other]), np.array([block])))
    return ties


def _parents(
    unit: Entries, units: Units, colour: Entries, reasons: dict[int, str]
) -> tuple[dict[int, int], Entries | None]:
    """The block in which each unit lies, and blocks that have to stay for it to be one."""
    parent: dict[int, int] = {}
    sizes: dict[int, int] = defaultdict(int)
    for each in np.unique(unit).tolist():
        sizes[int(colour[each])] += 1
    moving = [
        [b not in reasons and sizes[int(colour[b])] > 1 for b in unit[blocks].tolist()]
        for blocks, _ in units.systems
    ]
    tops = {
        int(b)
        for (blocks, _), moves in zip(units.systems, moving, strict=True)
        for b in unit[blocks][moves]
    }
    for (blocks, rows), moves in zip(units.systems, moving, strict=True):
        for block, inside in _inside(unit, blocks[moves], rows[moves]).tolist():
            if block == inside:
                continue
            if inside in tops or parent.setdefault(inside, block) != block:
                return parent, blocks
    return parent, None
