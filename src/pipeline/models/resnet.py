"""ResNet20 for small images.

Basic blocks of two 3x3 convolutions, channels 16w, 32w, 64w, a norm after every convolution, no
convolution bias. As the authors of the paper build it, the norm is BatchNorm and the shortcut that
changes shape is a 3x3 stride-2 convolution with BatchNorm, neither option A nor the 1x1 option B of
the ResNet paper. As Sharma et al. (2024) build it, LayerNorm over channels stands in the place of
every BatchNorm, under its name, and the shortcut is 1x1; git-re-basin's is 3x3.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from pipeline.catalog import layers
from pipeline.catalog import networks as catalog
from pipeline.models.groups import Observed
from pipeline.models.parts import ChannelNorm, kaiming_normal

#: Basic blocks of each stage; stages 2 and 3 start with stride 2 and a convolutional shortcut.
BLOCKS = layers.RESNET20


def _convolution(inputs: int, outputs: int, stride: int = 1, kernel: int = 3) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)


class Shortcut(nn.Sequential):
    """Stride-2 convolution and norm: the way around a block that changes shape."""

    def __init__(self, design: Design, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = _convolution(inputs, outputs, stride=2, kernel=design.shortcut)
        self.bn = design.norm(outputs)

    def forward(self, images: Tensor) -> Tensor:
        outputs: Tensor = self.bn(self.conv(images))
        return outputs


class BasicBlock(nn.Module):
    """``relu2(bn2(conv2(relu1(bn1(conv1(x))))) + shortcut(x))``."""

    def __init__(self, design: Design, inputs: int, outputs: int, *, downsample: bool) -> None:
        super().__init__()
        self.conv1 = _convolution(inputs, outputs, stride=2 if downsample else 1)
        self.bn1 = design.norm(outputs)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = _convolution(outputs, outputs)
        self.bn2 = design.norm(outputs)
        self.shortcut = Shortcut(design, inputs, outputs) if downsample else nn.Identity()
        self.relu2 = nn.ReLU(inplace=True)

    def forward(self, images: Tensor) -> Tensor:
        inner = self.relu1(self.bn1(self.conv1(images)))
        outputs: Tensor = self.relu2(self.bn2(self.conv2(inner)) + self.shortcut(images))
        return outputs


def _stage(design: Design, number: int, inputs: int, outputs: int) -> nn.Sequential:
    first = BasicBlock(design, inputs, outputs, downsample=number > 1)
    others = range(1, BLOCKS[number - 1])
    same = (BasicBlock(design, outputs, outputs, downsample=False) for _ in others)
    return nn.Sequential(first, *same)


class ResNet20(nn.Module):
    """Images [N, channels, size, size] to logits [N, classes]; any size."""

    def __init__(self, design: Design, *, width: float, classes: int, channels: int) -> None:
        super().__init__()
        one, two, four = (catalog.scaled(count, width) for count in (16, 32, 64))
        self.conv1 = _convolution(channels, one)
        self.bn1 = design.norm(one)
        self.relu = nn.ReLU(inplace=True)
        self.stage1 = _stage(design, 1, one, one)
        self.stage2 = _stage(design, 2, one, two)
        self.stage3 = _stage(design, 3, two, four)
        self.classifier = nn.Linear(four, classes)

    def stem(self, images: Tensor) -> Tensor:
        """What the first block reads."""
        features: Tensor = self.relu(self.bn1(self.conv1(images)))
        return features

    def forward(self, images: Tensor) -> Tensor:
        features = self.stage3(self.stage2(self.stage1(self.stem(images))))
        # a mean, because the backward pass of adaptive pooling is not deterministic on a GPU
        logits: Tensor = self.classifier(features.mean((2, 3)))
        return logits


@dataclass(frozen=True)
class Design:
    """One of the ResNet20s: its norm, and the kernel of its convolutional shortcuts."""

    norm: type[nn.BatchNorm2d | ChannelNorm] = nn.BatchNorm2d
    shortcut: int = 3

    def network(self, width: float, classes: int, channels: int, size: int) -> nn.Module:
        """The uninitialised network; global pooling makes it fit any ``size``."""
        return ResNet20(self, width=width, classes=classes, channels=channels)

    initialise = staticmethod(kaiming_normal)

    def images(self, model: ResNet20) -> tuple[int, int]:
        """Channels and size of images that the network reads; any size would do."""
        return model.conv1.in_channels, 8

    def observed(self, taps: str) -> list[Observed]:
        """Nine inner groups, one per block, and three residual streams, each after its ReLU.

        Streams are observed at the output of the last block of their stage, or, with
        ``taps="authors"``, stage 3 at the last block but one, as in the authors' code, or, with
        ``taps="all"``, at every ReLU that gives them.
        """
        inner: list[Observed] = []
        streams: list[Observed] = []
        for number, count in enumerate(BLOCKS, start=1):
            stream = f"stage{number}"
            blocks = [f"{stream}.{index}" for index in range(count)]
            inner += [
                Observed(f"{block}.conv1", f"{block}.inner", f"{block}.relu1") for block in blocks
            ]
            # the stem comes first in the stream of stage 1
            opens, stem = ("conv1", ["relu"]) if number == 1 else (f"{stream}.0.conv2", [])
            reached = [*stem, *(f"{block}.relu2" for block in blocks)]
            last = -2 if taps == "authors" and number == 3 else -1
            also = tuple(reached[:-1]) if taps == "all" else ()
            streams.append(Observed(opens, stream, reached[last], also=also))
        return [*inner, *streams]


RESNET20 = Design()
RESNET20_LN = Design(ChannelNorm, shortcut=1)
RESNET20_LN3 = Design(ChannelNorm, shortcut=3)
