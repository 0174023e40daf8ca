"""Torchvision's classification networks: what of their symmetry is found.

``python tests/families.py`` writes the table of docs/how-to/own-model.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipeline.symmetry import trace
from pipeline.symmetry.trace import Traced

PAGE = Path(__file__).parents[1] / "docs/how-to/own-model.md"
BEGIN, END = "<!-- python tests/families.py -->\n", "<!-- end -->\n"


@dataclass(frozen=True)
class Family:
    """The smallest network of a family, with its groups counted by hand, from its paper."""

    name: str
    network: str
    units: int
    """Groups of units: streams, hidden layers, gates."""
    blocks: int = 0
    """Groups of whole blocks: of grouped convolutions, heads."""
    stays: str = ""
    """What cannot be permuted, and why."""
    size: int = 64
    options: tuple[tuple[str, Any], ...] = ()

    def build(self) -> nn.Module:
        """The network with four classes and random weights."""
        from torchvision.models import get_model

        torch.manual_seed(0)
        model: nn.Module = get_model(
            self.network, weights=None, num_classes=4, **dict(self.options)
        )
        return model.eval()


def shuffled() -> int:
    """Groups of ShuffleNetV2, from what its splits and shuffles do to lists of units.

    A block passes the first half of the stream on, reads the second half and writes it anew; then
    the halves are interleaved. Units of one layer may change places if the same blocks read them;
    one that is alone stays. Each block has hidden units, the first of a stage on one side.
    """
    groups = 2  # the first convolution and the last
    for half, blocks in ((24, 4), (48, 8), (96, 4)):
        readers: dict[tuple[str, int], tuple[int, ...]] = {}

        def written(layer: str, half: int = half) -> list[tuple[str, int]]:
            return [(layer, unit) for unit in range(half)]

        left, right = written("side"), written("0")
        for block in range(1, blocks + 1):
            readers |= {unit: readers.get(unit, ()) for unit in (*left, *right)}
            stream = [unit for both in zip(left, right, strict=True) for unit in both]
            left, read = stream[:half], stream[half:]
            if block < blocks:
                readers |= {unit: (*readers[unit], block) for unit in read}
                right = written(str(block))
        together = Counter((layer, blocks) for (layer, _), blocks in readers.items())
        groups += blocks + sum(count > 1 for count in together.values())
    return groups


FAMILIES = (
    # five convolutions, two linear layers
    Family("AlexNet", "alexnet", 7),
    # a stream for each of 4 stages, 18 hidden layers
    Family("ConvNeXt", "convnext_tiny", 4 + 18),
    # 58 narrow layers, 58 that grow, 3 transitions, the stem
    Family("DenseNet", "densenet121", 58 + 58 + 3 + 1),
    # stem, 7 streams, 15 expansions, 16 gates, the last convolution
    Family("EfficientNet", "efficientnet_b0", 1 + 7 + 15 + 16 + 1),
    # 3 convolutions, 6 in each of 9 blocks
    Family("GoogLeNet", "googlenet", 3 + 9 * 6,
           options=(("aux_logits", False), ("init_weights", False))),
    # 94 convolutions
    Family("Inception", "inception_v3", 94, size=75,
           options=(("aux_logits", False), ("init_weights", False))),
    # 11 blocks: an expansion, its gate, two attentions of queries and keys, values and a hidden
    # layer; 4 streams, 2 convolutions before them, a hidden layer behind; heads of 22 attentions
    Family("MaxViT", "maxvit_t", 11 * (2 + 2 * 3) + 4 + 2 + 1, blocks=22, size=224),
    # stem, 7 streams, 16 expansions, the last convolution
    Family("MNASNet", "mnasnet0_5", 1 + 7 + 16 + 1),
    # stem, 7 streams, 16 expansions, the last convolution
    Family("MobileNetV2", "mobilenet_v2", 1 + 7 + 16 + 1),
    # stem, 5 streams, 10 expansions, 9 gates, the last convolution, a hidden layer
    Family("MobileNetV3", "mobilenet_v3_small", 1 + 5 + 10 + 9 + 1 + 1),
    # stem, 4 streams; 16 blocks of two layers in groups and a gate
    Family("RegNet", "regnet_y_400mf", 1 + 4 + 16 * 3, blocks=16),
    # 4 streams, the first from the stem on; 8 inner layers
    Family("ResNet", "resnet18", 4 + 8),
    # stem, 4 streams, 16 blocks of two layers in groups
    Family("ResNeXt", "resnext50_32x4d", 1 + 4 + 16 * 2, blocks=16),
    Family("ShuffleNetV2", "shufflenet_v2_x0_5", shuffled(),
           stays="single units that no other is shuffled and read like"),
    # all convolutions but the classifier
    Family("SqueezeNet", "squeezenet1_1", 25),
    # a stream for each of 4 stages; 12 blocks: queries and keys, values, a hidden layer
    Family("Swin", "swin_t", 4 + 12 * 3, blocks=12),
    Family("Swin V2", "swin_v2_t", 4 + 12 * 3 + 12, blocks=12),
    # eight convolutions, two linear layers
    Family("VGG", "vgg11", 10),
    # one stream; 12 blocks: queries and keys, values, a hidden layer
    Family("Vision transformer", "vit_b_16", 1 + 12 * 3, blocks=12, size=32,
           options=(("image_size", 32),)),
)  # fmt: skip


@dataclass(frozen=True)
class Seen:
    """A family's network, and what of its symmetry is found."""

    family: Family
    model: nn.Module
    found: Traced

    @classmethod
    def of(cls, family: Family) -> Seen:
        model = family.build()
        images = torch.zeros(2, 3, family.size, family.size)
        return cls(family, model, trace.trace(model, images))

    @property
    def groups(self) -> tuple[int, int]:
        """How many groups of units there are, and how many of blocks."""
        blocks = {group.within for group in self.found.spec.groups if group.within}
        return len(self.found.spec.groups) - len(blocks), len(blocks)

    @property
    def row(self) -> str:
        """Its line of the table."""
        family, (units, blocks) = self.family, self.groups
        layers = sum(isinstance(m, nn.Conv2d | nn.Linear) for m in self.model.modules())
        stays = family.stays if self.found.stay else "nothing"
        return f"| {family.name} | `{family.network}` | {layers} | {units} | {blocks} | {stays} |\n"


def table(rows: Iterable[str]) -> str:
    """The table of the page, from the line of each network."""
    return (
        "| family | its smallest network | convolutions and linear layers | groups of units | "
        "of blocks | what stays |\n"
        f"| --- | --- | --- | --- | --- | --- |\n{''.join(rows)}"
    )


def main() -> None:
    """Write the table into the page."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    found = table(Seen.of(family).row for family in FAMILIES)
    PAGE.write_text(before + BEGIN + "\n" + found + "\n" + END + rest.partition(END)[2])


if __name__ == "__main__":
    main()
