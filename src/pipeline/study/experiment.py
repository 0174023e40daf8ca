"""Experiments of a study and the runs that each declares."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any, Literal

from pipeline.catalog.networks import NETWORKS
from pipeline.catalog.schema import (
    AT_LEAST_ONE,
    FRACTION,
    NOT_NEGATIVE,
    Bounds,
    option,
    quote,
)
from pipeline.errors import UserError
from pipeline.runs import Align, Dense, ImpBlock, Mask, Match, Solution, Sparse
from pipeline.runs.form import sparsity_text, width_text
from pipeline.runs.mask import mask_target
from pipeline.runs.sweeps import Sweep
from pipeline.runs.sweeps.rounds import Rounds
from pipeline.study.settings import ConnectivitySettings, ImpSettings, Method, Protocol


@dataclass(frozen=True)
class ExperimentEntry:
    """One experiment as it stands in a study file."""

    dataset: str = option(help="data set: a built-in name or an entry of config/datasets.yaml")
    model: str = option(
        "resnet20", f"network: {', '.join(sorted(NETWORKS))}, or an entry of config/models.yaml"
    )
    width: float = option(1.0, "width multiplier", Bounds(0, 1000, open_low=True))
    dense: Any = option("dense", "recipe of the dense runs, or {recipe: …, setting: …}")
    imp: Any = option("imp-ft", "recipe of iterative magnitude pruning")
    match: Any = option("activations", "recipe of the matching of a onto b")
    sparse: Any = option("sparse", "recipe of the sparse runs")
    connectivity: Any = option("line", "recipe of curves, barriers and planes")
    methods: tuple[str, ...] = option(("lth", "naive", "permuted"), "sparse methods", unique=True)
    sparsities: tuple[float, ...] = option((), "shares S of weights pruned", FRACTION, unique=True)
    levels: tuple[int, ...] = option(
        (), "in place of sparsities: after so many full prunes", Bounds(1, 9999), unique=True
    )
    rewind_epochs: tuple[int, ...] = option((), "rewind epochs k", NOT_NEGATIVE, unique=True)
    pairs: tuple[tuple[int, int], ...] = option(
        (), "pairs [a, b] of seeds", NOT_NEGATIVE, unique=True
    )
    matching_epochs: tuple[int, ...] = option(
        (), "epochs t of b at which a is matched; empty: the end", AT_LEAST_ONE, unique=True
    )
    replicates: int = option(
        1, "sparse runs per cell and pair, each with its own data order", Bounds(1, 1000)
    )
    sweep: Any = option(None, "recipe of a sweep over states of the dense runs; empty: none")
    matches: tuple[Any, ...] = option(
        (), "recipes of the sweep's matchings; empty: that of the experiment"
    )
    validation: int = option(
        0, "training images withheld from all training, on which k may be chosen", NOT_NEGATIVE
    )
    mask_from: dict[Literal["dataset", "dense"], Any] | None = option(
        None, "data set and dense recipe on which a's mask was found, where they differ"
    )


@dataclass(frozen=True)
class Cell:
    """One sparse run with the labels under which tables show it."""

    experiment: str
    method: str
    sparsity: float
    rewind_epoch: int
    matching_epoch: int | None
    pair: tuple[int, int]
    run: Sparse


@dataclass(frozen=True, kw_only=True)
class Experiment(ExperimentEntry):
    """An experiment under a protocol: every reference resolved and checked, recipes as labels."""

    name: str
    dense: str
    imp: str
    match: str
    sparse: str
    connectivity: str
    ways: Mapping[str, Method]
    mask_dataset: str
    mask_dense: str
    #: Label of the recipe of masks of one prune.
    one_shot: str
    horizon: int
    chain: ImpSettings
    line: ConnectivitySettings
    protocol: Protocol
    #: Whose training settings sparse runs have, as the sparse recipe says.
    training: Literal["own", "dense", "full"] = "own"
    over: Sweep | None = None
    #: Matching recipes of the sweep by the names that the study gives, as labels.
    matchers: Mapping[str, str] = field(default_factory=dict)

    @property
    def fraction(self) -> float:
        """Share of the remaining weights that a full prune takes."""
        return self.chain.fraction

    @property
    def seeds_a(self) -> list[int]:
        """The seeds a of all pairs, each once, in order."""
        return list(dict.fromkeys(a for a, _ in self.pairs))

    def dense_run(self, seed: int) -> Dense:
        """The dense run of a seed on the experiment's own data."""
        return Dense(self.dataset, self.model, width_text(self.width), self.dense, seed)

    def source_run(self, seed: int) -> Dense:
        """The dense run from which the mask of a seed comes."""
        return replace(self.dense_run(seed), dataset=self.mask_dataset, recipe=self.mask_dense)

    def level(self, sparsity: float) -> int | None:
        """The level that a sparsity stands for, where levels are declared."""
        return dict(zip(self.sparsities, self.levels, strict=False)).get(sparsity)

    def mask(self, seed: int, sparsity: float, cut: str = "imp") -> Mask:
        """The mask of a seed at a sparsity, as the protocol prunes to it."""
        level = self.level(sparsity)
        if cut == "one-shot":
            return Mask(self.source_run(seed), self.one_shot, f"O{level}")
        if level is not None:
            return Mask(self.source_run(seed), self.imp, f"P{level}")
        prunes = (self.protocol.sparsity_prunes or {}).get(self.model, {})
        full = {float(text): number for text, number in prunes.items()}.get(sparsity)
        tolerance = (self.protocol.sparsity_tolerance or {}).get(self.model, 0.0)
        target = f"P{full}" if full else mask_target(sparsity, self.fraction, tolerance)
        return Mask(self.source_run(seed), self.imp, target)

    def pruned(self, sparsity: float) -> float:
        """Share of weights that the mask of a sparsity really prunes, as its target says."""
        target = self.mask(0, sparsity).target
        return sparsity if target[0] == "S" else 1 - (1 - self.fraction) ** int(target[1:])

    def masks(self, sparsities: tuple[float, ...] = ()) -> Iterator[tuple[float, Mask]]:
        """Sparsity and mask of every seed a; without sparsities, at all that are declared."""
        for seed, sparsity in product(self.seeds_a, sparsities or self.sparsities):
            yield sparsity, self.mask(seed, sparsity)

    def rounds(self) -> Iterator[tuple[int, float, int, ImpBlock]]:
        """Seed, sparsity, level and block of the round that ends at each level: of every a, and with
        a sweep over rounds of every b."""
        own = (
            self.dense_runs()
            if isinstance(self.over, Rounds)
            else map(self.source_run, self.seeds_a)
        )
        for dense, (sparsity, level) in product(
            own, zip(self.sparsities, self.levels, strict=False)
        ):
            block = ImpBlock(dense, self.imp, math.ceil(level / self.chain.rounds_per_block))
            yield dense.seed, sparsity, level, block

    def solution(self, seed: int, sparsity: float) -> Solution:
        return Solution(self.mask(seed, sparsity))

    def matching(
        self, pair: tuple[int, int], epoch: int | None = None, recipe: str | None = None
    ) -> Match:
        """The matching of a onto b at ``epoch`` (None: b's end)."""
        a, b = pair
        at = None if epoch == self.horizon else epoch
        return Match(self.source_run(a), self.dense_run(b), recipe or self.match, at)

    def matchings(self) -> Iterator[tuple[tuple[int, int], int | None, Match]]:
        """Pair, matching epoch (None: the end) and matching, for all that the experiment declares."""
        for pair, epoch in product(self.pairs, self.matching_epochs or (None,)):
            yield pair, epoch, self.matching(pair, epoch)

    def permutation(
        self, pair: tuple[int, int], method: Method, epoch: int | None
    ) -> Match | Align | None:
        """What the permutation of a method comes from; None where it permutes nothing."""
        if not method.permute:
            return None
        if method.view == "end":
            return self.matching(pair, epoch, method.match)
        return Align(tuple(map(self.dense_run, pair)), method.match or self.match, self.sweep)

    def aligned(self, matches: tuple[str, ...] = ()) -> Iterator[Align]:
        """The permutations of the experiment's sweep by every matching, or by those named."""
        if self.over is None:
            return
        chosen = [label for name, label in self.matchers.items() if name in (matches or {name})]
        for recipe, seeds in product(chosen, self.over.members(self.pairs)):
            yield Align(tuple(map(self.dense_run, seeds)), recipe, self.sweep)

    def dense_runs(self) -> list[Dense]:
        """The dense runs of all seeds on the experiment's own data, each once, in order."""
        return list(dict.fromkeys(self.dense_run(seed) for pair in self.pairs for seed in pair))

    def cells(
        self,
        sparsities: tuple[float, ...] = (),
        rewind_epochs: tuple[int, ...] = (),
        methods: tuple[str, ...] = (),
    ) -> Iterator[Cell]:
        """The sparse runs, with labels; empty filters mean all that the experiment declares."""
        at = sparsities or self.sparsities, rewind_epochs or self.rewind_epochs
        for (a, b), sparsity, k, (name, method) in product(self.pairs, *at, self.ways.items()):
            if methods and name not in methods:
                continue
            dense = method.permute and method.view == "end"
            times = (self.matching_epochs or (None,)) if dense else (None,)
            rewind = k + self.protocol.rewind_offset
            rewind = min(rewind, self.horizon) if self.training == "full" else rewind
            epochs = {"own": self.horizon - k, "dense": self.horizon - rewind, "full": self.horizon}
            for t, replicate in product(times, range(self.replicates)):
                run = Sparse(
                    init=self.dense_run(a if method.init == "a" else b),
                    mask=self.mask(b if method.mask == "b" else a, sparsity, method.cut),
                    method=name,
                    rewind=rewind,
                    epochs=epochs[self.training],
                    recipe=self.sparse,
                    match=self.permutation((a, b), method, t),
                    replicate=replicate,
                    shuffled=method.mask == "shuffled",
                )
                yield Cell(self.name, name, sparsity, k, t, (a, b), run)


def check_entry(entry: ExperimentEntry, where: str) -> None:
    """Checks that need no recipe.

    Raises:
        UserError: a pair of one seed twice, too fine a sparsity, levels beside sparsities, or sparse
            cells without pairs.
    """
    for pair in entry.pairs:
        if pair[0] == pair[1]:
            raise UserError(f"{where}: pairs: {list(pair)}: a and b must be different seeds")
    for sparsity in entry.sparsities:
        if float(sparsity_text(sparsity)) != sparsity:
            raise UserError(f"{where}: sparsities: {sparsity!r}: at most six digits")
    if entry.sparsities and entry.levels:
        raise UserError(f"{where}: levels: stand in place of sparsities, not beside them")
    if (entry.sparsities or entry.levels or entry.rewind_epochs) and not entry.pairs:
        raise UserError(f"{where}: pairs: at least one pair [a, b] of seeds is needed")


def check_epochs(
    entry: ExperimentEntry, horizon: int, training: str, offset: int, where: str
) -> None:
    """Raise UserError where epochs of rewinding or matching lie beyond the end of the dense runs.

    The whole dense recipe (``training`` full) can follow on its own end.
    """
    for k in entry.rewind_epochs:
        if training == "full" and k > horizon:
            raise UserError(f"{where}: rewind_epochs: {k} must not exceed T = {horizon}")
        if training != "full" and k + offset >= horizon:
            trained = f" ({k + offset} trained)" if offset else ""
            raise UserError(
                f"{where}: rewind_epochs: {k}{trained} must lie below T = {horizon} "
                "of the dense recipe"
            )
    for t in entry.matching_epochs:
        if t > horizon:
            raise UserError(f"{where}: matching_epochs: {t} must not exceed T = {horizon}")


def check_prunes(prunes: Mapping[str, int], where: str) -> None:
    """Raise UserError where a key is no sparsity, or a number of prunes has no path."""
    for text, count in prunes.items():
        try:
            fits = FRACTION.holds(float(text))
        except ValueError:
            fits = False
        if not fits:
            raise UserError(f"{where}: {quote(text)} is no sparsity; expected {FRACTION}")
        if count > 9999:
            raise UserError(f"{where}: {text}: {count} prunes are too many; allowed: up to 9999")
