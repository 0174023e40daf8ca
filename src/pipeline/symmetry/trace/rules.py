"""What the operations of torch do to units, a rule for those that do the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from pipeline.symmetry.trace.moves import (
    in_order,
    joined,
    met,
    padded,
    renumbered,
    summed,
    through,
    viewed,
)
from pipeline.symmetry.trace.operations import Call, Found, aten
from pipeline.symmetry.trace.units import Carried, Labels, Value

#: Operations behind which a group is observed.
ACTIVATIONS = frozenset((
    "relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "mish", "hardswish",
    "hardtanh", "tanh", "softplus", "threshold", "hardshrink", "softshrink",
    "log_sigmoid_forward", "rrelu_with_noise", "_prelu_kernel",
))  # fmt: skip


@aten(
    "pointwise relu6 hardswish leaky_relu hardtanh celu selu _prelu_kernel log_sigmoid_forward "
    "rrelu_with_noise hardtanh_ _to_copy clone copy_ masked_fill rsub floor_divide "
    "bernoulli native_dropout normal_ uniform_ rand_like randn_like fill_ zero_"
)
def pointwise(call: Call, *_: Any, **__: Any) -> Value:
    """Each entry of the result depends on the entries at the same place.

    Axes are aligned at the right; one of length 1 constrains nothing.
    """
    carried = met(call.shape, call.inputs, _meets(call))
    axes = range(-len(call.shape), 0)
    equal = (
        axis % len(call.shape) for axis in axes
        if call.shape[axis] > 1 and all(
            x.ndim < -axis or x.shape[axis] == 1 or axis % x.ndim in x.equal
            for x in call.inputs
        )
    )  # fmt: skip
    return replace(call.value(call.shape, carried), equal=frozenset(equal))


def elementwise(call: Call, *_: Any, **__: Any) -> Labels:
    """`pointwise`, for an operation of one's own."""
    return pointwise(call).labels


def _meets(call: Call) -> str:
    return f"meets at {call.place} what does not move with it"


@aten("zeros ones full empty new_zeros new_ones new_full new_empty zeros_like ones_like full_like "
      "empty_like empty_strided new_empty_strided")  # fmt: skip
def constant(call: Call, *_: Any, **__: Any) -> Value:
    """All equal: any relabelling keeps it, until it meets what is none."""
    axes = (Carried((a,), call.units.new(n)) for a, n in enumerate(call.shape) if n > 1)
    return Value(call.units, call.shape, tuple(axes))


@aten("arange linspace scalar_tensor lift_fresh eye tril_indices triu_indices")
def fixed(call: Call, *_: Any, **__: Any) -> Value:
    return call.value(call.shape)


# -- axes ------------------------------------------------------------------------------------------


@aten("permute transpose t numpy_T unsqueeze squeeze select slice narrow unbind split "
      "split_with_sizes alias detach diagonal movedim unfold lift")  # fmt: skip
def view(call: Call, input: Value, *args: Any, **kwargs: Any) -> list[Value]:
    """Axes that are chosen, exchanged, cut in parts."""
    return through(input, call.called, args, kwargs)


@aten("expand")
def expanded(call: Call, input: Value, *args: Any, **kwargs: Any) -> Value:
    (found,) = through(input, call.called, args, kwargs)
    shift = found.ndim - input.ndim
    one = (True,) * shift + tuple(n == 1 for n in input.shape)
    equal = (axis for axis, length in enumerate(found.shape) if length > 1 and one[axis])
    return replace(found, equal=frozenset(equal))


@aten("view reshape _unsafe_view _reshape_alias view_copy flatten unflatten")
def reshaped(call: Call, input: Value, *_: Any, **__: Any) -> Value:
    return viewed(input, call.shape, f"its entries are rearranged at {call.place}")


@aten("as_strided")
def restrided(call: Call, input: Value, size: Sequence[int], *_: Any) -> Value | None:
    """Torch's own, after a mean: the same axes in another order of memory."""
    return call.value(call.shape, input.carried) if tuple(size) == input.shape else None


@aten("flip")
def flipped(call: Call, input: Value, dims: Sequence[int]) -> Value:
    gone = {axis % input.ndim for axis in dims}
    return call.value(call.shape, [
        Carried(each.axes, _flip(each, gone)) for each in input.carried
    ])  # fmt: skip


def _flip(each: Carried, axes: set[int]) -> Any:
    turned = tuple(i for i, axis in enumerate(each.axes) if axis in axes)
    return torch.from_numpy(each.entries.copy()).flip(turned).numpy()


@aten("roll")
def rolled(call: Call, input: Value, shifts: Any, dims: Sequence[int] = ()) -> Value | None:
    """Axes of pixels are rolled; units that change their places are not followed."""
    axes = {axis % input.ndim for axis in dims} or set(range(input.ndim))
    if any(axes & set(each.axes) for each in input.carried):
        return None
    return call.value(call.shape, input.carried)


@aten("repeat")
def repeated(call: Call, input: Value, repeats: Sequence[int]) -> Value:
    shift = len(repeats) - input.ndim
    found = []
    for each in input.carried:
        entries = torch.from_numpy(each.entries.copy())
        entries = entries.repeat([repeats[axis + shift] for axis in each.axes])
        found.append(Carried(tuple(a + shift for a in each.axes), entries.numpy()).tidy())
    return call.value(call.shape, found)


@aten("cat")
def concatenated(call: Call, tensors: Sequence[Value], dim: int = 0) -> Value:
    """Units side by side: each part keeps its own."""
    full = [x for x in tensors if x.ndim == len(call.shape)]  # torch lets an empty one pass
    return call.value(call.shape, joined(full, dim, _meets(call)))


@aten("stack")
def stacked(call: Call, tensors: Sequence[Value], dim: int = 0) -> Value:
    axis = dim % len(call.shape)
    parts = [through(x, torch.unsqueeze, (axis,), {})[0] for x in tensors]
    # entries of a new axis: none of its own, as many as there are parts
    along: dict[tuple[int, ...], list[Any]] = {}
    for part in parts:
        for each in part.carried:
            along.setdefault(tuple(a for a in each.axes if a != axis), []).append(each.entries)
    if any(len(found) != len(parts) for found in along.values()):
        return call.value(call.shape, met(call.shape, parts, _meets(call)))
    found = []
    for axes, entries in along.items():
        both = tuple(sorted((*axes, axis)))
        shape = [call.shape[a] if a != axis else 1 for a in both]
        parts_ = [torch.from_numpy(e.reshape(shape).copy()) for e in entries]
        found.append(Carried(both, torch.cat(parts_, both.index(axis)).numpy()).tidy())
    return call.value(call.shape, found)


@aten("constant_pad_nd")
def pad(call: Call, input: Value, pad: Sequence[int], *_: Any) -> Value:
    return call.value(call.shape, padded(input, pad, call.units))


@aten("reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d "
      "replication_pad3d")  # fmt: skip
def mirrored(call: Call, input: Value, pad: Sequence[int]) -> Value:
    axes = [-1 - i for i in range(len(pad) // 2) if pad[2 * i] or pad[2 * i + 1]]
    return call.value(call.shape, in_order(input, axes, f"padded at {call.place}").carried)


@aten("index")
def indexed(call: Call, input: Value, indices: Sequence[Value | None]) -> Value | None:
    """Rows are looked up by number, one list of them: they stay, all else is carried on."""
    at = [axis for axis, index in enumerate(indices) if index is not None]
    index = indices[at[0]]
    assert index is not None
    if len(at) > 1 or index.carried or input.shape[at[0]] == 0:
        return None
    return _looked_up(call, input, at[0], index.ndim)


@aten("index_select")
def selected(call: Call, input: Value, dim: int, index: Value) -> Value:
    return _looked_up(call, input, dim % input.ndim, index.ndim)


@aten("embedding")
def embedded(call: Call, weight: Value, indices: Value, *_: Any, **__: Any) -> Value:
    return _looked_up(call, weight, 0, indices.ndim)


def _looked_up(call: Call, input: Value, axis: int, length: int) -> Value:
    rest = in_order(input, [axis], f"looked up by number at {call.place}")
    places = [a if a < axis else a + length - 1 for a in range(input.ndim)]
    return call.value(call.shape, renumbered(rest.carried, places))


# -- sums ------------------------------------------------------------------------------------------


@aten("mean sum amax amin var std prod logsumexp max min any all linalg_vector_norm norm var_mean "
      "std_mean nansum")  # fmt: skip
def reduced(call: Call, input: Value, *args: Any, **kwargs: Any) -> list[Value] | None:
    """Permuting what is summed over changes nothing; the place of a maximum is not followed."""
    probe = torch.ones(tuple(range(2, 2 + input.ndim)))  # the lengths name the axes
    found = call.called(probe, *args, **kwargs)
    shapes = [tuple(t.shape) for t in (found if isinstance(found, tuple) else (found,))]
    left = [length - 2 for length in shapes[0] if length > 1]
    gone = [axis for axis in range(input.ndim) if axis not in left]
    shape, carried = summed(input, gone, keepdim=len(shapes[0]) == input.ndim and bool(gone))
    return [call.value(shape, carried) for _ in shapes]


@aten("dot vdot")
def inner(call: Call, left: Value, right: Value) -> Value:
    met(left.shape, [left, right], _meets(call))
    return call.value(())


@aten("glu")
def gated(call: Call, input: Value, dim: int = -1) -> Value:
    """One half, gated by the other."""
    half = input.shape[dim] // 2
    parts = through(input, torch.split, (half, dim), {})
    return call.value(call.shape, met(call.shape, parts, _meets(call)))


@aten("_softmax _log_softmax")
def softmax(call: Call, input: Value, dim: int, *_: Any) -> Value:
    summed(input, [dim], keepdim=False)
    return call.value(call.shape, input.carried)


def _beside(value: Value | None, axis: int, ndim: int) -> list[Value]:
    """Parameters with one entry per entry of an axis, as a tensor of ``ndim`` axes."""
    if value is None or not isinstance(value, Value):
        return []
    shape = [value.shape[0] if a == axis else 1 for a in range(ndim)]
    carried = tuple(Carried((axis,), each.entries) for each in value.carried)
    return [Value(value.units, tuple(shape), carried, value.data)]


@aten("native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training "
      "cudnn_batch_norm miopen_batch_norm")  # fmt: skip
def batch_norm(call: Call, input: Value, *own: Any, **__: Any) -> Value:
    """Parameters and statistics of the channels, which all move alike, in whatever order."""
    parts = [part for each in own for part in _beside(each, 1, input.ndim)]
    reason = f"scaled by fixed values at {call.place}"
    return call.value(call.shape, met(call.shape, [input, *parts], reason))


@aten("native_group_norm")
def group_norm(
    call: Call, input: Value, weight: Value | None, bias: Value | None, n: int, c: int, hxw: int,
    groups: int, eps: float,
) -> Value:  # fmt: skip
    """Units of a group may change places, and whole groups."""
    shape = (input.shape[0], groups, c // groups, *input.shape[2:])
    apart = viewed(input, shape, f"normalised in {groups} groups at {call.place}")
    summed(apart, range(2, len(shape)), keepdim=False)
    return batch_norm(call, input, weight, bias)


@aten("native_layer_norm _fused_rms_norm")
def layer_norm(call: Call, input: Value, shape: Sequence[int], *own: Any) -> Value:
    summed(input, range(input.ndim - len(shape), input.ndim), keepdim=False)
    parts = [each for each in own if isinstance(each, Value)]
    reason = f"scaled by fixed values at {call.place}"
    return call.value(call.shape, met(call.shape, [input, *parts], reason))


# -- weights ---------------------------------------------------------------------------------------


@aten("mm bmm mv")
def product(call: Call, left: Value, right: Value) -> Value:
    """[..., i, k] times [..., k, j]: what is summed over moves alike in both."""
    columns = right.ndim > 1
    if not columns:
        right = _apart(right, 1, 1)  # a vector is one column
    _opens(call, left, right)
    batch = left.ndim - 2
    a, b = _apart(left, batch + 1, 1), _apart(right, batch, max(0, left.ndim - 1 - batch))
    shape = (*left.shape[:batch], *left.shape[batch:-1], right.shape[-1], left.shape[-1])
    return _contracted(call, a, b, shape, columns)


def _apart(value: Value, at: int, count: int) -> Value:
    """With axes of length 1 before an axis."""
    shape = (*value.shape[:at], *[1] * count, *value.shape[at:])
    places = [a if a < at else a + count for a in range(value.ndim)]
    return Value(value.units, shape, renumbered(value.carried, places), value.data)


def _contracted(call: Call, a: Value, b: Value, shape: tuple[int, ...], columns: bool) -> Value:
    """The sum over k of a [..., i, 1, k] and b [..., 1, k, j]."""
    swap = [*range(b.ndim - 2), b.ndim - 1, b.ndim - 2]
    turned = through(b, torch.permute, (swap,), {})[0]
    carried = met(shape, [a, turned], f"read by fixed weights at {call.place}")
    both = Value(call.units, shape, carried, call.data)
    rest, carried = summed(both, [-1], keepdim=False)
    if not columns:
        rest, carried = summed(Value(call.units, rest, carried), [-1], keepdim=False)
    return call.value(rest, carried)


@aten("addmm addmv baddbmm")
def product_with_bias(call: Call, bias: Value, left: Value, right: Value, **__: Any) -> Value:
    reason = f"a fixed bias is added at {call.place}"
    return call.value(call.shape, met(call.shape, [product(call, left, right), bias], reason))


def _opens(call: Call, left: Value, right: Value) -> None:
    """Of a product with weights, their free axes are a layer's units."""
    if left.data and right.data:
        return
    weight, axis = (left, left.ndim - 2) if right.data else (right, right.ndim - 1)
    for each in weight.carried:
        if axis in each.axes:
            call.open(each.entries)


@aten("_scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_efficient_attention "
      "_scaled_dot_product_flash_attention _scaled_dot_product_fused_attention_overrideable")  # fmt: skip
def attention(
    call: Call, query: Value, key: Value, value: Value, *args: Any, attn_mask: Value | None = None,
    **__: Any,
) -> Value:  # fmt: skip
    """Of [N, heads, tokens, dims]: two products with a softmax between them."""
    turned = through(key, torch.transpose, (-1, -2), {})[0]
    scores = product(call, query, turned)
    masks = [x for x in (attn_mask, *args) if isinstance(x, Value)]
    scores = call.value(scores.shape, met(scores.shape, [scores, *masks], _meets(call)))
    return product(call, softmax(call, scores, -1), value)


@aten("convolution convolution_overrideable _convolution mkldnn_convolution cudnn_convolution")
def convolution(
    call: Call, input: Value, weight: Value, bias: Value | None, stride: Any = 1, padding: Any = 0,
    dilation: Any = 1, transposed: bool = False, output_padding: Any = 0, groups: int = 1,
    *_: Any,
) -> Value:  # fmt: skip
    """Of all kinds, on [N, channels, ...]; in groups, each is a block of channels."""
    ndim = input.ndim
    image = in_order(input, range(2, ndim), f"the convolution {call.place} runs along it")
    image = Value(call.units, input.shape[:2], image.carried, input.data)
    if groups == 1:
        turned = in_order(weight, range(2, ndim), "")
        turned = Value(call.units, weight.shape[:2], turned.carried, weight.data)
        if not transposed:
            turned = through(turned, torch.t, (), {})[0]
        found = product(call, image, turned)
    else:
        found = _in_groups(call, image, weight, groups, transposed)
    out = [call.value(call.shape, found.carried), *_beside(bias, 1, ndim)]
    return call.value(call.shape, met(call.shape, out, f"a fixed bias is added at {call.place}"))


def _in_groups(call: Call, image: Value, weight: Value, groups: int, transposed: bool) -> Value:
    """[N, groups, m] times [groups, o, m]: the blocks move together, and units within them."""
    n, m = image.shape[0], image.shape[1] // groups
    apart = viewed(image, (n, groups, 1, m), "")
    filters = _filters(call, weight, groups, transposed)
    o = filters.shape[1]
    for each in filters.carried:
        if 1 in each.axes:
            call.open(each.entries)
            if m == 1 and each.entries.ndim > 1:  # the filters of a channel keep their order
                call.units.tie(each.entries[:, :-1], each.entries[:, 1:])
    shape = (n, groups, o, m)
    reason = f"read in {groups} groups at {call.place} with what does not move"
    both = Value(call.units, shape, met(shape, [apart, filters], reason), call.data)
    rest, carried = summed(both, [3], keepdim=False)
    return viewed(call.value(rest, carried), (n, groups * o), reason)


def _filters(call: Call, weight: Value, groups: int, transposed: bool) -> Value:
    """The weight as [groups, o, m], with its units in each group."""
    if weight.key:
        found = call.state.in_groups(weight.key, groups, weight.shape)
        writes, reads = found.first, found.second
        if transposed:
            writes, reads = reads, writes
        shape = (groups, writes.shape[1], reads.shape[1])
        return Value(call.units, shape, (Carried((0, 1), writes), Carried((0, 2), reads)))
    turned = in_order(weight, range(2, weight.ndim), "")
    flat = Value(call.units, weight.shape[:2], turned.carried, weight.data)
    apart = viewed(flat, (groups, weight.shape[0] // groups, weight.shape[1]), "")
    return through(apart, torch.transpose, (1, 2), {})[0] if transposed else apart


# -- pixels ----------------------------------------------------------------------------------------


def _along(count: int) -> Any:
    def rule(call: Call, input: Value, *_: Any, **__: Any) -> Found:
        axes = range(2, input.ndim) if count == 0 else range(input.ndim - count, input.ndim)
        return call.value(call.shape, in_order(input, axes, f"{call.place} runs along it").carried)

    return rule


aten("upsample_nearest1d upsample_nearest2d upsample_nearest3d _upsample_nearest_exact1d "
     "_upsample_nearest_exact2d _upsample_nearest_exact3d upsample_linear1d upsample_bilinear2d "
     "upsample_bicubic2d upsample_trilinear3d _upsample_bilinear2d_aa _upsample_bicubic2d_aa "
     "grid_sampler_2d")(_along(0))  # fmt: skip
for k in (1, 2, 3):
    aten(
        f"max_pool{k}d max_pool{k}d_with_indices avg_pool{k}d adaptive_max_pool{k}d "
        f"adaptive_avg_pool{k}d _adaptive_avg_pool{k}d mkldnn_max_pool{k}d"
    )(_along(k))


@aten("pixel_shuffle")
def pixel_shuffle(call: Call, input: Value, factor: int) -> Value:
    """[..., C r r, H, W] to [..., C, H r, W r]."""
    *batch, c, h, w = input.shape
    b, r, why = len(batch), factor, f"its entries are rearranged at {call.place}"
    apart = viewed(input, (*batch, c // r**2, r, r, h, w), why)
    order = [*range(b), b, b + 3, b + 1, b + 4, b + 2]
    return viewed(through(apart, torch.permute, (order,), {})[0], call.shape, why)


@aten("channel_shuffle native_channel_shuffle")
def channel_shuffle(call: Call, input: Value, groups: int) -> Value:
    n, c, *rest = input.shape
    why = f"its entries are rearranged at {call.place}"
    apart = viewed(input, (n, groups, c // groups, *rest), why)
    return viewed(through(apart, torch.transpose, (1, 2), {})[0], call.shape, why)
