"""How a network runs forward: its device, its mode, its precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

PRECISIONS = ("fp32", "bf16")


def device_of(model: nn.Module) -> torch.device:
    """Device of the model's first parameter."""
    return next(model.parameters()).device


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Context of a forward pass in ``precision``: "fp32", or "bf16" by autocast."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision {precision!r}: allowed are {', '.join(PRECISIONS)}")
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


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
