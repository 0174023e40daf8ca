"""When a kernel may stand for a module: one CPU thread, packed memory, nobody listening."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def on_one_thread(inputs: object) -> bool:
    """Whether this is a tensor on the CPU that one thread works on (and no proxy of a tracer)."""
    return (
        isinstance(inputs, Tensor) and inputs.device.type == "cpu" and torch.get_num_threads() == 1
    )


def packed(tensor: Tensor) -> bool:
    """Whether a tensor [N, C, H, W] lies in memory as [N, H, W, C] without gaps."""
    return tensor.is_contiguous(memory_format=torch.channels_last)


def hooked(module: nn.Module) -> bool:
    """Whether somebody wants to see what goes through a module, which must then be called itself."""
    return bool(module._forward_hooks or module._forward_pre_hooks or module._backward_hooks)
