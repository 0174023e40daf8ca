"""Sweep over layers: permutations of networks of which some layers are taken from an earlier epoch."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

from pipeline.catalog.layers import KINDS, Kind, Layer, chosen
from pipeline.catalog.networks import NETWORKS
from pipeline.catalog.schema import AT_LEAST_ONE, option
from pipeline.errors import UserError
from pipeline.runs.base import Study
from pipeline.runs.dense import Dense
from pipeline.runs.snapshot import weights_at
from pipeline.runs.sweeps.base import Line, Matching, Mix, Mixture
from pipeline.runs.sweeps.epochs import END, Epochs, point_at


@dataclass(frozen=True)
class Layers(Epochs):
    """Layers of epoch t beside layers of the end (Sharma et al., Appendix H.3), measured at the end.

    Layers count from 1 at the input: convolutions of a VGG, stem and blocks of a ResNet; the head is
    the last. Before k is the early part of bottom-up and the late one of top-down, k itself of
    put-in and leave-out. The permutations of epoch t and of the end are points, too.
    """

    over = "layers"

    layers: tuple[int, ...] = option(
        (), "layers k at which networks are cut, from 1 at the input", AT_LEAST_ONE, unique=True
    )
    kinds: tuple[Literal["bottom-up", "top-down", "put-in", "leave-out"], ...] = option(
        KINDS,
        "layers put back to epoch t: those before k, k and those behind it, k alone, all but k",
        unique=True,
    )
    mix: Literal["permutations", "weights"] = option(
        "permutations",
        "what is mixed: permutations of t and of the end, group by group, each group of units as its "
        "first layer; or the weights of both networks, which are matched again",
    )
    layer_cut: Literal["exact", "substring"] = option(
        "exact",
        "mix weights: the layers that k means; or as in the released code, which looks for its number "
        "anywhere in the names of tensors",
    )

    def check(self, where: str) -> None:
        if not (self.epochs and self.layers and self.kinds):
            raise UserError(f"{where}: epochs, layers and kinds must name at least one each")
        if self.layer_cut == "substring" and self.mix != "weights":
            raise UserError(f"{where}: layer_cut: substring goes with mix: weights only")

    def of_network(self, model: str, where: str) -> None:
        known = _layers_of(model)
        if not known:
            allowed = ", ".join(name for name, network in NETWORKS.items() if network.layers)
            raise UserError(
                f"{where}: which layers {model!r} has is not declared; allowed: {allowed}"
            )
        for k in self.layers:
            if k > len(known):
                raise UserError(f"{where}: layers: {model} has no layer {k}, but {len(known)}")
            if self.layer_cut == "substring" and not known[k - 1].keyword:
                raise UserError(
                    f"{where}: layers: the released code has no word for layer {k} of {model}"
                )

    def mixtures(self) -> Iterator[tuple[str, int, Kind, int]]:
        """Point, epoch, kind and layer of every mixture, epoch by epoch."""
        for epoch, kind, k in product(sorted(self.epochs), self.kinds, self.layers):
            yield f"{kind}.{k}.{point_at(epoch)}", epoch, kind, k

    def matchings(self, study: Study, networks: Sequence[Dense]) -> Iterator[Matching]:
        yield from super().matchings(study, networks)
        if self.mix == "weights":
            end = self.times(study, networks)[END]
            last = [weights_at(study, network, end) for network in networks]
            for point, epoch, kind, k in self.mixtures():
                early = [weights_at(study, network, epoch) for network in networks]
                mix = Mix(early[0], early[1], kind, k, self.layer_cut == "substring")
                yield Matching(point, last[0], last[1], mix)

    def compositions(self, networks: Sequence[Dense]) -> Iterator[Mixture]:
        if self.mix == "permutations":
            count = len(_layers_of(networks[0].model))
            for point, epoch, kind, k in self.mixtures():
                yield Mixture(point, point_at(epoch), END, chosen(kind, k, count))

    def level(self, point: str) -> float | None:
        """The layer k of a mixture."""
        parts = point.split(".")
        return float(parts[1]) if len(parts) > 1 else None

    def lines(self, study: Study, networks: Sequence[Dense], at: Collection[str]) -> Iterator[Line]:
        """Arms ``none``, ``matched`` (of t, and of the end) and the kinds of mixture, at the end."""
        del at
        times = self.times(study, networks)
        end = times[END]
        a, b = (weights_at(study, network, end) for network in networks)
        yield Line("none", None, None, end, a, b)
        for point, epoch in times.items():
            yield Line("matched", point, epoch, end, a, b)
        for point, epoch, kind, _ in self.mixtures():
            yield Line(kind, point, epoch, end, a, b)

    def roles(self, at: Collection[str]) -> Collection[str]:
        del at
        return ("none", "end", *self.kinds)


def _layers_of(model: str) -> tuple[Layer, ...]:
    return NETWORKS[model].layers if model in NETWORKS else ()
