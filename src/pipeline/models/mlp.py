"""Three hidden layers of 512w units without norm, as git-re-basin has them (Ainsworth et al., 2023)."""

from __future__ import annotations

from torch import Tensor, nn

from pipeline.catalog import networks as catalog
from pipeline.models.groups import Observed
from pipeline.models.parts import kaiming_normal as initialise

__all__ = ["images", "initialise", "network", "observed"]

#: Hidden layers, and the units of each at width 1.
DEPTH, UNITS = 3, 512


class MLP(nn.Module):
    """Images [N, channels, size, size] to logits [N, classes]."""

    def __init__(self, *, width: float, classes: int, channels: int, size: int) -> None:
        super().__init__()
        self.channels, self.size = channels, size
        self.features = nn.Sequential()
        inputs, units = channels * size * size, catalog.scaled(UNITS, width)
        for number in range(1, DEPTH + 1):
            self.features.add_module(f"linear{number}", nn.Linear(inputs, units))
            self.features.add_module(f"relu{number}", nn.ReLU(inplace=True))
            inputs = units
        self.classifier = nn.Linear(inputs, classes)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.features(images.flatten(1)))
        return logits


def network(width: float, classes: int, channels: int, size: int) -> nn.Module:
    """The uninitialised network."""
    return MLP(width=width, classes=classes, channels=channels, size=size)


def images(model: MLP) -> tuple[int, int]:
    """Channels and size of the images that the network reads."""
    return model.channels, model.size


def observed(taps: str) -> list[Observed]:
    """A group for each hidden layer, observed after its ReLU; ``taps`` changes nothing here."""
    del taps
    return [
        Observed(f"features.linear{number}", f"linear{number}", f"features.relu{number}")
        for number in range(1, DEPTH + 1)
    ]
