"""The networks, built by name or by their value in the catalog, own and built-in ones alike.

A new built-in network is one file in this package (`network`, `initialise`, and of its permutation
groups what tracing needs and cannot know: `images`, `observed`; see `mlp`) and one entry in
`catalog.networks`. Networks that differ in a setting are values of one file, which have the same
four (see `vgg`).

Importing this package imports no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.catalog import networks
from pipeline.catalog.networks import Network, OwnNetwork
from pipeline.catalog.schema import choose

if TYPE_CHECKING:
    from torch import Generator, nn

    from pipeline.symmetry.trace import Traced

#: Names of the modules on the way around a block, ours and torchvision's.
_SHORTCUTS = {"shortcut", "downsample"}


def build(
    network: str | Network,
    *,
    width: float,
    classes: int,
    channels: int,
    size: int,
    generator: Generator | None,
) -> nn.Module:
    """A network on the CPU: images [N, channels, size, size] to logits [N, classes].

    Every random number comes from ``generator`` (a CPU generator): the same seed gives the same
    bits, and PyTorch's global generator is left where it was. With ``generator=None`` the network
    waits for a state dict: its conv and linear parameters are NaN until one is loaded, so that a
    forgotten load cannot pass for a network.

    Raises `UserError` for an unknown name, a width that gives no whole number of channels, a count
    below 1, or code of the user's own that may not run, fails or cannot be trained repeatably.
    """
    found, maker = _maker(network)
    arguments = {"width": width, "classes": classes, "channels": channels, "size": size}
    model: nn.Module = maker.build(found, arguments, generator)
    return model


def traced(
    network: str | Network,
    model: nn.Module,
    *,
    taps: str = "last",
    images: tuple[int, int] | None = None,
    proven: str = "",
) -> Traced:
    """Permutation groups of a built network, and the layers that are in none, with the reason.

    ``model`` is left as it is, and its weights play no part. ``taps="last"`` observes a residual
    stream at the last block of its stage; ``"authors"`` observes stage 3 of ResNet20 at the last
    block but one, as the authors' code does; ``"all"`` observes a stream at every ReLU that gives
    it. The groups and axes are the same for all.
    ``images`` are channels and size of the images that it reads; a built-in network knows its own.

    The groups of a user's network are proven on it, unless they are those ``proven`` before (their
    digest), and ``taps`` changes nothing there. Raises
    `UserError` for an unknown name or tap and for a network of the user's that cannot be traced,
    and `ValueError` where what the file of a built-in one declares does not fit its groups.
    """
    found, maker = _maker(network)
    choose(taps, ("last", "authors", "all"), found.name, "taps")
    groups: Traced = maker.traced(found, model, images, taps, proven)
    return groups


#: Which weights pruning may remove, as `prunable_parameters` says.
PRUNABLE = ("all", "no-shortcut", "no-head")


def prunable_parameters(model: nn.Module, which: str) -> list[str]:
    """Names of the conv and linear weights that pruning may remove, in module order.

    ``"all"`` of them, or ``"no-shortcut"``: without the convolutions of ResNet shortcuts, as in
    the authors' code, or ``"no-head"``: without the last of them, the layer of the logits (Sharma
    et al., 2024). Biases and norms are never pruned. Raises `UserError` otherwise.
    """
    from torch import nn

    choose(which, PRUNABLE, "pruning", "prunable")
    layers = [
        name for name, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)
    ]
    if which == "no-head":
        layers = layers[:-1]
    if which == "no-shortcut":
        layers = [name for name in layers if not _SHORTCUTS & set(name.split("."))]
    return [f"{name}.weight" for name in layers]


def _maker(network: str | Network) -> tuple[Network, Any]:
    """A network, and the module that builds and traces its kind."""
    from pipeline.models import built_in, own

    found = networks.find(network) if isinstance(network, str) else network
    return found, own if isinstance(found, OwnNetwork) else built_in
