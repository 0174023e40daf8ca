"""What an artifact is and where it lives: the only place that builds or reads a path.

Every run is a frozen value that names what changes its bits (data set, model, width, recipe
labels, seeds, epochs trained, sparsity) and nothing else: no table, study or protocol. ``path`` is
its folder under the results folder, of the form in ``FORMS``; ``parse`` is the inverse.

A <target> is S<sparsity>, or P<n> for n full prunes.
``@<dataset>@<dense>`` behind <imp> and behind a<s> says that a was trained on other data or by
another recipe; ``@t<t>`` behind b<s> that b was matched at epoch t; ``.r<n>`` at the end that it is
replicate n (another data order).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from pipeline.errors import UserError

#: The form of every stage's paths, for people.
FORMS = {
    "dense": "<dataset>/<model>-w<width>/<dense>/seed<s>",
    "snapshot": "<dataset>/<model>-w<width>/<dense>/seed<s>/epoch<k>",
    "imp": "<dataset>/<model>-w<width>/<dense>/<imp>/seed<s>/block<n>",
    "mask": "<dataset>/<model>-w<width>/<dense>/<imp>/seed<s>/<target>",
    "solution": "<dataset>/<model>-w<width>/<dense>/<imp>/seed<s>/<target>",
    "match": "<dataset>/<model>-w<width>/<dense>/<match>/a<s>-b<s>",
    "sparse": (
        "<dataset>/<model>-w<width>/<dense>/<imp>/<method>[.<match>]/<target>/k<k>-e<epochs>"
        "/<sparse>/a<s>[-b<s>]"
    ),
    "curve": "<dataset>/<model>-w<width>/<dense>/<match>/<connectivity>/a<s>-b<s>",
    "imp-barrier": "<dataset>/<model>-w<width>/<dense>/<imp>/<connectivity>/seed<s>/rounds<n>",
    "plane": "<connectivity>/<path of the permuted sparse run>",
}

_LABEL = r"[A-Za-z0-9][A-Za-z0-9_.+=-]*"
_COUNT = r"[1-9][0-9]{0,14}"
_ROUNDS = r"[1-9][0-9]{0,3}"
_NUMBER = rf"(?:0|{_COUNT})"
_WIDTH = r"[0-9]{1,9}(?:\.[0-9]{1,9})?"
_BASE = rf"(?P<dataset>{_LABEL})/(?P<model>[A-Za-z0-9_]+)-w(?P<width>{_WIDTH})/(?P<dense>{_LABEL})"
_IMP = rf"(?P<imp>{_LABEL})(?:@(?P<foreign_dataset>{_LABEL})@(?P<foreign_dense>{_LABEL}))?"
_TARGET = rf"(?P<target>S0\.[0-9]{{2,6}}|P{_ROUNDS})"
_WHO = (
    rf"a(?P<a>{_NUMBER})(?:@(?P<foreign_dataset>{_LABEL})@(?P<foreign_dense>{_LABEL}))?"
    rf"-b(?P<b>{_NUMBER})(?:@t(?P<epoch>{_NUMBER}))?"
)


def width_text(width: float) -> str:
    """Width multiplier as it stands in paths and tables: 1, 0.5."""
    return repr(float(width)).removesuffix(".0")


def sparsity_text(sparsity: float) -> str:
    """Sparsity as it stands in paths: two to six digits, 0.9 -> 0.90."""
    return f"{sparsity:.6f}"[:4] + f"{sparsity:.6f}"[4:].rstrip("0")


@dataclass(frozen=True)
class Dense:
    """A dense run of a seed: T epochs of ``recipe`` on ``dataset``."""

    stage: ClassVar[str] = "dense"
    dataset: str
    model: str
    width: str
    recipe: str
    seed: int

    @property
    def base(self) -> str:
        return f"{self.dataset}/{self.model}-w{self.width}/{self.recipe}"

    @property
    def key(self) -> str:
        return f"{self.base}/seed{self.seed}"


@dataclass(frozen=True)
class Snapshot:
    """Weights of a dense run after ``epoch`` epochs, continued from a trunk state before it."""

    stage: ClassVar[str] = "snapshot"
    dense: Dense
    epoch: int

    @property
    def key(self) -> str:
        return f"{self.dense.key}/epoch{self.epoch}"


@dataclass(frozen=True)
class ImpBlock:
    """Rounds of an IMP chain that one job trains; block 1 starts at the dense solution."""

    stage: ClassVar[str] = "imp"
    dense: Dense
    recipe: str
    block: int

    @property
    def key(self) -> str:
        return f"{self.dense.base}/{self.recipe}/seed{self.dense.seed}/block{self.block}"


@dataclass(frozen=True)
class Mask:
    """The mask of a sparsity target, a function of the weights after one round."""

    stage: ClassVar[str] = "mask"
    dense: Dense
    recipe: str
    target: str

    @property
    def key(self) -> str:
        return f"{self.dense.base}/{self.recipe}/seed{self.dense.seed}/{self.target}"


@dataclass(frozen=True)
class Solution:
    """The IMP solution at a target: one more round of training under the mask."""

    stage: ClassVar[str] = "solution"
    mask: Mask

    @property
    def key(self) -> str:
        return self.mask.key


@dataclass(frozen=True)
class Match:
    """The permutation of ``a`` at its end onto ``b`` at ``epoch`` (None: its end)."""

    stage: ClassVar[str] = "match"
    a: Dense
    b: Dense
    recipe: str
    epoch: int | None = None

    @property
    def who(self) -> str:
        foreign = _foreign(self.a, self.b)
        early = "" if self.epoch is None else f"@t{self.epoch}"
        return f"a{self.a.seed}{foreign}-b{self.b.seed}{early}"

    @property
    def key(self) -> str:
        return f"{self.b.base}/{self.recipe}/{self.who}"


@dataclass(frozen=True)
class Sparse:
    """A sparse run of ``epochs`` epochs from the snapshot ``rewind`` of ``init`` under a's mask.

    ``match`` permutes the mask. ``paired`` says that a pair is meant: ``init`` is then b.
    """

    stage: ClassVar[str] = "sparse"
    init: Dense
    mask: Mask
    method: str
    rewind: int
    epochs: int
    recipe: str
    match: Match | None = None
    replicate: int = 0

    @property
    def paired(self) -> bool:
        return self.init.seed != self.mask.dense.seed

    @property
    def who(self) -> str:
        pair = f"-b{self.init.seed}" if self.paired else ""
        early = f"@t{self.match.epoch}" if self.match and self.match.epoch is not None else ""
        again = f".r{self.replicate}" if self.replicate else ""
        return f"a{self.mask.dense.seed}{pair}{early}{again}"

    @property
    def key(self) -> str:
        method = f"{self.method}.{self.match.recipe}" if self.match else self.method
        imp = f"{self.mask.recipe}{_foreign(self.mask.dense, self.init)}"
        cell = f"{self.mask.target}/k{self.rewind}-e{self.epochs}/{self.recipe}"
        return f"{self.init.base}/{imp}/{method}/{cell}/{self.who}"


@dataclass(frozen=True)
class Curve:
    """Loss and error on the line from a (with and without its permutation) to b."""

    stage: ClassVar[str] = "curve"
    match: Match
    recipe: str

    @property
    def key(self) -> str:
        return f"{self.match.b.base}/{self.match.recipe}/{self.recipe}/{self.match.who}"


@dataclass(frozen=True)
class ImpBarrier:
    """Barriers between the dense solution and the weights of the first ``rounds`` IMP rounds."""

    stage: ClassVar[str] = "imp-barrier"
    dense: Dense
    imp: str
    recipe: str
    rounds: int

    @property
    def key(self) -> str:
        chain = f"{self.dense.base}/{self.imp}/{self.recipe}"
        return f"{chain}/seed{self.dense.seed}/rounds{self.rounds}"


@dataclass(frozen=True)
class Plane:
    """The plane through the LTH, dense and permuted solutions, modulo the permutation."""

    stage: ClassVar[str] = "plane"
    permuted: Sparse
    lth: Sparse
    recipe: str

    @property
    def key(self) -> str:
        return f"{self.recipe}/{self.permuted.key}"


Run = Dense | Snapshot | ImpBlock | Mask | Solution | Match | Sparse | Curve | ImpBarrier | Plane

#: What a run leaves for others, relative to its folder; the first is the one that stands for it.
OUTPUTS: dict[str, tuple[str, ...]] = {
    "dense": ("metrics.json", "weights.safetensors", "trunk.safetensors", "history.csv"),
    "snapshot": ("weights.safetensors",),
    "imp": ("metrics.json", "rounds.safetensors", "history.csv"),
    "mask": ("mask.safetensors", "metrics.json"),
    "solution": ("metrics.json", "history.csv", "weights.safetensors", "logits.safetensors"),
    "match": ("permutation.safetensors", "metrics.json"),
    "sparse": ("metrics.json", "history.csv"),
    "curve": ("curve.csv", "metrics.json"),
    "imp-barrier": ("barrier.csv", "metrics.json"),
    "plane": ("plane.csv", "metrics.json"),
}


def _foreign(dense: Dense, home: Dense) -> str:
    if (dense.dataset, dense.recipe) == (home.dataset, home.recipe):
        return ""
    return f"@{dense.dataset}@{dense.recipe}"


def folder(run: Run) -> str:
    """Folder of a run, relative to the results folder."""
    return f"{run.stage}/{run.key}"


def path(run: Run, name: str | None = None) -> str:
    """A file of a run, relative to the results folder; by default the one that stands for it."""
    return f"{run.stage}/{run.key}/{name or OUTPUTS[run.stage][0]}"


def epoch_prefix(epoch: int) -> str:
    """Prefix of the tensors of one epoch in ``trunk.safetensors``."""
    return f"epoch{epoch:04d}/"


def round_prefix(number: int) -> str:
    """Prefix of the tensors of one IMP round in ``rounds.safetensors``."""
    return f"round{number:02d}/"


_PATTERNS = {
    "dense": rf"{_BASE}/seed(?P<seed>{_NUMBER})",
    "snapshot": rf"{_BASE}/seed(?P<seed>{_NUMBER})/epoch(?P<epoch>{_NUMBER})",
    "imp": rf"{_BASE}/(?P<imp>{_LABEL})/seed(?P<seed>{_NUMBER})/block(?P<block>{_ROUNDS})",
    "mask": rf"{_BASE}/(?P<imp>{_LABEL})/seed(?P<seed>{_NUMBER})/{_TARGET}",
    "match": rf"{_BASE}/(?P<match>{_LABEL})/{_WHO}",
    "curve": rf"{_BASE}/(?P<match>{_LABEL})/(?P<recipe>{_LABEL})/{_WHO}",
    "imp-barrier": (
        rf"{_BASE}/(?P<imp>{_LABEL})/(?P<recipe>{_LABEL})/seed(?P<seed>{_NUMBER})"
        rf"/rounds(?P<rounds>{_ROUNDS})"
    ),
    "sparse": (
        rf"{_BASE}/{_IMP}/(?P<method>[A-Za-z0-9_-]+)(?:\.(?P<match>{_LABEL}))?/{_TARGET}"
        rf"/k(?P<rewind>{_NUMBER})-e(?P<epochs>{_COUNT})/(?P<recipe>{_LABEL})"
        rf"/a(?P<a>{_NUMBER})(?:-b(?P<b>{_NUMBER}))?(?:@t(?P<epoch>{_NUMBER}))?"
        rf"(?:\.r(?P<replicate>{_COUNT}))?"
    ),
}
_PATTERNS["solution"] = _PATTERNS["mask"]
_COMPILED = {stage: re.compile(pattern) for stage, pattern in _PATTERNS.items()}


def parse(stage: str, key: str) -> Run:
    """The run of a stage and key; inverse of ``run.key``.

    Raises:
        UserError: the key is not of the stage's form, or another spelling of it (width 1.0, S0.9).
    """
    run = _read(stage, key)
    if run is None:
        path = f"{stage}/{key}"[:300]
        forms = f"{stage}/{FORMS[stage]}" if stage in FORMS else f"one of {', '.join(FORMS)}"
        raise UserError(f"{path!r}: not the path of a run; expected {forms}")
    return run


def _read(stage: str, key: str) -> Run | None:
    if stage == "plane":
        recipe, _, rest = key.partition("/")
        permuted = _read("sparse", rest)
        if not re.fullmatch(_LABEL, recipe) or not isinstance(permuted, Sparse):
            return None
        return Plane(permuted, lth_of(permuted), recipe)
    found = _COMPILED[stage].fullmatch(key) if stage in _COMPILED else None
    if found is None:
        return None
    run = _built(stage, found.groupdict())
    return run if run.key == key and _plain(found.groupdict()) else None


def _plain(part: dict[str, str]) -> bool:
    """Whether width and sparsity are spelled as ``width_text`` and ``sparsity_text`` do."""
    target = part.get("target") or ""
    sparsity = target[1:] if target.startswith("S") else "0.50"
    return (
        width_text(float(part["width"])) == part["width"] != "0"
        and sparsity_text(float(sparsity)) == sparsity != "0.00"
    )


def _built(stage: str, part: dict[str, str]) -> Run:
    home = Dense(part["dataset"], part["model"], part["width"], part["dense"], 0)

    def dense(seed: str, foreign: bool = False) -> Dense:
        if foreign and part.get("foreign_dataset"):
            return Dense(
                part["foreign_dataset"], home.model, home.width, part["foreign_dense"], int(seed)
            )
        return Dense(home.dataset, home.model, home.width, home.recipe, int(seed))

    if stage == "dense":
        return dense(part["seed"])
    if stage == "snapshot":
        return Snapshot(dense(part["seed"]), int(part["epoch"]))
    if stage == "imp":
        return ImpBlock(dense(part["seed"]), part["imp"], int(part["block"]))
    if stage in ("mask", "solution"):
        mask = Mask(dense(part["seed"]), part["imp"], part["target"])
        return mask if stage == "mask" else Solution(mask)
    if stage == "imp-barrier":
        return ImpBarrier(dense(part["seed"]), part["imp"], part["recipe"], int(part["rounds"]))
    epoch = None if part["epoch"] is None else int(part["epoch"])
    if stage in ("match", "curve"):
        match = Match(dense(part["a"], True), dense(part["b"]), part["match"], epoch)
        return match if stage == "match" else Curve(match, part["recipe"])
    a, init = dense(part["a"], True), dense(part["b"] or part["a"])
    return Sparse(
        init=init,
        mask=Mask(a, part["imp"], part["target"]),
        method=part["method"],
        rewind=int(part["rewind"]),
        epochs=int(part["epochs"]),
        recipe=part["recipe"],
        match=Match(a, init, part["match"], epoch) if part["match"] else None,
        replicate=int(part["replicate"] or 0),
    )


def lth_of(permuted: Sparse) -> Sparse:
    """The LTH run beside a permuted one: same mask, rewind epoch and recipe, a's own snapshot."""
    home = permuted.init
    init = Dense(home.dataset, home.model, home.width, home.recipe, permuted.mask.dense.seed)
    return Sparse(
        init, permuted.mask, "lth", permuted.rewind, permuted.epochs, permuted.recipe, None, 0
    )
