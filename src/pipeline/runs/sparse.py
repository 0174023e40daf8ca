"""Sparse run: from a rewind snapshot under a's mask, permuted or not."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from pipeline.errors import UserError
from pipeline.runs.base import File, Run, Study
from pipeline.runs.dense import BASE, Dense
from pipeline.runs.form import Form, Parts
from pipeline.runs.mask import Mask
from pipeline.runs.match import Match
from pipeline.runs.snapshot import weights_at

#: Seeds, matching epoch and replicate (another data order).
WHO = Form("a<a>[-b<b>][@t<t>][.r<r>]")


@dataclass(frozen=True)
class Sparse(Run):
    """A sparse run of ``epochs`` epochs from the snapshot ``rewind`` of ``init`` under a's mask.

    ``match`` permutes the mask; ``shuffled`` puts the weights that it keeps in each layer at random
    places. ``paired`` says that a pair is meant: ``init`` is then b.
    """

    stage = "sparse"
    form = Form(
        f"{BASE}/<imp>[@<source_dataset>@<source_dense>]/<method>[.<match>][@<mask>]/<target>"
        f"/k<k>-e<epochs>/<sparse>/{WHO.text}"
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
    match: Match | None = None
    replicate: int = 0
    shuffled: bool = False

    @property
    def paired(self) -> bool:
        return self.init.who != self.mask.dense.who

    @property
    def parts(self) -> Parts:
        return {
            **self.init.parts, **self.mask.dense.source_parts(self.init), "imp": self.mask.recipe,
            "method": self.method, "match": self.match and self.match.recipe,
            "mask": "shuffled" if self.shuffled else None,
            "target": self.mask.target, "k": self.rewind, "epochs": self.epochs,
            "sparse": self.recipe, "a": self.mask.dense.who,
            "b": self.init.who if self.paired else None, "t": self.match and self.match.epoch,
            "r": self.replicate or None,
        }  # fmt: skip

    @classmethod
    def of(cls, parts: Parts) -> Self:
        a = Dense.source(parts)
        init = Dense.of(parts, "a" if parts["b"] is None else "b")
        return cls(
            init, Mask(a, parts["imp"], parts["target"]), parts["method"], parts["k"],
            parts["epochs"], parts["sparse"],
            Match(a, init, parts["match"], parts["t"]) if parts["match"] else None,
            parts["r"] or 0, parts["mask"] is not None,
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

    def inputs(self, study: Study) -> dict[str, File]:
        files = {
            "start": weights_at(study, self.init, self.rewind),
            "mask": File(self.mask, "mask.safetensors"),
        }
        if self.match:
            files["permutation"] = File(self.match, "permutation.safetensors")
        return files

    def check(self, study: Study) -> None:
        method = study.method(self.method, self.folder)
        meant = (method.permute, method.init == "b", method.mask == "shuffled")
        if meant != (self.match is not None, self.paired, self.shuffled):
            raise UserError(
                f"{self.folder}: does not fit method {self.method!r}: only init: b goes with a "
                "pair a<s>-b<s>, only permute: true with .<match>, and only mask: shuffled with "
                "@shuffled"
            )

    def limits(self, study: Study) -> dict[str, int]:
        return {"rewind epoch k": self.rewind}

    def trained_epochs(self, study: Study) -> int:
        return self.epochs

    def disk(self, study: Study, network: float) -> float:
        return self.mask.disk_of_sparse(study, network)
