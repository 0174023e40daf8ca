"""What the operations of torch do to units, a rule for those that do the same."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import prod
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
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
    """Each entry of the result depends on the entries at the same place.

    Axes are aligned at the right; one of length 1 constrains nothing.
    """
    result: Labels = []
    for axis, length in enumerate(call.shape, start=-len(call.shape)):
        found = [x.labels[axis] for x in call.inputs if x.ndim >= -axis and x.shape[axis] == length]
        for other in found[1:]:
            join(found[0], other, f"meets at {call.place} what does not move with it")
        result.append(found[0] if found else None)
    return result


# A second tensor only names a type.
operation("to")(lambda call, input, *_, **__: input.labels)


@operation("linear")
def linear(call: Call, input: Value, weight: Value, bias: Value | None = None) -> Labels | None:
    if weight.ndim != 2:
        return None
    join(input.labels[-1], weight.labels[1], _fixed(call, "read by fixed weights"))
    return [*input.labels[:-1], _written(call, weight.labels[0], bias)]


@operation("conv1d conv2d conv3d", _ConvNd)
def convolution(
    call: Call, input: Value, weight: Value, bias: Value | None = None, stride: Any = 1,
    padding: Any = 0, sixth: Any = None, groups: int = 1, *_: Any, transposed: bool = False,
    **__: Any,
) -> Labels | None:  # fmt: skip
    """Of all kinds: the sixth argument of the function is the dilation, or the output's padding."""
    axis = input.ndim - weight.ndim + 1  # of the channels: 1, or 0 without a batch
    if axis < 0:
        return None
    writes, reads = reversed(weight.labels[:2]) if transposed else weight.labels[:2]
    if groups == 1:
        join(input.labels[axis], reads, _fixed(call, "read by fixed weights"))
    elif groups == input.shape[axis] and not transposed:
        # Each channel has filters of its own, which move with it.
        carried = resolved(input.labels[axis])
        own = carried and (carried[0], carried[1] * (weight.shape[0] // groups))
        join(own, writes, f"a filter for each of the channels that stay, {call.place}")
    else:
        for label in (input.labels[axis], reads, writes):
            stay(label, f"read by a convolution in {groups} groups, {call.place}")
    written = _written(call, writes, bias)
    for label in input.labels[axis + 1 :]:
        stay(label, f"the convolution {call.place} runs along it")
    return [*input.labels[:axis], written, *[None] * (input.ndim - axis - 1)]


operation("conv_transpose1d conv_transpose2d conv_transpose3d")(
    partial(convolution, transposed=True)
)


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
    call: Call, input: Value, running_mean: Any = None, running_var: Any = None,
    weight: Any = None, bias: Any = None, *_: Any, **__: Any,
) -> Labels:  # fmt: skip
    """Parameters and statistics of the channels, which all move alike, in whatever order."""
    return _along(call, input, 1, running_mean, running_var, weight, bias)


@operation("group_norm")
def group_norm(
    call: Call, input: Value, num_groups: int, weight: Any = None, bias: Any = None, **__: Any
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


def _local(call: Call, input: Value, *_: Any, axes: int | None = None, **__: Any) -> Labels:
    """Pooling along the last ``axes``, or resizing along all that follow the channels."""
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
def padded(call: Call, input: Value, pad: Sequence[int], *_: Any, **__: Any) -> Labels:
    labels = list(input.labels)
    for i in range(len(pad) // 2):
        if pad[2 * i] or pad[2 * i + 1]:
            stay(labels[-1 - i], f"padded with fixed values at {call.place}")
            labels[-1 - i] = None
    return labels


@operation("cat concat concatenate")
def concatenated(call: Call, tensors: Any, dim: int = 0, axis: int | None = None) -> Labels | None:
    """Units side by side on one axis would need a permutation of each part: they stay."""
    joint = (dim if axis is None else axis) % len(call.shape)
    labels: Labels = [None] * len(call.shape)
    if any(x.ndim != len(labels) for x in call.inputs):
        return None
    for x in call.inputs:
        stay(x.labels[joint], f"concatenated with others at {call.place}")
        for i, first in enumerate(call.inputs[0].labels):
            if i != joint:
                join(first, x.labels[i], f"meets at {call.place} what does not move with it")
                labels[i] = first
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
    labels: Labels = [None] * len(call.shape)
    target = _starts(call.shape)
    for start, axis in _starts(input.shape).items():
        found, to = resolved(input.labels[axis]), target.get(start)
        if found is None:
            continue
        if to is None or call.shape[to] % found[0].size:
            stay(found, f"its entries are rearranged at {call.place}")
        else:
            labels[to] = (found[0], call.shape[to] // found[0].size)
    return labels


def _starts(shape: tuple[int, ...]) -> dict[int, int]:
    """Each axis longer than 1 by the product of the lengths before it."""
    return {prod(shape[:axis]): axis for axis, length in enumerate(shape) if length != 1}
