"""torchvision's ResNet50 (bottleneck blocks, version 1.5), in any width of the paper's sense.

Blocks, names of tensors and initialisation are torchvision's, so that its weights load at width 1.
Width multiplies the planes and the base width alike, as the authors do: the outer channels of a
block grow with the width, the inner ones with its square (width 2: 271 million parameters).
"""

from __future__ import annotations

import math

from torch import Generator, Tensor, nn

from pipeline.catalog import networks as catalog
from pipeline.models.groups import Observed

#: Bottleneck blocks of each stage; the first of each has a convolution on its shortcut.
BLOCKS = (3, 4, 6, 3)


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
        for stage, blocks in enumerate(BLOCKS):
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


def initialise(layer: nn.Conv2d | nn.Linear, generator: Generator) -> None:
    """As torchvision: Kaiming normal (fan out) convolutions; the classifier as PyTorch's default.

    BatchNorm starts at weight 1 and bias 0 everywhere (``zero_init_residual=False``).
    """
    if isinstance(layer, nn.Conv2d):
        nn.init.kaiming_normal_(
            layer.weight, mode="fan_out", nonlinearity="relu", generator=generator
        )
    else:
        nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5), generator=generator)


def images(model: ResNet50) -> tuple[int, int]:
    """Channels and size of images that the network reads; any size would do."""
    return model.conv1.in_channels, 32


def observed(taps: str) -> list[Observed]:
    """37 groups: two inner ones per block, a residual stream per stage, and the stem.

    The stem is a group of its own, because both the first convolution and the downsampling of
    ``layer1.0`` read it and neither passes it on. Every group is observed after its ReLU, where the
    next layer reads it, as the authors do; with ``taps="all"`` a stream at every block.
    """
    inner: list[Observed] = []
    streams = [Observed("conv1", "stem", "maxpool")]
    for number, count in enumerate(BLOCKS, start=1):
        stream = f"layer{number}"
        for block in (f"{stream}.{index}" for index in range(count)):
            # torchvision's block calls one ReLU three times: its inputs tell them apart
            for one, following in ((1, 2), (2, 3)):
                tap = f"{block}.conv{following}"
                inner.append(Observed(f"{block}.conv{one}", f"{block}.inner{one}", tap, "input"))
        *before, last = (f"{stream}.{index}" for index in range(count))
        also = tuple(before) if taps == "all" else ()
        streams.append(Observed(f"{stream}.0.conv3", stream, last, also=also))
    return [*inner, *streams]
