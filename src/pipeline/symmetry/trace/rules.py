"""What the operations of torch do to units, a rule for those that do the same."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.instancenorm import _InstanceNorm

from pipeline.symmetry.trace.operations import Call, operation
from pipeline.symmetry.trace.units import Label, Labels, Value, join, resolved, stay


@operation(
    "relu relu6 leaky_relu elu selu celu gelu silu mish hardswish hardtanh tanh softplus softsign "
    "threshold tanhshrink hardshrink softshrink logsigmoid rrelu",
    activation=True,
)
@operation("contiguous", view=True)
@operation(
    "sigmoid hardsigmoid",  # gates: what they multiply is observed
    "abs add addcdiv addcmul ceil clamp clip clone cos detach div divide double erf exp expm1 "
    "float floor floordiv half iadd imul isub itruediv lerp log log1p maximum minimum mul multiply "
    "neg negative pos pow reciprocal round rsqrt rsub sign sin sqrt square sub subtract "
    "true_divide truediv where eq ne lt le gt ge",
    nn.Identity,
)
def elementwise(call: Call, *_: Any, **__: Any) -> Labels:
    """Each entry of the result depends on the entries at the same place, after broadcasting."""
    return _broadcast(call, call.inputs)


@operation("to")
def converted(call: Call, input: Value, *_: Any, **__: Any) -> Labels:
    """A second tensor only names a type."""
    return _broadcast(call, [input])


def _broadcast(call: Call, inputs: Sequence[Value]) -> Labels:
    """Axes aligned at the right; an axis of length 1 constrains nothing."""
    result: Labels = []
    for axis, length in enumerate(call.shape):
        aligned: Labels = []
        for x in inputs:
            own = axis - call.ndim + x.ndim
            if own >= 0 and x.shape[own] == length:
                aligned.append(x.labels[own])
        for other in aligned[1:]:
            join(aligned[0], other, _meets(call))
        result.append(aligned[0] if aligned else None)
    return result


def _meets(call: Call) -> str:
    return f"meets at {call.place} what does not move with it"


@operation("linear")
def linear(call: Call, input: Value, weight: Value, bias: Value | None = None) -> Labels | None:
    if weight.ndim != 2:
        return None
    join(input.labels[-1], weight.labels[1], _fixed(call, "read by fixed weights"))
    return [*input.labels[:-1], _written(call, weight.labels[0], bias)]


@operation("conv1d conv2d conv3d", _ConvNd)
def convolution(
    call: Call, input: Value, weight: Value, bias: Value | None = None, stride: Any = 1,
    padding: Any = 0, dilation: Any = 1, groups: int = 1,
) -> Labels | None:  # fmt: skip
    return _convolved(call, input, weight, bias, groups, transposed=False)


@operation("conv_transpose1d conv_transpose2d conv_transpose3d", _ConvTransposeNd)
def transposed_convolution(
    call: Call, input: Value, weight: Value, bias: Value | None = None, stride: Any = 1,
    padding: Any = 0, output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
) -> Labels | None:  # fmt: skip
    return _convolved(call, input, weight, bias, groups, transposed=True)


def _convolved(
    call: Call, x: Value, weight: Value, bias: Value | None, groups: int, transposed: bool
) -> Labels | None:
    axis = x.ndim - weight.ndim + 1  # of the channels: 1, or 0 without a batch
    if axis < 0:
        return None
    writes, reads = reversed(weight.labels[:2]) if transposed else weight.labels[:2]
    if groups == 1:
        join(x.labels[axis], reads, _fixed(call, "read by fixed weights"))
    elif groups == x.shape[axis] and not transposed:
        # Each channel has filters of its own, which move with it.
        carried = resolved(x.labels[axis])
        own = carried and (carried[0], carried[1] * (weight.shape[0] // groups))
        join(own, writes, f"a filter for each of the channels that stay, {call.place}")
    else:
        for label in (x.labels[axis], reads, writes):
            stay(label, f"read by a convolution in {groups} groups, {call.place}")
    written = _written(call, writes, bias)
    for label in x.labels[axis + 1 :]:
        stay(label, f"the convolution {call.place} runs along it")
    return [*x.labels[:axis], written, *[None] * (x.ndim - axis - 1)]


def _written(call: Call, label: Label, bias: Value | None) -> Label:
    if bias is not None:
        join(label, bias.labels[0], _fixed(call, "a fixed bias is added"))
    if label is not None:
        label[0].opened = True
    return label


def _fixed(call: Call, what: str) -> str:
    """A module's own weights and bias are never fixed: what it meets stays for another reason."""
    return "" if isinstance(call.called, nn.Module) else f"{what} at {call.place}"


@operation("prelu", activation=True)
@operation("batch_norm instance_norm", _BatchNorm, _InstanceNorm)
def scaled(
    call: Call, input: Value, weight: Any = None, bias: Any = None, running_mean: Any = None,
    running_var: Any = None, *_: Any, **__: Any,
) -> Labels:  # fmt: skip
    """Parameters and statistics of the channels, which all move alike, in whatever order."""
    return _along(call, input, 1, weight, bias, running_mean, running_var)


@operation("group_norm")
def group_norm(
    call: Call, input: Value, num_groups: int, weight: Any = None, bias: Any = None, *_: Any
) -> Labels:
    if num_groups not in (1, input.shape[1]):
        stay(input.labels[1], f"normalised in {num_groups} groups at {call.place}")
    return _along(call, input, 1, weight, bias)


@operation("layer_norm rms_norm")
def layer_norm(
    call: Call, input: Value, normalized_shape: Sequence[int], weight: Any = None,
    bias: Any = None, *_: Any, **__: Any,
) -> Labels:  # fmt: skip
    return _along(call, input, input.ndim - len(normalized_shape), weight, bias)


def _along(call: Call, x: Value, axis: int, *own: Any) -> Labels:
    """Parameters with one entry per entry of the axes from ``axis`` on, among other arguments."""
    for each in own:
        for offset, label in enumerate(each.labels if isinstance(each, Value) else ()):
            if each.shape[offset] == x.shape[axis + offset]:
                join(x.labels[axis + offset], label, f"scaled by fixed values at {call.place}")
    return x.labels


@operation(
    "dropout dropout1d dropout2d dropout3d alpha_dropout feature_dropout feature_alpha_dropout "
    "softmax log_softmax softmin normalize",
    nn.Softmax2d,
    _DropoutNd,
)
@operation("mean sum amax amin std var logsumexp prod")
@operation("permute transpose swapaxes t movedim T mT", view=True)
def equivariant(call: Call, input: Value, *args: Any, **kwargs: Any) -> Labels:
    """Permuting the entries along any axis permutes the result, or leaves it if the axis is gone.

    Each axis is followed by running the operation on a tensor whose lengths name its axes.
    """
    probe = torch.empty(tuple(range(2, 2 + input.ndim)), device="meta")
    found = call.called(probe, *args, **kwargs).shape
    return [input.labels[length - 2] if length > 1 else None for length in found]


def _local(call: Call, input: Value, *_: Any, axes: int | None = None, **__: Any) -> Labels | None:
    """Pooling along the last ``axes``, or resizing along all that follow the channels."""
    if call.ndim != input.ndim:
        return None
    first = 2 if axes is None else input.ndim - axes
    for label in input.labels[first:]:
        stay(label, f"{call.place} runs along it")
    return [*input.labels[:first], *[None] * (input.ndim - first)]


operation("interpolate", nn.Upsample)(_local)
for k in (1, 2, 3):
    operation(f"max_pool{k}d avg_pool{k}d adaptive_max_pool{k}d adaptive_avg_pool{k}d")(
        partial(_local, axes=k)
    )


@operation("pad")
def padded(call: Call, input: Value, pad: Any, *_: Any, **__: Any) -> Labels | None:
    if not isinstance(pad, tuple | list) or not all(isinstance(width, int) for width in pad):
        return None
    labels = list(input.labels)
    for i in range(len(pad) // 2):
        if pad[2 * i] or pad[2 * i + 1]:
            stay(labels[-1 - i], f"padded with fixed values at {call.place}")
            labels[-1 - i] = None
    return labels


@operation("cat concat concatenate")
def concatenated(call: Call, tensors: Any, dim: int = 0) -> Labels | None:
    """Units side by side on one axis would need a permutation of each part: they stay."""
    if not isinstance(dim, int) or any(x.ndim != call.ndim for x in call.inputs):
        return None
    labels = list(call.inputs[0].labels)
    for x in call.inputs:
        stay(x.labels[dim], f"concatenated with others at {call.place}")
        for i in range(call.ndim):
            if i != dim % call.ndim:
                join(labels[i], x.labels[i], _meets(call))
    labels[dim] = None
    return labels


@operation("getitem", view=True)
def indexed(call: Call, input: Value, index: Any) -> Labels | None:
    """Whole axes are known by their stride; a part of one is of units that stay."""
    parts = index if isinstance(index, tuple) else (index,)
    if not all(p is None or p is Ellipsis or isinstance(p, int | slice) for p in parts):
        return None
    strides = range(input.ndim + 1, 2 * input.ndim + 1)  # no step of a slice makes one another
    axes = list(zip(input.shape, strides, strict=True))
    part = torch.empty_strided(input.shape, tuple(strides), device="meta")[index]
    found = list(zip(part.shape, part.stride(), strict=True))
    for axis, label in zip(axes, input.labels, strict=True):
        if axis not in found:
            stay(label, f"a part is taken at {call.place}")
    return [input.labels[axes.index(axis)] if axis in axes else None for axis in found]


@operation("view reshape flatten unflatten squeeze unsqueeze ravel", view=True)
def reshaped(call: Call, input: Value, *_: Any, **__: Any) -> Labels:
    """Axes merged and split in row-major order; axes of length 1 come and go.

    Units keep consecutive entries where they are first in a merge (a flatten of [C, H, W]), and
    first in a split; everywhere else they stay.
    """
    shape = call.shape
    labels: Labels = [None] * len(shape)
    source = [i for i, length in enumerate(input.shape) if length != 1]
    target = [i for i, length in enumerate(shape) if length != 1]
    reason = f"its entries are rearranged at {call.place}"
    while source and target:
        block_in, block_out = [source.pop(0)], [target.pop(0)]
        size_in, size_out = input.shape[block_in[0]], shape[block_out[0]]
        while size_in != size_out:
            if size_in < size_out:
                block_in.append(source.pop(0))
                size_in *= input.shape[block_in[-1]]
            else:
                block_out.append(target.pop(0))
                size_out *= shape[block_out[-1]]
        for other in block_in[1:]:
            stay(input.labels[other], reason)
        first = resolved(input.labels[block_in[0]])
        if first is None:
            continue
        if shape[block_out[0]] % first[0].size:
            stay(first, reason)
            continue
        labels[block_out[0]] = (first[0], shape[block_out[0]] // first[0].size)
    return labels
