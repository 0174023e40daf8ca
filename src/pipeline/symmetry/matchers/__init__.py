"""Ways to find the permutation that takes network a onto b.

A matcher is a function of a `Pair` and the settings of the matching, registered under the value of
``similarity`` that asks for it; the modules of this package are all looked at, so that a new one is
a file here and its name in `pipeline.study.settings.MatchSettings`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from torch import Generator, Tensor, nn

from pipeline.study.settings import MatchSettings
from pipeline.symmetry.matching import Match
from pipeline.symmetry.permutation import PermutationSpec


@dataclass(frozen=True)
class Pair:
    """Two trained networks of one architecture, and what a matcher may draw and look at."""

    spec: PermutationSpec
    #: States of a and b, on the CPU.
    a: Mapping[str, Tensor]
    b: Mapping[str, Tensor]
    #: Makes both networks with these states, on their device.
    networks: Callable[[], tuple[nn.Module, nn.Module]]
    #: Normalised images [N, C, H, W] on that device, in batches; their number in all.
    batches: Callable[[], Iterator[Tensor]]
    images: int
    #: A generator of the pair's own for a purpose.
    generator: Callable[[str], Generator]


Matcher = Callable[[Pair, MatchSettings], Match]
MATCHERS: dict[str, Matcher] = {}


def matcher(*names: str) -> Callable[[Matcher], Matcher]:
    """Register a function under these values of the setting ``similarity``."""

    def register(function: Matcher) -> Matcher:
        MATCHERS.update(dict.fromkeys(names, function))
        return function

    return register


for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
