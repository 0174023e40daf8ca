"""What a kind of run is: one frozen value that names what changes its bits, and all facts of it.

A new kind is a class here beside the others (found by ``runs.STAGES``), a function ``execute`` in
the module of `pipeline.stages` of the same name, and a rule in ``workflow/rules``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, get_type_hints

from pipeline.runs.form import Form, Parts

if TYPE_CHECKING:
    from pipeline.catalog.datasets import DataInfo
    from pipeline.runs.dense import Dense
    from pipeline.runs.trial import Trial


class Study(Protocol):
    """What a run asks of the study that it is in."""

    def recipe(self, run: Run) -> Any:
        """The settings of a run's own recipe."""

    def inputs(self, run: Run) -> dict[str, File]:
        """The files that a run reads, by role."""

    def info(self, run: Run) -> DataInfo:
        """The data set that a run reads."""

    def method(self, name: str, where: str) -> Any:
        """A sparse method; UserError for an unknown one."""

    def sweep(self, label: str, where: str) -> Any:
        """The settings of a sweep recipe; UserError for an unknown one."""


@dataclass(frozen=True)
class File:
    """A file of a run, and the tensors in it that are meant (all, for an empty prefix)."""

    run: Run
    name: str
    prefix: str = ""

    @property
    def path(self) -> str:
        return self.run.path(self.name)


@dataclass(frozen=True)
class Run:
    """A run; two of equal value are the same run, in the same folder.

    Subclasses are frozen dataclasses. The first field of most is a run, their stem: their path
    extends its path, and they are of its networks. What they say is asked by graph, costs, states,
    progress, tables and documentation; none of these lists the kinds.
    """

    #: Name of the kind: first folder of the path, name of the rule (with ``_`` for ``-``).
    stage: ClassVar[str]
    #: What comes behind it in the path.
    form: ClassVar[Form]
    #: What a run leaves for others; the first file is the one that stands for it.
    files: ClassVar[tuple[str, ...]]
    #: What people call the runs of this kind.
    title: ClassVar[str]
    #: Kind of its recipe in ``config/recipes.yaml``.
    kind: ClassVar[str]
    #: Raised by hand when the meaning of the stage changes: that runs it, and what depends on it, anew.
    algorithm: ClassVar[int] = 1
    #: Jobs of a higher one begin first: what most others wait for.
    priority: ClassVar[int] = 5
    #: Whether it trains: can be shared by processes, is saved when it is stopped.
    trains: ClassVar[bool] = False
    #: Whether it computes with a network, on a GPU where there is one.
    computes: ClassVar[bool] = True

    @cached_property
    def key(self) -> str:
        """The path behind the stage."""
        return self.form.write(self.parts)

    @property
    def folder(self) -> str:
        """Its folder, relative to the results folder."""
        return f"{self.stage}/{self.key}"

    def path(self, name: str | None = None) -> str:
        """A file of it, relative to the results folder; by default the one that stands for it."""
        return f"{self.folder}/{name or self.files[0]}"

    @property
    def stem(self) -> Run:
        """The run in its first field."""
        found: Run = getattr(self, fields(self)[0].name)
        return found

    @property
    def parts(self) -> Parts:
        """What its form is written from: its stem's, and its other fields for the other words."""
        own = [word for word in self.form.words if word not in self.stem.form.words]
        values = [getattr(self, field.name) for field in fields(self)[1:]]
        return {**self.stem.parts, **dict(zip(own, values, strict=True))}

    @classmethod
    def of(cls, parts: Parts) -> Self:
        """The run of parts that its form has read."""
        stem = _kind_of_stem(cls)  # type: ignore[arg-type]
        made: Callable[..., Self] = cls
        own = (parts[word] for word in cls.form.words if word not in stem.form.words)
        return made(stem.of(parts), *own)

    @property
    def label(self) -> str:
        """Label of its recipe: of its stem's where it has none of its own."""
        return str(getattr(self, "recipe", None) or self.stem.label)

    @property
    def networks(self) -> tuple[Dense, ...]:
        """The dense runs that it names, its home first."""
        return self.stem.networks

    @property
    def home(self) -> Dense:
        """The dense run whose data set it reads, and whose network it is of."""
        return self.networks[0]

    @property
    def what(self) -> str:
        """What it is, for people: sparsity S, rewind epoch k, seeds."""
        raise NotImplementedError

    @property
    def words(self) -> str:
        """The run in words: what it is, and its network and recipe."""
        home = self.home
        return f"{self.what} ({home.model}×{home.width} on {home.dataset}, {self.label})"

    def own(self, recipe: Any) -> Any:
        """What of its recipe concerns it: all, unless that says something of others, too."""
        return recipe

    def inputs(self, study: Study) -> dict[str, File]:
        """The files that it reads, by role."""
        del study
        return {}

    def beside(self, study: Study) -> dict[str, Any]:
        """What decides its bits beside its recipe and its parents, by name."""
        del study
        return {}

    def check(self, study: Study) -> None:
        """Raise UserError where the run, asked for by its path, does not fit the study's methods."""

    def obstacle(self, study: Study, trial: Trial) -> str | None:
        """Why it cannot be made with a network of its own, as the trial of that shows it."""
        del study, trial
        return None

    def limits(self, study: Study) -> dict[str, int]:
        """Epochs that must lie below the end of its home, by what they are."""
        del study
        return {}

    def training(self, study: Study) -> Any:
        """The settings by which it trains: its recipe's, unless that leaves them to another."""
        return study.recipe(self)

    def trained_epochs(self, study: Study) -> int:
        """Epochs that it trains."""
        del study
        return 0

    def passes(self, study: Study) -> float:
        """Forward passes over the training set, in epochs' worth, where it does not train."""
        del study
        return 0.0

    def disk(self, study: Study, network: float) -> float:
        """Expected bytes of its files; ``network``: of its network's parameters."""
        del study, network
        return 1e5

    def images(self, study: Study) -> float:
        """Photographs in memory beside the batches under way, by their bytes."""
        del study
        return 0.0


@cache
def _kind_of_stem(kind: type[Run]) -> type[Run]:
    """The kind of the run in the first field of a kind."""
    found: type[Run] = get_type_hints(kind)[fields(kind)[0].name]
    return found
