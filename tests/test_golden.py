"""The meaning of every stage, pinned: what changes it must raise the stage's ALGORITHM number.

Each stage runs on parents made of whole numbers, so that a change of one stage shows in that stage
alone. Data orders, augmentation draws, masks and permutations are compared exactly; losses and
norms, which differ in their last digits between processors, nearly.

After raising a number: ``python tests/test_golden.py`` writes the new fingerprints of the stages
whose number differs from the recorded one, and of no other; of all stages also those of cases that
are new.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import synthetic
import torch
from small import Tiny, seeded, write_study
from test_figures import CASES as figure_cases
from torch import Tensor

from pipeline import models, pruning, symmetry
from pipeline.artifacts.record import write as write_record
from pipeline.artifacts.store import (
    read_csv,
    read_json,
    read_tensors,
    write_json,
    write_tensors,
)
from pipeline.data.augment import Augmenter
from pipeline.report import published, tables
from pipeline.results import NETWORK
from pipeline.runs import STAGES as RUNS
from pipeline.runs import (
    Align,
    Connect,
    Curve,
    Dense,
    ImpBarrier,
    ImpBlock,
    Landscape,
    Mask,
    Match,
    PermutationQuality,
    Plane,
    Run,
    Snapshot,
    Solution,
    Sparse,
)
from pipeline.runs.dense import epoch_prefix
from pipeline.runs.imp import round_prefix
from pipeline.stages.data import write_facts
from pipeline.stages.job import Job
from pipeline.study.outputs import KINDS
from pipeline.study.settings import ALGORITHM as MADE
from pipeline.study.settings import RECIPES, Method
from pipeline.weights import dense_state, read_mask, read_state, sparse_state, under, write_mask

GOLDEN = Path(__file__).with_name("golden.json")
#: The number of every stage, and of what is made from runs.
ALGORITHM = MADE | {stage: kind.algorithm for stage, kind in RUNS.items()}
STAGES = sorted(ALGORITHM)

GOLDEN_RECIPES = """
dense:
  golden: {epochs: 4, lr: 0.002, weight_decay: 0.2, batch_size: 128, trunk: [0, 2],
           evaluate_every: 1}
imp:
  golden: {epochs: 2, lr: 0.002, weight_decay: 0.2, batch_size: 128, rounds_per_block: 2}
  rate: {style: lr-rewind, rounds_per_block: 2}
match:
  golden: {batch_size: 64}
  batch-mean: {batch_size: 64, std: batch-mean, taps: authors, images: 200}
  inner: {batch_size: 64, similarity: inner}
  random: {similarity: random}
sweep:
  epochs: {over: epochs, epochs: [0, 2]}
  triples: {over: triples}
  spawns: {over: spawns, permutations: epochs, spawns: [2], noises: [2, 1]}
  layers: {over: layers, epochs: [2], layers: [3, 5], kinds: [bottom-up, put-in]}
  mixed: {over: layers, epochs: [2], layers: [3], mix: weights, layer_cut: substring}
  pruned: {over: pruned, epochs: [2], fractions: [0.5]}
  rounds: {over: rounds, imp: golden, rounds: 2}
sparse:
  golden: {lr: 0.002, weight_decay: 0.2, batch_size: 128}
  onward: {training: dense}
connectivity:
  golden: {points: 3, grid: 3, images: 200, batch_size: 100}
  sweep: {points: 3, grid: 3, images: 200, test_images: 100, batch_size: 100, at: [all],
          corrections: [reset], planes: [ends, permutations, start]}
methods:
  lth: {init: a}
  permuted: {init: b, permute: true}
protocols:
  paper: {}
"""
GOLDEN_STUDY = """
experiments:
  golden:
    dataset: few
    width: 0.25
    dense: golden
    imp: golden
    match: golden
    sparse: golden
    connectivity: golden
    methods: [lth, permuted]
    sparsities: [0.5]
    rewind_epochs: [0]
    pairs: [[0, 1]]
outputs: {}
"""

Fingerprint = dict[str, dict[str, Any]]


def sha(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


def bits(mask: Mapping[str, Tensor]) -> str:
    return sha(*(k.encode() + v.numpy().tobytes() for k, v in sorted(mask.items())))


def norm(state: Mapping[str, Tensor], end: str = "weight") -> float:
    """Length of all tensors of a kind."""
    squares = [t.double().square().sum().item() for k, t in state.items() if k.endswith(end)]
    return float(sum(squares) ** 0.5)


class Golden(Tiny):
    """A study whose runs have parents made of whole numbers."""

    def write(self, run: Run, files: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Put files in the place of a run that was not executed."""
        for name, tensors in files.items():
            write_tensors(self.path(run, name), tensors)
        write_json(self.path(run, "metrics.json"), {"status": "ok"})
        names = [*files, "metrics.json"]
        write_record(self.folder(run), self.graph.settings(run), names, {})

    def state(self, seed: int) -> dict[str, Tensor]:
        """A network's state from whole numbers: the same bits on every machine."""
        draws = seeded(seed)
        model = Job(self.config, self.dense(seed, "golden")).model(self.dense(seed, "golden"))
        state = {}
        for name, tensor in model.state_dict().items():
            if tensor.dim() > 1:
                share = (2 / tensor[0].numel()) ** 0.5 * 1.7
                drawn = torch.randint(-1000, 1001, tensor.shape, generator=draws)
                state[name] = drawn / 1000 * share
            elif name.endswith("bias"):
                state[name] = torch.randint(-100, 101, tensor.shape, generator=draws) / 200
            else:
                state[name] = tensor.clone()
        return state

    def prunable(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        dense = self.dense(0, "golden")
        names = models.prunable_parameters(Job(self.config, dense).model(dense), "all")
        return {name: state[name] for name in names}

    def dense_of(self, seed: int, state: Mapping[str, Tensor] | None = None) -> Dense:
        """A dense run whose end is ``state``; its trunk is another one."""
        run = self.dense(seed, "golden")
        end = dict(state or self.state(seed))
        before, trunk = self.state(seed + 10), {}
        for epoch in (0, 2):
            prefix = epoch_prefix(epoch)
            trunk |= {f"{prefix}weights/{name}": t for name, t in before.items()}
            weights = {k: t for k, t in before.items() if k.endswith(("weight", "bias"))}
            if epoch:
                trunk |= {f"{prefix}momentum/{name}": t / 10 for name, t in weights.items()}
        self.write(run, {"weights.safetensors": end, "trunk.safetensors": trunk})
        return run

    def block_of(self, number: int, seed: int = 0) -> ImpBlock:
        """Two rounds of a chain with masks that nest."""
        run = ImpBlock(self.dense(seed, "golden"), "golden", number)
        rounds, mask = {}, pruning.full(self.prunable(self.state(0)))
        for each in range(1, 2 * number + 1):
            state = self.state(20 + each + 50 * seed)
            mask = pruning.prune_fraction(self.prunable(state), mask, 0.2)
            if each in run.rounds(self.graph):
                tensors = sparse_state(state, mask)
                rounds |= {round_prefix(each) + name: t for name, t in tensors.items()}
        self.write(run, {"rounds.safetensors": rounds})
        return run

    def mask_of(self) -> Mask:
        run = Mask(self.dense(0, "golden"), "golden", "S0.50")
        weights = self.prunable(self.state(30))
        mask = pruning.prune_to(weights, pruning.full(weights), 0.5)
        path = self.path(run, "mask.safetensors")
        write_mask(path, mask)
        write_json(self.path(run, "metrics.json"), {"status": "ok"})
        names = ["mask.safetensors", "metrics.json"]
        write_record(self.folder(run), self.graph.settings(run), names, {})
        return run

    def match_of(self) -> Match:
        """A random permutation in the place of a matching."""
        run = self.cell("permuted", sparsity=0.5, experiment="golden").run.match
        assert run
        permutation = symmetry.random(Job(self.config, run).spec(run), seeded(40))
        self.write(run, {"permutation.safetensors": permutation})
        return run

    def sparse_of(self, method: str, seed: int) -> Sparse:
        run = self.cell(method, sparsity=0.5, experiment="golden").run
        state = self.state(seed)
        weights = self.prunable(state)
        mask = pruning.prune_to(weights, pruning.full(weights), 0.5)
        self.write(run, {"weights.safetensors": sparse_state(state, mask)})
        return run


@contextmanager
def consumed() -> Iterator[list[str]]:
    """Digests of the epochs of images and labels that are drawn inside."""
    found: list[str] = []
    draw = Augmenter.epoch

    def recorded(self: Augmenter, **options: Any) -> tuple[Tensor, Tensor]:
        images, labels = draw(self, **options)
        found.append(sha(images.contiguous().numpy().tobytes(), labels.numpy().tobytes()))
        return images, labels

    Augmenter.epoch = recorded  # type: ignore[assignment, method-assign]
    try:
        yield found
    finally:
        Augmenter.epoch = draw  # type: ignore[method-assign]


# --- what each stage does --------------------------------------------------------------------


def trained(study: Golden, run: Run, drawn: list[str]) -> Fingerprint:
    """Data, schedule and losses of a run that trains."""
    history = read_csv(study.path(run, "history.csv"))
    near = {
        key: [float(row[key]) for row in history if row[key]]
        for key in ("learning_rate", "train_loss", "test_loss")
    }
    return {"exact": {"data": drawn, "epochs": len(history)}, "near": near}


def beside(found: Fingerprint, name: str, other: Fingerprint) -> Fingerprint:
    """A fingerprint with another one's entries, under their name."""
    for kind, entries in other.items():
        found[kind] |= {f"{name} {key}": value for key, value in entries.items()}
    return found


def of_data(study: Golden) -> Fingerprint:
    write_facts(study.config, "digits")
    return {"exact": read_json(study.results / "data" / "digits" / "facts.json"), "near": {}}


def of_dense(study: Golden) -> Fingerprint:
    run = study.dense(3, "golden")
    with consumed() as drawn:
        study.run(run)
    found = trained(study, run, drawn)
    tensors = read_tensors(study.path(run, "trunk.safetensors"))
    prefixes = [epoch_prefix(epoch) for epoch in (0, 2)]
    found["exact"]["trunk"] = [
        [
            sum(name.startswith(f"{p}{kind}/") for name in tensors)
            for kind in ("weights", "momentum")
        ]
        for p in prefixes
    ]
    states = [read_state(study.path(run, "trunk.safetensors"), f"{p}weights/") for p in prefixes]
    states.append(read_state(study.path(run, "weights.safetensors")))
    found["near"]["norms"] = [norm(state, end) for state in states for end in ("weight", "var")]
    metrics = read_json(study.path(run, "metrics.json"))
    found["near"]["final"] = [metrics["test_loss"], metrics["train_loss"]]
    child = replace(study.dense_of(3), spawn=2, noise=1)
    with consumed() as drawn:
        study.run(child)
    own = trained(study, child, drawn)
    end = read_state(study.path(child, "weights.safetensors"))
    found["exact"]["child"] = own["exact"]
    found["near"] |= {f"child {key}": values for key, values in own["near"].items()}
    found["near"]["child norms"] = [norm(end, kind) for kind in ("weight", "var")]
    return found


def of_snapshot(study: Golden) -> Fingerprint:
    found: Fingerprint = {"exact": {}, "near": {}}
    dense = study.dense_of(3)
    for epoch in (1, 3):
        run = Snapshot(dense, epoch)
        with consumed() as drawn:
            study.run(run)
        state = read_state(study.path(run))
        found["exact"][f"data {epoch}"] = drawn
        found["near"][f"norms {epoch}"] = [norm(state, end) for end in ("weight", "mean", "var")]
    return found


def of_imp(study: Golden) -> Fingerprint:
    start = study.state(0)
    run = ImpBlock(study.dense_of(0, start), "golden", 1)
    with consumed() as drawn:
        study.run(run)
    found = trained(study, run, drawn)
    for number in (1, 2):
        tensors = read_tensors(study.path(run, "rounds.safetensors"), round_prefix(number))
        state, mask = dense_state(tensors, start)
        found["exact"][f"zeros {number}"] = pruning.count(mask)
        found["near"][f"norms {number}"] = [norm(state), norm(state, "var")]
        if number == 1:  # cut from whole numbers; the next one from trained weights
            found["exact"]["mask 1"] = bits(mask)
    rate = ImpBlock(run.dense, "rate", 1)
    with consumed() as drawn:
        study.run(rate)
    of_rate = trained(study, rate, drawn)
    of_rate["near"] = {key: values[:5] for key, values in of_rate["near"].items()}  # rounding grows
    return beside(found, "rate", of_rate)


def of_mask(study: Golden) -> Fingerprint:
    dense, exact = study.dense_of(0), {}
    study.block_of(1)
    for target in ("S0.10", "S0.30", "P2", "O1", "O2", "S0.50"):
        run = Mask(dense, "golden", target)
        if target == "S0.50":
            study.block_of(2)
        study.run(run)
        metrics = read_json(study.path(run, "metrics.json"))
        exact[target] = [bits(read_mask(study.path(run))), metrics["zeros"], metrics["prunable"]]
    return {"exact": exact, "near": {}}


def of_solution(study: Golden) -> Fingerprint:
    study.dense_of(0)
    study.block_of(2)
    run = Solution(study.mask_of())
    with consumed() as drawn:
        study.run(run)
    found = trained(study, run, drawn)
    like = study.state(0)
    state, mask = dense_state(read_tensors(study.path(run, "weights.safetensors")), like)
    found["exact"]["mask"] = bits(mask)
    found["near"]["norms"] = [norm(state), norm(state, "var")]
    return found


def of_match(study: Golden) -> Fingerprint:
    found: Fingerprint = {"exact": {}, "near": {}}
    a, b = study.dense_of(0), study.dense_of(1)
    spec = Job(study.config, Match(a, b, "golden")).spec(Match(a, b, "golden"))
    planted = symmetry.random(spec, seeded(41))
    copy = study.dense_of(2, symmetry.apply(spec, planted, study.state(0)))
    for recipe, other in (
        ("golden", b), ("batch-mean", b), ("inner", b), ("random", b), ("golden", copy),
    ):  # fmt: skip
        run, name = Match(a, other, recipe), f"{recipe} {other.seed}"
        with consumed() as drawn:
            study.run(run)
        metrics = read_json(study.path(run, "metrics.json"))
        groups = metrics["groups"]
        found["exact"][name] = [drawn, metrics["images"], [g["size"] for g in groups.values()]]
        found["near"][name] = [g["objective"] for g in groups.values()]
        if recipe == "random" or other is copy:
            found["exact"][f"{name} permutation"] = {
                key: index.tolist() for key, index in read_tensors(study.path(run)).items()
            }
    return found


def of_sparse(study: Golden) -> Fingerprint:
    found: Fingerprint = {"exact": {}, "near": {}}
    study.dense_of(0), study.dense_of(1), study.mask_of(), study.match_of()
    like = study.state(0)
    for method in ("lth", "permuted"):
        run = study.cell(method, sparsity=0.5, experiment="golden").run
        with consumed() as drawn:
            study.run(run)
        part = trained(study, run, drawn)
        state, mask = dense_state(read_tensors(study.path(run, "weights.safetensors")), like)
        found["exact"][method] = part["exact"] | {"mask": bits(mask)}
        found["near"] |= {f"{method} {key}": value for key, value in part["near"].items()}
        found["near"][f"{method} norms"] = [norm(state), norm(state, "var")]
    onward = Sparse(study.dense(0, "golden"), study.mask_of(), "lth", 2, 2, "onward")
    with consumed() as drawn:
        study.run(onward)
    return beside(found, "onward", trained(study, onward, drawn))


def lines(path: Path, words: tuple[str, ...]) -> Fingerprint:
    """A CSV file of measured rows: words exactly, numbers nearly, but not errors.

    An error is a count of images, and one image may fall on either side.
    """
    rows = read_csv(path)
    exact = [[row[word] for word in words] for row in rows]
    numbers = [key for key in rows[0] if key not in words and "error" not in key]
    return {"exact": {"rows": exact}, "near": {k: [float(r[k]) for r in rows] for k in numbers}}


def of_curve(study: Golden) -> Fingerprint:
    study.dense_of(0), study.dense_of(1)
    run = Curve(study.match_of(), "golden")
    with consumed() as drawn:
        study.run(run)
    found = lines(study.path(run), ("matched", "correction", "split"))
    metrics = read_json(study.path(run, "metrics.json"))
    found["exact"]["data"] = drawn
    found["exact"]["barriers"] = [
        [row["matched"], row["correction"], row["split"], row["metric"]]
        for row in metrics["barriers"]
    ]
    losses = [row for row in metrics["barriers"] if row["metric"] == "loss"]
    found["near"]["barriers"] = [row["barrier"] for row in losses]
    found["near"]["at half"] = [row["at_half"] for row in losses]
    return found


def of_permutation_quality(study: Golden) -> Fingerprint:
    study.dense_of(0), study.dense_of(1)
    run = PermutationQuality(study.match_of(), "golden", "golden")
    with consumed() as drawn:
        study.run(run)
    metrics = read_json(study.path(run))
    losses = [row for row in metrics["barriers"] if row["metric"] == "loss"]
    groups = metrics["groups"]
    return {
        "exact": {"data": drawn, "sizes": {name: group["size"] for name, group in groups.items()}},
        "near": {
            "barriers": [row["barrier"] for row in losses],
            **{
                key: [group[key] for group in groups.values()]
                for key in ("matched", "identity", "random")
            },
        },
    }


def of_imp_barrier(study: Golden) -> Fingerprint:
    study.block_of(1), study.block_of(2)
    run = ImpBarrier(study.dense_of(0), "golden", "golden", 3)
    with consumed() as drawn:
        study.run(run)
    found = lines(study.path(run), ("iteration", "correction", "split"))
    found["exact"]["data"] = drawn
    return found


def of_plane(study: Golden) -> Fingerprint:
    study.dense_of(0), study.match_of()
    study.sparse_of("lth", 50)
    run = Plane(study.sparse_of("permuted", 51), "golden")
    with consumed() as drawn:
        study.run(run)
    found = lines(study.path(run), ("correction", "split"))
    points = read_json(study.path(run, "metrics.json"))["points"]
    found["exact"]["data"] = drawn
    found["exact"]["points"] = [[point["model"], point["split"]] for point in points]
    found["near"]["points"] = [p[key] for p in points for key in ("x", "y")]
    return found


def sweep_of(study: Golden, sweep: str, seeds: tuple[int, ...] = (0, 1)) -> Align:
    """A random permutation in the place of each that a sweep looks for."""
    run = Align(tuple(study.dense_of(seed) for seed in seeds), "golden", sweep)
    if sweep == "rounds":
        blocks_of(study)
    spec = Job(study.config, run).spec(run)
    points = enumerate(each.point for each in run.matchings(study.graph))
    found = {
        f"{point}/{group}": index
        for number, point in points
        for group, index in symmetry.random(spec, seeded(60 + number)).items()
    }
    study.write(run, {"permutations.safetensors": found})
    return run


def blocks_of(study: Golden) -> None:
    """The rounds of a pair, and masks of one prune of b."""
    for seed in (0, 1):
        study.block_of(1, seed)
    for target in ("O1", "O2"):
        study.run(Mask(study.dense(1, "golden"), "golden", target))


def of_align(study: Golden) -> Fingerprint:
    found: Fingerprint = {"exact": {}, "near": {}}
    pair, three = (0, 1), (0, 1, 2)
    kinds = {
        "epochs": pair,
        "layers": pair,
        "mixed": pair,
        "pruned": pair,
        "rounds": pair,
        "triples": three,
    }
    for sweep, seeds in kinds.items():
        run = Align(tuple(study.dense_of(seed) for seed in seeds), "golden", sweep)
        if sweep == "rounds":
            blocks_of(study)
        with consumed() as drawn:
            study.run(run)
        rows = read_csv(study.path(run, "align.csv"))
        found["exact"][f"{sweep} data"] = drawn
        keys = ("point", "group", "size", "reference")
        found["exact"][sweep] = [[row[key] for key in keys] for row in rows]
        found["near"][sweep] = [float(row["objective"]) for row in rows if row["objective"]]
    tensors = read_tensors(study.path(run, "permutations.safetensors"))
    indirect = symmetry.compose(symmetry.inverse(under("1-2/", tensors)), under("0-2/", tensors))
    found["exact"]["composed"] = all(
        torch.equal(tensors[f"0-1.2/{group}"], index) for group, index in indirect.items()
    )
    return found


def of_connect(study: Golden) -> Fingerprint:
    found = {sweep: connected(study, sweep) for sweep in ("epochs", "rounds")}
    return beside(found["epochs"], "rounds", found["rounds"])


def connected(study: Golden, sweep: str) -> Fingerprint:
    run = Connect(sweep_of(study, sweep), "sweep")
    with consumed() as drawn:
        study.run(run)
    words = ("arm", "point", "a", "b", "matched_at", "evaluated_at", "correction", "split")
    found = lines(study.path(run), words)
    found["exact"]["data"] = drawn
    run = Connect(replace(run.align, sweep="spawns"), "sweep")
    for number, child in enumerate(sorted(study.graph.parents(run), key=lambda one: one.folder)):
        if isinstance(child, Dense) and child.parent:
            study.write(child, {"weights.safetensors": study.state(70 + number)})
    study.run(run)
    own = lines(study.path(run), words)
    found["exact"]["children"] = own["exact"]["rows"]
    found["near"] |= {f"children {key}": values for key, values in own["near"].items()}
    return found


def of_landscape(study: Golden) -> Fingerprint:
    run = Landscape(sweep_of(study, "epochs"), "sweep")
    with consumed() as drawn:
        study.run(run)
    found = lines(study.path(run), ("plane", "point", "correction", "split"))
    paths = lines(study.path(run, "paths.csv"), ("plane", "point", "network", "epoch"))
    found["near"] |= {f"paths {key}": values for key, values in paths["near"].items()}
    found["exact"] |= {"data": drawn, "paths": paths["exact"]["rows"]}
    return found


def of_table(study: Golden) -> Fingerprint:
    """Every kind of table in every format, from fixed frames with missing and diverged runs."""
    runs = synthetic.runs_of("5")
    gone = synthetic.break_runs(runs, method="lth", sparsity=0.8, rewind_epoch=0.0, a=1)
    frame = synthetic.with_status(runs, "missing", gone)
    wild = synthetic.break_runs(runs, method="naive", sparsity=0.97, rewind_epoch=100.0)
    frame = synthetic.with_status(frame, "diverged", wild)
    permutations = pd.DataFrame(columns=[*NETWORK, "a", "b", "matching_epoch", "seconds"])
    words: dict[str, Any] = {"title": "A title", "note": "A note."}
    data: dict[str, Any] = {
        "rewind-grid": frame,
        "early-matching": synthetic.runs_of("5", "15"),
        "diversity": published.diversity().assign(declared=5),
        "ensemble": synthetic.ensembles(),
        "hyperparameters": [("ResNet20", "Momentum", 0.9), ("ResNet50", "Augment", True)],
        "cost": (pd.concat([runs, synthetic.imp_runs(runs)]), permutations),
        "paired-difference": frame,
        "barriers": synthetic.barriers({("none", False): [2, 3], ("none", True): [1, 2.5]}),
        "notions": pd.concat(
            [
                synthetic.connections().assign(over="epochs"),
                synthetic.triples().assign(over="triples"),
            ],
            ignore_index=True,
        ),
    }
    at: dict[str, dict[str, Any]] = {"cost": {"rewind_epochs": (20,), "sparsities": (0.8,)}}
    assert data.keys() == {name for name, kind in KINDS.items() if kind.what == "table"}
    methods = {"permuted": Method(init="b", permute=True)}
    exact = {}
    for kind, given in data.items():
        found = synthetic.table(KINDS[kind](**words, **at.get(kind, {})), given, methods=methods)
        texts = {
            "csv": rounded(found.tidy), "html": tables.to_html(found),
            "md": tables.to_markdown(found), "tex": tables.to_latex(found),
        }  # fmt: skip
        exact |= {f"{kind} {end}": sha(text.encode()) for end, text in texts.items()}
    return {"exact": exact, "near": {}}


def of_figure(study: Golden) -> Fingerprint:
    """The numbers that every kind of figure shows, and the titles of its panels."""
    exact: dict[str, Any] = {}
    for kind, (output, given) in figure_cases.items():
        figure, data = synthetic.figure(output, given())
        titles = [[a.get_title(), a.get_xlabel(), a.get_ylabel()] for a in figure.get_axes()]
        # which sparse runs a figure of training shows is no part of its numbers
        titles = [[text.partition(" (sparse: ")[0] for text in of_panel] for of_panel in titles]
        exact[kind] = [sha(rounded(data).encode()), titles]
    return {"exact": exact, "near": {}}


def rounded(frame: pd.DataFrame) -> str:
    """A frame as CSV; the last digits of a mean differ between processors."""
    text: str = frame.to_csv(index=False, lineterminator="\n", float_format="%.6g")
    return text


MEANINGS: dict[str, Callable[[Golden], Fingerprint]] = {
    stage: globals()[f"of_{stage.replace('-', '_')}"] for stage in STAGES
}
SETTINGS = {
    "dense": "dense", "snapshot": "dense", "imp": "imp", "mask": "imp", "solution": "imp",
    "match": "match", "sparse": "sparse", "curve": "connectivity",
    "imp-barrier": "connectivity", "plane": "connectivity", "align": "match",
    "connect": "connectivity", "landscape": "connectivity",
    "permutation-quality": "connectivity",
}  # fmt: skip


def fingerprint(stage: str, folder: Path) -> dict[str, Any]:
    """What a stage does, with the defaults of its settings and its number."""
    root = write_study(folder, GOLDEN_RECIPES, GOLDEN_STUDY)
    found: dict[str, Any] = {**MEANINGS[stage](Golden(root, root / "results"))}
    kind = SETTINGS.get(stage)
    found["defaults"] = asdict(RECIPES[kind]()) if kind else {}
    found["algorithm"] = ALGORITHM[stage]
    plain: dict[str, Any] = json.loads(json.dumps(found))
    return plain


def difference(found: dict[str, Any], recorded: dict[str, Any]) -> str | None:
    """The first thing in which a fingerprint differs from the recorded one, or None."""
    for key, value in recorded["defaults"].items():  # a new setting changes nothing that exists
        if found["defaults"].get(key, "gone") != value:
            return f"default of {key}: {value} became {found['defaults'].get(key, 'gone')}"
    for kind in ("exact", "near"):
        for key in recorded[kind] | found[kind]:
            ours, theirs = found[kind].get(key), recorded[kind].get(key)
            if kind == "near" and ours is not None and theirs is not None:
                if ours == pytest.approx(theirs, rel=5e-3, abs=1e-3):
                    continue
            elif ours == theirs:
                continue
            return f"{key}: {theirs} became {ours}"
    return None


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_means_what_it_meant(stage: str, tmp_path: Path) -> None:
    recorded = json.loads(GOLDEN.read_text())
    if stage not in recorded or recorded[stage]["algorithm"] != ALGORITHM[stage]:
        pytest.fail(f"ALGORITHM[{stage!r}] is new: record it by: python tests/test_golden.py")
    changed = difference(fingerprint(stage, tmp_path), recorded[stage])
    if changed:
        pytest.fail(f"stage {stage} changed its meaning: raise ALGORITHM[{stage!r}] ({changed})")


def test_every_stage_is_recorded_and_no_other() -> None:
    assert list(json.loads(GOLDEN.read_text())) == sorted(STAGES)


def record() -> None:
    """Write the fingerprints of the stages whose number was raised."""
    torch.set_num_threads(1)
    recorded = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    for stage in STAGES:
        if recorded.get(stage, {}).get("algorithm") != ALGORITHM[stage]:
            with tempfile.TemporaryDirectory() as folder:
                recorded[stage] = fingerprint(stage, Path(folder))
            print(f"{stage}: recorded as algorithm {ALGORITHM[stage]}", file=sys.stderr)
        else:  # a case that is new changes none that exists
            with tempfile.TemporaryDirectory() as folder:
                known = fingerprint(stage, Path(folder))
            for kind in ("exact", "near"):
                recorded[stage][kind] = known[kind] | recorded[stage][kind]
    kept = {stage: recorded[stage] for stage in sorted(STAGES)}
    GOLDEN.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    record()
