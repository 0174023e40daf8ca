"""3x3 convolutions of a network on one CPU thread."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from pipeline.kernels.build import compiled, kernel, usable

#: Channels must be multiples of this: they fill a vector.
LANES = 16
#: From so many channels on, Winograd's method is faster than the direct one in bfloat16.
WIDE = 32
_ARGUMENTS = (ctypes.c_void_p,) * 3 + (ctypes.c_long,) * 6


def convolve(convolution: nn.Conv2d, inputs: Tensor) -> Tensor:
    """``convolution(inputs)``; inputs [N, C, H, W].

    A 3x3 convolution without bias, padding 1, stride 1 or 2, is computed by kernels of our own on
    one CPU thread: of fp32 activations by Winograd's method (relative error about 1e-6), of
    bfloat16 ones, which autocast makes, by it or directly, with sums in fp32 that are rounded once.
    Weights and their gradient are fp32. Everywhere else, and under hooks, the module itself is called.
    """
    if usable(inputs, convolution) and _fits(convolution, inputs):
        result: Tensor = _Convolve.apply(  # type: ignore[no-untyped-call]
            inputs, convolution.weight, convolution.stride[0]
        )
        return result
    outputs: Tensor = convolution(inputs)
    return outputs


def _fits(module: nn.Conv2d, inputs: Tensor) -> bool:
    return (
        inputs.dtype in (torch.float32, torch.bfloat16)
        and torch.is_autocast_enabled("cpu") == (inputs.dtype == torch.bfloat16)
        and type(module) is nn.Conv2d
        and module.weight.dtype == torch.float32
        and module.kernel_size == (3, 3)
        and module.padding == (1, 1)
        and module.padding_mode == "zeros"
        and module.stride in ((1, 1), (2, 2))
        and module.dilation == (1, 1)
        and module.groups == 1
        and module.bias is None
        and module.in_channels % LANES == 0
        and module.out_channels % LANES == 0
        and inputs.numel() > 0
        and _available(inputs.dtype)
    )


def _kernel(inputs: Tensor, outputs: int, stride: int) -> str:
    """First part of the kernels' names for a convolution of ``inputs`` to so many channels."""
    if inputs.dtype == torch.float32:
        return "winograd_fp32"
    wide = stride == 1 and min(inputs.shape[1], outputs) >= WIDE
    return "winograd_bf16" if wide else "direct_bf16"


@cache
def _available(dtype: torch.dtype) -> bool:
    """Whether this processor has the instructions; asked once a process."""
    found = compiled()
    needed = "winograd" if dtype == torch.float32 else "direct"  # which needs more of them
    return found is not None and bool(getattr(found, f"{needed}_available")())


def _call(which: str, inputs: Tensor, outputs: int, stride: int, *tensors: Tensor) -> None:
    """Call the kernel of one pass for a convolution of images like ``inputs`` to so many channels."""
    name = f"{_kernel(inputs, outputs, stride)}_{which}"
    images, channels, height, width = inputs.shape
    places = (tensor.data_ptr() for tensor in tensors)
    compute = kernel(name, _ARGUMENTS, ctypes.c_int)
    if not compute(*places, images, height, width, channels, outputs, stride):
        raise MemoryError(f"{name}: no memory for its scratch space")


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, stride: int) -> Tensor:
        images, _, height, width = inputs.shape
        weight = weight.contiguous(memory_format=torch.channels_last)
        outputs = torch.empty(
            (images, len(weight), (height - 1) // stride + 1, (width - 1) // stride + 1),
            dtype=inputs.dtype, memory_format=torch.channels_last,
        )  # fmt: skip
        _call("forward", inputs, len(weight), stride, inputs, weight, outputs)
        ctx.save_for_backward(inputs, weight)
        ctx.stride = stride
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        inputs, weight = ctx.saved_tensors
        gradient = gradient.to(inputs.dtype).contiguous(memory_format=torch.channels_last)
        to_inputs = to_weight = None
        shape = (inputs, len(weight), ctx.stride)
        if ctx.needs_input_grad[0]:
            to_inputs = torch.empty_like(inputs)
            _call("data_gradient", *shape, gradient, weight, to_inputs)
        if ctx.needs_input_grad[1]:
            to_weight = torch.empty_like(weight)
            _call("weight_gradient", *shape, inputs, gradient, to_weight)
        return to_inputs, to_weight, None
