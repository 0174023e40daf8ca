"""What several networks are made of: LayerNorm over channels, and Kaiming's initialisation."""

from __future__ import annotations

from torch import Generator, Tensor, nn


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels at each position of images [N, C, H, W]; affine, epsilon 1e-5.

    Permuting the channels of its input and of weight and bias permutes its output.
    """

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images.movedim(1, -1)).movedim(-1, 1)


def kaiming_normal(layer: nn.Conv2d | nn.Linear, generator: Generator) -> None:
    """Kaiming normal (fan in) weights."""
    nn.init.kaiming_normal_(layer.weight, generator=generator)
