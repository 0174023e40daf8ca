"""Permutation groups of the built-in networks, written out by hand: what tracing has to find."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from pipeline.models import resnet, resnet50
from pipeline.symmetry.permutation import Group, PermutationSpec

Axes = dict[str, tuple[str | None, ...]]


def handwritten(name: str, model: nn.Module, *, taps: str = "last") -> PermutationSpec:
    """Groups of a network, in order, with their taps and the axes of every tensor."""
    if name.startswith("resnet20"):
        return resnet20_groups(model, taps, conv_bn if name == "resnet20" else conv_norm)
    if name == "resnet50":
        return resnet50_groups(model, taps)
    layers = {"vgg11": 8, "vgg8_ln": 6, "vgg16_ln": 13, "mlp": 3}[name]
    return chain_groups(model, layers, "linear" if name == "mlp" else "conv")


def conv_bn(conv: str, bn: str, outputs: str, inputs: str | None) -> Axes:
    """Axes of a convolution without bias and of the BatchNorm behind it, by tensor name.

    ``outputs`` and ``inputs`` are the groups of the channels that it writes and reads.
    """
    axes: Axes = {f"{conv}.weight": (outputs, inputs, None, None)}
    for kind in ("weight", "bias", "running_mean", "running_var"):
        axes[f"{bn}.{kind}"] = (outputs,)
    return axes | {f"{bn}.num_batches_tracked": ()}


def conv_norm(conv: str, norm: str, outputs: str, inputs: str | None) -> Axes:
    """As ``conv_bn``, with LayerNorm over channels, which has no statistics."""
    axes = conv_bn(conv, norm, outputs, inputs)
    return {name: axes[name] for name in (f"{conv}.weight", f"{norm}.weight", f"{norm}.bias")}


def units(model: nn.Module, conv: str) -> int:
    """Output channels of a convolution."""
    return len(model.state_dict()[f"{conv}.weight"])


def resnet20_groups(model: nn.Module, taps: str, layer: Callable[..., Axes]) -> PermutationSpec:
    """Nine inner groups, one per block, and three groups tied along the residual stream.

    A block's inner group lives between its two convolutions. All blocks of a stage (and the stem,
    for stage 1) write to one stream, so they share its permutation; a shortcut reads the previous
    stage's stream and writes the new one; the classifier reads the last.
    """
    groups: list[Group] = []
    streams: list[Group] = []
    axes = layer("conv1", "bn1", "stage1", None)
    previous = "stage1"
    for number, count in enumerate(resnet.BLOCKS, start=1):
        stream = f"stage{number}"
        for index in range(count):
            block, inner = f"{stream}.{index}", f"{stream}.{index}.inner"
            axes |= layer(f"{block}.conv1", f"{block}.bn1", inner, previous)
            axes |= layer(f"{block}.conv2", f"{block}.bn2", stream, inner)
            if number > 1 and index == 0:
                axes |= layer(f"{block}.shortcut.conv", f"{block}.shortcut.bn", stream, previous)
            groups.append(Group(inner, units(model, f"{block}.conv1"), f"{block}.relu1"))
            previous = stream
        last = count - 2 if taps == "authors" and number == 3 else count - 1
        before = ["relu"] if number == 1 else []
        before += [f"{stream}.{index}.relu2" for index in range(count - 1)]
        also = tuple(before) if taps == "all" else ()
        size = units(model, f"{stream}.0.conv2")
        streams.append(Group(stream, size, f"{stream}.{last}.relu2", also=also))
    axes |= {"classifier.weight": (None, previous), "classifier.bias": (None,)}
    return PermutationSpec((*groups, *streams), axes)


def resnet50_groups(model: nn.Module, taps: str) -> PermutationSpec:
    """37 groups: two inner ones per block, a residual stream per stage, and the stem.

    The inner groups lie between a block's convolutions. All blocks of a stage and its downsampling
    convolution write to one stream. Both the first convolution and the downsampling of
    ``layer1.0`` read the stem, and neither passes it on.
    """
    groups: list[Group] = []
    axes = conv_bn("conv1", "bn1", "stem", None)
    streams = [Group("stem", units(model, "conv1"), "maxpool")]
    previous = "stem"
    for number, count in enumerate(resnet50.BLOCKS, start=1):
        stream = f"layer{number}"
        for index in range(count):
            block = f"{stream}.{index}"
            first, second = f"{block}.inner1", f"{block}.inner2"
            axes |= conv_bn(f"{block}.conv1", f"{block}.bn1", first, previous)
            axes |= conv_bn(f"{block}.conv2", f"{block}.bn2", second, first)
            axes |= conv_bn(f"{block}.conv3", f"{block}.bn3", stream, second)
            if index == 0:
                axes |= conv_bn(f"{block}.downsample.0", f"{block}.downsample.1", stream, previous)
            for name, conv, tap in ((first, "conv1", "conv2"), (second, "conv2", "conv3")):
                size = units(model, f"{block}.{conv}")
                groups.append(Group(name, size, f"{block}.{tap}", side="input"))
            previous = stream
        size = units(model, f"{stream}.0.conv3")
        also = tuple(f"{stream}.{i}" for i in range(count - 1)) if taps == "all" else ()
        streams.append(Group(stream, size, f"{stream}.{count - 1}", also=also))
    axes |= {"fc.weight": (None, previous), "fc.bias": (None,)}
    return PermutationSpec((*groups, *streams), axes)


def chain_groups(model: nn.Module, layers: int, kind: str) -> PermutationSpec:
    """A group for each of so many convolutions or linear layers behind each other.

    The classifier's columns are the flattened last map, channel by channel: each unit of the last
    group owns a run of columns, of which nothing is said where there is one column a unit.
    """
    state = model.state_dict()
    groups: list[Group] = []
    axes: Axes = {}
    previous: str | None = None
    for number in range(1, layers + 1):
        name, norm = f"{kind}{number}", f"features.norm{number}"
        groups.append(Group(name, units(model, f"features.{name}"), f"features.relu{number}"))
        weight = state[f"features.{name}.weight"]
        axes[f"features.{name}.weight"] = (name, previous, *[None] * (weight.ndim - 2))
        axes[f"features.{name}.bias"] = (name,)
        if f"{norm}.weight" in state:
            axes |= {f"{norm}.weight": (name,), f"{norm}.bias": (name,)}
        previous = name
    axes |= {"classifier.weight": (None, previous), "classifier.bias": (None,)}
    columns = state["classifier.weight"].shape[1] // groups[-1].size
    positions: dict[str, int | tuple[int, ...]] = {}
    if columns > 1:
        positions["classifier.weight"] = columns
    return PermutationSpec(tuple(groups), axes, positions)
