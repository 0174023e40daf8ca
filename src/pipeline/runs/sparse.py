"""Sparse run: from a rewind snapshot under a's mask, permuted or not."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

from pipeline.errors import UserError
from pipeline.runs.align import Align
from pipeline.runs.base import File, Run, Study
from pipeline.runs.dense import BASE, Dense
from pipeline.runs.form import Form, Parts
from pipeline.runs.mask import Mask
from pipeline.runs.match import Match
from pipeline.runs.snapshot import weights_at
from pipeline.runs.sweeps.rounds import Rounds, point_of

#: Seeds, matching epoch and replicate (another data order).
WHO = Form("a<a>[-b<b>][@t<t>][.r<r>]")


@dataclass(frozen=True)
class Sparse(Run):
    """A sparse run of ``epochs`` epochs from the snapshot ``rewind`` of ``init`` under a's mask.

    ``match`` permutes the mask, of a sweep over rounds the permutation of the mask's level;
    ``shuffled`` puts the weights that it keeps in each layer at random places. ``paired`` says that
    a pair is meant: ``init`` is then b.
    """

    stage = "sparse"
    form = Form(
        f"{BASE}/<imp>[@<source_dataset>@<source_dense>]"
        f"/<method>[.<match>][@<mask>][@<sweep>]/<target>/k<k>-e<epochs>/<sparse>/{WHO.text}"
    )
    files = ("metrics.json", "history.csv")
    title = "Sparse runs"
    kind = "sparse"
    priority = 10
    trains = True

    init: Dense
    mask: Mask
    method: str
    rewind: int
    epochs: int
    recipe: str
    match: Match | Align | None = None
    replicate: int = 0
    shuffled: bool = False

    @property
    def paired(self) -> bool:
        return self.init.who != self.mask.dense.who

    @property
    def parts(self) -> Parts:
        match = self.match
        return {
            **self.init.parts, **self.mask.dense.source_parts(self.init), "imp": self.mask.recipe,
            "method": self.method, "match": match and match.recipe,
            "sweep": match.sweep if isinstance(match, Align) else None,
            "mask": "shuffled" if self.shuffled else None,
            "target": self.mask.target, "k": self.rewind, "epochs": self.epochs,
            "sparse": self.recipe, "a": self.mask.dense.who,
            "b": self.init.who if self.paired else None,
            "t": match.epoch if isinstance(match, Match) else None, "r": self.replicate or None,
        }  # fmt: skip

    @classmethod
    def of(cls, parts: Parts) -> Self:
        a = Dense.source(parts)
        init = Dense.of(parts, "a" if parts["b"] is None else "b")
        return cls(
            init, Mask(a, parts["imp"], parts["target"]), parts["method"], parts["k"],
            parts["epochs"], parts["sparse"], _matching(a, init, parts), parts["r"] or 0,
            parts["mask"] is not None,
        )  # fmt: skip

    @property
    def lth(self) -> Sparse:
        """The LTH run beside it: same mask, rewind epoch and recipe, a's own snapshot."""
        of = self.mask.dense
        init = replace(self.init, seed=of.seed, spawn=of.spawn, noise=of.noise)
        return Sparse(init, self.mask, "lth", self.rewind, self.epochs, self.recipe)

    @property
    def networks(self) -> tuple[Dense, ...]:
        return (self.init, self.mask.dense)

    @property
    def place(self) -> str:
        """Sparsity, rewind epoch and seeds for people."""
        return f"{self.mask.sparsity_words} k={self.rewind} {WHO.write(self.parts)}"

    @property
    def what(self) -> str:
        method = f"{self.method}.{self.match.recipe}" if self.match else self.method
        return f"sparse {method} {self.place}"

    @property
    def permutation(self) -> File | None:
        """The permutation of the mask: of dense networks, or of those pruned to its level."""
        if isinstance(self.match, Align):
            prefix = f"{point_of(int(self.mask.target[1:]))}/"
            return File(self.match, "permutations.safetensors", prefix)
        return File(self.match, "permutation.safetensors") if self.match else None

    def inputs(self, study: Study) -> dict[str, File]:
        files = {
            "start": weights_at(study, self.init, self.rewind),
            "mask": File(self.mask, "mask.safetensors"),
        }
        if self.permutation:
            files["permutation"] = self.permutation
        return files

    def check(self, study: Study) -> None:
        method = study.method(self.method, self.folder)
        target = self.mask.target
        meant = (
            method.permute, method.init == "b" and method.mask != "b", method.mask == "shuffled",
            method.view == "level", method.cut == "one-shot",
        )  # fmt: skip
        found = (
            self.match is not None, self.paired, self.shuffled, isinstance(self.match, Align),
            target[0] == "O",
        )  # fmt: skip
        if meant != found:
            raise UserError(
                f"{self.folder}: does not fit method {self.method!r}: only init: b with a's mask goes "
                "with a pair a<s>-b<s>, only permute: true with .<match>, only mask: shuffled with "
                "@shuffled, only view: level with @<sweep>, and only cut: one-shot with O<n>"
            )
        if isinstance(self.match, Align):
            self._check_level(study, self.match)
        self._check_epochs(study)

    def _check_level(self, study: Study, align: Align) -> None:
        sweep, target = align.over(study), self.mask.target
        if not isinstance(sweep, Rounds) or target[0] != "P":
            raise UserError(f"{self.folder}: @<sweep> needs a sweep over rounds and a target P<n>")
        if self.init != replace(self.mask.dense, seed=self.init.seed):
            raise UserError(f"{self.folder}: @<sweep> needs a and b of one data set and recipe")
        sweep.reaches([int(target[1:])], self.mask.recipe, f"{self.folder}: @{align.sweep}")

    def _check_epochs(self, study: Study) -> None:
        """By the dense recipe the path's epochs follow from its k, and from T."""
        of, horizon = study.recipe(self).training, study.recipe(self.init).epochs
        epochs = {"own": self.epochs, "dense": horizon - self.rewind, "full": horizon}[of]
        if self.epochs != epochs > 0:
            raise UserError(
                f"{self.folder}: recipe {self.recipe!r} trains by the dense recipe, of {horizon} "
                f"epochs: write it as k{self.rewind}-e{epochs}"
            )

    def limits(self, study: Study) -> dict[str, int]:
        """The whole dense recipe can follow on its own end; beyond that are no weights."""
        full = study.recipe(self).training == "full"
        return {} if full else {"rewind epoch k": self.rewind}

    def training(self, study: Study) -> Any:
        recipe = study.recipe(self)
        return recipe if recipe.training == "own" else study.recipe(self.init)

    def trained_epochs(self, study: Study) -> int:
        return self.epochs

    def disk(self, study: Study, network: float) -> float:
        return self.mask.disk_of_sparse(study, network)


def _matching(a: Dense, b: Dense, parts: Parts) -> Match | Align | None:
    """What the permutation comes from: a matching, or a sweep of a pair."""
    if parts["match"] is None:
        return None
    if parts["sweep"] is None:
        return Match(a, b, parts["match"], parts["t"])
    return Align((a, b), parts["match"], parts["sweep"])
