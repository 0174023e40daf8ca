"""What tables and figures declare: their settings, the runs that they show, and checks of both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, ClassVar, Literal

from pipeline.catalog.datasets import WITHHELD
from pipeline.catalog.schema import (
    FRACTION,
    NOT_NEGATIVE,
    choose,
    mapping,
    option,
    parse,
    suggest,
    without_defaults,
)
from pipeline.errors import UserError
from pipeline.runs import STAGES, Align, Connect, Curve, Run
from pipeline.study.experiment import Experiment
from pipeline.study.settings import Protocol
from pipeline.study.works import Works

Experiments = Mapping[str, Experiment]

#: Names of the workflow's own rules: a table or figure is a rule of its name.
RULES = {
    "all", "archive", "comparison", "data", "digits_turned", "figure", "figures", "provenance",
    "render_report", "report", "run", "settings", "show", "table", "tables",
    *(stage.replace("-", "_") for stage in STAGES),
}  # fmt: skip

#: The published tables of accuracies (`pipeline.report.published`): the paper's and the thesis'.
ACCURACIES = (
    *(str(number) for number in range(5, 16)),
    *(f"4.{number}" for number in (1, 2, *range(7, 17))),
)

#: Every kind by its name; a class that has one enters itself.
KINDS: dict[str, type[Output]] = {}


@dataclass(frozen=True)
class Output:
    """What every table and figure declares."""

    kind: ClassVar[str]
    what: ClassVar[Literal["table", "figure", "claims", "group"]] = "table"
    #: What a caption says of every output of this kind.
    shows: ClassVar[str] = ""
    #: Numbers of the published tables beside which one of this kind can be put.
    numbers: ClassVar[tuple[str, ...]] = ()

    title: str = option("", "title, printed above")
    note: str = option("", "a sentence for the note below")
    experiments: tuple[str, ...] = option((), "experiments of the study", unique=True)
    published: str | None = option(
        None,
        "number of the paper's or the thesis' table beside which it is put; of a further work: its "
        "name and the number",
    )
    optional: bool = option(False, "built when asked for by name only, not with the others")

    def __init_subclass__(cls) -> None:
        if "kind" in vars(cls):
            KINDS[cls.kind] = cls

    def check(self, experiments: Experiments, where: str) -> None:
        """Raise UserError where the entry does not fit its experiments."""
        if not self.experiments:
            raise UserError(f"{where}: experiments: name at least one")
        for name in self.experiments:
            choose(name, experiments, f"{where}: experiments", "experiment")
        for experiment in self.chosen(experiments):
            self.check_experiment(experiment, where)

    def check_experiment(self, experiment: Experiment, where: str) -> None:
        """Raise UserError where an experiment does not have what the entry shows."""

    def cite(self, works: Works, where: str) -> None:
        """Raise UserError where the entry names a table, or a work, that was not published."""
        if isinstance(self.published, str):
            if not self.numbers:
                raise UserError(
                    f"{where}: published: no numbers were published for kind {self.kind!r}"
                )
            further = works.labels if self.numbers is ACCURACIES else ()
            choose(self.published, (*self.numbers, *further), f"{where}: published", "table")

    @property
    def cited(self) -> str:
        """The further work, or the table of one, whose numbers are shown; or no such one."""
        return self.published if isinstance(self.published, str) else ""

    def under(self, protocol: Protocol) -> Output:
        """The output with what it leaves to the protocol filled in."""
        del protocol
        return self

    def chosen(self, experiments: Experiments) -> list[Experiment]:
        return [experiments[name] for name in self.experiments]

    def runs(self, experiment: Experiment) -> Iterable[Run]:
        """The runs of one experiment that the output shows."""
        del experiment
        return ()

    def needs(self, experiments: Experiments) -> Iterable[Run]:
        """The runs that the output shows; their ancestors follow from them."""
        for experiment in self.chosen(experiments):
            yield from self.runs(experiment)

    def pairs(self, experiment: Experiment) -> tuple[tuple[int, int], ...]:
        """The pairs of seeds of one experiment that the output shows."""
        return experiment.pairs

    def declared(self) -> dict[str, Any]:
        """The entry, sorted, without settings that are the default."""
        return dict(sorted({"kind": self.kind, **without_defaults(self)}.items()))


def check_measured(
    experiment: Experiment, split: str, corrections: Iterable[str], where: str
) -> None:
    """Raise UserError where the connectivity recipe does not measure what a figure shows."""
    recipe = f"{where}: connectivity recipe {experiment.connectivity!r}"
    choose(split, experiment.line.splits, f"{recipe}: splits", "split")
    for correction in corrections:
        choose(correction, experiment.line.corrections, f"{recipe}: corrections", "correction")


def check_pairs(experiment: Experiment, where: str) -> None:
    """Raise UserError where an experiment declares no pairs of seeds."""
    if not experiment.pairs:
        raise UserError(f"{where}: experiment {experiment.name!r} declares no pairs")


def check_declared(
    experiment: Experiment, sparsity: float, rewind_epoch: int | None, where: str
) -> None:
    """Raise UserError where an experiment declares no cells at a sparsity (and rewind epoch)."""
    at = f"sparsity {sparsity}"
    if rewind_epoch is not None:
        at += f" and rewind epoch {rewind_epoch}"
    epochs = (None, *experiment.rewind_epochs)
    if sparsity not in experiment.sparsities or rewind_epoch not in epochs:
        raise UserError(f"{where}: experiment {experiment.name!r} declares no run at {at}")


@dataclass(frozen=True)
class Cells(Output):
    """An output that may show a part of its experiments' cells."""

    sparsities: tuple[float, ...] = option((), "only these; empty: all", FRACTION, unique=True)
    rewind_epochs: tuple[int, ...] = option((), "only these; empty: all", NOT_NEGATIVE, unique=True)
    methods: tuple[str, ...] = option((), "only these; empty: all", unique=True)
    metrics: tuple[Literal["top1", "top5", "validation"], ...] = option(
        ("top1",), "accuracies shown: on test images, or on those that are withheld", unique=True
    )

    def check(self, experiments: Experiments, where: str) -> None:
        if not self.metrics:
            raise UserError(f"{where}: metrics: name at least one")
        super().check(experiments, where)

    def check_experiment(self, experiment: Experiment, where: str) -> None:
        for label, mine, theirs in (
            ("sparsities", self.sparsities, experiment.sparsities),
            ("rewind_epochs", self.rewind_epochs, experiment.rewind_epochs),
            ("methods", self.methods, experiment.methods),
        ):
            for value in mine:
                if value not in theirs:
                    raise UserError(
                        f"{where}: {label}: {value!r} is not declared by experiment "
                        f"{experiment.name!r}; {suggest(str(value), [str(v) for v in theirs])}"
                    )
        if "validation" in self.metrics and WITHHELD not in experiment.dataset:
            raise UserError(
                f"{where}: metrics: validation: experiment {experiment.name!r} withholds no images; "
                "give it a number as validation"
            )
        if not any(Cells.runs(self, experiment)):
            raise UserError(f"{where}: experiment {experiment.name!r} declares no sparse runs")

    def runs(self, experiment: Experiment) -> Iterable[Run]:
        for cell in experiment.cells(self.sparsities, self.rewind_epochs, self.methods):
            yield cell.run


@dataclass(frozen=True)
class OneAccuracy(Cells):
    """An output of cells that has room for one accuracy."""

    def check(self, experiments: Experiments, where: str) -> None:
        super().check(experiments, where)
        if len(self.metrics) != 1:
            raise UserError(f"{where}: metrics: {self.kind} shows one of top1, top5 and validation")

    @property
    def metric(self) -> Literal["top1", "top5", "validation"]:
        return self.metrics[0]


@dataclass(frozen=True)
class OfCurves(Output):
    """An output of the curves between a and b, and pi(a) and b, of every pair."""

    def check_experiment(self, experiment: Experiment, where: str) -> None:
        check_pairs(experiment, where)

    def runs(self, experiment: Experiment) -> Iterable[Run]:
        for pair in experiment.pairs:
            yield Curve(experiment.matching(pair), experiment.connectivity)


@dataclass(frozen=True)
class OfSweeps(Output):
    """An output of the sweeps that its experiments declare."""

    #: What these may go over; empty: anything.
    goes_over: ClassVar[tuple[str, ...]] = ()

    matches: tuple[str, ...] = option(
        (), "only these matching recipes of the experiments; empty: all", unique=True
    )
    published: bool = option(  # type: ignore[assignment]
        False, "the authors' own values beside ours, where they are known"
    )

    def check_experiment(self, experiment: Experiment, where: str) -> None:
        if experiment.over is None:
            raise UserError(f"{where}: experiment {experiment.name!r} declares no sweep")
        if self.goes_over and experiment.over.over not in self.goes_over:
            *most, last = self.goes_over
            wanted = f"{', '.join(most)} or {last}" if most else last
            raise UserError(
                f"{where}: experiment {experiment.name!r}: needs a sweep over {wanted}, not over "
                f"{experiment.over.over}"
            )
        for name in self.matches:
            place = f"{where}: matches: experiment {experiment.name!r}"
            choose(name, experiment.matchers, place, "matching recipe")

    def pairs(self, experiment: Experiment) -> tuple[tuple[int, int], ...]:
        if experiment.over is None:
            return ()
        members = experiment.over.members(experiment.pairs)
        return tuple(pair for seeds in members for pair in combinations(seeds, 2))

    def sweeps(self, experiment: Experiment) -> Iterable[Align]:
        """The permutations of one experiment that the output shows."""
        return experiment.aligned(self.matches)

    def runs(self, experiment: Experiment) -> Iterable[Run]:
        for align in self.sweeps(experiment):
            yield Connect(align, experiment.connectivity)


@dataclass(frozen=True)
class Members(Output):
    """An output of ensembles: dense, IMP, LTH, permuted and naive runs at one S and k.

    A block per experiment: dense and IMP runs of ``imp_seeds``, LTH runs (one mask and start, a data
    order per replicate), permuted and naive runs (one mask, a partner per pair), at ``sparsity`` and
    ``rewind_epoch``.
    """

    sparsity: float = option(0.9, "sparsity of all sparse runs", FRACTION)
    rewind_epoch: int = option(20, "rewind epoch of all sparse runs", NOT_NEGATIVE)
    ensemble: Literal["softmax", "logits"] = option("softmax", "what an ensemble averages")
    block_sparsities: dict[str, float] | None = option(
        None, "sparsity of single experiments, where it differs", FRACTION
    )
    block_rewind_epochs: dict[str, int] | None = option(
        None, "rewind epoch of single experiments, where it differs", NOT_NEGATIVE
    )
    imp_seeds: tuple[int, ...] = option(
        (0, 1, 2, 3, 4), "seeds of the dense and IMP rows", NOT_NEGATIVE, unique=True
    )

    def at(self, experiment: Experiment) -> tuple[float, int]:
        """Sparsity and rewind epoch of one block."""
        sparsity = (self.block_sparsities or {}).get(experiment.name, self.sparsity)
        return sparsity, (self.block_rewind_epochs or {}).get(experiment.name, self.rewind_epoch)

    def members(self, experiment: Experiment) -> dict[str, list[Run]]:
        """The runs of each row of a block, in the order of the table."""
        sparsity, k = self.at(experiment)
        rows: dict[str, list[Run]] = {
            "dense": [experiment.source_run(seed) for seed in self.imp_seeds],
            "imp": [experiment.solution(seed, sparsity) for seed in self.imp_seeds],
        }
        for name, method in experiment.ways.items():
            runs = [
                cell.run
                for cell in experiment.cells((sparsity,), (k,), (name,))
                # one mask: a's of the first pair; LTH by data order, the others by partner
                if cell.pair[0] == experiment.pairs[0][0]
                and (method.init == "a" or cell.run.replicate == 0)
            ]
            rows[name] = list(dict.fromkeys(runs))
        return rows

    def check(self, experiments: Experiments, where: str) -> None:
        for blocks in (self.block_sparsities, self.block_rewind_epochs):
            for name in blocks or ():
                choose(name, self.experiments, where, "block")
        super().check(experiments, where)

    def check_experiment(self, experiment: Experiment, where: str) -> None:
        check_declared(experiment, *self.at(experiment), where)
        for name, runs in self.members(experiment).items():
            if len(runs) < 2:
                raise UserError(
                    f"{where}: experiment {experiment.name!r} gives {len(runs)} runs for "
                    f"{name!r}; an ensemble needs at least 2 (pairs with one a, replicates, "
                    "imp_seeds)"
                )

    def runs(self, experiment: Experiment) -> Iterable[Run]:
        for runs in self.members(experiment).values():
            yield from runs


@dataclass(frozen=True)
class Linked(Output):
    """An output over other outputs; it declares no runs of its own."""

    outputs: tuple[str, ...] = option((), "names of tables and figures", unique=True)

    def check(self, experiments: Experiments, where: str) -> None:
        """Checked with the other outputs, by ``link``."""

    def link(self, outputs: Mapping[str, Output], experiments: Experiments, where: str) -> None:
        """Raise UserError where a name is none of the study's tables and figures."""
        plain = [name for name, output in outputs.items() if not isinstance(output, Linked)]
        for name in self.outputs:
            choose(name, plain, f"{where}: outputs", "table or figure")
        if not self.outputs:
            raise UserError(f"{where}: outputs: name at least one")

    def needs(self, experiments: Experiments) -> Iterable[Run]:
        return ()


def parse_output(
    name: str, raw: object, experiments: Experiments, protocol: Protocol, where: str
) -> Output:
    """One entry under ``outputs``, checked.

    Raises:
        UserError: unknown kind, key or experiment, a cell that no experiment declares, or a name
            that is taken.
    """
    if name in RULES:
        raise UserError(f"{where}: {name!r} is a target of the workflow; choose another name")
    entry = dict(mapping(raw, where))
    kind = choose(entry.pop("kind", None), KINDS, where, "kind")
    output = parse(KINDS[kind], entry, where).under(protocol)
    output.check(experiments, where)
    return output
