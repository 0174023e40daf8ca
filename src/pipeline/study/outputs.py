"""Tables and figures as data: what each kind needs, before anything is computed.

A new kind is one entry class here (its settings and ``needs``) and one builder in
``pipeline.report.tables`` or ``pipeline.report.figures``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from pipeline.catalog.schema import (
    AT_LEAST_ONE,
    FRACTION,
    NOT_NEGATIVE,
    choose,
    mapping,
    option,
    parse,
    suggest,
)
from pipeline.errors import UserError
from pipeline.runs import STAGES, Curve, ImpBarrier, Mask, Match, Plane, Run, Sparse
from pipeline.runs.mask import rounds_for
from pipeline.study.experiment import Experiment
from pipeline.study.settings import Correction, Protocol

Experiments = Mapping[str, Experiment]

#: Names of the workflow's own rules: a table or figure is a rule of its name.
RULES = {
    "all", "comparison", "data", "digits_turned", "figure", "figures", "provenance",
    "render_report", "report", "run", "settings", "show", "table", "tables",
    *(stage.replace("-", "_") for stage in STAGES),
}  # fmt: skip


@dataclass(frozen=True)
class Output:
    """What every table and figure declares."""

    what: ClassVar[Literal["table", "figure", "claims", "group"]] = "table"
    #: What a caption says of every output of this kind.
    shows: ClassVar[str] = ""

    kind: str = option(help="kind of table or figure")
    title: str = option("", "title, printed above")
    note: str = option("", "a sentence for the note below")
    experiments: tuple[str, ...] = option((), "experiments of the study", unique=True)
    published: str | None = option(None, "number of the paper's table beside which it is put")
    optional: bool = option(False, "built when asked for by name only, not with the others")

    def check(self, experiments: Experiments, where: str) -> None:
        """Raise UserError where the entry does not fit its experiments."""
        if not self.experiments:
            raise UserError(f"{where}: experiments: name at least one")
        for name in self.experiments:
            choose(name, experiments, f"{where}: experiments", "experiment")

    def under(self, protocol: Protocol) -> Output:
        """The output with what it leaves to the protocol filled in."""
        del protocol
        return self

    def chosen(self, experiments: Experiments) -> list[Experiment]:
        return [experiments[name] for name in self.experiments]

    def needs(self, experiments: Experiments) -> Iterable[Run]:
        """The runs that the output shows; their ancestors follow from them."""
        raise NotImplementedError


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
    if sparsity in experiment.sparsities and (
        rewind_epoch is None or rewind_epoch in experiment.rewind_epochs
    ):
        return
    at = f"sparsity {sparsity}" + (
        f" and rewind epoch {rewind_epoch}" if rewind_epoch is not None else ""
    )
    raise UserError(f"{where}: experiment {experiment.name!r} declares no run at {at}")


@dataclass(frozen=True)
class _Filtered(Output):
    """An output that may show a part of its experiments' cells."""

    sparsities: tuple[float, ...] = option((), "only these; empty: all", FRACTION, unique=True)
    rewind_epochs: tuple[int, ...] = option((), "only these; empty: all", NOT_NEGATIVE, unique=True)
    methods: tuple[str, ...] = option((), "only these; empty: all", unique=True)
    metrics: tuple[Literal["top1", "top5"], ...] = option(
        ("top1",), "accuracies shown", unique=True
    )

    def check(self, experiments: Experiments, where: str) -> None:
        super().check(experiments, where)
        for experiment in self.chosen(experiments):
            for label, mine, theirs in (
                ("sparsities", self.sparsities, experiment.sparsities),
                ("rewind_epochs", self.rewind_epochs, experiment.rewind_epochs),
                ("methods", self.methods, experiment.method_names),
            ):
                for value in mine:
                    if value not in theirs:
                        raise UserError(
                            f"{where}: {label}: {value!r} is not declared by experiment "
                            f"{experiment.name!r}; {suggest(str(value), [str(v) for v in theirs])}"
                        )
            if not any(experiment.cells(self.sparsities, self.rewind_epochs, self.methods)):
                raise UserError(f"{where}: experiment {experiment.name!r} declares no sparse runs")

    def needs(self, experiments: Experiments) -> Iterable[Run]:
        for experiment in self.chosen(experiments):
            for cell in experiment.cells(self.sparsities, self.rewind_epochs, self.methods):
                yield cell.run


@dataclass(frozen=True)
class RewindGrid(_Filtered):
    """Accuracy by sparsity and method (rows) and rewind epoch (columns): Tables 5-14."""

    shows = (
        "Test accuracy in % by sparsity S, method and rewind epoch k, mean ± sample standard "
        "deviation over seeds. Bold: the best method from a new initialisation at each sparsity."
    )


@dataclass(frozen=True)
class EarlyMatching(_Filtered):
    """Accuracy by sparsity and method (rows) and matching epoch (columns): Table 15."""

    shows = (
        "Test accuracy in % where a at its end is matched with b at epoch t, mean ± sample standard "
        "deviation over seeds."
    )


@dataclass(frozen=True)
class PairedDifference(_Filtered):
    """Differences between methods on the same pairs of seeds, with a 95 % interval."""

    shows = (
        "Mean difference in test accuracy between two methods on the same pairs of seeds, in "
        "percentage points, with its 95 % interval over pairs."
    )

    def check(self, experiments: Experiments, where: str) -> None:
        super().check(experiments, where)
        for experiment in self.chosen(experiments):
            if len(self.methods or experiment.method_names) < 2:
                raise UserError(f"{where}: experiment {experiment.name!r} has one method only")


@dataclass(frozen=True)
class _WithDense(_Filtered):
    """A figure with a line for the dense networks."""

    what = "figure"

    def check(self, experiments: Experiments, where: str) -> None:
        super().check(experiments, where)
        if len(self.metrics) != 1:
            raise UserError(f"{where}: metrics: a figure shows one of top1 and top5")

    def needs(self, experiments: Experiments) -> Iterable[Run]:
        yield from super().needs(experiments)
        for experiment in self.chosen(experiments):
            yield from experiment.dense_runs()


@dataclass(frozen=True)
class AccuracyVsRewind(_WithDense):
    """Test accuracy against rewind epoch, a panel per width and sparsity: Figures 5-8, 11."""

    shows = (
        "Test accuracy against the rewind epoch k. Bands: ± one sample standard deviation over "
        "seeds; dashed: the dense runs."
    )


@dataclass(frozen=True)
class AccuracyVsSparsity(_WithDense):
    """Test accuracy against sparsity, a panel per width and rewind epoch: Figures 9, 10."""

    shows = (
        "Test accuracy against the sparsity S. Bands: ± one sample standard deviation over seeds; "
        "dashed: the dense runs."
    )


@dataclass(frozen=True)
class _OfCurves(Output):
    """An output of the curves between a and b, and pi(a) and b, of every pair."""

    def needs(self, experiments: Experiments) -> Iterable[Run]:
        for experiment in self.chosen(experiments):
            for pair in experiment.pairs:
                yield Curve(experiment.matching(pair), experiment.connectivity)


@dataclass(frozen=True)
class Interpolation(_OfCurves):
    """Loss along the line from pi(a) to b, a line per width: Figure 3."""

    what = "figure"
    shows = (
        "Loss or error on the straight line between the permuted network π(a) and b, by width. "
        "Bands: ± one sample standard deviation over pairs."
    )
    metric: Literal["loss", "error"] = option("loss", "what is drawn")
    split: Literal["train", "test"] = option("test", "data on which it is measured")
    corrections: tuple[Correction, ...] = option(
        (), "corrections drawn; empty: the protocol's", unique=True
    )
    unmatched: bool = option(True, "also the line without a permutation")

    def under(self, protocol: Protocol) -> Output:
        return self if self.corrections else replace(self, corrections=(protocol.correction,))

    def check(self, experiments: Experiments, where: str) -> None:
        super().check(experiments, where)
        for experiment in self.chosen(experiments):
            check_measured(experiment, self.split, self.corrections, where)
            check_pairs(experiment, where)


@dataclass(frozen=True)
class Barriers(_OfCurves):
    """Barriers between a and b, and between pi(a) and b, by correction (eq. 3 and at 1/2)."""

    shows = (
        "Barrier on the straight line between two dense networks before and after matching, by "
        "correction of the merged network; mean ± sample standard deviation over pairs."
    )
    splits: tuple[Literal["train", "test"], ...] = option((), "only these; empty: all", unique=True)
    corrections: tuple[Correction, ...] = option((), "only these; empty: all", unique=True)

    def check(self, experiments: Experiments, where: str) -> None:
        super().check(experiments, where)
        for experiment in self.chosen(experiments):
            for split in self.splits or experiment.line.splits:
                check_measured(experiment, split, self.corrections, where)
            check_pairs(experiment, where)


@dataclass(frozen=True)
class ImpBarriers(Output):
    """Barrier between the dense and the IMP solution against the IMP iteration: Figure 4a."""

    what = "figure"
    shows = (
        "Barrier on the line between the dense solution and the weights after each IMP round. "
        "Bands: ± one sample standard deviation over seeds."
    )
    sparsity: float = option(0.9, "sparsity at which the chain ends", FRACTION)
    metric: Literal["loss", "error"] = option("error", "what is drawn")
    split: Literal["train", "test"] | None = option(
        None, "data on which it is measured; empty: the protocol's"
    )

    def under(self, protocol: Protocol) -> Output:
        return self if self.split else replace(self, split=protocol.barrier_split)

    def check(self, experiments: Experiments, where: str) -> None:
        super().check(experiments, where)
        for experiment in self.chosen(experiments):
            check_measured(experiment, self.split or "train", (), where)
            check_pairs(experiment, where)

    def of(self, experiment: Experiment) -> Iterable[ImpBarrier]:
        """The barriers of one experiment, a run per chain."""
        rounds = rounds_for(self.sparsity, experiment.fraction)
        for seed in dict.fromkeys(a for a, _ in experiment.pairs):
            yield ImpBarrier(
                experiment.source_run(seed), experiment.imp, experiment.connectivity, rounds
            )

    def needs(self, experiments: Experiments) -> Iterable[Run]:
        for experiment in self.chosen(experiments):
            yield from self.of(experiment)


@dataclass(frozen=True)
class LossPlane(Output):
    """0-1 loss on the plane through LTH, dense and permuted solution modulo pi: Figure 4b."""

    what = "figure"
    shows = "Error on the plane in weight space through three solutions."
    sparsity: float = option(0.9, "sparsity of the sparse solutions", FRACTION)
    rewind_epoch: int = option(10, "rewind epoch of the sparse solutions", NOT_NEGATIVE)
    method: str = option("permuted", "method beside LTH and dense")
    correction: Correction = option("reset", "correction at each point of the plane")
    split: Literal["train", "test"] = option("test", "data on which it is measured")
    pair: int = option(1, "which pair of the experiment, counted from 1", AT_LEAST_ONE)

    def check(self, experiments: Experiments, where: str) -> None:
        super().check(experiments, where)
        for experiment in self.chosen(experiments):
            check_measured(experiment, self.split, (self.correction,), where)
            choose(self.method, experiment.method_names, f"{where}: method", "method")
            if self.pair > len(experiment.pairs):
                raise UserError(f"{where}: pair: the experiment has {len(experiment.pairs)} pairs")
            if not any(True for _ in self._sparse(experiment)):
                raise UserError(
                    f"{where}: experiment {experiment.name!r} declares no run at "
                    f"sparsity {self.sparsity} and rewind epoch {self.rewind_epoch}"
                )

    def _sparse(self, experiment: Experiment) -> Iterable[Sparse]:
        if self.sparsity in experiment.sparsities and self.rewind_epoch in experiment.rewind_epochs:
            chosen = experiment.pairs[self.pair - 1]
            for cell in experiment.cells((self.sparsity,), (self.rewind_epoch,), (self.method,)):
                if cell.pair == chosen and cell.run.match:
                    yield cell.run
                    return

    def of(self, experiment: Experiment) -> Iterable[Plane]:
        """The plane of one experiment."""
        for run in self._sparse(experiment):
            yield Plane(run, experiment.connectivity)

    def needs(self, experiments: Experiments) -> Iterable[Run]:
        for experiment in self.chosen(experiments):
            yield from self.of(experiment)


@dataclass(frozen=True)
class TrainingCurves(Output):
    """Loss and accuracy per epoch of dense and sparse runs, a column per experiment."""

    what = "figure"
    shows = (
        "Above: training loss per epoch; below: accuracy on test images (solid) and on augmented "
        "training images (dotted). Sparse runs begin at their rewind epoch k. Bands: ± one sample "
        "standard deviation over seeds."
    )
    sparsity: float = option(0.9, "sparsity of the sparse runs", FRACTION)
    rewind_epoch: int = option(10, "rewind epoch of the sparse runs", NOT_NEGATIVE)

    def check(self, experiments: Experiments, where: str) -> None:
        super().check(experiments, where)
        for experiment in self.chosen(experiments):
            check_declared(experiment, self.sparsity, self.rewind_epoch, where)

    def needs(self, experiments: Experiments) -> Iterable[Run]:
        for experiment in self.chosen(experiments):
            yield from experiment.dense_runs()
            for cell in experiment.cells((self.sparsity,), (self.rewind_epoch,)):
                yield cell.run


@dataclass(frozen=True)
class MaskSparsity(Output):
    """Share of pruned weights per layer of the masks, a row per experiment, a line per sparsity."""

    what = "figure"
    shows = (
        "Share of pruned weights in each layer of the masks. Bands: ± one sample standard deviation "
        "over seeds; dotted: the sparsity of the whole network."
    )
    sparsities: tuple[float, ...] = option((), "only these; empty: all", FRACTION, unique=True)

    def check(self, experiments: Experiments, where: str) -> None:
        super().check(experiments, where)
        for experiment in self.chosen(experiments):
            for sparsity in self.sparsities:
                check_declared(experiment, sparsity, None, where)
            if not any(True for _ in self.of(experiment)):
                raise UserError(f"{where}: experiment {experiment.name!r} declares no masks")

    def of(self, experiment: Experiment) -> Iterable[tuple[float, Mask]]:
        """The masks of one experiment with the sparsity that each was asked for."""
        for seed in dict.fromkeys(a for a, _ in experiment.pairs):
            for sparsity in self.sparsities or experiment.sparsities:
                yield sparsity, experiment.mask(seed, sparsity)

    def needs(self, experiments: Experiments) -> Iterable[Run]:
        for experiment in self.chosen(experiments):
            for _, mask in self.of(experiment):
                yield mask


@dataclass(frozen=True)
class MatchingQuality(Output):
    """Mean similarity of matched units per permutation group, a row per experiment."""

    what = "figure"
    shows = (
        "Mean similarity of the units that the permutation pairs, per group of units, beside the "
        "identity and a random matching. Bands: ± one sample standard deviation over pairs."
    )

    def check(self, experiments: Experiments, where: str) -> None:
        super().check(experiments, where)
        for experiment in self.chosen(experiments):
            check_pairs(experiment, where)

    def of(self, experiment: Experiment) -> Iterable[tuple[tuple[int, int], int | None, Match]]:
        """Pair, matching epoch (None: the end) and matching, for all of one experiment."""
        for pair in experiment.pairs:
            for epoch in experiment.matching_epochs or (None,):
                yield pair, epoch, experiment.matching(pair, epoch)

    def needs(self, experiments: Experiments) -> Iterable[Run]:
        for experiment in self.chosen(experiments):
            for _, _, match in self.of(experiment):
                yield match


@dataclass(frozen=True)
class Diversity(Output):
    """Ensembles and functional diversity of dense, IMP, LTH, permuted and naive runs: Table 1.

    A block of rows per experiment: dense and IMP runs of ``imp_seeds``, LTH runs (one mask and
    start, a data order per replicate), permuted and naive runs (one mask, a partner per pair), at
    ``sparsity`` and ``rewind_epoch``.
    """

    shows = (
        "Accuracy of single networks and of their ensemble, and how differently the networks "
        "decide, per method; ± sample standard deviation."
    )

    sparsity: float = option(0.9, "sparsity of all sparse runs", FRACTION)
    rewind_epoch: int = option(20, "rewind epoch of all sparse runs", NOT_NEGATIVE)
    ensemble: Literal["softmax", "logits"] = option("softmax", "what an ensemble averages")
    kl: Literal["ordered", "forward"] = option("ordered", "pairs over which KL is averaged")
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
        for name, method, _ in experiment.methods:
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
        super().check(experiments, where)
        for blocks in (self.block_sparsities, self.block_rewind_epochs):
            for name in blocks or ():
                choose(name, self.experiments, where, "block")
        for experiment in self.chosen(experiments):
            check_declared(experiment, *self.at(experiment), where)
            for name, runs in self.members(experiment).items():
                if len(runs) < 2:
                    raise UserError(
                        f"{where}: experiment {experiment.name!r} gives {len(runs)} runs for "
                        f"{name!r}; an ensemble needs at least 2 (pairs with one a, replicates, "
                        "imp_seeds)"
                    )

    def needs(self, experiments: Experiments) -> Iterable[Run]:
        for experiment in self.chosen(experiments):
            for runs in self.members(experiment).values():
                yield from runs


@dataclass(frozen=True)
class Hyperparameters(Output):
    """The settings of the very recipes that run: Tables 2-4."""

    shows = "The settings of the recipes that run."

    stages: tuple[Literal["dense", "imp", "match", "sparse"], ...] = option(
        ("dense", "sparse"), "stages whose settings are listed", unique=True
    )

    def needs(self, experiments: Experiments) -> Iterable[Run]:
        return ()


@dataclass(frozen=True)
class Cost(_Filtered):
    """Epochs and measured device time per method, matching apart: Appendix D."""

    shows = "Epochs and measured device time of one solution by each method."

    def needs(self, experiments: Experiments) -> Iterable[Run]:
        yield from super().needs(experiments)
        for experiment in self.chosen(experiments):
            for pair in experiment.pairs:
                yield experiment.matching(pair)
            for seed in dict.fromkeys(a for a, _ in experiment.pairs):
                for sparsity in self.sparsities or experiment.sparsities:
                    yield experiment.mask(seed, sparsity)


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


@dataclass(frozen=True)
class Claims(Linked):
    """Each claim of the paper as a formula over the cells of other outputs, with its verdict.

    A target of its own, no part of ``tables``: it needs what the tables and figures need.
    """

    what = "claims"
    shows = (
        "Each claim as a formula over the cells of the tables and figures, with its verdict on these "
        "runs and on the published numbers."
    )
    reuse: tuple[str, ...] = option(
        (), "experiments whose masks come from other data; judged apart", unique=True
    )

    def link(self, outputs: Mapping[str, Output], experiments: Experiments, where: str) -> None:
        super().link(outputs, experiments, where)
        for name in self.reuse:
            choose(name, experiments, f"{where}: reuse", "experiment")


@dataclass(frozen=True)
class Group(Linked):
    """A target that stands for several outputs, such as Figure 4 for its panels."""

    what = "group"


KINDS: dict[str, type[Output]] = {
    "rewind-grid": RewindGrid,
    "early-matching": EarlyMatching,
    "accuracy-vs-rewind": AccuracyVsRewind,
    "accuracy-vs-sparsity": AccuracyVsSparsity,
    "interpolation": Interpolation,
    "imp-barrier": ImpBarriers,
    "plane": LossPlane,
    "training-curves": TrainingCurves,
    "mask-sparsity": MaskSparsity,
    "matching-quality": MatchingQuality,
    "diversity": Diversity,
    "hyperparameters": Hyperparameters,
    "cost": Cost,
    "paired-difference": PairedDifference,
    "barriers": Barriers,
    "claims": Claims,
    "group": Group,
}


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
    entry: dict[str, Any] = mapping(raw, where)
    kind = choose(entry.get("kind"), KINDS, where, "kind")
    output = parse(KINDS[kind], entry, where).under(protocol)
    output.check(experiments, where)
    return output
