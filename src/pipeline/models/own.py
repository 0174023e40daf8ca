"""Networks of a user's own: made by a function of theirs, which ``config/models.yaml`` names.

The user's code runs only when a network is built, and only where the entry says
``allow_code: true``.
"""

from __future__ import annotations

import copy
import importlib
import math
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Generator, nn
from torch.nn.parameter import is_lazy

from pipeline.artifacts.store import digest
from pipeline.catalog.networks import FILE, OwnNetwork
from pipeline.errors import UserError, brief
from pipeline.symmetry import trace as tracing
from pipeline.symmetry.permutation import PermutationSpec
from pipeline.symmetry.trace import Traced


def build(own: OwnNetwork, arguments: Mapping[str, Any], generator: Generator | None) -> nn.Module:
    """As `pipeline.models.build`; ``arguments`` are width, classes, channels and size.

    Its initialisation is the function's own, drawn from PyTorch's global generator, which is seeded
    from ``generator`` for it and put back afterwards: the same generator seed gives the same bits.
    With ``generator=None`` the convolution and linear layers are NaN until a state is loaded.
    Modules are looked for on Python's path and then in the current folder, where the workflow runs.

    Raises:
        UserError: not allowed, cannot be imported, fails, or gives what the pipeline cannot train
            repeatably; one line.
    """
    own.check_allowed(FILE)
    try:
        return _built(own.entry.factory, arguments, generator)
    except UserError as error:
        place = f"{FILE}: {own.name}: {own.entry.factory}"
        raise UserError(f"{place} {error}") from error.__cause__


def traced(
    own: OwnNetwork, model: nn.Module, images: tuple[int, int] | None, taps: str, proven: str
) -> Traced:
    """As `pipeline.models.traced`: proven, observed after each group's last activation.

    The proof needs many times the memory of the trace.
    """
    del own, taps
    if images is None:
        raise ValueError("a network of the user's own is traced on the images that it reads")
    channels, size = images
    if proven:
        with suppress(UserError, RuntimeError):
            found = tracing.trace(model, torch.zeros(2, channels, size, size))
            if groups_digest(found.spec) == proven:
                return found
    return tracing.permutation_spec(model, channels=channels, size=size)


def groups_digest(spec: PermutationSpec) -> str:
    """Digest of permutation groups: equal for equal ones."""
    return digest(repr(spec))


def _built(path: str, arguments: Mapping[str, Any], generator: Generator | None) -> nn.Module:
    function = factory(path)
    seed = 0 if generator is None else int(torch.randint(2**62, (), generator=generator))

    def make() -> nn.Module:
        with torch.random.fork_rng(devices=[]), telling("fails"):
            torch.default_generator.manual_seed(seed)
            made = function(**arguments)
        return checked(made)

    network = make()
    if generator is None:
        for module in network.modules():
            if isinstance(module, nn.modules.conv._ConvNd | nn.Linear):
                for parameter in module.parameters(recurse=False):
                    nn.init.constant_(parameter, math.nan)
        return network
    again = make().state_dict()
    if any(not torch.equal(tensor, again[key]) for key, tensor in network.state_dict().items()):
        raise UserError("gives other weights when it is called again: draw from torch only")
    _check_forward(network, arguments["classes"], arguments["channels"], arguments["size"])
    return network


def factory(path: str) -> Any:
    """The function ``module:name``, looked for on Python's path and then in the current folder.

    Raises `UserError`, which says what is wrong behind its name.
    """
    module, _, name = path.partition(":")
    place = str(Path().resolve())
    if place not in sys.path:
        sys.path.append(place)  # last: it hides no installed package
    with telling("cannot be imported"):
        found = getattr(importlib.import_module(module), name)
    if not callable(found):
        raise UserError("is not a function")
    return found


def checked(made: object) -> nn.Module:
    """What was made, if training, masks and files can name each of its tensors."""
    if not isinstance(made, nn.Module):
        raise UserError(f"gives {type(made).__name__}, not a torch.nn.Module")
    for name, module in made.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear) and "weight" not in module._parameters:
            raise UserError(
                f"gives a network in which the weight of {name or 'the network'} is no parameter of "
                "its own but made of others (weight_norm, spectral_norm, torch's pruning)"
            )
    state = made.state_dict(keep_vars=True)
    if any(not isinstance(tensor, torch.Tensor) or is_lazy(tensor) for tensor in state.values()):
        raise UserError("gives a network with state that is no tensor, or lazy parameters")
    seen: dict[int, str] = {}
    for name, tensor in state.items():
        if tensor.device.type != "cpu":
            raise UserError(f"puts {name} on {tensor.device}; make the network on the CPU")
        if isinstance(tensor, nn.Parameter) and tensor.dtype != torch.float32:
            raise UserError(f"gives {name} as {tensor.dtype}; expected torch.float32")
        if any(
            step == 0 < count - 1 for step, count in zip(tensor.stride(), tensor.shape, strict=True)
        ):
            raise UserError(f"gives {name} as an expanded view of fewer numbers: clone it")
        first = seen.setdefault(id(tensor), name)
        if first != name:
            raise UserError(f"shares one tensor as {first} and {name}; use one module twice")
    if not any(isinstance(module, nn.Conv2d | nn.Linear) for module in made.modules()):
        raise UserError("gives a network without Conv2d and Linear layers: nothing to prune")
    return made


def _check_forward(network: nn.Module, classes: int, channels: int, size: int) -> None:
    """Logits of the right shape, and no random number drawn in training.

    A run that was stopped goes on with the same bits only if all it draws comes from streams of its
    own; dropout would draw from PyTorch's global generator.
    """
    # channels last, as training has it: not every view works there
    probe = copy.deepcopy(network).train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = f"images [2, {channels}, {size}, {size}]"
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        before = torch.get_rng_state()
        with telling(f"gives a network that fails on {images}"):
            logits = probe(torch.zeros(2, channels, size, size))
        drawn = not torch.equal(before, torch.get_rng_state())
    found = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
    if found != (2, classes):
        raise UserError(f"gives a network whose output is {found}; expected (2, {classes})")
    if drawn:
        raise UserError(
            "gives a network that draws random numbers in training (dropout?): its runs could not "
            "be repeated"
        )


@contextmanager
def telling(problem: str) -> Iterator[None]:
    """What the user's code raises inside, whatever it is, in one line after the problem."""
    try:
        yield
    except UserError:
        raise  # told already
    except Exception as error:
        name, text = type(error).__name__, brief(error)
        told = name if text == name else f"{name}: {text}"
        raise UserError(f"{problem}: {told}") from error
