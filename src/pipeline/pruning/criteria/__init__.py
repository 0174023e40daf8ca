"""What is pruned first: criteria that score weights, of which the least go.

A criterion is a function of an `Occasion` that gives a score of 0 or more to every weight, registered
under the value of the setting ``criterion`` that asks for it; the modules of this package are all
looked at, so that a new one is a file here and its name in `pipeline.study.settings.ImpSettings`.
Scores take the place of the weights in `pipeline.pruning.prune_fraction` and ``prune_to``.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Generator, Tensor

from pipeline.pruning import Mask


@dataclass(frozen=True)
class Occasion:
    """What a criterion may look at and draw when a network is pruned."""

    #: Of the tensors that may be pruned, by name, on the CPU; zeros where the mask has cut.
    weights: Mapping[str, Tensor]
    #: What is left of them so far.
    mask: Mask
    #: Gradients of the mean loss on training images with respect to the weights.
    gradients: Callable[[], Mapping[str, Tensor]]
    #: A generator of its own for a purpose.
    generator: Callable[[str], Generator]


Criterion = Callable[[Occasion], Mapping[str, Tensor]]
CRITERIA: dict[str, Criterion] = {}


def criterion(name: str) -> Callable[[Criterion], Criterion]:
    """Register a function under this value of the setting ``criterion``."""

    def register(function: Criterion) -> Criterion:
        CRITERIA[name] = function
        return function

    return register


for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
