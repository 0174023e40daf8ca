"""Ways to find the permutation that takes network a onto b.

A matcher is a function of a `Pair` and the settings of the matching, registered under the value of
``similarity`` that asks for it; the modules of this package are all looked at, so that a new one is
a file here and its name in `pipeline.study.settings.MatchSettings`. One that aligns any number of
networks together is registered by `joint`, and serves for pairs as well.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor, nn

from pipeline.errors import UserError
from pipeline.study.settings import MatchSettings
from pipeline.symmetry.matching import Match
from pipeline.symmetry.permutation import Permutation, PermutationSpec, compose, inverse
from pipeline.symmetry.weight_matching import Problem


@dataclass(frozen=True)
class Pair:
    """Two trained networks of one architecture, and what a matcher may draw and look at."""

    spec: PermutationSpec
    #: States of a and b, on the CPU.
    a: Mapping[str, Tensor]
    b: Mapping[str, Tensor]
    #: Makes both networks with these states, on their device.
    networks: Callable[[], tuple[nn.Module, nn.Module]]
    #: Normalised images [N, C, H, W] on that device, in batches, with classes int64 [N] or without.
    given: Callable[[], Iterator[tuple[Tensor, Tensor | None]]]
    #: A generator of the pair's own for a purpose.
    generator: Callable[[str], Generator]

    def batches(self) -> Iterator[Tensor]:
        """The images in batches."""
        return (images for images, _ in self.given())

    def labelled(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches with their classes; raises `UserError` where there are none."""
        for images, labels in self.given():
            if labels is None:
                raise UserError("this matcher needs labels: give batches of (images, labels)")
            yield images, labels.to(images.device)

    def problem(self, settings: MatchSettings) -> Problem:
        """The parameters of both that carry units, without biases where the settings say so."""
        model, _ = self.networks()
        names = [n for n, _ in model.named_parameters() if settings.biases or _weight(n)]
        return Problem(self.spec, self.a, self.b, names, next(model.parameters()).device)


@dataclass(frozen=True)
class Several:
    """Trained networks of one architecture, two or more, to be aligned together."""

    spec: PermutationSpec
    states: tuple[Mapping[str, Tensor], ...]
    #: The tensors that are compared.
    names: tuple[str, ...]
    device: torch.device
    generator: Callable[[str], Generator]


Matcher = Callable[[Pair, MatchSettings], Match]
MATCHERS: dict[str, Matcher] = {}

Joint = Callable[[Several, MatchSettings], list[Permutation]]
"""Of each network the permutation that takes it to an order of units common to all."""
JOINT: dict[str, Joint] = {}


def matcher(*names: str) -> Callable[[Matcher], Matcher]:
    """Register a function under these values of the setting ``similarity``."""

    def register(function: Matcher) -> Matcher:
        MATCHERS.update(dict.fromkeys(names, function))
        return function

    return register


def joint(name: str) -> Callable[[Joint], Joint]:
    """Register a function that aligns several networks together, and what it makes of a pair."""

    def register(function: Joint) -> Joint:
        JOINT[name] = function

        @matcher(name)
        def both(pair: Pair, settings: MatchSettings) -> Match:
            problem = pair.problem(settings)
            device = next(iter(problem.a.values())).device
            two = Several(pair.spec, (pair.a, pair.b), tuple(problem.a), device, pair.generator)
            a, b = function(two, settings)
            found = compose(inverse(b), a)
            return Match(found, problem.quality(found))

        return function

    return register


def find(pair: Pair, settings: MatchSettings) -> Match:
    """What the matcher of the settings finds, with the number of images that it looked at."""
    seen = 0

    def given() -> Iterator[tuple[Tensor, Tensor | None]]:
        nonlocal seen
        seen = 0  # a second pass looks at the same ones
        for batch in pair.given():
            seen += len(batch[0])
            yield batch

    found = MATCHERS[settings.similarity](replace(pair, given=given), settings)
    return replace(found, images=seen)


def _weight(name: str) -> bool:
    return not name.endswith("bias")


for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
