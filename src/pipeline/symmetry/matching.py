"""Activation matching: find the permutation that makes network a resemble network b.

Paper, section 3, eq. (1): for each group of units the permutation that maximises the summed
similarity of matched activations, a linear assignment problem with rows b and columns a. The
procedure is stated layer by layer, but relabelling one layer only reorders what the next ones
compute, so one pass over the data collects what all groups need and the permutations are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.catalog.schema import choose
from pipeline.errors import UserError
from pipeline.forward import evaluation_mode
from pipeline.symmetry.assignment import Scored, assign
from pipeline.symmetry.permutation import Group, Permutation, PermutationSpec

# A unit whose standard deviation is below 1e-6 of its root mean square only carries rounding noise.
_CONSTANT = 1e-12
# Entries per double precision block on a CPU: 1 MiB stays in its cache.
_BLOCK = 1 << 17


@dataclass(frozen=True)
class Statistics:
    """Moments of one group's activations over all images and positions; float64, on the CPU.

    [2, size], of a and of b; ``covariance`` is [size of b, size of a]. Variances and covariance are
    population moments about the pooled means. ``batch_std`` is the mean over batches of the
    unbiased standard deviation within the batch (NaN if no batch has two samples).
    """

    count: int
    mean: Tensor
    variance: Tensor
    batch_std: Tensor
    covariance: Tensor
    blocks: tuple[str, int] | None = None
    """The group of the blocks in which the units lie, and the units in one."""

    @property
    def power(self) -> Tensor:
        """Mean square [2, size] of the activations."""
        return self.variance + self.mean.square()

    def similarity(
        self, kind: str = "correlation", *, std: str = "pooled", epsilon: float = 1e-4
    ) -> Tensor:
        """Scores [size of b, size of a]; 0 in the rows and columns of dead units.

        ``"correlation"``: covariance / (outer(std_b, std_a) + epsilon), with the pooled standard
        deviation or the mean of the batches' own (the authors' code for ResNet20). ``"inner"``:
        E[b a], the uncentred product of eq. (1) divided by the number of samples; ``std`` and
        ``epsilon`` play no part in it. Raises `UserError` for an unknown setting, or if there is
        no batch whose standard deviation could be taken.
        """
        where = "activation matching"
        if choose(kind, ("correlation", "inner"), where, "similarity") == "inner":
            scores = self.covariance + torch.outer(self.mean[1], self.mean[0])
        else:
            known = {"pooled": self.variance.sqrt(), "batch-mean": self.batch_std}
            std_a, std_b = known[choose(std, known, where, "std")]
            if std_a.isnan().any():
                raise UserError('std "batch-mean" needs a batch of at least two samples')
            scores = self.covariance / (torch.outer(std_b, std_a) + epsilon)
        dead_a, dead_b = self.dead(kind)
        return scores.masked_fill(dead_b[:, None] | dead_a[None, :], 0.0)

    def dead(self, kind: str = "correlation") -> Tensor:
        """Units of a and of b (bool [2, size]) that cannot be matched.

        Constant units for the correlation, units that never fire for the inner product.
        """
        return self.power == 0 if kind == "inner" else self.variance <= _CONSTANT * self.power


@dataclass(frozen=True)
class GroupQuality:
    """How good the match of one group is.

    ``matched`` is the mean similarity of the matched pairs of live units, ``identity`` that of the
    pairs (i, i), ``random`` the expected value for a uniformly random matching (the mean over all
    pairs); each over pairs of live units only, and 0 if there are none. ``objective`` is the sum
    that the assignment maximised; ``fixed_points`` counts the units that stay where they are.
    """

    size: int
    dead_a: int
    dead_b: int
    matched: float
    identity: float
    random: float
    fixed_points: int
    objective: float


@dataclass(frozen=True)
class Match:
    """The permutation that takes a onto b, ``pi(a)`` close to ``b``, and its quality per group.

    ``images``: how many were looked at. ``search``: what else a matcher tells of its way there.
    """

    permutation: Permutation
    quality: Mapping[str, GroupQuality]
    images: int = 0
    search: Mapping[str, Any] = field(default_factory=dict)


def collect(
    model_a: nn.Module, model_b: nn.Module, spec: PermutationSpec, batches: Iterable[Tensor]
) -> dict[str, Statistics]:
    """Statistics of every group of ``spec`` in one pass over ``batches``.

    A batch is normalised images [N, C, H, W] on the models' device. Both networks see the same
    batch, in evaluation mode; their modes are restored at the end. Activations are read at the
    taps of the spec; every image and position is a sample. No activation outlives its batch.

    Sums are taken in double precision: products of single precision numbers are exact in it, so
    the result does not depend on how the images are split into batches, up to the last bits.

    Raises `UserError` if there is no image, if an activation is not finite (a network diverged),
    or if a tap does not give the group's size (networks of different widths).
    """
    sums: dict[str, _Sums] = {}
    groups = [group for group in spec.groups if group.tap]  # blocks go by what lies in them
    with evaluation_mode(model_a), evaluation_mode(model_b):
        for images in batches:
            # not around the loop: the caller's iterator must not make inference tensors
            with torch.inference_mode():
                a, b = (_activations(model, groups, images) for model in (model_a, model_b))
                for group in groups:
                    name = group.name
                    if name not in sums:
                        sums[name] = _Sums(name, group.size, images.device)
                    for pair in zip(a[name], b[name], strict=True):
                        sums[name].add(*pair)
    if not sums:
        raise UserError("activation matching was given no images")
    blocks = spec.blocks
    return {
        name: replace(total.statistics(), blocks=blocks.get(name)) for name, total in sums.items()
    }


def match(
    statistics: dict[str, Statistics],
    *,
    similarity: str = "correlation",
    std: str = "pooled",
    epsilon: float = 1e-4,
) -> Match:
    """The permutation of every group that maximises the summed similarity (paper, eq. 1).

    The settings are those of `Statistics.similarity`. Dead units score 0 with everything: which
    of them go where is rounding noise to the solver, so they are put in increasing order. Raises
    `UserError` for an unknown setting.
    """
    found = assign(
        {name: _scored(each, similarity, std, epsilon) for name, each in statistics.items()}
    )
    return Match(
        {name: torch.from_numpy(index) for name, (_, index) in found.items()},
        {name: quality_of(group, index) for name, (group, index) in found.items()},
    )


def judged(
    statistics: Mapping[str, Statistics],
    permutation: Permutation,
    similarity: str,
    std: str,
    epsilon: float,
) -> dict[str, GroupQuality]:
    """How good a permutation is that was found in any way, by these activations (eq. 1)."""
    return {
        name: quality_of(_scored(each, similarity, std, epsilon), permutation[name].numpy())
        for name, each in statistics.items()
    }


def _scored(group: Statistics, similarity: str, std: str, epsilon: float) -> Scored:
    scores = group.similarity(similarity, std=std, epsilon=epsilon).numpy()
    dead_a, dead_b = group.dead(similarity).numpy()
    return Scored(scores, dead_a, dead_b, group.blocks)


def quality_of(group: Scored, index: np.ndarray) -> GroupQuality:
    """PermutationQuality of the assignment ``index``."""
    scores, dead_a, dead_b = group.scores, group.dead_a, group.dead_b
    rows = np.arange(len(index))

    def mean(columns: np.ndarray) -> float:
        live = ~dead_b & ~dead_a[columns]
        return float(scores[rows, columns][live].mean()) if live.any() else 0.0

    live_pairs = scores[~dead_b][:, ~dead_a]
    return GroupQuality(
        size=len(index),
        dead_a=int(dead_a.sum()),
        dead_b=int(dead_b.sum()),
        matched=mean(index),
        identity=mean(rows),
        random=float(live_pairs.mean()) if live_pairs.size else 0.0,
        fixed_points=int((index == rows).sum()),
        objective=float(scores[rows, index].sum()),
    )


class _Sums:
    """Running sums of one group, in double precision on the device of the activations."""

    def __init__(self, name: str, size: int, device: torch.device) -> None:
        def zeros(rows: int) -> Tensor:
            return torch.zeros(rows, size, dtype=torch.float64, device=device)

        self.name, self.size = name, size
        self.count = self.batches = 0
        self.first, self.second = zeros(2), zeros(2)  # of a and of b
        self.std = zeros(2)  # summed over batches
        self.cross = zeros(size)  # rows b, columns a

    def add(self, output_a: Tensor, output_b: Tensor) -> None:
        units_a, units_b = output_a.shape[1], output_b.shape[1]
        if units_a != self.size or units_b != self.size:
            raise UserError(
                f"group {self.name}: the networks give {units_a} and {units_b} units, "
                f"expected {self.size}"
            )
        first, second = torch.zeros_like(self.first), torch.zeros_like(self.second)
        for pair in _blocks(output_a, output_b):
            first += torch.stack([block.sum((0, 2)) for block in pair])
            second += torch.stack([block.square().sum((0, 2)) for block in pair])
            self.cross += torch.bmm(pair[1], pair[0].mT).sum(0)
        count = output_a.numel() // self.size
        self.count += count
        self.first += first
        self.second += second
        if count > 1:  # a single sample has no deviation
            self.std += ((second - first.square() / count) / (count - 1)).clamp(min=0).sqrt()
            self.batches += 1

    def statistics(self) -> Statistics:
        mean, power, cross = (
            total.cpu() / self.count for total in (self.first, self.second, self.cross)
        )
        for which, each in zip("ab", power, strict=True):
            if not each.isfinite().all():
                raise UserError(
                    f"group {self.name}: network {which} has activations that are not finite"
                )
        return Statistics(
            count=self.count,
            mean=mean,
            variance=(power - mean.square()).clamp(min=0),
            batch_std=self.std.cpu() / self.batches,
            covariance=cross - torch.outer(mean[1], mean[0]),
        )


def _blocks(output_a: Tensor, output_b: Tensor) -> Iterator[list[Tensor]]:
    """Pairs [n, size, positions] in double precision; small ones on a CPU, the batch on a GPU."""
    step = len(output_a)
    if output_a.device.type == "cpu":
        step = max(1, _BLOCK * step // output_a.numel())
    for pair in zip(torch.split(output_a, step), torch.split(output_b, step), strict=True):
        yield [block.reshape(*block.shape[:2], -1).double() for block in pair]


def _activations(
    model: nn.Module, groups: Sequence[Group], images: Tensor
) -> dict[str, list[Tensor]]:
    """Each group's activations [N, size, ...] during one forward pass, one for each of its taps."""
    seen: dict[str, dict[str, Tensor]] = {group.name: {} for group in groups}

    def keeping(group: Group, tap: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: Tensor | None = None) -> None:
            shown = inputs[0] if output is None else output
            seen[group.name][tap] = _observed(model, group, shown)

        return hook

    with ExitStack() as hooked:
        for group, tap in ((each, tap) for each in groups for tap in each.taps):
            module, hook = model.get_submodule(tap), keeping(group, tap)
            hooked.enter_context(
                module.register_forward_hook(hook)
                if group.side == "output"
                else module.register_forward_pre_hook(hook)  # before it writes in place
            )
        model(images)
    return {name: list(shown.values()) for name, shown in seen.items()}


def _observed(model: nn.Module, group: Group, activation: Tensor) -> Tensor:
    """A group's units [N, size, ...] in what a module gives or reads."""
    if group.weight:
        state = model.state_dict(keep_vars=True)
        bias = state.get(f"{group.weight.removesuffix('weight')}bias")
        activation = nn.functional.linear(activation, state[group.weight], bias)
    if group.averaged:
        activation = activation.mean(group.averaged, keepdim=True)
    activation = activation.movedim(group.axis, 1)
    if group.entries is None:
        return activation
    places = torch.tensor(group.entries, device=activation.device)
    # places of one unit are samples of it, as pixels are
    found = activation[:, places.flatten()]
    return found.reshape(len(found), len(places), -1)
