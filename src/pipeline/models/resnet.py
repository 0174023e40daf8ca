"""ResNet20 for small images, as the authors of the paper build it.

Basic blocks of two 3x3 convolutions, channels 16w, 32w, 64w, BatchNorm after every convolution,
no convolution bias. The shortcut that changes shape is a 3x3 stride-2 convolution with BatchNorm,
neither option A nor the 1x1 option B of the ResNet paper.
"""

from __future__ import annotations

from torch import Generator, Tensor, nn

from pipeline.catalog import networks as catalog
from pipeline.models.groups import Observed

#: Basic blocks of each stage; stages 2 and 3 start with stride 2 and a convolutional shortcut.
BLOCKS = (3, 3, 3)


def _conv3x3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)


class Shortcut(nn.Sequential):
    """3x3 stride-2 convolution and BatchNorm: the way around a block that changes shape."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = _conv3x3(inputs, outputs, stride=2)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, images: Tensor) -> Tensor:
        outputs: Tensor = self.bn(self.conv(images))
        return outputs


class BasicBlock(nn.Module):
    """``relu2(bn2(conv2(relu1(bn1(conv1(x))))) + shortcut(x))``."""

    def __init__(self, inputs: int, outputs: int, *, downsample: bool) -> None:
        super().__init__()
        self.conv1 = _conv3x3(inputs, outputs, stride=2 if downsample else 1)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = _conv3x3(outputs, outputs)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = Shortcut(inputs, outputs) if downsample else nn.Identity()
        self.relu2 = nn.ReLU(inplace=True)

    def forward(self, images: Tensor) -> Tensor:
        inner = self.relu1(self.bn1(self.conv1(images)))
        outputs: Tensor = self.relu2(self.bn2(self.conv2(inner)) + self.shortcut(images))
        return outputs


def _stage(number: int, inputs: int, outputs: int) -> nn.Sequential:
    first = BasicBlock(inputs, outputs, downsample=number > 1)
    others = range(1, BLOCKS[number - 1])
    return nn.Sequential(first, *(BasicBlock(outputs, outputs, downsample=False) for _ in others))


class ResNet20(nn.Module):
    """Images [N, channels, size, size] to logits [N, classes]; any size."""

    def __init__(self, *, width: float, classes: int, channels: int) -> None:
        super().__init__()
        inputs = catalog.scaled(16, width)
        self.conv1 = _conv3x3(channels, inputs)
        self.bn1 = nn.BatchNorm2d(inputs)
        self.relu = nn.ReLU(inplace=True)
        self.stage1 = _stage(1, inputs, catalog.scaled(16, width))
        self.stage2 = _stage(2, catalog.scaled(16, width), catalog.scaled(32, width))
        self.stage3 = _stage(3, catalog.scaled(32, width), catalog.scaled(64, width))
        self.classifier = nn.Linear(catalog.scaled(64, width), classes)

    def stem(self, images: Tensor) -> Tensor:
        """What the first block reads."""
        features: Tensor = self.relu(self.bn1(self.conv1(images)))
        return features

    def forward(self, images: Tensor) -> Tensor:
        features = self.stage3(self.stage2(self.stage1(self.stem(images))))
        # a mean, because the backward pass of adaptive pooling is not deterministic on a GPU
        logits: Tensor = self.classifier(features.mean((2, 3)))
        return logits


def network(width: float, classes: int, channels: int, size: int) -> nn.Module:
    """The uninitialised network; global pooling makes it fit any ``size``."""
    return ResNet20(width=width, classes=classes, channels=channels)


def initialise(layer: nn.Conv2d | nn.Linear, generator: Generator) -> None:
    """Kaiming normal (fan in) weights."""
    nn.init.kaiming_normal_(layer.weight, generator=generator)


def images(model: ResNet20) -> tuple[int, int]:
    """Channels and size of images that the network reads; any size would do."""
    return model.conv1.in_channels, 8


def observed(taps: str) -> list[Observed]:
    """Nine inner groups, one per block, and three residual streams, each observed after its ReLU.

    Streams are observed at the output of the last block of their stage, or, with
    ``taps="authors"``, stage 3 at the last block but one, as in the authors' code.
    """
    inner: list[Observed] = []
    streams: list[Observed] = []
    for number, count in enumerate(BLOCKS, start=1):
        stream = f"stage{number}"
        for block in (f"{stream}.{index}" for index in range(count)):
            inner.append(Observed(f"{block}.conv1", f"{block}.inner", f"{block}.relu1"))
        last = count - 2 if taps == "authors" and number == 3 else count - 1
        # the stem comes first in the stream of stage 1
        opens = "conv1" if number == 1 else f"{stream}.0.conv2"
        streams.append(Observed(opens, stream, f"{stream}.{last}.relu2"))
    return [*inner, *streams]
