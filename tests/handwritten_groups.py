"""Permutation groups of the built-in networks, written out by hand: what tracing has to find."""

from __future__ import annotations

from torch import nn

from pipeline.models import resnet, resnet50
from pipeline.symmetry.permutation import Group, PermutationSpec

Axes = dict[str, tuple[str | None, ...]]


def handwritten(name: str, model: nn.Module, *, taps: str = "last") -> PermutationSpec:
    """Groups of a network, in order, with their taps and the axes of every tensor."""
    if name == "resnet20":
        return resnet20_groups(model, taps)
    return {"vgg11": vgg11_groups, "resnet50": resnet50_groups}[name](model)


def conv_bn(conv: str, bn: str, outputs: str, inputs: str | None) -> Axes:
    """Axes of a convolution without bias and of the BatchNorm behind it, by tensor name.

    ``outputs`` and ``inputs`` are the groups of the channels that it writes and reads.
    """
    axes: Axes = {f"{conv}.weight": (outputs, inputs, None, None)}
    for kind in ("weight", "bias", "running_mean", "running_var"):
        axes[f"{bn}.{kind}"] = (outputs,)
    return axes | {f"{bn}.num_batches_tracked": ()}


def units(model: nn.Module, conv: str) -> int:
    """Output channels of a convolution."""
    return len(model.state_dict()[f"{conv}.weight"])


def resnet20_groups(model: nn.Module, taps: str) -> PermutationSpec:
    """Nine inner groups, one per block, and three groups tied along the residual stream.

    A block's inner group lives between its two convolutions. All blocks of a stage (and the stem,
    for stage 1) write to one stream, so they share its permutation; a shortcut reads the previous
    stage's stream and writes the new one; the classifier reads the last.
    """
    groups: list[Group] = []
    streams: list[Group] = []
    axes = conv_bn("conv1", "bn1", "stage1", None)
    previous = "stage1"
    for number, count in enumerate(resnet.BLOCKS, start=1):
        stream = f"stage{number}"
        for index in range(count):
            block, inner = f"{stream}.{index}", f"{stream}.{index}.inner"
            axes |= conv_bn(f"{block}.conv1", f"{block}.bn1", inner, previous)
            axes |= conv_bn(f"{block}.conv2", f"{block}.bn2", stream, inner)
            if number > 1 and index == 0:
                axes |= conv_bn(f"{block}.shortcut.conv", f"{block}.shortcut.bn", stream, previous)
            groups.append(Group(inner, units(model, f"{block}.conv1"), f"{block}.relu1"))
            previous = stream
        last = count - 2 if taps == "authors" and number == 3 else count - 1
        size = units(model, f"{stream}.0.conv2")
        streams.append(Group(stream, size, f"{stream}.{last}.relu2"))
    axes |= {"classifier.weight": (None, previous), "classifier.bias": (None,)}
    return PermutationSpec((*groups, *streams), axes)


def resnet50_groups(model: nn.Module) -> PermutationSpec:
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
        streams.append(Group(stream, size, f"{stream}.{count - 1}"))
    axes |= {"fc.weight": (None, previous), "fc.bias": (None,)}
    return PermutationSpec((*groups, *streams), axes)


def vgg11_groups(model: nn.Module) -> PermutationSpec:
    """Eight groups, one per convolution.

    The classifier's columns are the flattened last map, channel by channel: each unit of the last
    group owns a run of columns, of which nothing is said where there is one column a unit.
    """
    groups: list[Group] = []
    axes: Axes = {}
    previous: str | None = None
    for number in range(1, 9):
        name = f"conv{number}"
        groups.append(Group(name, units(model, f"features.{name}"), f"features.relu{number}"))
        axes[f"features.{name}.weight"] = (name, previous, None, None)
        axes[f"features.{name}.bias"] = (name,)
        previous = name
    axes |= {"classifier.weight": (None, previous), "classifier.bias": (None,)}
    columns = model.state_dict()["classifier.weight"].shape[1] // groups[-1].size
    positions: dict[str, int | tuple[int, ...]] = {}
    if columns > 1:
        positions["classifier.weight"] = columns
    return PermutationSpec(tuple(groups), axes, positions)
