"""Combinations of networks in weight space (interpolation of eq. 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

StateDict = Mapping[str, Tensor]


def check_same_shapes(thetas: Sequence[StateDict]) -> None:
    """Raise ValueError unless all state dicts hold the same tensor names with the same shapes."""
    first = thetas[0]
    for other in thetas[1:]:
        if first.keys() != other.keys():
            names = sorted(first.keys() ^ other.keys())
            raise ValueError(f"not the same architecture: {names[0]} is in one network only")
        for name, tensor in first.items():
            if tensor.shape != other[name].shape:
                shapes = f"{tuple(tensor.shape)} and {tuple(other[name].shape)}"
                raise ValueError(f"not the same architecture: {name} has shapes {shapes}")


@torch.no_grad()
def interpolate(theta_a: StateDict, theta_b: StateDict, alpha: float) -> dict[str, Tensor]:
    """(1 - alpha) a + alpha b, the network between two networks (eq. 3).

    Every floating tensor is interpolated, BatchNorm's running statistics included; integer buffers
    are b's. ``alpha`` in [0, 1]; 0 gives a and 1 gives b, bit for bit. Tensors that are equal in
    both stay equal bit for bit at any alpha. The result shares no memory with the inputs.
    """
    if not 0.0 <= alpha <= 1.0:
        raise ValueError(f"alpha {alpha}: allowed is [0, 1]")
    check_same_shapes((theta_a, theta_b))
    if alpha in (0.0, 1.0):
        return {name: tensor.clone() for name, tensor in (theta_b if alpha else theta_a).items()}
    return {
        name: torch.lerp(a, theta_b[name], alpha)
        if a.is_floating_point()
        else theta_b[name].clone()
        for name, a in theta_a.items()
    }


@torch.no_grad()
def combine(thetas: Sequence[StateDict], coefficients: Sequence[float]) -> dict[str, Tensor]:
    """The affine combination sum_i c_i theta_i, for coefficients that sum to one.

    Floating tensors are combined, integer buffers are the last network's. A coefficient of exactly
    1 (the others 0) gives that network, bit for bit. The result shares no memory with the inputs.
    """
    if len(thetas) != len(coefficients):
        raise ValueError(f"{len(thetas)} networks and {len(coefficients)} coefficients")
    check_same_shapes(thetas)
    corner = corner_of(coefficients)
    if corner is not None:
        return {name: tensor.clone() for name, tensor in thetas[corner].items()}
    combined = {}
    for name, tensor in thetas[-1].items():
        if tensor.is_floating_point():
            total = coefficients[0] * thetas[0][name]
            for theta, coefficient in zip(thetas[1:], coefficients[1:], strict=True):
                total.add_(theta[name], alpha=coefficient)
            combined[name] = total
        else:
            combined[name] = tensor.clone()
    return combined


def corner_of(coefficients: Sequence[float]) -> int | None:
    """Index of the network that the coefficients single out (one is 1, the others 0), or None."""
    ones = [index for index, value in enumerate(coefficients) if value == 1.0]
    if len(ones) == 1 and sum(value != 0.0 for value in coefficients) == 1:
        return ones[0]
    return None
