"""Weight matching: the permutation under which the weights of network a are nearest to those of b.

Ainsworth et al. (2023), Section 3.2, and Sharma et al. (2024), Section 3. Over all tensors t that
carry groups, F(p) = sum_t <p(a)_t, b_t> is to be as large as possible; since permuting changes no
norm, F(p) = (|a|² + |b|² - |p(a) - b|²) / 2. With all groups but one fixed, F is a linear
assignment problem of that group: its scores are the Gram matrix of b's units with a's, over all
tensors that carry the group. Solving the groups one after another, in sweeps, is an ascent that
ends at a local optimum, which depends on the start and on the order of the groups.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Generator, Tensor

from pipeline.errors import UserError
from pipeline.symmetry.assignment import Scored, assign
from pipeline.symmetry.matching import GroupQuality, quality_of
from pipeline.symmetry.permutation import (
    Part,
    Permutation,
    PermutationSpec,
    apply,
    compose,
    identity,
    inverse,
)

#: A group moves where that gains more than this share of |a| |b|; less is rounding.
GAIN = 1e-12


@dataclass(frozen=True)
class WeightQuality(GroupQuality):
    """Scores are inner products of units' weights, the other groups as matched.

    ``bound`` is what the objective cannot exceed whatever the permutation of all groups (see
    `Problem.bounds`); ``distance`` is the Euclidean distance of p(a) and b over the tensors that
    carry the group.
    """

    bound: float
    distance: float


@dataclass(frozen=True)
class Ascent:
    """From one start to a local optimum.

    ``objectives``: F at the start and after each sweep; ``moved``: how many groups moved in each.
    """

    start: str
    permutation: Permutation
    objectives: tuple[float, ...]
    moved: tuple[int, ...]


class Problem:
    """The weights of a and b under one spec: tensors of ``names`` that carry a group, by name.

    Raises `UserError` if there are none, if the networks differ in shape, or if a weight is not
    finite.
    """

    def __init__(
        self,
        spec: PermutationSpec,
        a: Mapping[str, Tensor],
        b: Mapping[str, Tensor],
        names: Iterable[str],
        device: torch.device | None = None,
    ) -> None:
        self.spec = spec
        wanted = set(names)
        #: What each group moves of the tensors.
        self.parts = {
            group: [part for part in spec.acts(group) if part.tensor in wanted]
            for group in spec.sizes
        }
        carrying = list(dict.fromkeys(p.tensor for parts in self.parts.values() for p in parts))
        if not carrying:
            raise UserError("weight matching was given no tensor that carries a group")
        for name in carrying:
            if a[name].shape != b[name].shape:
                raise UserError(
                    f"weight matching: {name} is {list(a[name].shape)} in a and "
                    f"{list(b[name].shape)} in b"
                )
            if not (a[name].isfinite().all() and b[name].isfinite().all()):
                raise UserError(f"weight matching: {name} is not finite (a network diverged)")
        self.a, self.b = ({name: s[name].detach().to(device) for name in carrying} for s in (a, b))
        #: Groups that one assignment decides: blocks with the units in them, others alone.
        self.families: dict[str, list[str]] = {}
        for group in spec.groups:
            self.families.setdefault(group.within or group.name, []).append(group.name)
        self.norm = _norm(self.a.values()) * _norm(self.b.values())

    def tensors(self, family: str) -> dict[str, None]:
        """The tensors that carry a group of a family, each once."""
        return dict.fromkeys(p.tensor for g in self.families[family] for p in self.parts[g])

    @cached_property
    def neighbours(self) -> dict[str, set[str]]:
        """The families whose scores another's permutation decides: those with a tensor in common.

        One of which a tensor carries several parts is a neighbour of its own.
        """
        carried: dict[str, list[str]] = {name: [] for name in self.a}
        for family, groups in self.families.items():
            for part in (part for group in groups for part in self.parts[group]):
                carried[part.tensor].append(family)
        found: dict[str, set[str]] = {family: set() for family in self.families}
        for families in carried.values():
            for place, family in enumerate(families):
                found[family] |= {*families[:place], *families[place + 1 :]}
        return found

    @cached_property
    def bounds(self) -> dict[str, float]:
        """For each tensor t what <p(a)_t, b_t> cannot exceed, whatever the permutation.

        Of a tensor with one permuted axis the best assignment (for vectors: the products of sorted
        entries), which is exact; of one with two the products of sorted singular values, summed
        over the other axes (von Neumann's trace inequality; a permutation is orthogonal). A sum of
        the assignments of groups would be no bound: each holds the others fixed.
        """
        return {name: self._bound(name) for name in self.a}

    def _bound(self, name: str) -> float:
        a, b = self.a[name].double(), self.b[name].double()
        parts = [part for own in self.parts.values() for part in own if part.tensor == name]
        axes = [axis for axis, group in enumerate(self.spec.axes[name]) if group is not None]
        if len(axes) < len(parts) or len(axes) > 2:  # parts of axes, or more of them
            return float(a.norm() * b.norm())
        if len(axes) == 1:
            a, b = (self.units(tensor, parts[0]) for tensor in (a, b))
            if a.shape[1] == 1:
                return float(a.flatten().sort().values @ b.flatten().sort().values)
            scores = (b @ a.mT).cpu().numpy()
            rows, columns = linear_sum_assignment(scores, maximize=True)
            return float(scores[rows, columns].sum())
        a, b = (torch.linalg.svdvals(self._matrices(tensor, name, axes)) for tensor in (a, b))
        return float((a * b).sum())

    def units(self, tensor: Tensor, part: Part) -> Tensor:
        """What a part moves of a tensor, as [units, the rest]."""
        size = len(part.index)
        if self.spec.axes[part.tensor][part.axis] is not None:  # all of it, in its order
            return tensor.movedim(part.axis, 0).reshape(size, -1)
        places = torch.tensor(part.index, device=tensor.device)
        if part.rows is None:
            return tensor.movedim(part.axis, 0)[places].reshape(size, -1)
        rows = torch.tensor(part.rows, device=tensor.device)
        return tensor[rows[:, :, None], places[:, None, :]].reshape(size, -1)

    def _matrices(self, tensor: Tensor, name: str, axes: list[int]) -> Tensor:
        """A tensor as [the rest, units of one axis, units of the other]."""
        for axis in reversed(axes):  # later axes first: the earlier ones keep their numbers
            shape = list(tensor.shape)
            shape[axis : axis + 1] = [-1, self.spec.owned(name, axis)]
            tensor = tensor.reshape(shape)
        one, two = axes[0], axes[1] + 1  # behind the entries that the first one owns
        return tensor.movedim((one, two), (-2, -1)).flatten(0, -3)

    def assigned(
        self, family: str, scores: Mapping[str, Tensor]
    ) -> dict[str, tuple[Scored, np.ndarray]]:
        """For each group of a family its scores, and the assignment of the largest total one.

        Scores are [units of b, units of a]; units that score 0 with everything stay in order.
        """
        blocks, scored = self.spec.blocks, {}
        for group in self.families[family]:
            values = scores[group].cpu().numpy()
            dead_a, dead_b = ((values == 0).all(axis) for axis in (0, 1))
            scored[group] = Scored(values, dead_a, dead_b, blocks.get(group))
        return assign(scored)

    def climb(
        self,
        start: Permutation,
        generator: Generator,
        *,
        named: str = "identity",
        sweeps: int = 100,
        order: str = "random",
    ) -> Ascent:
        """Ascend from ``start`` until no group gains, or for so many ``sweeps``.

        A sweep visits the groups of which a neighbour moved since their last visit, in an order
        that ``generator`` draws anew each time, or in the ``"forward"`` one.
        """
        at = Place(self, start)
        families = list(self.families)
        objectives = [at.objective()]
        moved: list[int] = []
        due = {family for family in families if self.tensors(family)}
        while due and len(moved) < sweeps:
            numbers = (
                torch.randperm(len(families), generator=generator).tolist()
                if order == "random"
                else range(len(families))
            )
            count = 0
            for family in (families[number] for number in numbers):
                if family in due:
                    due.remove(family)
                    if at.improve(family):
                        count += 1
                        due |= self.neighbours[family]
            objectives.append(at.objective())
            moved.append(count)
        return Ascent(named, at.permutation, tuple(objectives), tuple(moved))

    def objective(self, permutation: Permutation) -> float:
        """F of a permutation, in double precision."""
        return Place(self, permutation).objective()

    def quality(self, permutation: Permutation) -> dict[str, WeightQuality]:
        """How good a permutation is, by group; groups that no tensor carries are left out."""
        at = Place(self, permutation)
        found = {}
        for group, parts in self.parts.items():
            if not parts:
                continue
            scores = at.scores(group)[:, inverse(permutation)[group]].cpu().numpy()
            dead_a, dead_b = (self._dead(state, group).cpu().numpy() for state in (self.a, self.b))
            known = quality_of(Scored(scores, dead_a, dead_b), permutation[group].numpy())
            names = dict.fromkeys(part.tensor for part in parts)
            distance = _norm(at.a[name].double() - self.b[name].double() for name in names)
            bound = sum(self.bounds[name] for name in names)
            found[group] = WeightQuality(**vars(known), bound=bound, distance=distance)
        return found

    def _dead(self, state: Mapping[str, Tensor], group: str) -> Tensor:
        """Units without any weight (bool [size])."""
        parts = [self.units(state[part.tensor], part).any(1) for part in self.parts[group]]
        return ~torch.stack(parts).any(0)


class Place:
    """A permutation, and the weights of a under it."""

    def __init__(self, problem: Problem, permutation: Permutation) -> None:
        self.problem, self.permutation = problem, dict(permutation)
        self.a = apply(problem.spec, permutation, problem.a)
        self._still = identity(problem.spec)

    def objective(self) -> float:
        """F, in double precision."""
        return self._over(self.a)

    def _over(self, moved: Mapping[str, Tensor]) -> float:
        pairs = ((moved[name].double(), self.problem.b[name].double()) for name in moved)
        return float(sum((left * right).sum() for left, right in pairs))

    def operands(self, group: str) -> Iterator[tuple[Tensor, Tensor]]:
        """Units of b and of a as they stand now, of each part that moves with them; float64."""
        problem = self.problem
        for part in problem.parts[group]:
            b, a = (problem.units(s[part.tensor], part).double() for s in (problem.b, self.a))
            yield b, a

    def scores(self, group: str) -> Tensor:
        """Gram matrix [units of b, units of a as they stand now] of a group; float64."""
        size = self.problem.spec.sizes[group]
        device = next(iter(self.a.values())).device
        total = torch.zeros(size, size, dtype=torch.float64, device=device)
        for b, a in self.operands(group):
            total.addmm_(b, a.mT)
        return total

    def improve(self, family: str) -> bool:
        """Put a family to its best, if that gains anything beyond rounding; whether it moved."""
        problem = self.problem
        scores = {group: self.scores(group) for group in problem.families[family]}
        found = problem.assigned(family, scores)
        best = {name: torch.from_numpy(index) for name, (_, index) in found.items()}
        gain = sum(
            float(each.scores[range(len(index)), index].sum() - each.scores.trace())
            for each, index in (found[group] for group in scores)
        )
        least = GAIN * problem.norm
        if gain <= least:
            return False
        step = self._still | best
        before = {name: self.a[name] for name in problem.tensors(family)}
        after = apply(problem.spec, step, before)
        # the scores of a family that meets itself are no more than a slope
        slope = family in problem.neighbours[family]
        if slope and self._over(after) - self._over(before) <= least:
            return False
        self.a |= after
        moved = compose(step, self.permutation)
        self.permutation |= {name: moved[name] for name in problem.families[family]}
        return True


def best(ascents: Iterable[Ascent]) -> int:
    """The number of the ascent that ends highest; of equal ones the first."""
    heights = [ascent.objectives[-1] for ascent in ascents]
    return heights.index(max(heights))


def _norm(tensors: Iterable[Tensor]) -> float:
    """Euclidean norm of several tensors together."""
    return float(sum(tensor.double().square().sum() for tensor in tensors) ** 0.5)
