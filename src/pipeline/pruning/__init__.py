"""Global magnitude masks and the schedule of iterative magnitude pruning (paper, A.3).

What is pruned first may be said by scores in place of weights: see `pipeline.pruning.criteria`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from pipeline.errors import UserError

#: Weight name -> bool tensor of the weight's shape; True keeps the weight.
Mask = dict[str, Tensor]


def full(weights: Mapping[str, Tensor]) -> Mask:
    """The mask that keeps everything."""
    return {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in weights.items()}


def count(mask: Mapping[str, Tensor]) -> tuple[int, int]:
    """(zeros, entries) of a mask."""
    entries = sum(m.numel() for m in mask.values())
    return entries - sum(int(m.sum()) for m in mask.values()), entries


def sparsity(mask: Mapping[str, Tensor]) -> float:
    """Share of zeros over all masked tensors."""
    zeros, entries = count(mask)
    return zeros / entries


def global_magnitude(weights: Mapping[str, Tensor], mask: Mapping[str, Tensor], zeros: int) -> Mask:
    """Mask with exactly ``zeros`` zeros: those of ``mask`` and the smallest of the other weights.

    One ranking of |w| over all tensors; equal magnitudes are pruned in the order of tensors and
    positions, so the result is a function of the weights alone. Not-a-number ranks as zero.

    Raises:
        UserError: fewer zeros than ``mask`` has, nothing left, or a mask of other weights.
    """
    if set(weights) != set(mask):
        raise UserError(f"cannot prune {sorted(weights)} with a mask of {sorted(mask)}")
    before, entries = count(mask)
    if not before <= zeros < entries:
        raise UserError(
            f"cannot prune to {zeros} zeros: the mask has {before} of {entries}, "
            "and at least one weight must stay"
        )
    scores = torch.cat(
        [
            torch.where(
                mask[name].flatten(), weight.detach().abs().float().nan_to_num(0).flatten(), -1.0
            )
            for name, weight in weights.items()
        ]
    )
    if zeros:
        threshold = scores.kthvalue(zeros).values
        keep = scores > threshold
        surplus = entries - zeros - int(keep.sum())
        ties = torch.nonzero(scores == threshold).flatten()
        keep[ties[len(ties) - surplus :]] = True
    else:
        keep = torch.ones(entries, dtype=torch.bool)
    parts = torch.split(keep, [weight.numel() for weight in weights.values()])
    return {
        name: part.reshape(weight.shape)
        for (name, weight), part in zip(weights.items(), parts, strict=True)
    }


def prune_fraction(
    weights: Mapping[str, Tensor], mask: Mapping[str, Tensor], fraction: float
) -> Mask:
    """One full prune: ``fraction`` of the remaining weights, rounded as torch's pruning rounds."""
    zeros, entries = count(mask)
    return global_magnitude(weights, mask, zeros + round(fraction * (entries - zeros)))


def one_shot(weights: Mapping[str, Tensor], fraction: float, prunes: int) -> Mask:
    """One prune that takes as many weights as ``prunes`` full prunes of ``fraction`` take."""
    _, entries = count(whole := full(weights))
    left = entries
    for _ in range(prunes):
        left -= round(fraction * left)
    return global_magnitude(weights, whole, entries - left)


def prune_to(weights: Mapping[str, Tensor], mask: Mapping[str, Tensor], target: float) -> Mask:
    """The capped last prune: exactly round(S * entries) zeros.

    Raises:
        UserError: S leaves no weight, or lies below the sparsity of ``mask``.
    """
    return global_magnitude(weights, mask, round(target * count(mask)[1]))


def shuffled(mask: Mapping[str, Tensor], generator: torch.Generator) -> Mask:
    """A mask with as many zeros in each tensor as ``mask``, at places drawn uniformly.

    The tensors are drawn in the order of their names.
    """
    drawn = {
        name: mask[name].flatten()[torch.randperm(mask[name].numel(), generator=generator)]
        for name in sorted(mask)
    }
    return {name: drawn[name].reshape(kept.shape) for name, kept in mask.items()}


def at_random(mask: Mapping[str, Tensor], how: str, generator: torch.Generator) -> Mask:
    """A mask as sparse as ``mask``, at places drawn uniformly.

    ``within``: as many zeros in each tensor as ``mask`` has; ``over``: as many in all, wherever they
    fall; ``alike``: the same share of each tensor, of which one weight stays at least.
    """
    if how == "within":
        return shuffled(mask, generator)
    scores = {n: torch.rand(mask[n].shape, generator=generator) for n in sorted(mask)}
    drawn = {name: scores[name] for name in mask}
    if how == "over":
        return global_magnitude(drawn, full(mask), count(mask)[0])
    share = sparsity(mask)
    return {
        name: global_magnitude(
            {name: score}, full({name: score}), min(round(share * score.numel()), score.numel() - 1)
        )[name]
        for name, score in drawn.items()
    }


def apply(mask: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors with the masked weights set to zero; others as they are."""
    return {
        name: torch.where(mask[name], tensor, torch.zeros_like(tensor)) if name in mask else tensor
        for name, tensor in tensors.items()
    }


def per_layer(mask: Mapping[str, Tensor]) -> dict[str, float]:
    """Sparsity of each masked tensor."""
    return {name: sparsity({name: m}) for name, m in mask.items()}


def emptied(mask: Mapping[str, Tensor]) -> list[str]:
    """The masked tensors of which nothing is kept: layers that were pruned away entirely."""
    return [name for name, m in mask.items() if not bool(m.any())]


def pack(mask: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Masks as bits, eight entries a byte (uint8, flattened, zero-padded)."""
    return {
        name: torch.from_numpy(np.packbits(m.cpu().numpy().ravel())) for name, m in mask.items()
    }


def unpack(packed: Mapping[str, Tensor], shapes: Mapping[str, list[int]]) -> Mask:
    """Inverse of ``pack`` for tensors of the given shapes.

    Raises:
        UserError: names or sizes do not fit.
    """
    if set(packed) != set(shapes):
        raise UserError(f"mask: tensors {sorted(packed)} do not fit the network's {sorted(shapes)}")
    mask = {}
    for name, shape in shapes.items():
        entries = math.prod(shape)
        if packed[name].dtype != torch.uint8 or packed[name].dim() != 1:
            raise UserError(f"mask: {name}: not a row of bytes")
        bits = np.unpackbits(packed[name].numpy())
        if not entries <= len(bits) < entries + 8:
            raise UserError(f"mask: {name}: {len(bits)} bits for {entries} weights")
        mask[name] = torch.from_numpy(bits[:entries].astype(bool).reshape(shape))
    return mask
