"""Networks of a user's own: made by a function of theirs, which ``config/models.yaml`` names.

Importing this module imports no torch: every cluster job reads the entries. The user's code runs
only when a network is built, and only where the entry says ``allow_code: true``.
"""

from __future__ import annotations

import copy
import importlib
import math
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.catalog.networks import MODELS, Cost, ModelInfo
from pipeline.catalog.schema import AT_LEAST_ONE, NOT_NEGATIVE, mapping, option, parse, quote
from pipeline.errors import UserError

if TYPE_CHECKING:
    from torch import Generator, nn

FILE = "config/models.yaml"
_NAME = re.compile(r"[A-Za-z0-9_]{1,40}")
_FACTORY = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


@dataclass(frozen=True)
class Entry:
    """A network of your own: a function that takes `width`, `classes`, `channels` and `size`."""

    factory: str = option(
        help="import path of the function that makes the network, module:function"
    )
    base: int = option(help="channels of the narrowest layer at width 1", bounds=AT_LEAST_ONE)
    allow_code: bool = option(False, "allow the function, code of your own, to run")
    version: int = option(
        1, "part of the settings of its runs: raise it when you change the network", AT_LEAST_ONE
    )
    parameters: int = option(0, "parameters at width 1, for estimates; 0: not known", NOT_NEGATIVE)
    forward_flops: int = option(
        0, "FLOPs of one image's forward pass at width 1, for estimates; 0: not known", NOT_NEGATIVE
    )


@dataclass(frozen=True)
class OwnModel(ModelInfo):
    """A user's network as a study sees it; counts are estimates that grow with width squared."""

    entry: Entry

    @property
    def identity(self) -> dict[str, Any]:
        """What decides the bits of its runs, beside name and width."""
        return {"factory": self.entry.factory, "version": self.entry.version}


def own_models(raw: object) -> dict[str, OwnModel]:
    """The entries of ``config/models.yaml``, checked; none where there is no file.

    Raises `UserError` for a name that is taken or cannot stand in a path, and for settings that
    are not allowed.
    """
    found = {}
    for name, value in mapping(raw, FILE).items():
        if not _NAME.fullmatch(name):
            raise UserError(
                f"{FILE}: name {quote(name)} is not allowed; use up to 40 letters, digits and '_'"
            )
        if name in MODELS:
            raise UserError(f"{FILE}: {name!r} is the name of a built-in network")
        entry = parse(Entry, value, f"{FILE}: {name}")
        if not _FACTORY.fullmatch(entry.factory):
            raise UserError(
                f"{FILE}: {name}: factory: expected module:function, got {quote(entry.factory)}"
            )
        found[name] = own_model(name, entry)
    return found


def own_model(name: str, entry: Entry) -> OwnModel:
    """One entry as a network of the catalog."""

    def layers(width: float, classes: int, channels: int, size: int) -> Iterator[Cost]:
        square = width * width
        yield Cost(round(entry.parameters * square), round(entry.forward_flops / 2 * square))

    return OwnModel(name, entry.base, layers, entry)


def check_allowed(model: OwnModel, where: str) -> None:
    """Raise `UserError` unless the user allows the code to run."""
    if not model.entry.allow_code:
        raise UserError(
            f"{where}: model {model.name!r} runs code of your own, {model.entry.factory}; "
            f"allow it with allow_code: true in {FILE}"
        )


def build(
    model: OwnModel,
    *,
    width: float,
    classes: int,
    channels: int,
    size: int,
    generator: Generator | None,
) -> nn.Module:
    """The user's network on the CPU, as `pipeline.models.build` gives a built-in one.

    Its initialisation is the function's own, drawn from PyTorch's global generator, which is seeded
    from ``generator`` for it and put back afterwards: the same generator seed gives the same bits.
    With ``generator=None`` the convolution and linear layers are NaN until a state is loaded.
    Modules are looked for on Python's path and then in the current folder, where the workflow runs.

    Raises:
        UserError: not allowed, cannot be imported, fails, or gives what the pipeline cannot train
            repeatably; one line.
    """
    import torch
    from torch import nn

    check_allowed(model, FILE)
    factory = _factory(model)
    arguments = {"width": width, "classes": classes, "channels": channels, "size": size}
    seed = 0 if generator is None else int(torch.randint(2**62, (), generator=generator))

    def make() -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            try:
                made = factory(**arguments)
            except Exception as error:
                raise _failed(model, f"fails: {_one_line(error)}") from error
        return _checked(model, made)

    network = make()
    if generator is None:
        for module in network.modules():
            if isinstance(module, nn.modules.conv._ConvNd | nn.Linear):
                for parameter in module.parameters(recurse=False):
                    nn.init.constant_(parameter, math.nan)
        return network
    again = make().state_dict()
    if any(not torch.equal(tensor, again[key]) for key, tensor in network.state_dict().items()):
        raise _failed(model, "gives other weights when it is called again: draw from torch only")
    _check_forward(model, network, classes, channels, size)
    return network


def _factory(model: OwnModel) -> Any:
    module, _, name = model.entry.factory.partition(":")
    place = str(Path().resolve())
    if place not in sys.path:
        sys.path.append(place)  # last: it hides no installed package
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as error:
        raise _failed(model, f"cannot be imported: {_one_line(error)}") from error
    if not callable(found):
        raise _failed(model, "is not a function")
    return found


def _checked(model: OwnModel, made: object) -> nn.Module:
    """What was made, if training, masks and files can name each of its tensors."""
    import torch
    from torch import nn
    from torch.nn.parameter import is_lazy

    if not isinstance(made, nn.Module):
        raise _failed(model, f"gives {type(made).__name__}, not a torch.nn.Module")
    state = made.state_dict(keep_vars=True)
    if any(not isinstance(tensor, torch.Tensor) or is_lazy(tensor) for tensor in state.values()):
        raise _failed(model, "gives a network with state that is no tensor, or lazy parameters")
    seen: dict[int, str] = {}
    for name, tensor in state.items():
        if tensor.device.type != "cpu":
            raise _failed(model, f"puts {name} on {tensor.device}; make the network on the CPU")
        if isinstance(tensor, nn.Parameter) and tensor.dtype != torch.float32:
            raise _failed(model, f"gives {name} as {tensor.dtype}; expected torch.float32")
        if id(tensor) in seen:
            raise _failed(
                model, f"shares one tensor as {seen[id(tensor)]} and {name}; use one module twice"
            )
        seen[id(tensor)] = name
    if not any(isinstance(module, nn.Conv2d | nn.Linear) for module in made.modules()):
        raise _failed(model, "gives a network without Conv2d and Linear layers: nothing to prune")
    return made


def _check_forward(
    model: OwnModel, network: nn.Module, classes: int, channels: int, size: int
) -> None:
    """Logits of the right shape, and no random number drawn in training.

    A run that was stopped goes on with the same bits only if all it draws comes from streams of its
    own; dropout would draw from PyTorch's global generator.
    """
    import torch

    # channels last, as training has it: not every view works there
    probe = copy.deepcopy(network).train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        before = torch.get_rng_state()
        try:
            logits = probe(torch.zeros(2, channels, size, size))
        except Exception as error:
            shape = f"images [2, {channels}, {size}, {size}]"
            raise _failed(
                model, f"gives a network that fails on {shape}: {_one_line(error)}"
            ) from error
        drawn = not torch.equal(before, torch.get_rng_state())
    found = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
    if found != (2, classes):
        raise _failed(model, f"gives a network whose output is {found}; expected (2, {classes})")
    if drawn:
        raise _failed(
            model, "gives a network that draws random numbers in training (dropout?): its runs "
            "could not be repeated"
        )  # fmt: skip


def _failed(model: OwnModel, problem: str) -> UserError:
    return UserError(f"{FILE}: {model.name}: {model.entry.factory} {problem}")


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__
