"""The networks, built by name.

A new network is one file in this package (`network`, `initialise`, and of its permutation groups
what tracing needs and cannot know: `images`, `observed`; see `resnet`), one line in `_FAMILIES`
below, and its counts in `catalog`.

Importing this package imports no torch: the study reads `catalog` without it.
"""

from __future__ import annotations

import importlib
import math
from typing import TYPE_CHECKING, Any

from pipeline.catalog.networks import MODELS
from pipeline.errors import UserError

if TYPE_CHECKING:
    from torch import Generator, nn

    from pipeline.symmetry.permutation import PermutationSpec

_FAMILIES = {
    "resnet20": "pipeline.models.resnet",
    "vgg11": "pipeline.models.vgg",
    "resnet50": "pipeline.models.resnet50",
}

TAPS = ("last", "authors")
PRUNABLE = ("all", "no-shortcut")
#: Names of the modules on the way around a block, ours and torchvision's.
_SHORTCUTS = {"shortcut", "downsample"}


def build(
    name: str,
    *,
    width: float,
    classes: int,
    channels: int,
    size: int,
    generator: Generator | None,
) -> nn.Module:
    """Network ``name`` on the CPU: images [N, channels, size, size] to logits [N, classes].

    Every random number comes from ``generator`` (a CPU generator): the same seed gives the same
    bits, and PyTorch's global generator is neither read nor moved. With ``generator=None`` the
    network waits for a state dict: its conv and linear parameters are NaN until one is loaded, so
    that a forgotten load cannot pass for a network.

    Raises `UserError` for an unknown name, a width that gives no whole number of channels, or a
    count below 1.
    """
    import torch
    from torch import nn

    family = _family(name)
    problem = MODELS[name].width_error(width)
    if problem is not None:
        raise UserError(problem)
    for what, count in (("classes", classes), ("channels", channels), ("size", size)):
        if count < 1:
            raise UserError(f"{what} of {name} must be 1 or more, got {count}")
    # The modules' own initialisation would draw from the global generator; on the meta device
    # they draw nothing and allocate nothing.
    with torch.device("meta"):
        model: nn.Module = family.network(width, classes, channels, size)
    model.to_empty(device="cpu")
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
        elif isinstance(module, nn.Conv2d | nn.Linear):
            for parameter in module.parameters():
                nn.init.constant_(parameter, math.nan)
    if generator is not None:
        family.initialise(model, generator)
    return model


def permutation_spec(name: str, model: nn.Module, *, taps: str = "last") -> PermutationSpec:
    """Which axis of which tensor carries which permutation, and where each group is observed.

    The groups are traced; ``model`` is left as it is, and its weights play no part.
    ``taps="last"`` observes a residual stream at the last block of its stage; ``"authors"``
    observes stage 3 of ResNet20 at the last block but one, as the authors' code does. The groups
    and axes are the same for both. Raises `UserError` for an unknown name or tap, and `ValueError`
    where what the network's file declares does not fit the traced groups.
    """
    from pipeline.models import groups

    family = _family(name)
    if taps not in TAPS:
        raise UserError(f"taps must be one of {', '.join(TAPS)}; got {taps!r}")
    channels, size = family.images(model)
    return groups.permutation_spec(model, channels, size, family.observed(taps))


def prunable_parameters(model: nn.Module, which: str) -> list[str]:
    """Names of the conv and linear weights that pruning may remove, in module order.

    ``"all"`` of them, or ``"no-shortcut"``: without the convolutions of ResNet shortcuts, as in
    the authors' code. Biases and BatchNorm are never pruned. Raises `UserError` otherwise.
    """
    from torch import nn

    if which not in PRUNABLE:
        raise UserError(f"prunable must be one of {', '.join(PRUNABLE)}; got {which!r}")
    return [
        f"{name}.weight"
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
        and not (which == "no-shortcut" and _SHORTCUTS & set(name.split(".")))
    ]


def _family(name: str) -> Any:
    if name not in _FAMILIES:
        raise UserError(f"unknown model {name!r}; known: {', '.join(_FAMILIES)}")
    return importlib.import_module(_FAMILIES[name])
