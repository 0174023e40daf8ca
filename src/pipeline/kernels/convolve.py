"""3x3 convolutions of a network on one CPU thread."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from pipeline.kernels.build import library
from pipeline.kernels.plain import hooked, on_one_thread, packed

#: Channels must be multiples of this: they fill a vector.
LANES = 16
_POINTER = ctypes.c_void_p
_FIELDS = (
    "images", "height", "width", "inputs", "outputs", "stride",
    "by_output", "by_input", "by_row", "by_column",
)  # fmt: skip


class _Convolution(ctypes.Structure):
    """``Convolution`` of ``convolution_bf16.cpp``."""

    _fields_ = [(name, ctypes.c_long) for name in _FIELDS]


def convolve(convolution: nn.Conv2d, inputs: Tensor) -> Tensor:
    """``convolution(inputs)``; inputs [N, C, H, W].

    A 3x3 convolution without bias, padding 1, stride 1 or 2, of bfloat16 activations under autocast
    is computed by kernels of our own on one CPU thread: sums in fp32, rounded once; weights and
    their gradient stay fp32. Everywhere else, and under hooks, the module itself is called.
    """
    if on_one_thread(inputs) and _fits(convolution, inputs):
        result: Tensor = _Convolve.apply(  # type: ignore[no-untyped-call]
            inputs, convolution.weight, convolution.stride[0]
        )
        return result
    outputs: Tensor = convolution(inputs)
    return outputs


def _fits(module: nn.Conv2d, inputs: Tensor) -> bool:
    return (
        inputs.dtype == torch.bfloat16
        and torch.is_autocast_enabled("cpu")
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
        and packed(inputs)
        and not hooked(module)
        and _available()
    )


@cache
def _available() -> bool:
    """Whether this processor has the instructions; asked once a process."""
    found = library()
    return found is not None and bool(found.conv_bf16_available())


@cache
def _shape(*values: int) -> _Convolution:
    return _Convolution(*values)


def _call(name: str, inputs: Tensor, weight: Tensor, stride: int, *tensors: Tensor) -> None:
    """Call a kernel on the convolution of ``inputs``-shaped images with ``weight``-shaped weights."""
    function = getattr(library(), name)
    if function.argtypes is None:
        function.argtypes, function.restype = (_POINTER,) * 4, ctypes.c_int
    images, channels, height, width = inputs.shape
    shape = _shape(images, height, width, channels, len(weight), stride, *weight.stride())
    if not function(ctypes.byref(shape), *(tensor.data_ptr() for tensor in tensors)):
        raise MemoryError(f"{name}: no memory for its scratch space")


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, stride: int) -> Tensor:
        images, _, height, width = inputs.shape
        outputs = torch.empty(
            (images, len(weight), (height - 1) // stride + 1, (width - 1) // stride + 1),
            dtype=inputs.dtype, memory_format=torch.channels_last,
        )  # fmt: skip
        _call("conv_bf16_forward", inputs, weight, stride, inputs, weight, outputs)
        ctx.save_for_backward(inputs, weight)
        ctx.stride = stride
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        inputs, weight = ctx.saved_tensors
        gradient = gradient.to(inputs.dtype).contiguous(memory_format=torch.channels_last)
        to_inputs = to_weight = None
        if ctx.needs_input_grad[0]:
            to_inputs = torch.empty_like(inputs)
            _call("conv_bf16_data", inputs, weight, ctx.stride, gradient, weight, to_inputs)
        if ctx.needs_input_grad[1]:
            to_weight = torch.empty_like(weight)
            _call("conv_bf16_weights", inputs, weight, ctx.stride, gradient, inputs, to_weight)
        return to_inputs, to_weight, None
