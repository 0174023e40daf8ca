"""How a network runs forward: its device, its mode, its precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

PRECISIONS = ("fp32", "tf32", "bf16")


def device_of(model: nn.Module) -> torch.device:
    """Device of the model's first parameter."""
    return next(model.parameters()).device


@contextmanager
def tensor_cores(precision: str) -> Iterator[None]:
    """Inside, products of fp32 numbers on a GPU are rounded to TF32 for ``precision`` "tf32" alone.

    For forward and backward passes. PyTorch's own default rounds those of convolutions and no other.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision {precision!r}: allowed are {', '.join(PRECISIONS)}")
    kinds: tuple[Any, ...] = torch.backends.cudnn, torch.backends.cuda.matmul
    before = [kind.allow_tf32 for kind in kinds]
    try:
        for kind in kinds:
            kind.allow_tf32 = precision == "tf32"
        yield
    finally:
        for kind, was in zip(kinds, before, strict=True):
            kind.allow_tf32 = was


@contextmanager
def arithmetic(device: torch.device, precision: str) -> Iterator[None]:
    """Context of a forward pass in ``precision``: "fp32", "tf32", or "bf16" by autocast."""
    bf16 = torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")
    with tensor_cores(precision), bf16:
        yield


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; afterwards every module has the mode it had before."""
    before = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training
