"""VGGs for small images: 3x3 convolutions with bias, max pools, one linear layer, no dropout.

VGG11 is without norm, as the authors of the paper build it. Those with LayerNorm over channels
behind each convolution are of Sharma et al. (2024): VGG16 as their released code has it, with the
2x2 average pool in the end as the mean over whatever positions are left, and a small one of six
convolutions, of ours.

On images smaller than 32 pixels a pool applies only while its map has more than one pixel a side,
so that at 32 pixels these are the authors' networks and 8 pixel digits work too. On images of 64
pixels and more the last map of VGG11 has several pixels, and the classifier has a column for each.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Generator, Tensor, nn

from pipeline.catalog import layers
from pipeline.catalog import networks as catalog
from pipeline.models.groups import Observed
from pipeline.models.parts import ChannelNorm, kaiming_normal


class VGG(nn.Module):
    """Images [N, channels, size, size] to logits [N, classes]."""

    def __init__(
        self, design: Design, *, width: float, classes: int, channels: int, size: int
    ) -> None:
        super().__init__()
        self.channels, self.size, self.mean = channels, size, design.norm
        self.features = nn.Sequential()
        inputs, number, side = channels, 0, size
        for layer in design.layers:
            if layer is None:
                if side > 1:
                    self.features.add_module(f"pool{number}", nn.MaxPool2d(2))
                    side //= 2
                continue
            number += 1
            outputs = catalog.scaled(layer, width)
            self.features.add_module(f"conv{number}", nn.Conv2d(inputs, outputs, 3, padding=1))
            if design.norm:
                self.features.add_module(f"norm{number}", ChannelNorm(outputs))
            self.features.add_module(f"relu{number}", nn.ReLU(inplace=True))
            inputs = outputs
        self.classifier = nn.Linear(inputs if self.mean else inputs * side * side, classes)

    def forward(self, images: Tensor) -> Tensor:
        features = self.features(images)
        features = features.mean((2, 3)) if self.mean else features.flatten(1)
        logits: Tensor = self.classifier(features)
        return logits


def _uniform(layer: nn.Conv2d | nn.Linear, generator: Generator) -> None:
    """PyTorch's default: weights uniform within 1 / sqrt(fan in)."""
    nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5), generator=generator)


@dataclass(frozen=True)
class Design:
    """One of the VGGs."""

    layers: tuple[int | None, ...]
    """Output channels of each convolution at width 1; `None` is a 2x2 max pool."""
    norm: bool
    """LayerNorm behind each convolution, and the mean over positions before the classifier."""
    initialise: Callable[[nn.Conv2d | nn.Linear, Generator], None]
    """Draws the weight of a layer."""

    def network(self, width: float, classes: int, channels: int, size: int) -> nn.Module:
        """The uninitialised network."""
        return VGG(self, width=width, classes=classes, channels=channels, size=size)

    def images(self, model: VGG) -> tuple[int, int]:
        """Channels and size of the images that the network reads."""
        return model.channels, model.size

    def observed(self, taps: str) -> list[Observed]:
        """A group per convolution, observed after the ReLU and before any pool.

        ``taps`` changes nothing here.
        """
        del taps
        convolutions = sum(layer is not None for layer in self.layers)
        return [
            Observed(f"features.conv{number}", f"conv{number}", f"features.relu{number}")
            for number in range(1, convolutions + 1)
        ]


VGG11 = Design(layers.VGG11, norm=False, initialise=_uniform)
VGG16_LN = Design(layers.VGG16, norm=True, initialise=kaiming_normal)
VGG8_LN = Design(layers.VGG8, norm=True, initialise=kaiming_normal)
