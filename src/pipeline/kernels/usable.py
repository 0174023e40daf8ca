"""When a kernel may stand for modules."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipeline.kernels.build import compiled


def usable(inputs: object, *modules: nn.Module) -> bool:
    """Whether kernels may compute what ``modules`` do with a batch.

    There must be kernels, and one thread at work; the batch must be a tensor on the CPU (no proxy
    of a tracer), [N, C, H, W] that lies in memory as [N, H, W, C] without gaps. Hooks on a module
    want to see what goes through it: it must then be called itself.
    """
    return (
        isinstance(inputs, Tensor)
        and inputs.device.type == "cpu"
        and torch.get_num_threads() == 1
        and inputs.is_contiguous(memory_format=torch.channels_last)
        and not any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in modules)
        and compiled() is not None
    )
