"""The settings of every stage, each a frozen dataclass with bounds and help."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.catalog.schema import (
    AT_LEAST_ONE,
    NOT_NEGATIVE,
    POSITIVE,
    Bounds,
    Checked,
    option,
    quote,
)
from pipeline.errors import UserError

#: As ``algorithm`` of a kind of run (`pipeline.runs`), of what is made from runs.
ALGORITHM = {"data": 1, "table": 2, "figure": 2}

Precision = Literal["fp32", "tf32", "bf16"]


@dataclass(frozen=True)
class TrainSettings(Checked):
    """What every training run shares: SGD with a cosine schedule (paper, Table 2)."""

    lr: float = option(0.08, "peak learning rate", POSITIVE)
    momentum: float = option(0.9, "SGD momentum", Bounds(0, 1, open_high=True))
    weight_decay: float = option(5e-4, "L2 penalty on all parameters", NOT_NEGATIVE)
    batch_size: int = option(128, "images per step; the last short batch is dropped", AT_LEAST_ONE)
    micro_batch: int = option(
        0,
        "images that a process forwards at once, and that BatchNorm sees, so that a step fits in "
        "memory or can be shared by processes; 0: the batch as a whole",
        NOT_NEGATIVE,
    )
    batch_norm_group: int = option(
        0,
        "images that BatchNorm sees together, over several processes where they are more than a "
        "micro-batch; 0: a micro-batch",
        NOT_NEGATIVE,
    )
    schedule: Literal["cosine", "constant", "steps"] = option(
        "cosine",
        "learning rate over the epochs of the run: cosine to 0, constant, or a tenth of it from "
        "each milestone on",
    )
    warmup_epochs: int = option(0, "epochs of linear warm-up before the schedule", NOT_NEGATIVE)
    lr_changes: Literal["epoch", "step"] = option(
        "epoch",
        "when the learning rate changes: between epochs, or with every step, warm-up then from 0",
    )
    milestones: tuple[int, ...] = option(
        (), "schedule steps: epochs after which the rate is divided by ten", AT_LEAST_ONE,
        unique=True,
    )  # fmt: skip
    augment: bool = option(True, "training images flipped and cropped at random, or plain ones")
    images: int | None = option(
        None, "train on so many images, the same for every seed; empty: all", AT_LEAST_ONE
    )
    precision: Precision = option(
        "fp32",
        "arithmetic of convolutions and linear layers: fp32; tf32, on a GPU alone; or bf16 autocast",
    )
    threads: int = option(1, "compute threads; part of the bits of a run on the CPU", AT_LEAST_ONE)
    evaluate_every: int = option(
        10, "epochs between evaluations on the test set (the last epoch always is)", AT_LEAST_ONE
    )

    def check(self, where: str) -> None:
        chunk = self.micro_batch or self.batch_size
        group = self.batch_norm_group or chunk
        if group % chunk or self.batch_size % group:
            raise UserError(
                f"{where}: batch_size ({self.batch_size}) must be a multiple of batch_norm_group "
                f"({group}), and that of micro_batch ({chunk})"
            )
        if bool(self.milestones) != (self.schedule == "steps"):
            raise UserError(f"{where}: milestones go with schedule: steps, and it with them")
        if self.images is not None and self.images < self.batch_size:
            raise UserError(
                f"{where}: images ({self.images}) must be at least batch_size ({self.batch_size})"
            )


@dataclass(frozen=True)
class DenseSettings(TrainSettings):
    """A dense run of T epochs that leaves trunk states (paper, Section 3)."""

    epochs: int = option(200, "epochs of training, T", AT_LEAST_ONE)
    trunk: tuple[int, ...] = option(
        (0,),
        "epochs whose full state is kept; other rewind epochs continue from the last one before",
        NOT_NEGATIVE,
        unique=True,
    )
    series: tuple[int, ...] = option(
        (), "further epochs whose weights alone are kept, for sweeps along training", AT_LEAST_ONE,
        unique=True,
    )  # fmt: skip
    child_series: tuple[int, ...] = option(
        (), "epochs whose weights children keep, as far as they lie behind the epoch that a child "
        "starts from; beside their end", AT_LEAST_ONE, unique=True,
    )  # fmt: skip

    def check(self, where: str) -> None:
        super().check(where)
        for name in ("trunk", "series", "child_series"):
            epochs = getattr(self, name)
            if any(epoch >= self.epochs for epoch in epochs):
                raise UserError(f"{where}: {name}: epochs must lie below epochs = {self.epochs}")
        if 0 not in self.trunk:
            raise UserError(f"{where}: trunk: must contain 0, the initialisation")
        if both := sorted({*self.trunk} & {*self.series}):
            raise UserError(f"{where}: series: {both[0]} is a trunk epoch, kept whole already")

    @property
    def kept(self) -> tuple[int, ...]:
        """The epochs whose weights a run leaves, in order, its end included."""
        return (*sorted({*self.trunk, *self.series}), self.epochs)


@dataclass(frozen=True)
class ImpSettings(TrainSettings):
    """Iterative magnitude pruning: fine-tuned (IMP-FT, paper A.3) or rewound (Frankle et al.).

    Style ``finetune`` trains ``epochs`` epochs a round on from the pruned weights. Style ``rewind``
    returns to the snapshot of ``rewind_epoch`` after each prune and trains to T by the dense
    recipe, whose training settings then hold in place of the ones here. Style ``lr-rewind`` keeps
    the pruned weights and trains them by the whole dense recipe (Renda et al. 2020).
    """

    lr: float = option(0.01, "learning rate of a round of fine-tuning", POSITIVE)
    epochs: int = option(50, "epochs of fine-tuning a round", AT_LEAST_ONE)
    style: Literal["finetune", "rewind", "lr-rewind"] = option(
        "finetune", "fine-tune, rewind weights and learning rate each round, or the rate alone"
    )
    rewind_epoch: int = option(0, "epoch to which style rewind returns", NOT_NEGATIVE)
    fraction: float = option(
        0.2, "share of the remaining weights pruned a round", Bounds(0.01, 1, open_high=True)
    )
    prunable: Literal["all", "no-shortcut", "no-head"] = option(
        "all",
        "which weights: of every convolution and linear layer, or of none of the shortcuts, or of "
        "all but the last layer",
    )
    rounds_per_block: int = option(5, "rounds that one job trains", AT_LEAST_ONE)
    one_shot: Literal["trained", "rewound"] = option(
        "trained",
        "weights that masks of one prune rank: those of the end of training, or of rewind_epoch",
    )
    criterion: Literal["magnitude", "layerwise", "random", "snip"] = option(
        "magnitude",
        "what is pruned first: the smallest weights of all layers together, or of each layer alike; "
        "any; those whose cut changes the loss least (SNIP)",
    )
    prune_at: Literal["rounds", "start"] = option(
        "rounds", "where masks are cut: after rounds of training, or once, from the initialisation"
    )
    score_images: int = option(
        128, "criterion snip: training images on which the loss is taken", AT_LEAST_ONE
    )
    mask_file: str | None = option(
        None,
        "prune_at start: a mask of one's own in place of a criterion's, a safetensors file below the "
        "folder of config.yaml; {seed} and {sparsity} stand for those of a run",
    )

    def check(self, where: str) -> None:
        super().check(where)
        if self.style != "rewind":
            if self.rewind_epoch:
                raise UserError(f"{where}: rewind_epoch goes with style: rewind only")
            if self.one_shot == "rewound":
                raise UserError(f"{where}: one_shot: rewound goes with style: rewind only")
        if self.mask_file is not None and self.prune_at != "start":
            raise UserError(f"{where}: mask_file goes with prune_at: start")
        if self.mask_file is not None and self.criterion != "magnitude":
            raise UserError(f"{where}: mask_file: criterion {self.criterion} would prune nothing")


@dataclass(frozen=True)
class MatchSettings(Checked):
    """Matching of a onto b, by activations (paper, eq. 1 and 2) or by weights (Sharma et al.)."""

    similarity: Literal[
        "correlation",
        "inner",
        "weights",
        "c2m3",
        "sinkhorn",
        "straight-through",
        "random",
    ] = option(
        "correlation",
        "what the assignment maximises: correlation or inner product of activations, inner product "
        "of weights, by ascent or (c2m3) with cycle consistency; sinkhorn and straight-through learn "
        "it by gradients; random is a control",
    )
    std: Literal["pooled", "batch-mean"] = option("pooled", "standard deviation of an activation")
    epsilon: float = option(1e-4, "added to the product of standard deviations", NOT_NEGATIVE)
    taps: Literal["last", "authors", "all"] = option(
        "last",
        "where a residual stream is observed: at its last block, or the last stage of ResNet20 at "
        "the one before, or at all blocks together",
    )
    start: Literal["identity", "activations", "random"] = option(
        "identity",
        "similarity weights, c2m3: where the ascent starts; activations: from what the inner product "
        "of activations finds (weights alone)",
    )
    starts: int = option(
        1, "similarity weights: ascents, of which the best counts; the others start at random",
        AT_LEAST_ONE,
    )  # fmt: skip
    sweeps: int = option(100, "similarity weights: sweeps over all groups at most", AT_LEAST_ONE)
    order: Literal["random", "forward"] = option(
        "random", "similarity weights: order of the groups in a sweep"
    )
    biases: bool = option(
        True, "similarity weights, c2m3: biases take part, those of norms as well"
    )
    steps: int = option(
        200, "similarity c2m3, sinkhorn, straight-through: steps, for c2m3 at most", AT_LEAST_ONE
    )
    rate: float = option(
        0.1, "similarity sinkhorn, straight-through: learning rate of Adam; weights learn at 0.01 of it",
        POSITIVE,
    )  # fmt: skip
    cost: Literal["distance", "midpoint", "line"] = option(
        "distance",
        "similarity sinkhorn: what is lowered: the distance of the weights, or the loss half way "
        "between the networks, or anywhere on the line",
    )
    temperature: float = option(
        1.0, "similarity sinkhorn: of its scores; less is nearer to a permutation", POSITIVE
    )
    augment: bool = option(True, "augmented training images (as in training), or plain ones")
    images: int | None = option(None, "how many training images; empty: all", AT_LEAST_ONE)
    batch_size: int = option(128, "images per forward pass", AT_LEAST_ONE)
    threads: int = option(1, "compute threads", AT_LEAST_ONE)

    def check(self, where: str) -> None:
        if self.similarity == "c2m3" and self.start == "activations":
            raise UserError(f"{where}: start: activations goes with similarity: weights")

    @property
    def learns(self) -> bool:
        """Whether the loss of merged networks is lowered, so that labels are needed."""
        by_loss = self.similarity == "sinkhorn" and self.cost != "distance"
        return by_loss or self.similarity == "straight-through"

    @property
    def looks(self) -> bool:
        """Whether images are looked at."""
        by_weights = self.similarity == "weights" and self.start != "activations"
        return self.learns or not (by_weights or self.similarity in ("c2m3", "sinkhorn", "random"))


@dataclass(frozen=True)
class SparseSettings(TrainSettings):
    """A sparse run of T - k epochs from a rewind snapshot under a mask (paper, Section 3).

    With ``training`` ``dense`` or ``full`` the dense recipe's training settings hold in place of the
    ones here.
    """

    lr: float = option(0.02, "peak learning rate of the fresh schedule", POSITIVE)
    training: Literal["own", "dense", "full"] = option(
        "own",
        "T - k epochs of a schedule of its own; the dense recipe from epoch k on; or the whole dense "
        "recipe, from the weights of epoch k, which may be T",
    )
    keep_weights: bool = option(True, "keep the non-zero weights at the end")
    keep_logits: bool = option(True, "keep the logits on the test set, in half precision")


Correction = Literal["none", "reset", "repair", "repair-blocks"]


@dataclass(frozen=True)
class ConnectivitySettings(Checked):
    """Linear paths between two networks and their barrier (paper, eq. 3)."""

    points: int = option(25, "points of alpha in [0, 1], ends included", Bounds(3, 1001))
    corrections: tuple[Correction, ...] = option(
        ("none", "reset", "repair"), "corrections of the merged network's activations", unique=True
    )
    splits: tuple[Literal["train", "test"], ...] = option(
        ("train", "test"), "data on which loss and error are measured", unique=True
    )
    augment: bool = option(True, "statistics from augmented training images, or plain ones")
    images: int | None = option(None, "training images for statistics; empty: all", AT_LEAST_ONE)
    test_images: int | None = option(None, "the first test images; empty: all", AT_LEAST_ONE)
    batch_size: int = option(500, "images per forward pass", AT_LEAST_ONE)
    grid: int = option(21, "points per side of a loss plane", Bounds(3, 1001))
    margin: float = option(0.25, "border of a loss plane, as a share of its extent", NOT_NEGATIVE)
    at: tuple[Literal["own", "end", "along", "all"], ...] = option(
        ("own", "end"),
        "where the permutations of a sweep over epochs are measured: each at its own epoch, each at "
        "the end, that of the end along all epochs, all at all",
        unique=True,
    )
    planes: tuple[Literal["ends", "permutations", "start"], ...] = option(
        ("ends",),
        "planes of a sweep's landscape, through b's end, π(a)'s end and: a's end; a's end under the "
        "permutation of the end; b's start",
        unique=True,
    )
    keep_curves: bool = option(False, "keep every point of a sweep's lines, not the barriers alone")
    precision: Precision = option("fp32", "arithmetic of convolutions and linear layers")
    threads: int = option(1, "compute threads", AT_LEAST_ONE)

    def check(self, where: str) -> None:
        if not self.at or not self.planes:
            raise UserError(f"{where}: at and planes must name at least one each")
        if not self.corrections or not self.splits:
            raise UserError(f"{where}: corrections and splits must name at least one each")


RECIPES: dict[str, type[Checked]] = {
    "dense": DenseSettings,
    "imp": ImpSettings,
    "match": MatchSettings,
    "sparse": SparseSettings,
    "connectivity": ConnectivitySettings,
}


@dataclass(frozen=True)
class Method(Checked):
    """A way of sparse training: whose initialisation, and how a's mask is carried over."""

    init: Literal["a", "b"] = option(help="whose rewind snapshot is trained")
    permute: bool = option(False, "permute a's mask by the matching of a onto b")
    mask: Literal["a", "b", "shuffled"] = option(
        "a",
        "a's mask, b's own, or a control: as many weights of each layer as a's has, at random places",
    )
    cut: Literal["imp", "one-shot"] = option(
        "imp", "how the mask of a level is cut: prune by prune, or in one prune of dense weights"
    )
    view: Literal["end", "level"] = option(
        "end",
        "permutation of dense networks, or at each level that of the networks pruned to it, from the "
        "experiment's sweep over rounds",
    )
    match: str | None = option(None, "matching recipe; empty: the experiment's")
    label: str | None = option(None, "name in tables and figures; empty: the method's name")
    color: str | None = option(None, "colour in figures (#rrggbb); empty: chosen")

    @property
    def arm(self) -> str | None:
        """The name of the same question in a sweep over rounds (`pipeline.runs.sweeps.rounds`)."""
        if self.init == "a" or self.mask == "shuffled":
            return None
        if self.cut == "one-shot":
            return "one-shot"
        return {"end": "dense", "level": "sparse"}[self.view] if self.permute else "none"

    def check(self, where: str) -> None:
        if self.permute and self.init == "a":
            raise UserError(f"{where}: permute goes with init: b only")
        if self.permute and self.mask == "shuffled":
            raise UserError(f"{where}: mask: shuffled has no units that could be permuted")
        if self.mask == "b" and (self.permute or self.init == "a"):
            raise UserError(f"{where}: mask: b goes with init: b and without permute")
        if self.view == "level" and not (self.permute and self.cut == "imp"):
            raise UserError(f"{where}: view: level goes with permute: true and cut: imp only")
        if self.match is not None and not self.permute:
            raise UserError(f"{where}: match goes with permute: true only")
        if self.color is not None and not re.fullmatch("#[0-9A-Fa-f]{6}", self.color):
            raise UserError(f"{where}: color: expected #rrggbb, got {quote(self.color)}")


@dataclass(frozen=True)
class Protocol(Checked):
    """Choices on which the paper's text and the authors' code disagree."""

    title: str = option("", "one line for tables and captions")
    rewind_offset: int = option(0, "epochs trained beyond the printed k", NOT_NEGATIVE)
    sparsity_tolerance: dict[str, float] | None = option(
        None, "per model: pruning stops within this of S", Bounds(0, 1, open_high=True)
    )
    sparsity_prunes: dict[str, dict[str, int]] | None = option(
        None, "per model and S: that many full prunes stand for S", AT_LEAST_ONE
    )
    one_shot: Literal["trained", "rewound"] | None = option(
        None, "one_shot of imp recipes that rewind weights, for masks of one prune alone"
    )
    recipes: dict[str, str] | None = option(
        None,
        "recipes that others stand for, as they are written: the protocol changes them no more",
    )
    imp: dict[str, Any] | None = option(None, "settings of every imp recipe")
    match: dict[str, Any] | None = option(None, "settings of every match recipe")
    connectivity: dict[str, Any] | None = option(None, "settings of every connectivity recipe")
    dense: dict[str, Any] | None = option(None, "settings of every dense recipe")
    sparse: dict[str, Any] | None = option(None, "settings of every sparse recipe")
    correction: Correction = option("repair", "correction of the headline barrier")
    barrier_at: float | None = option(
        None, "alpha of the headline barrier; empty: the supremum of eq. (3)", Bounds(0, 1)
    )
    barrier_split: Literal["train", "test"] = option("train", "data of the headline barrier")
