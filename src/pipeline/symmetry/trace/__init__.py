"""Permutation groups of any network, found by running its forward pass once and following it.

Every convolution and linear layer opens units of its own along its output; what reads the output
carries the same units along the axis it reads; an addition makes two layers' units one group. The
tracer follows each entry of each axis of each tensor, through views, parts and concatenations, and
notes what has to move together and what has to stay together in blocks; the groups are the largest
set of permutations that keeps all of it.

Units *stay* where they are (they form no group) when they meet something that cannot be relabelled
with them: the image's channels, the classes, constants. An operation whose effect on the units is
not known is refused, and so is a network whose graph depends on the data. What was found in a
network of the user's own is proven on it before it is used; tests prove the groups of the built-in
ones.

`record` writes the forward pass down; `units` says what an axis carries and `moves` how that moves
with its tensor; `operations` is the table of operations and its hook, `rules` the rules of torch's,
`walk` follows the pass by them; `solve` finds which units may change places, `groups` and `taps`
read off the result, `proof` shows that it is right.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from pipeline.symmetry.trace import rules
from pipeline.symmetry.trace.groups import Traced, result
from pipeline.symmetry.trace.operations import Call, operation
from pipeline.symmetry.trace.proof import copied, drawn, prove
from pipeline.symmetry.trace.record import Place, Side, refusal
from pipeline.symmetry.trace.units import Labels, Value, join, stay
from pipeline.symmetry.trace.walk import Walk

__all__ = [
    "Call", "Labels", "Place", "Side", "Traced", "Value", "join", "operation", "permutation_spec", "prove",
    "rules", "spec_of", "stay", "trace",
]  # fmt: skip

#: Classes of torch that stand around a module; by name, for to import them is slow.
_WRAPPED = {
    "OptimizedModule": "compiled (torch.compile)",
    "ScriptModule": "scripted (torch.jit)",
    "DataParallel": "wrapped in DataParallel",
    "DistributedDataParallel": "wrapped in DistributedDataParallel",
}

#: Images of the proof and of the proof; random, so that a network needs no data.
IMAGES = 16


def permutation_spec(model: nn.Module, *, channels: int, size: int) -> Traced:
    """Groups of a network that reads images [N, channels, size, size]: see `spec_of`."""
    return spec_of(model, (channels, size, size))


def spec_of(model: nn.Module, shape: Sequence[int]) -> Traced:
    """Groups of a network that reads inputs [N, *shape] of real numbers, traced and proven.

    The network is left as it is; its weights do not matter, because the proof draws its own. The
    result is a function of the architecture alone. A group is observed after its last activation,
    at the output of a module or, behind a functional activation, at the input of the next one.

    Raises:
        UserError: the forward pass fails or depends on values of the images, an operation is not
            known, no units are free to move, or the proof fails; one line of at most 200 letters
            that says where and why.
    """
    _check(model)
    generator = torch.Generator().manual_seed(0)
    network = drawn(model, generator)
    images = torch.randn(IMAGES, *shape, generator=generator, dtype=torch.float64)
    try:
        with torch.inference_mode():
            network(images[:1])
    except RuntimeError:  # a network that makes single precision numbers of its own
        network, images = network.float(), images.float()
    except Exception:  # the trace says where
        pass
    # two, so that the axis of the images is not one of length 1
    traced = trace(network, images[:2])
    prove(network, traced.spec, images, generator)
    return traced


def trace(model: nn.Module, images: Tensor) -> Traced:
    """Groups of a network as its forward pass on ``images`` [N, C, H, W] shows them, unproven.

    Raises `UserError` as `permutation_spec` does.
    """
    _check(model)
    return result(Walk(copied(model).eval(), images))


def _check(model: nn.Module) -> None:
    """Refuse what stands around a network: the pipeline asks for the plain module."""
    for path, module in model.named_modules():
        kinds = (k.__name__ for k in type(module).__mro__ if k.__module__.startswith("torch."))
        if what := next((_WRAPPED[kind] for kind in kinds if kind in _WRAPPED), None):
            where = f"module {path}" if path else "it"
            raise refusal(f"{where} is {what}: return the plain module, the pipeline does without")
    if any(parametrize.is_parametrized(module) for module in model.modules()):
        raise refusal("it has parametrised weights (torch.nn.utils.parametrize)")
