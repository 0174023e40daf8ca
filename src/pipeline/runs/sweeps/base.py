"""What a sweep is: states of dense runs, the permutations between them, the lines measured."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from pipeline.catalog.layers import Kind
from pipeline.catalog.schema import Checked, without_defaults
from pipeline.errors import UserError
from pipeline.runs.base import File, Study
from pipeline.runs.dense import Dense

#: Every kind by what it goes over; a class that has a name enters itself.
SWEEPS: dict[str, type[Sweep]] = {}


@dataclass(frozen=True)
class Mix:
    """Copies of two states some tensors of which are those of earlier states, ``a`` and ``b``.

    Which ones is said by the layer ``k`` and what is done with it (`pipeline.catalog.layers`).
    """

    a: File
    b: File
    kind: Kind
    k: int
    substring: bool


@dataclass(frozen=True)
class Prune:
    """Copies of two states without a ``fraction`` of the weights of their layers.

    ``criterion``: the smallest, or random ones, which ``random`` says how to draw; ``prunable`` as
    of `pipeline.models.prunable_parameters`.
    """

    criterion: str
    fraction: float
    random: str
    prunable: str


@dataclass(frozen=True)
class Matching:
    """A permutation that is looked for, of the weights ``a`` onto the weights ``b``: a point.

    ``copies``: what is matched in the place of these.
    """

    point: str
    a: File
    b: File
    copies: Mix | Prune | None = None

    @property
    def files(self) -> tuple[File, ...]:
        """All states that are read."""
        also = (self.copies.a, self.copies.b) if isinstance(self.copies, Mix) else ()
        return (self.a, self.b, *also)


@dataclass(frozen=True)
class Composition:
    """A permutation that follows from others: points in the order in which they are applied.

    A step is a point, and whether its inverse is meant.
    """

    point: str
    steps: tuple[tuple[str, bool], ...]


@dataclass(frozen=True)
class Mixture:
    """A permutation that is put together of two others, group by group.

    Groups of units that ``layers`` write first are as at the point ``early``, others as at ``late``.
    """

    point: str
    early: str
    late: str
    layers: frozenset[int]


@dataclass(frozen=True)
class Line:
    """A line that is measured: from the weights ``a``, permuted as at ``point``, to ``b``.

    ``arm`` says which question it answers; ``point`` is None where a stays as it is. ``matched_at``
    and ``evaluated_at``: epochs trained of the states matched, and of those measured. ``mask``: put
    on b before it is measured.
    """

    arm: str
    point: str | None
    matched_at: int | None
    evaluated_at: int
    a: File
    b: File
    mask: File | None = None

    @property
    def files(self) -> tuple[File, ...]:
        """What is read for it."""
        return (self.a, self.b, *([self.mask] if self.mask else []))


@dataclass(frozen=True)
class Sweep(Checked):
    """What every kind of sweep says.

    ``networks`` are its members: a and b of a pair, or all of several.
    """

    over: ClassVar[str]

    @property
    def lender(self) -> str | None:
        """The sweep over epochs whose permutations are applied; None: this one finds its own."""
        return None

    def __init_subclass__(cls) -> None:
        if "over" in vars(cls):
            SWEEPS[cls.over] = cls

    def members(self, pairs: Sequence[tuple[int, int]]) -> list[tuple[int, ...]]:
        """The seeds of each run of the sweep in an experiment of these pairs: a run for each."""
        return [*pairs]

    def fit(self, seeds: Sequence[int], dense: Any, where: str) -> None:
        """Raise UserError where seeds, or the recipe of the dense runs, do not fit the sweep."""

    def of_pair(self, seeds: Sequence[int], where: str) -> None:
        """Raise UserError where these are not the seeds of a pair."""
        if len(seeds) != 2:
            raise UserError(f"{where}: a sweep over {self.over} is of a pair a<s>-b<s>")

    def of_network(self, model: str, where: str) -> None:
        """Raise UserError where the sweep does not fit networks of this name."""

    def recipes(self) -> Mapping[str, str]:
        """Recipes that it names, by their kind, which is the name of the setting, too."""
        return {}

    def matchings(self, study: Study, networks: Sequence[Dense]) -> Iterator[Matching]:
        """The permutations that are looked for."""
        raise NotImplementedError

    def compositions(self, networks: Sequence[Dense]) -> Iterator[Composition | Mixture]:
        """The permutations that follow from them."""
        del networks
        return iter(())

    def level(self, point: str) -> float | None:
        """The place of a point on a scale of the sweep's own, such as the layer at which it cuts."""
        del point
        return None

    def reference(self, point: str) -> str | None:
        """The point whose permutation this point's is compared with, unit by unit."""
        raise NotImplementedError

    def lines(self, study: Study, networks: Sequence[Dense], at: Collection[str]) -> Iterator[Line]:
        """The lines that are measured; those between the same states follow each other."""
        raise NotImplementedError

    def roles(self, at: Collection[str]) -> Collection[str]:
        """The questions that its lines answer, by the names that figures have for them."""
        raise NotImplementedError

    def declared(self) -> dict[str, Any]:
        """The recipe, without settings that are the default."""
        return {"over": self.over, **without_defaults(self)}
