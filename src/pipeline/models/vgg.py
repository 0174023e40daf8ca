"""VGG11 without BatchNorm for small images, as the authors of the paper build it.

Eight 3x3 convolutions with bias, five max pools, one linear layer, no dropout. On images smaller
than 32 pixels a pool applies only while its map has more than one pixel a side, so that at 32
pixels this is the authors' network and 8 pixel digits work too. On images of 64 pixels and more
the last map has several pixels, and the classifier has a column for each of them.
"""

from __future__ import annotations

import math

from torch import Generator, Tensor, nn

from pipeline.catalog import networks as catalog
from pipeline.models.groups import Observed

#: Output channels of each 3x3 convolution at width 1; `None` is a 2x2 max pool.
LAYERS = (64, None, 128, None, 256, 256, None, 512, 512, None, 512, 512, None)


class VGG11(nn.Module):
    """Images [N, channels, size, size] to logits [N, classes]."""

    def __init__(self, *, width: float, classes: int, channels: int, size: int) -> None:
        super().__init__()
        self.channels, self.size = channels, size
        self.features = nn.Sequential()
        inputs, number, side = channels, 0, size
        for layer in LAYERS:
            if layer is None:
                if side > 1:
                    self.features.add_module(f"pool{number}", nn.MaxPool2d(2))
                    side //= 2
                continue
            number += 1
            outputs = catalog.scaled(layer, width)
            self.features.add_module(f"conv{number}", nn.Conv2d(inputs, outputs, 3, padding=1))
            self.features.add_module(f"relu{number}", nn.ReLU(inplace=True))
            inputs = outputs
        self.classifier = nn.Linear(inputs * side * side, classes)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.features(images).flatten(1))
        return logits


def network(width: float, classes: int, channels: int, size: int) -> nn.Module:
    """The uninitialised network."""
    return VGG11(width=width, classes=classes, channels=channels, size=size)


def initialise(layer: nn.Conv2d | nn.Linear, generator: Generator) -> None:
    """PyTorch's default: weights uniform within 1 / sqrt(fan in)."""
    nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5), generator=generator)


def images(model: VGG11) -> tuple[int, int]:
    """Channels and size of the images that the network reads."""
    return model.channels, model.size


def observed(taps: str) -> list[Observed]:
    """Eight groups, one per convolution, observed after the ReLU and before any pool.

    ``taps`` changes nothing here.
    """
    del taps
    convolutions = sum(layer is not None for layer in LAYERS)
    return [
        Observed(f"features.conv{number}", f"conv{number}", f"features.relu{number}")
        for number in range(1, convolutions + 1)
    ]
