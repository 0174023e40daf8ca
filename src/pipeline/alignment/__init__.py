"""Two trained networks of one architecture, aligned: permutation, barrier, merged network, file.

>>> from pipeline import align
>>> found = align(a, b, batches, matcher="weights")  # batches: a DataLoader, a list, a function
>>> found.apply(mask), found.barrier(batches), found.merge(0.5, "repair", batches)

Any `torch.nn.Module` whose forward pass the tracer follows, on any device; no study is read. The
runs of a study are made by the same functions.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self, overload

import torch
from torch import Tensor, nn

from pipeline import symmetry
from pipeline.alignment.file import described, restored
from pipeline.alignment.given import Batches, Given, gone_through
from pipeline.artifacts.store import read_info, read_tensors, write_tensors
from pipeline.catalog.schema import choose, parse
from pipeline.connectivity import barrier as lines
from pipeline.connectivity.correction import CORRECTIONS, check_place
from pipeline.connectivity.merge import check_same_shapes, interpolate
from pipeline.connectivity.survey import Ground, Row, Surveyor
from pipeline.errors import UserError
from pipeline.forward import device_of
from pipeline.streams import generator
from pipeline.study.settings import MatchSettings
from pipeline.symmetry.matchers import JOINT, Pair, Several, find
from pipeline.symmetry.matching import GroupQuality, Match
from pipeline.symmetry.permutation import Permutation, PermutationSpec
from pipeline.symmetry.trace import spec_of
from pipeline.weights import state_of

#: The one name of what barriers are measured on.
SPLIT = "given"


@dataclass(frozen=True, eq=False)
class Alignment:
    """The permutation that takes network a onto b, ``pi(a)`` close to ``b``, and its quality.

    spec: the groups of units that move together, and the axes that carry them.
    match: the permutation, its quality per group, the images looked at, and what the matcher tells.
    networks: a and b; None for an alignment that was loaded without them.
    """

    spec: PermutationSpec
    match: Match
    networks: tuple[nn.Module, nn.Module] | None = field(default=None, repr=False)

    @property
    def permutation(self) -> Permutation:
        """Group name to int64 [size] on the CPU: place i of pi(a) holds unit p[i] of a."""
        return self.match.permutation

    @property
    def quality(self) -> Mapping[str, GroupQuality]:
        """How good the match of each group is; empty for one that was composed."""
        return self.match.quality

    @overload
    def apply(self, what: nn.Module) -> nn.Module: ...

    @overload
    def apply(self, what: Mapping[str, Tensor]) -> dict[str, Tensor]: ...

    def apply(self, what: nn.Module | Mapping[str, Tensor]) -> nn.Module | dict[str, Tensor]:
        """Permuted copies: of a network, of a state, of a mask or momenta keyed by weight name.

        Shapes, types and devices stay. Raises `UserError` for tensors of another network.
        """
        if isinstance(what, nn.Module):
            return symmetry.moved(what, self.spec, self.permutation)
        return symmetry.apply(self.spec, self.permutation, what)

    def inverse(self) -> Alignment:
        """That of b onto a: ``x.inverse().apply(x.apply(state))`` is ``state``, bit for bit.

        Similarities do not depend on who is permuted, so the quality is the same.
        """
        turned = {
            name: replace(each, dead_a=each.dead_b, dead_b=each.dead_a)
            for name, each in self.quality.items()
        }
        match = replace(self.match, permutation=symmetry.inverse(self.permutation), quality=turned)
        return Alignment(self.spec, match, self.networks and (self.networks[1], self.networks[0]))

    def compose(self, inner: Alignment) -> Alignment:
        """First ``inner``, from a onto b, then this one, from b onto c: a onto c.

        ``x.compose(y).apply(state)`` is ``x.apply(y.apply(state))``. How good it is was not
        measured. Raises `UserError` for alignments of networks with other groups.
        """
        if inner.spec != self.spec:
            raise UserError("alignments of networks with different groups cannot be composed")
        found = symmetry.compose(self.permutation, inner.permutation)
        ends = (inner.networks[0], self.networks[1]) if inner.networks and self.networks else None
        return Alignment(self.spec, Match(found, {}), ends)

    def curve(
        self,
        batches: Batches,
        *,
        corrections: Sequence[str] = ("none",),
        points: int = 25,
        permuted: bool = True,
        statistics: Batches | None = None,
        precision: str = "fp32",
    ) -> list[Row]:
        """Loss and error on the line from pi(a) to b, `pipeline.connectivity.barrier.curve`.

        batches: with classes; loss and error are measured on them, in evaluation mode.
        corrections: of "none", "reset", "repair", "repair-blocks".
        points: values of alpha, evenly spaced in [0, 1], ends included.
        permuted: False for the line from a itself, to compare with.
        statistics: what corrections are measured on; by default ``batches``.

        Returns rows (alpha, correction, split, loss in nats, error in %). Raises `UserError` for
        batches without classes, an unknown correction, or one that the network has no place for.
        """
        if points < 2:
            raise UserError(f"points: {points}; a line has at least its 2 ends")
        a, b = self._known()
        ground = self._ground(b, batches, batches if statistics is None else statistics, precision)
        _check_corrections(b, corrections)
        start = self.apply(a.state_dict()) if permuted else a.state_dict()
        alphas = lines.alphas(points)
        return lines.curve(ground, start, b.state_dict(), alphas=alphas, corrections=corrections)

    def barrier(
        self,
        batches: Batches,
        *,
        metric: Literal["loss", "error"] = "loss",
        correction: str = "none",
        **settings: Any,
    ) -> float:
        """The barrier between pi(a) and b (paper, eq. 3): of the loss in nats, of the error in %.

        The other settings are those of `curve`. At least 0; infinite if a merged loss is.
        """
        choose(metric, ("loss", "error"), "barrier", "metric")
        rows = self.curve(batches, corrections=(correction,), **settings)
        return lines.barrier(rows, correction, SPLIT, metric)

    def merge(
        self,
        alpha: float = 0.5,
        correction: str = "none",
        batches: Batches | None = None,
        precision: str = "fp32",
    ) -> nn.Module:
        """The network (1 - alpha) pi(a) + alpha b on b's device, in evaluation mode.

        correction: "none", "reset" or "repair" of its activations' statistics (thesis, eq. 2.17),
        measured on ``batches``; at alpha 0 and 1, pi(a) and b bit for bit, there is none. Raises
        `UserError` where these do not fit; "repair-blocks" has no layer that could hold it.
        """
        a, b = self._known()
        choose(correction, ("none", "reset", "repair"), "merge", "correction")
        if not 0 <= alpha <= 1:
            raise UserError(f"merge: alpha {alpha}: allowed is [0, 1]")
        if correction != "none" and batches is None:
            raise UserError(f"merge: correction {correction} needs batches")
        _check_corrections(b, (correction,))
        if alpha in (0, 1):
            correction = "none"
        on = self._ground(b, (), () if batches is None else batches, precision)
        surveyor = Surveyor(on, (self.apply(a.state_dict()), b.state_dict()), (correction,))
        start, end = surveyor.endpoints
        surveyor.model.load_state_dict(interpolate(start, end, alpha))
        with surveyor.corrected(correction, (1 - alpha, alpha)):
            return surveyor.model.eval()

    def save(self, path: str | Path) -> None:
        """Write permutation, groups and quality as safetensors; the networks stay where they are.

        Raises `UserError` if the file cannot be written.
        """
        write_tensors(Path(path), self.permutation, described(self.spec, self.match))

    @classmethod
    def load(cls, path: str | Path, a: nn.Module | None = None, b: nn.Module | None = None) -> Self:
        """What `save` wrote, of the networks where they are given, for barriers and merging.

        Raises `UserError` if the file is missing or damaged, or is no alignment.
        """
        file = Path(path)
        spec, match = restored(read_info(file), read_tensors(file), file)
        return cls(spec, match, None if a is None or b is None else (a, b))

    def _known(self) -> tuple[nn.Module, nn.Module]:
        if self.networks is None:
            raise UserError("this alignment was loaded without its networks: load(path, a, b)")
        return self.networks

    def _ground(
        self, model: nn.Module, batches: Batches, statistics: Batches, precision: str
    ) -> Ground:
        device = device_of(model)

        def images() -> Iterator[Tensor]:
            return (images for images, _ in gone_through(statistics, device)())

        def labelled() -> Iterator[tuple[Tensor, Tensor]]:
            for images, labels in gone_through(batches, device)():
                if labels is None:
                    raise UserError("a barrier needs labels: give batches of (images, labels)")
                yield images, labels

        return Ground(model, {SPLIT: labelled}, images, precision)


def align(
    a: nn.Module,
    b: nn.Module,
    batches: Batches,
    *,
    matcher: str = "correlation",
    groups: PermutationSpec | None = None,
    seed: int = 0,
    **settings: Any,
) -> Alignment:
    """Find the permutation that takes network a onto b (paper, eq. 1 and 2).

    a, b: trained networks of one architecture, on any device; they are left as they are.
    batches: normalised inputs [B, ...], with or without classes int64 [B]; they must be the same
        whenever they are gone through. The first one says what the network reads, so a matcher that
        looks at no image needs it, too.
    matcher: a value of the setting ``similarity`` (docs/reference/settings.md): "correlation",
        "inner", "weights", …; ``settings``: others of a matching recipe, such as ``starts=5``.
    groups: what moves together, where it is known; by default it is traced on a, and proven.
    seed: of what the matcher draws; equal seeds give equal permutations.

    Raises `UserError`, one line, for an unknown matcher or setting, networks of different shapes,
    batches that are used up after once, and a network that cannot be traced.
    """
    recipe = _recipe(matcher, settings)
    _check_alike((a, b))
    given = gone_through(batches, device_of(b))
    spec = _groups(a, given) if groups is None else groups
    return Alignment(spec, find(_pair(spec, a, b, given, seed), recipe), (a, b))


def align_all(
    networks: Sequence[nn.Module],
    batches: Batches,
    *,
    matcher: str = "c2m3",
    groups: PermutationSpec | None = None,
    seed: int = 0,
    **settings: Any,
) -> list[Alignment]:
    """Alignments of several networks onto the first one; the first of them moves nothing.

    The way from network i to j is ``found[j].inverse().compose(found[i])``, and ways around a
    circle end where they began. A matcher in `pipeline.symmetry.matchers.JOINT` looks at all networks
    together; any other one aligns each with the first. The rest as in `align`.
    """
    if len(networks) < 2:
        raise UserError(f"align_all: {len(networks)} networks; there must be two or more")
    recipe = _recipe(matcher, settings)
    _check_alike(networks)
    first, device = networks[0], device_of(networks[0])
    given = gone_through(batches, device)
    spec = _groups(first, given) if groups is None else groups
    still = Alignment(spec, Match(symmetry.identity(spec), {}), (first, first))
    if matcher not in JOINT:
        pairs = ((each, _pair(spec, each, first, given, seed)) for each in networks[1:])
        return [still, *(Alignment(spec, find(p, recipe), (each, first)) for each, p in pairs)]
    pair = _pair(spec, first, first, given, seed)
    names = tuple(pair.problem(recipe).a)
    states = tuple(map(state_of, networks))
    common = JOINT[matcher](Several(spec, states, names, device, pair.generator), recipe)
    home = symmetry.inverse(common[0])
    found = [still]
    for each, state, own in zip(networks[1:], states[1:], common[1:], strict=True):
        index = symmetry.compose(home, own)
        problem = replace(pair, a=state).problem(recipe)
        found.append(Alignment(spec, Match(index, problem.quality(index)), (each, first)))
    return found


def _recipe(matcher: str, settings: Mapping[str, Any]) -> MatchSettings:
    recipe = parse(MatchSettings, {"similarity": matcher, **settings}, "align")
    recipe.check("align")
    return recipe


def _pair(
    spec: PermutationSpec,
    a: nn.Module,
    b: nn.Module,
    given: Given,
    seed: int,
) -> Pair:
    device = device_of(b)

    def networks() -> tuple[nn.Module, nn.Module]:
        return (a if device_of(a) == device else copy.deepcopy(a).to(device)), b

    def drawn(purpose: str) -> torch.Generator:
        return generator(seed, purpose)

    return Pair(spec, state_of(a), state_of(b), networks, given, drawn)


def _groups(model: nn.Module, given: Given) -> PermutationSpec:
    images, _ = next(given())
    return spec_of(model, images.shape[1:]).spec


def _check_alike(networks: Sequence[nn.Module]) -> None:
    try:
        check_same_shapes([network.state_dict() for network in networks])
    except ValueError as error:
        raise UserError(f"networks: {error}") from None


def _check_corrections(model: nn.Module, corrections: Sequence[str]) -> None:
    """Raise `UserError` for a correction that the network has no place for."""
    for correction in corrections:
        choose(correction, CORRECTIONS, "corrections", "correction")
        try:
            check_place(model, correction)
        except ValueError as error:
            raise UserError(f"correction {correction}: {error}") from None
