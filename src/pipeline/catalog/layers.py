"""Layers of the built-in networks, counted from the input as Sharma et al. (2024) count them.

A layer is a convolution or linear layer with its norm, or a residual block as a whole; of a residual
network the stem is layer 1. The last layer is the one of the logits. A sweep over layers cuts
networks between them. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

#: Output channels at width 1 of the convolutions of the VGGs; None is a 2x2 max pool.
VGG11 = (64, None, 128, None, 256, 256, None, 512, 512, None, 512, 512, None)
VGG16 = (64, 64, None, 128, 128, None, 256, 256, 256, None, 512, 512, 512, None, 512, 512, 512)
VGG8 = (64, None, 128, None, 256, 256, None, 512, 512)
#: Basic blocks of each stage of ResNet20.
RESNET20 = (3, 3, 3)

Kind = Literal["bottom-up", "top-down", "put-in", "leave-out"]
#: Ways to choose layers by one of them, in the order of the work's panels.
KINDS: tuple[Kind, ...] = ("bottom-up", "top-down", "put-in", "leave-out")


@dataclass(frozen=True)
class Layer:
    """What the names of a layer's tensors begin with, and with what in the authors' released code.

    ``keyword``: what the released code looks for in all names where it means this layer; empty: it
    has no word for it.
    """

    names: Mapping[str, str]
    keyword: str = ""


def vgg(channels: Sequence[int | None]) -> tuple[Layer, ...]:
    """Convolutions of a VGG (None: a pool, which the released code counts too), and the head."""
    places = [place for place, width in enumerate(channels) if width is not None]
    convolutions = (
        Layer(
            {f"features.conv{n}.": f"layers.{i}.conv.", f"features.norm{n}.": f"layers.{i}.bn."},
            str(i),
        )
        for n, i in enumerate(places, start=1)
    )
    return (*convolutions, Layer({"classifier.": "fc."}, "fc"))


def resnet(stages: Sequence[int]) -> tuple[Layer, ...]:
    """Stem, blocks and head of a network of basic blocks, so many in each stage."""
    found = [Layer({"conv1.": "conv.", "bn1.": "bn."})]
    for stage, count in enumerate(stages, start=1):
        for place in range(count):
            own, number = f"stage{stage}.{place}.", len(found) - 1
            inside = {part: f"{part}." for part in ("conv1", "bn1", "conv2", "bn2")}
            inside |= {"shortcut.conv": "shortcut.0.", "shortcut.bn": "shortcut.1."}
            names = {f"{own}{a}.": f"blocks.{number}.{b}" for a, b in inside.items()}
            found.append(Layer(names, str(number)))
    return (*found, Layer({"classifier.": "fc."}, "fc"))


def plain(*names: str) -> tuple[Layer, ...]:
    """Layers that the released code does not have, by what the names of their tensors begin with."""
    return tuple(Layer({name: name}) for name in names)


def chosen(kind: Kind, k: int, count: int) -> frozenset[int]:
    """The layers of ``count`` that are put back to an early epoch: those before k (bottom-up), the
    others (top-down), k alone (put-in), all but k (leave-out)."""
    every = frozenset(range(1, count + 1))
    before, alone = frozenset(range(1, k)), frozenset({k})
    found = {
        "bottom-up": before,
        "top-down": every - before,
        "put-in": alone,
        "leave-out": every - alone,
    }
    return found[kind]


def layer_of(name: str, layers: Sequence[Layer]) -> int:
    """The number of the layer that a tensor belongs to, from 1; KeyError where it is in none."""
    for number, layer in enumerate(layers, start=1):
        if name.startswith(tuple(layer.names)):
            return number
    raise KeyError(name)


def tensors(
    names: Iterable[str], layers: Sequence[Layer], kind: Kind, k: int, *, substring: bool
) -> set[str]:
    """Those of ``names``, in their order in the network, that are put back to an early epoch.

    With ``substring`` as in the released code: put-in takes every tensor whose name has the keyword
    of layer k anywhere, and bottom-up cuts before the first of them.
    """
    every = list(names)
    if not substring:
        wanted = chosen(kind, k, len(layers))
        return {name for name in every if layer_of(name, layers) in wanted}
    keyword = layers[k - 1].keyword
    found = [name for name in every if keyword in released(name, layers)]
    if kind in ("bottom-up", "top-down"):
        found = every[: every.index(found[0])]
    inverted = kind in ("top-down", "leave-out")
    return {name for name in every if (name in found) != inverted}


def released(name: str, layers: Sequence[Layer]) -> str:
    """A tensor's name in the released code."""
    own = layers[layer_of(name, layers) - 1].names
    ours = next(prefix for prefix in own if name.startswith(prefix))
    return own[ours] + name.removeprefix(ours)
