"""The networks that a study may name, built-in ones and those of the user's own.

Width rule, counts for estimates, and what decides the bits beside name and width. Nothing here
imports torch: every cluster job reads it. `pipeline.models` builds the networks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pipeline.catalog import layers
from pipeline.catalog.layers import Layer
from pipeline.catalog.schema import (
    AT_LEAST_ONE,
    NOT_NEGATIVE,
    choose,
    mapping,
    option,
    parse,
    quote,
)
from pipeline.errors import UserError

FILE = "config/models.yaml"
ALLOW = f"allow it with allow_code: true in {FILE}"
#: In paths a name stands before "-w" and the width.
_NAME = re.compile(r"[A-Za-z0-9_]{1,40}")
_FACTORY = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


@dataclass(frozen=True)
class Counts:
    """Parameters, and FLOPs (2 x multiply-accumulates of convolution and linear layers) of one
    image's forward pass, at width 1; on images of ``size`` pixels a side, or of any size (None)."""

    parameters: int
    forward_flops: int
    size: int | None = None


@dataclass(frozen=True)
class Network:
    """A network as a study sees it; this class is that of the built-in ones.

    ``module`` of `pipeline.models`, or the value in it that stands behind a colon, makes it;
    ``label`` is how tables write it. Its narrowest layer
    has ``base`` channels at width 1, and channels grow with the width, those inside of bottlenecks
    with its ``power``. Estimates grow with the width to the power of ``growth``. ``blocks``: whether
    it has blocks of several BatchNorm layers; of a user's own network that shows in its runs.
    """

    name: str
    label: str
    module: str
    base: int
    counts: Counts
    power: int = field(default=1, kw_only=True)
    growth: float = field(default=2, kw_only=True)
    #: What it is, in a few words.
    about: str = field(default="", kw_only=True)
    #: Whether REPAIR has a place: BatchNorm, or convolutions with biases.
    repairs: bool = field(default=True, kw_only=True)
    blocks: bool = field(default=True, kw_only=True)
    #: Its layers from the input up, between which a sweep over layers cuts; empty: it cannot.
    layers: tuple[Layer, ...] = field(default=(), kw_only=True)
    #: Whether tests prove its permutation groups.
    tested: ClassVar[bool] = True
    #: Where a matching may observe it (setting ``taps``).
    taps: ClassVar[tuple[str, ...]] = ("last", "authors", "all")

    @property
    def identity(self) -> dict[str, Any]:
        """What decides the bits of its runs, beside name and width."""
        return {}

    def check_allowed(self, where: str, how: str = ALLOW) -> None:
        """Raise `UserError` unless its code may run; ``how`` says how to allow it."""

    def width_error(self, width: float) -> str | None:
        """None if ``width`` gives whole channel numbers, else one line: what is allowed."""
        if isinstance(width, int | float) and not isinstance(width, bool):
            # the outer channels, and the inner ones of a bottleneck
            narrowest = [width * self.base, width * self.base * width ** (self.power - 1)]
            if all(count >= 1 and float(count).is_integer() for count in narrowest):
                return None
        squared = " and width²" if self.power == 2 else ""
        return (
            f"width {width!r} of {self.name}: {self.base} x width{squared} must be a whole number "
            f"of channels, 1 or more (1, 0.5, 4 ...)"
        )

    def parameters(self, width: float) -> int:
        """Trainable parameters at a width, about; 0 where they are not known."""
        return int(self.counts.parameters * width**self.growth)

    def forward_flops(self, width: float, size: int) -> int:
        """FLOPs of the forward pass of one image of ``size`` pixels a side, about; 0: not known."""
        area = (size / self.counts.size) ** 2 if self.counts.size else 1
        return int(self.counts.forward_flops * width**self.growth * area)


_BLOCKS = layers.resnet(layers.RESNET20)

#: Counts of ResNet50 are those for 1000 classes, of the others those for 10.
NETWORKS: dict[str, Network] = {
    network.name: network
    for network in (
        Network(
            "resnet20", "ResNet20", "resnet:RESNET20", 16, Counts(292_954, 85_820_672, 32), layers=_BLOCKS,
            about="BatchNorm; shortcuts of 3×3 convolutions, as the authors have them",
        ),
        Network(
            "vgg11", "VGG11", "vgg:VGG11", 64, Counts(9_225_610, 305_539_072, 32),
            about="no norm", blocks=False, layers=layers.vgg(layers.VGG11),
        ),
        Network(
            "resnet50", "ResNet50", "resnet50", 64, Counts(25_557_032, 8_178_368_512, 224),
            power=2, growth=3.4, about="torchvision's, its bottlenecks growing with the square",
        ),
        # of Sharma et al. (2024)
        Network(
            "resnet20_ln", "ResNet20-LN", "resnet:RESNET20_LN", 16, Counts(272_474, 81_626_368, 32),
            about="LayerNorm over channels; shortcuts of 1×1 convolutions", repairs=False, blocks=False,
            layers=_BLOCKS,
        ),
        Network(
            "resnet20_ln3", "ResNet20-LN3", "resnet:RESNET20_LN3", 16,
            Counts(292_954, 85_820_672, 32), repairs=False,
            about="the same with shortcuts of 3×3 convolutions, as git-re-basin has them", blocks=False,
            layers=_BLOCKS,
        ),
        Network(
            "vgg16_ln", "VGG16-LN", "vgg:VGG16_LN", 64, Counts(14_728_266, 626_403_328, 32),
            about="LayerNorm over channels; one linear layer behind the mean over positions", blocks=False,
            layers=layers.vgg(layers.VGG16),
        ),
        Network(
            "vgg8_ln", "VGG8-LN", "vgg:VGG8_LN", 64, Counts(4_509_450, 267_790_336, 32),
            about="the same with six convolutions, for small images and short training", blocks=False,
            layers=layers.vgg(layers.VGG8),
        ),
        Network(
            "mlp", "MLP", "mlp", 512, Counts(2_103_818, 4_204_544, 32), growth=1.3, repairs=False,
            about="three hidden layers without norm, of 512 units at width 1", blocks=False,
            layers=layers.plain(*(f"features.linear{n}." for n in (1, 2, 3)), "classifier."),
        ),
    )
}  # fmt: skip


def find(name: str) -> Network:
    """A built-in network by name, or `UserError`."""
    return NETWORKS[choose(name, NETWORKS, "built-in networks", "model")]


def scaled(channels: int, width: float) -> int:
    """Channels of a layer at this width; exact where `Network.width_error` has no complaint."""
    return round(channels * width)


# -- networks of the user's own --------------------------------------------------------------------


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
class OwnNetwork(Network):
    """A user's network, made by a function that ``config/models.yaml`` names."""

    entry: Entry = field(kw_only=True)
    tested: ClassVar[bool] = False
    #: Where tracing finds them; another choice of the authors' is one of ResNet20 alone.
    taps: ClassVar[tuple[str, ...]] = ("last", "authors")

    @property
    def identity(self) -> dict[str, Any]:
        return {"factory": self.entry.factory, "version": self.entry.version}

    def check_allowed(self, where: str, how: str = ALLOW) -> None:
        if not self.entry.allow_code:
            raise UserError(
                f"{where}: model {self.name!r} runs code of your own, {self.entry.factory}; {how}"
            )


def own_networks(raw: object) -> dict[str, OwnNetwork]:
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
        if name in NETWORKS:
            raise UserError(f"{FILE}: {name!r} is the name of a built-in network")
        entry = parse(Entry, value, f"{FILE}: {name}")
        if not _FACTORY.fullmatch(entry.factory):
            raise UserError(
                f"{FILE}: {name}: factory: expected module:function, got {quote(entry.factory)}"
            )
        found[name] = own_network(name, entry)
    return found


def own_network(name: str, entry: Entry) -> OwnNetwork:
    """One entry as a network."""
    counts = Counts(entry.parameters, entry.forward_flops)
    return OwnNetwork(name, name, "own", entry.base, counts, entry=entry)


def recorded(name: str, identity: Mapping[str, Any], *, allow_code: bool) -> Network:
    """The network that runs were made with, by its name and the ``identity`` in their settings."""
    if not identity:
        return find(name)
    return own_network(name, Entry(**identity, base=1, allow_code=allow_code))
