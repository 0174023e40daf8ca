"""BatchNorm, an addition and a ReLU as one operation of a network in training."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from pipeline.kernels.build import kernel, usable

#: Elements that the kernels handle side by side (``LANES`` in ``batch_norm.cpp``).
LANES = 64
_TYPES = {torch.float32: "fp32", torch.bfloat16: "bf16"}
_POINTER, _LONG, _FLOAT = ctypes.c_void_p, ctypes.c_long, ctypes.c_float
_FORWARD = (_POINTER, _POINTER, _LONG, _LONG, _POINTER, _POINTER, _FLOAT) + (_POINTER,) * 3
_BACKWARD = (_POINTER,) * 3 + (_LONG, _LONG, _POINTER, _POINTER, _FLOAT) + (_POINTER,) * 6


def batch_norm_relu(
    norm: nn.Module, relu: nn.ReLU, inputs: Tensor, added: Tensor | None = None
) -> Tensor:
    """``relu(norm(inputs) + added)``; inputs and added [N, C, H, W], added by default nothing.

    On one CPU thread, in training, the three are one pass over memory each way, and the running
    statistics move as `torch.nn.BatchNorm2d` moves them. Everywhere else, for another norm, under
    hooks, and for shapes that do not fill the kernels' lanes, the modules themselves are called.
    """
    if type(norm) is nn.BatchNorm2d and usable(inputs, norm, relu) and _fits(norm, inputs, added):
        tracked = norm.num_batches_tracked
        assert tracked is not None
        tracked.add_(1)
        result: Tensor = _BatchNormReLU.apply(  # type: ignore[no-untyped-call]
            inputs, added, norm.weight, norm.bias, norm.running_mean, norm.running_var,
            norm.momentum, norm.eps,
        )  # fmt: skip
        return result
    outputs = norm(inputs)
    activated: Tensor = relu(outputs if added is None else outputs + added)
    return activated


def _fits(norm: nn.BatchNorm2d, inputs: Tensor, added: Tensor | None) -> bool:
    channels = inputs.shape[1]
    return (
        norm.training
        and inputs.dtype in _TYPES
        and norm.affine
        and norm.track_running_stats
        and norm.momentum is not None
        and norm.weight.dtype == torch.float32
        and (LANES % channels == 0 or channels % LANES == 0)
        and inputs.numel() % LANES == 0
        and inputs.numel() > channels
        and (added is None or (added.dtype == inputs.dtype and added.shape == inputs.shape))
    )


def _pointer(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _call(name: str, types: tuple[Any, ...], *arguments: object) -> None:
    kernel(name, types)(*arguments)


class _BatchNormReLU(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, added: Tensor | None, weight: Tensor, bias: Tensor,
        running_mean: Tensor, running_var: Tensor, momentum: float, eps: float,
    ) -> Tensor:  # fmt: skip
        if added is not None:
            added = added.contiguous(memory_format=torch.channels_last)
        channels = inputs.shape[1]
        rows = inputs.numel() // channels
        outputs = torch.empty_like(inputs)
        mean, variance = torch.empty_like(bias), torch.empty_like(bias)
        _call(
            f"forward_{_TYPES[inputs.dtype]}", _FORWARD, inputs.data_ptr(), _pointer(added), rows,
            channels, weight.data_ptr(), bias.data_ptr(), eps, mean.data_ptr(),
            variance.data_ptr(), outputs.data_ptr(),
        )  # fmt: skip
        running_mean.lerp_(mean, momentum)
        running_var.lerp_(variance * (rows / (rows - 1)), momentum)
        # Behind an addition the sign of the output says what the ReLU let through; otherwise the
        # backward pass computes it again from the inputs.
        ctx.save_for_backward(
            inputs, None if added is None else outputs, weight, bias, mean, variance
        )
        ctx.eps = eps
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        inputs, outputs, weight, bias, mean, variance = ctx.saved_tensors
        gradient = gradient.to(inputs.dtype).contiguous(memory_format=torch.channels_last)
        to_inputs = torch.empty_like(inputs)
        to_added = None if outputs is None else torch.empty_like(inputs)
        to_weight, to_bias = torch.empty_like(weight), torch.empty_like(bias)
        channels = inputs.shape[1]
        _call(
            f"backward_{_TYPES[inputs.dtype]}", _BACKWARD, gradient.data_ptr(), inputs.data_ptr(),
            _pointer(outputs), inputs.numel() // channels, channels, weight.data_ptr(),
            bias.data_ptr(), ctx.eps, mean.data_ptr(), variance.data_ptr(), to_inputs.data_ptr(),
            _pointer(to_added), to_weight.data_ptr(), to_bias.data_ptr(),
        )  # fmt: skip
        return to_inputs, to_added, to_weight, to_bias, None, None, None, None
