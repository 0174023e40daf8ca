"""The best permutation for given scores: linear assignment, of units and of blocks of units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment


@dataclass(frozen=True)
class Scored:
    """How like the units of a group are, those of b in rows and of a in columns."""

    scores: np.ndarray
    dead_a: np.ndarray
    dead_b: np.ndarray
    """Units that cannot be matched: what they score is 0."""
    blocks: tuple[str, int] | None = None
    """The group of the blocks in which the units lie, and the units in one."""

    def inside(self, row: int, column: int) -> Scored:
        """One block of b beside one of a."""
        assert self.blocks is not None
        n = self.blocks[1]
        b, a = slice(row * n, row * n + n), slice(column * n, column * n + n)
        return Scored(self.scores[b, a], self.dead_a[a], self.dead_b[b])


def assign(groups: Mapping[str, Scored]) -> dict[str, tuple[Scored, np.ndarray]]:
    """For each group, and those of blocks, its scores and the unit of a for each unit of b.

    That of the largest total score. Two blocks are as like as the best permutation of the units in
    them, summed over the groups that lie in them (and their own score, where blocks have one); the
    best assignment of blocks, each with its best inside, is the best permutation that keeps blocks
    whole.
    """
    found: dict[str, tuple[Scored, np.ndarray]] = {}
    for name, group in groups.items():
        above = name if group.blocks is None else group.blocks[0]
        inside = {n: g for n, g in groups.items() if g.blocks and g.blocks[0] == above}
        if not inside:
            found[name] = group, units(group)
        elif above not in found:
            found |= _in_blocks(above, groups.get(above), inside)
    return found


def units(group: Scored) -> np.ndarray:
    """Column (unit of a) for each row (unit of b): the assignment of the largest total score."""
    dead_a, dead_b = group.dead_a, group.dead_b
    index: np.ndarray = linear_sum_assignment(group.scores, maximize=True)[1].astype(np.int64)
    # A live row may hold any dead column and a dead row any column left over, at no change of the
    # total: hand them out in increasing order, first to the live rows, then to the dead ones.
    live_rows = np.flatnonzero(~dead_b & dead_a[index])
    index[live_rows] = np.flatnonzero(dead_a)[: len(live_rows)]
    index[dead_b] = np.setdiff1d(np.arange(len(index)), index[~dead_b])
    return index


def _in_blocks(
    above: str, own: Scored | None, inside: Mapping[str, Scored]
) -> dict[str, tuple[Scored, np.ndarray]]:
    each = {name: group.blocks[1] for name, group in inside.items() if group.blocks}
    first = next(iter(inside))
    count = len(inside[first].scores) // each[first]
    best = {
        (name, row, column): units(group.inside(row, column))
        for name, group in inside.items()
        for row in range(count)
        for column in range(count)
    }
    total = np.zeros((count, count)) if own is None else own.scores.copy()
    for (name, row, column), index in best.items():
        part = inside[name].inside(row, column)
        total[row, column] += part.scores[np.arange(len(index)), index].sum()
    dead_a, dead_b = (
        np.all([dead.reshape(count, -1).all(1) for dead in sides], axis=0)
        for sides in zip(*[(group.dead_a, group.dead_b) for group in inside.values()], strict=True)
    )
    blocks = Scored(total, dead_a, dead_b)
    chosen = units(blocks)
    found = {above: (blocks, chosen)}
    for name, group in inside.items():
        parts = [column * each[name] + best[name, row, column] for row, column in enumerate(chosen)]
        found[name] = group, np.concatenate(parts)
    return found
