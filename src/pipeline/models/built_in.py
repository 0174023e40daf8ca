"""Building and tracing the networks of the repository, each from its file in this package."""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Generator, nn

from pipeline.catalog.networks import Network
from pipeline.errors import UserError
from pipeline.models.groups import named
from pipeline.symmetry import trace as tracing
from pipeline.symmetry.trace import Traced


def family(network: Network) -> Any:
    """What makes a network: a module of this package, or a value in one (``file:NAME``)."""
    file, _, name = network.module.partition(":")
    found = importlib.import_module(f"pipeline.models.{file}")
    return getattr(found, name) if name else found


def build(network: Network, arguments: Mapping[str, Any], generator: Generator | None) -> nn.Module:
    """As `pipeline.models.build`; ``arguments`` are width, classes, channels and size."""
    problem = network.width_error(arguments["width"])
    if problem is not None:
        raise UserError(problem)
    for what in ("classes", "channels", "size"):
        if arguments[what] < 1:
            raise UserError(f"{what} of {network.name} must be 1 or more, got {arguments[what]}")
    made = family(network)
    # The modules' own initialisation would draw from the global generator; on the meta device
    # they draw nothing and allocate nothing.
    with torch.device("meta"):
        model: nn.Module = made.network(**arguments)
    for module in model.modules():  # by hand: to_empty loads a compiler, half a second a run
        for name, parameter in module.named_parameters(recurse=False):
            setattr(module, name, nn.Parameter(torch.empty(parameter.shape)))
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, torch.empty(buffer.shape, dtype=buffer.dtype))
        if isinstance(module, nn.BatchNorm2d | nn.LayerNorm):
            module.reset_parameters()
        elif isinstance(module, nn.Conv2d | nn.Linear):
            for parameter in module.parameters():
                nn.init.constant_(parameter, math.nan)
            if generator is not None:
                made.initialise(module, generator)
                if module.bias is not None:  # PyTorch's default
                    bound = 1 / math.sqrt(module.weight[0].numel())
                    nn.init.uniform_(module.bias, -bound, bound, generator=generator)
        elif [*module.parameters(recurse=False), *module.buffers(recurse=False)]:
            raise TypeError(f"{type(module).__name__}: nothing says how its tensors begin")
    return model


def traced(network: Network, model: nn.Module, images: tuple[int, int] | None, taps: str) -> Traced:
    """As `pipeline.models.traced`: groups under their declared names. The device may be "meta".

    Nothing is proven here: tests prove the groups of every built-in network.
    """
    made = family(network)
    channels, size = made.images(model)  # small ones do where any size would
    first = next(model.parameters())
    # two, so that the axis of the images is not one of length 1
    zeros = torch.zeros(2, channels, size, size, dtype=first.dtype, device=first.device)
    found = tracing.trace(model, zeros)
    return replace(found, spec=named(found, made.observed(taps)))
