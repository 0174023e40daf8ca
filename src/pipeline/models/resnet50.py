"""torchvision's ResNet50 (bottleneck blocks, version 1.5), in any width of the paper's sense.

Blocks, names of tensors and initialisation are torchvision's, so that its weights load at width 1.
Width multiplies the planes and the base width alike, as the authors do: the outer channels of a
block grow with the width, the inner ones with its square (width 2: 271 million parameters).
"""

from __future__ import annotations

import math

from torch import Generator, Tensor, nn

from pipeline.models import catalog
from pipeline.symmetry import Group, PermutationSpec, conv_bn_axes


class ResNet50(nn.Module):
    """Images [N, channels, size, size] to logits [N, classes]; any size from 32 or so."""

    def __init__(self, *, width: float, classes: int, channels: int) -> None:
        super().__init__()
        inputs = catalog.scaled(64, width)
        self.conv1 = nn.Conv2d(channels, inputs, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(inputs)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        stages = []
        for stage, blocks in enumerate(catalog.RESNET50_BLOCKS):
            planes = catalog.scaled(64 << stage, width)
            stages.append(_stage(inputs, planes, blocks, stride=2 if stage else 1, width=width))
            inputs = 4 * planes
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.fc = nn.Linear(inputs, classes)

    def forward(self, images: Tensor) -> Tensor:
        features = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        features = self.layer4(self.layer3(self.layer2(self.layer1(features))))
        # a mean, because the backward pass of adaptive pooling is not deterministic on a GPU
        logits: Tensor = self.fc(features.mean((2, 3)))
        return logits


def _stage(inputs: int, planes: int, blocks: int, *, stride: int, width: float) -> nn.Sequential:
    from torchvision.models.resnet import Bottleneck

    outputs = planes * Bottleneck.expansion
    downsample = nn.Sequential(
        nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
    )
    base_width = catalog.scaled(64, width)
    first = Bottleneck(inputs, planes, stride, downsample, base_width=base_width)
    others = (Bottleneck(outputs, planes, base_width=base_width) for _ in range(1, blocks))
    return nn.Sequential(first, *others)


def network(width: float, classes: int, channels: int, size: int) -> nn.Module:
    """The uninitialised network; global pooling makes it fit any ``size``."""
    return ResNet50(width=width, classes=classes, channels=channels)


def initialise(model: nn.Module, generator: Generator) -> None:
    """As torchvision: Kaiming normal (fan out) convolutions; the classifier as PyTorch's default.

    BatchNorm starts at weight 1 and bias 0 everywhere (``zero_init_residual=False``).
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(
                module.weight, mode="fan_out", nonlinearity="relu", generator=generator
            )
        elif isinstance(module, nn.Linear):
            nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5), generator=generator)
            bound = 1 / math.sqrt(module.in_features)
            nn.init.uniform_(module.bias, -bound, bound, generator=generator)


def permutation_spec(model: nn.Module, taps: str) -> PermutationSpec:
    """37 groups: two inner ones per block, a residual stream per stage, and the stem.

    The inner groups lie between a block's convolutions. All blocks of a stage and its downsampling
    convolution write to one stream. The stem is a group of its own, because both the first
    convolution and the downsampling of ``layer1.0`` read it and neither passes it on; max pooling
    works on each channel alone. Every group is observed after its ReLU, where the next layer reads
    it; ``taps`` changes nothing, the authors observe the same places.
    """
    del taps
    tensors = model.state_dict()
    groups: list[Group] = []
    axes: dict[str, tuple[str | None, ...]] = {}

    def conv_bn(conv: str, bn: str, outputs: str, inputs: str | None) -> None:
        axes.update(conv_bn_axes(conv, bn, outputs, inputs))

    def units(conv: str) -> int:
        return len(tensors[f"{conv}.weight"])

    conv_bn("conv1", "bn1", "stem", None)
    streams = [Group("stem", units("conv1"), "maxpool")]
    previous = "stem"
    for number, count in enumerate(catalog.RESNET50_BLOCKS, start=1):
        stream = f"layer{number}"
        for index in range(count):
            block = f"{stream}.{index}"
            first, second = f"{block}.inner1", f"{block}.inner2"
            conv_bn(f"{block}.conv1", f"{block}.bn1", first, previous)
            conv_bn(f"{block}.conv2", f"{block}.bn2", second, first)
            conv_bn(f"{block}.conv3", f"{block}.bn3", stream, second)
            if index == 0:
                conv_bn(f"{block}.downsample.0", f"{block}.downsample.1", stream, previous)
            # torchvision's block calls one ReLU three times: its inputs tell them apart
            groups.append(Group(first, units(f"{block}.conv1"), f"{block}.conv2", side="input"))
            groups.append(Group(second, units(f"{block}.conv2"), f"{block}.conv3", side="input"))
            previous = stream
        streams.append(Group(stream, units(f"{stream}.0.conv3"), f"{stream}.{count - 1}"))
    axes["fc.weight"] = (None, previous)
    axes["fc.bias"] = (None,)
    return PermutationSpec((*groups, *streams), axes)
