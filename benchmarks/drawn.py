"""What both sides of a benchmark share: pixels, labels and networks. Speed asks for no real ones."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from pipeline import models

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
CLASSES = 10


def arrays(count: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [count, 3, size, size] and int64 [count]."""
    draws = np.random.default_rng(0)
    images = draws.integers(0, 256, (count, 3, size, size), dtype=np.uint8)
    return images, draws.integers(0, CLASSES, count)


def network(model: str, width: float, size: int, seed: int = 0) -> nn.Module:
    """A network at its initialisation."""
    return models.build(
        model, width=width, classes=CLASSES, channels=3, size=size,
        generator=torch.Generator().manual_seed(seed),
    )  # fmt: skip
