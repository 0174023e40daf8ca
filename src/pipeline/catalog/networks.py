"""Facts about the networks in pure Python: what a study is checked against and planned with.

Nothing here imports torch. `pipeline.models` builds the networks from the same lists of layers,
and tests hold the counts against the real modules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

RESNET20_BLOCKS = (3, 3, 3)
"""Basic blocks of each stage; stages 2 and 3 start with stride 2 and a convolutional shortcut."""

RESNET50_BLOCKS = (3, 4, 6, 3)
"""Bottleneck blocks of each stage; the first of each has a convolution on its shortcut."""

VGG11_LAYERS: tuple[int | None, ...] = (
    (64, None, 128, None) + (256, 256, None) + (512, 512, None) * 2
)
"""Output channels of each 3x3 convolution at width 1; `None` is a 2x2 max pool."""


@dataclass(frozen=True)
class Cost:
    """Parameters and multiply-accumulates (of one image) of one layer."""

    parameters: int
    macs: int = 0


@dataclass(frozen=True)
class ModelInfo:
    """One network: its width rule and its counts.

    ``base`` channels at width 1 of the narrowest layer, which grow with the width to the ``power``;
    ``layers(width, classes, channels, size)`` yields the cost of every layer that has parameters.
    """

    name: str
    base: int
    layers: Callable[[float, int, int, int], Iterator[Cost]]
    power: int = field(default=1, kw_only=True)

    def width_error(self, width: float) -> str | None:
        """None if ``width`` gives whole channel numbers, else one line: what is allowed."""
        if isinstance(width, int | float) and not isinstance(width, bool):
            # the outer channels, and the inner ones of a bottleneck
            narrowest = [width * self.base, width * self.base * width ** (self.power - 1)]
            if all(count >= 1 and float(count).is_integer() for count in narrowest):
                return None
        squared = " and width²" if self.power == 2 else ""
        return (
            f"width {width!r} of {self.name}: {self.base} x width{squared} must be a whole number "
            f"of channels, 1 or more (1, 0.5, 4 ...)"
        )

    def parameters(self, width: float, classes: int, channels: int, size: int = 32) -> int:
        """Trainable parameters, BatchNorm and biases included (buffers are not)."""
        return sum(layer.parameters for layer in self.layers(width, classes, channels, size))

    def forward_flops(self, width: float, classes: int, channels: int, size: int) -> int:
        """FLOPs of one image's forward pass: 2 x multiply-accumulates of conv and linear layers."""
        return 2 * sum(layer.macs for layer in self.layers(width, classes, channels, size))


def scaled(channels: int, width: float) -> int:
    """Channels of a layer at this width; exact where `ModelInfo.width_error` has no complaint."""
    return round(channels * width)


def vgg_map_size(size: int) -> int:
    """Pixels along one side of VGG's last feature map: a pool applies only while there are > 1."""
    for layer in VGG11_LAYERS:
        if layer is None and size > 1:
            size //= 2
    return size


def _conv3x3(inputs: int, outputs: int, size: int, *, bias: bool) -> Cost:
    weights = 9 * inputs * outputs
    return Cost(weights + (outputs if bias else 0), weights * size * size)


def _linear(inputs: int, outputs: int) -> Cost:
    return Cost(inputs * outputs + outputs, inputs * outputs)


def _resnet20(width: float, classes: int, channels: int, size: int) -> Iterator[Cost]:
    inputs = scaled(16, width)
    yield _conv3x3(channels, inputs, size, bias=False)
    yield Cost(2 * inputs)
    for stage, blocks in enumerate(RESNET20_BLOCKS):
        outputs = scaled(16 << stage, width)
        for block in range(blocks):
            downsample = stage > 0 and block == 0
            if downsample:
                size = (size + 1) // 2
            convolutions = [inputs, outputs] + [inputs] * downsample
            for fan in convolutions:
                yield _conv3x3(fan, outputs, size, bias=False)
                yield Cost(2 * outputs)
            inputs = outputs
    yield _linear(inputs, classes)


def _vgg11(width: float, classes: int, channels: int, size: int) -> Iterator[Cost]:
    inputs = channels
    for layer in VGG11_LAYERS:
        if layer is None:
            size = max(1, size // 2)
        else:
            yield _conv3x3(inputs, scaled(layer, width), size, bias=True)
            inputs = scaled(layer, width)
    yield _linear(inputs * size * size, classes)


def _resnet50(width: float, classes: int, channels: int, size: int) -> Iterator[Cost]:
    """torchvision's bottleneck network; the width multiplies planes and base width alike."""

    def conv(inputs: int, outputs: int, kernel: int, size: int) -> Iterator[Cost]:
        weights = kernel * kernel * inputs * outputs
        yield Cost(weights, weights * size * size)
        yield Cost(2 * outputs)

    inputs, size = scaled(64, width), (size + 1) // 2
    yield from conv(channels, inputs, 7, size)
    size = (size + 1) // 2
    for stage, blocks in enumerate(RESNET50_BLOCKS):
        planes = scaled(64 << stage, width)
        inner = scaled(planes, width)
        for block in range(blocks):
            yield from conv(inputs, inner, 1, size)
            if block == 0 and stage > 0:
                size = (size + 1) // 2
            yield from conv(inner, inner, 3, size)
            yield from conv(inner, 4 * planes, 1, size)
            if block == 0:
                yield from conv(inputs, 4 * planes, 1, size)
            inputs = 4 * planes
    yield _linear(inputs, classes)


MODELS: dict[str, ModelInfo] = {
    info.name: info
    for info in (
        ModelInfo("resnet20", 16, _resnet20),
        ModelInfo("vgg11", 64, _vgg11),
        ModelInfo("resnet50", 64, _resnet50, power=2),
    )
}
