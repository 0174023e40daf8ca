"""Laws of the stages: the same bits wherever, however often stopped; what was asked is trained."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small import RECIPES, REPOSITORY, STUDY, Tiny, contents, rewrite, same, write_study
from torch import Tensor

from pipeline import models, pruning, symmetry
from pipeline.artifacts.lock import LOCK
from pipeline.artifacts.store import (
    file_digest,
    read_csv,
    read_info,
    read_json,
    read_tensors,
    write_tensors,
)
from pipeline.artifacts.unfinished import RESUME
from pipeline.cli import STOPPED
from pipeline.data import DataSet
from pipeline.errors import Interrupted, UserError
from pipeline.evaluation import evaluate
from pipeline.kernels import build
from pipeline.runs import (
    Curve,
    Dense,
    ImpBarrier,
    ImpBlock,
    Mask,
    PermutationQuality,
    Plane,
    Run,
    Snapshot,
)
from pipeline.runs.dense import epoch_prefix
from pipeline.runs.imp import round_prefix
from pipeline.runs.snapshot import weights_at
from pipeline.stages.data import write_facts
from pipeline.stages.job import Job
from pipeline.stages.lines import ground
from pipeline.streams import generator
from pipeline.study.config import freeze
from pipeline.training import loop as training
from pipeline.training.loop import Schedule, Trainer, Training
from pipeline.training.step import Step
from pipeline.weights import dense_state, read_mask, read_state


def trunk(study: Tiny, run: Dense, epoch: int) -> dict[str, Tensor]:
    """The weights of a dense run at a trunk state."""
    return read_state(study.path(run, "trunk.safetensors"), epoch_prefix(epoch) + "weights/")


def rounds_of(study: Tiny, block: ImpBlock) -> list[tuple[dict[str, Tensor], pruning.Mask]]:
    """State and mask after each round of a block."""
    like = template(study, block.dense)
    folder = study.make(block)
    return [
        dense_state(read_tensors(folder / "rounds.safetensors", round_prefix(number)), like)
        for number in block.rounds(study.graph)
    ]


def template(study: Tiny, run: Dense) -> dict[str, Tensor]:
    """The tensors of the network, for their shapes."""
    return Job(study.config, run).model(run).state_dict()


# --- snapshots -------------------------------------------------------------------------------


def test_a_snapshot_is_the_dense_run_at_its_epoch(tiny: Tiny) -> None:
    """A second recipe keeps every epoch: the bits between trunk states are those it had."""
    some, every = tiny.dense(), tiny.dense(recipe="tiny-all")
    tiny.make(some), tiny.make(every)
    assert tiny.graph.recipe(some).trunk == (0, 2)
    for epoch in range(4):
        file = weights_at(tiny.graph, some, epoch)
        assert isinstance(file.run, Snapshot) == (epoch in (1, 3))
        tiny.make(file.run)
        found = read_state(tiny.results / file.path, file.prefix)
        assert same(found, trunk(tiny, every, epoch)), epoch
    one, two = (tiny.path(run, "weights.safetensors") for run in (some, every))
    assert one.read_bytes() == two.read_bytes()
    end = weights_at(tiny.graph, some, 4)
    assert end.path == some.path("weights.safetensors")
    assert not same(read_state(one), trunk(tiny, every, 3))


def test_epoch_zero_is_the_initialisation_of_the_seed(tiny: Tiny) -> None:
    for seed in (0, 1):
        run = tiny.dense(seed)
        tiny.make(run)
        start = models.build(
            "resnet20", width=0.25, classes=10, channels=1, size=8,
            generator=generator(seed, "init"),
        )  # fmt: skip
        assert same(trunk(tiny, run, 0), start.state_dict())
    assert not same(trunk(tiny, tiny.dense(0), 0), trunk(tiny, tiny.dense(1), 0))


def test_the_protocol_says_what_k_means(tiny: Tiny) -> None:
    """k = 0 starts from the initialisation, and for the authors' code from one epoch."""
    authors = Tiny(tiny.root, tiny.results, protocol="authors-code")
    every = tiny.dense(recipe="tiny-all")
    tiny.make(every)
    for study, offset in ((tiny, 0), (authors, 1)):
        for k in (0, 1):
            run = study.cell("lth", k=k).run
            assert (run.rewind, run.epochs) == (k + offset, 4 - k)
            file = study.graph.inputs(run)["start"]
            study.make(file.run)
            found = read_state(study.results / file.path, file.prefix)
            assert same(found, trunk(tiny, every, k + offset))
    run = authors.cell("lth").run
    metrics = read_json(authors.make(run) / "metrics.json")
    assert metrics["epochs"] == 4 and metrics["status"] == "ok"
    assert not any("shortcut" in name for name in read_mask(authors.path(run.mask)))
    shared = {run for run in tiny.graph.closure([tiny.cell("lth").run]) if run.stage == "dense"}
    assert shared <= set(authors.graph.closure([run]))


# --- iterative magnitude pruning -------------------------------------------------------------


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Tensor]]:
    """The states from which trainings start, in order."""
    found: list[dict[str, Tensor]] = []
    train = Trainer.train

    def recorded(self: Trainer, model: Any, *args: Any, **options: Any) -> Any:
        found.append({k: v.clone() for k, v in model.state_dict().items()})
        return train(self, model, *args, **options)

    monkeypatch.setattr(Trainer, "train", recorded)
    return found


@pytest.mark.parametrize("recipe", ["tiny", "tiny-rewind"])
def test_the_masks_of_a_chain_nest(tiny: Tiny, recipe: str) -> None:
    experiment = "tiny" if recipe == "tiny" else "rewound"
    dense = tiny.dense()
    chain = [*rounds_of(tiny, tiny.block(1, recipe)), *rounds_of(tiny, tiny.block(2, recipe))]
    start = read_state(tiny.path(dense, "weights.safetensors"))
    names = models.prunable_parameters(Job(tiny.config, dense).model(dense), "all")
    before, weights = pruning.full({name: start[name] for name in names}), start
    for number, (state, mask) in enumerate(chain, start=1):
        zeros, entries = pruning.count(before)
        assert pruning.count(mask)[0] == zeros + round(0.2 * (entries - zeros)), number
        for name in names:
            assert not (mask[name] & ~before[name]).any()
            assert (state[name][~mask[name]] == 0).all() and (state[name][mask[name]] != 0).any()
        kept = {name: weights[name] for name in names}
        assert same(mask, pruning.prune_fraction(kept, before, 0.2)), number
        before, weights = mask, state
    # Targets: 0.5 takes four prunes, the last one capped after round 3; 0.6 five, after round 4.
    masks = {}
    for sparsity, number in ((0.5, 3), (0.6, 4)):
        target = tiny.mask(sparsity, experiment)
        tiny.make(target)
        masks[sparsity] = read_mask(tiny.path(target))
        state, cut = chain[number - 1]
        kept = {name: state[name] for name in names}
        assert same(masks[sparsity], pruning.prune_to(kept, cut, sparsity))
        metrics = read_json(tiny.path(target, "metrics.json"))
        assert metrics["zeros"] == round(sparsity * metrics["prunable"])
        assert metrics["sparsity"] == pruning.sparsity(masks[sparsity])
    assert all(not (masks[0.6][name] & ~cut[name]).any() for name in names)


def test_fine_tuning_goes_on_from_the_pruned_weights(
    fresh: Tiny, starts: list[dict[str, Tensor]]
) -> None:
    (first, _), _ = rounds_of(fresh, fresh.block(1))
    dense = read_state(fresh.path(fresh.dense(), "weights.safetensors"))
    assert len(starts) == 3  # the dense run, two rounds
    assert same(starts[1], dense) and same(starts[2], first)
    assert not same(first, dense)


def test_rewinding_returns_to_the_snapshot_in_every_round(
    fresh: Tiny, starts: list[dict[str, Tensor]]
) -> None:
    block = fresh.block(1, "tiny-rewind")
    found = rounds_of(fresh, block)
    snapshot = Snapshot(fresh.dense(), 1)
    rewound = read_state(fresh.path(snapshot))
    assert len(starts) == 4  # the dense run, the snapshot, two rounds
    assert same(starts[2], rewound) and same(starts[3], rewound)
    # The round is the rest of the dense run's schedule under the mask, with fresh momentum.
    settings, data = fresh.graph.recipe(fresh.dense()), Job(fresh.config, block).data
    for number, (state, mask) in enumerate(found, start=1):
        model = Job(fresh.config, block).model(fresh.dense())
        model.load_state_dict(rewound)
        Trainer(data, settings, torch.device("cpu")).train(
            model,
            Training(
                Schedule(1, 4, 4),
                lambda purpose, epoch, n=number: generator(0, f"imp-{purpose}", n, epoch),
                mask=mask,
            ),
        )
        assert same(state, model.state_dict()), number


def test_a_solution_trains_under_its_mask(fresh: Tiny, starts: list[dict[str, Tensor]]) -> None:
    run = fresh.solution(0.5)
    folder = fresh.make(run)
    like = template(fresh, run.mask.dense)
    _state, mask = dense_state(read_tensors(folder / "weights.safetensors"), like)
    assert same(mask, read_mask(fresh.path(run.mask)))
    cut_from = rounds_of(fresh, fresh.block(2))[0][0]
    assert same(starts[-1], cut_from)
    metrics = read_json(folder / "metrics.json")
    assert metrics["sparsity"] == pruning.sparsity(mask) and metrics["status"] == "ok"
    assert read_tensors(folder / "logits.safetensors")["logits"].shape == (128, 10)


# --- sparse runs -----------------------------------------------------------------------------


def final_mask(study: Tiny, run: Any) -> tuple[dict[str, Tensor], pruning.Mask]:
    folder = study.make(run)
    like = template(study, run.init)
    return dense_state(read_tensors(folder / "weights.safetensors"), like)


def test_a_permuted_run_carries_the_permuted_mask(tiny: Tiny) -> None:
    run = tiny.cell("permuted", k=1).run
    state, mask = final_mask(tiny, run)
    ours = read_mask(tiny.path(run.mask))
    spec = Job(tiny.config, run.match).spec(run.match)
    permutation = read_tensors(tiny.path(run.match))
    expected = symmetry.apply(spec, permutation, ours)
    assert same(mask, expected)
    assert not same(mask, ours)
    assert not same(mask, symmetry.apply(spec, symmetry.inverse(permutation), ours))
    assert all((state[name][~kept] == 0).all() for name, kept in mask.items())
    for method in ("lth", "naive"):
        assert same(final_mask(tiny, tiny.cell(method, k=1).run)[1], ours)
    metrics = read_json(tiny.path(run, "metrics.json"))
    assert metrics["sparsity"] == pruning.sparsity(ours)
    assert metrics["epochs"] == run.epochs == 3
    history = read_csv(tiny.path(run, "history.csv"))
    assert [row["epoch"] for row in history] == ["1", "2", "3"]
    rates = [float(row["learning_rate"]) for row in history]  # a fresh cosine of its own
    assert rates == pytest.approx([0.02, 0.015, 0.005])


def test_a_run_under_a_random_mask_keeps_the_sparsity_of_each_layer(tiny: Tiny) -> None:
    naive = tiny.cell("naive", k=1).run
    run = replace(naive, method="random-mask", shuffled=True)
    ours = read_mask(tiny.path(run.mask))
    masks = [final_mask(tiny, replace(run, replicate=number))[1] for number in (0, 1)]
    assert pruning.per_layer(masks[0]) == pruning.per_layer(ours)
    assert not same(masks[0], ours)
    assert same(*masks)  # one mask for a pair, whatever the data order
    other = replace(run, init=replace(run.init, seed=2))
    assert not same(final_mask(tiny, other)[1], masks[0])
    with pytest.raises(UserError, match="only mask: shuffled with @shuffled"):
        tiny.graph.check(replace(naive, shuffled=True))


def test_a_run_is_also_evaluated_on_images_that_it_never_saw(tmp_path: Path) -> None:
    root = write_study(tmp_path, study=STUDY.replace("pairs:", "validation: 128\n    pairs:"))
    study = Tiny(root, root / "results")
    run = study.cell("naive", k=1).run
    metrics = read_json(study.make(run) / "metrics.json")
    assert run.init.dataset == "few+validation=128"
    data = Job(study.config, run).data
    assert isinstance(data, DataSet) and data.validation
    assert (len(data.train), len(data.validation)) == (384, 128)
    state, _ = final_mask(study, run)
    model = Job(study.config, run).model(run.init)
    model.load_state_dict(state)
    for split, name in ((data.validation, "validation_accuracy"), (data.test, "test_accuracy")):
        found = evaluate(model, split.images, split.labels, data.mean, data.std)
        assert metrics[name] == pytest.approx(found.accuracy)
    assert metrics["validation_accuracy"] != metrics["test_accuracy"]
    write_facts(study.config, run.init.dataset)
    facts = read_json(study.results / "data" / run.init.dataset / "facts.json")
    assert facts["train_images"] == 384 and "validation_images" in facts["sha256"]


def test_methods_start_where_they_should(fresh: Tiny, starts: list[dict[str, Tensor]]) -> None:
    for method, seed in (("lth", 0), ("naive", 1), ("permuted", 1)):
        fresh.make(fresh.cell(method, k=1).run)
        assert same(starts[-1], read_state(fresh.path(Snapshot(fresh.dense(seed), 1)))), method


def test_lth_knows_nothing_of_b(tiny: Tiny) -> None:
    one, two = (tiny.cell("lth", pair=pair).run for pair in ((0, 1), (0, 2)))
    assert one == two
    seeds = {run.seed for run in tiny.graph.closure([one]) if isinstance(run, Dense)}
    assert seeds == {0}
    naive = {tiny.cell("naive", pair=pair).run for pair in ((0, 1), (0, 2))}
    assert len(naive) == 2


def test_data_order_belongs_to_the_initialisation(tiny: Tiny) -> None:
    """Naive and permuted runs of a pair see the same images; LTH and replicates others."""

    def purposes(run: Any) -> list[tuple[Any, ...]]:
        seen: list[tuple[Any, ...]] = []
        with pytest.MonkeyPatch.context() as patch:

            def recorded(*name: Any) -> torch.Generator:
                seen.append(name)
                return generator(*name)

            patch.setattr("pipeline.stages.sparse.generator", recorded)
            for parent in tiny.graph.parents(run):
                tiny.make(parent)
            tiny.run(run)
        return seen

    runs = {method: tiny.cell(method).run for method in ("lth", "naive", "permuted")}
    seen = {method: purposes(run) for method, run in runs.items()}
    assert seen["naive"] == seen["permuted"]
    assert {name[0] for name in seen["naive"]} == {"1"} and {name[0] for name in seen["lth"]} == {
        "0"
    }
    assert [name[1:] for name in seen["lth"]] == [name[1:] for name in seen["naive"]]
    assert len(set(seen["lth"])) == len(seen["lth"]) == 8


def test_a_quality_is_of_the_ends_whatever_the_permutation_was_found_from(tmp_path: Path) -> None:
    """Barriers as the curve's, similarities as the matching's own; of an earlier b at the end."""
    root = write_study(
        tmp_path, RECIPES.replace("random: {", "few: {images: 64, batch_size: 32}\n  random: {")
    )
    study = Tiny(root, root / "results")
    match = study.cell("permuted").run.match
    assert match
    found = read_json(study.make(PermutationQuality(match, "tiny", "tiny")) / "metrics.json")
    curve = read_json(study.make(Curve(match, "tiny")) / "metrics.json")
    own = read_json(study.path(match, "metrics.json"))["groups"]
    assert found["barriers"] == curve["barriers"]
    for name, group in found["groups"].items():
        assert group == {key: own[name][key] for key in group}
    early = read_json(
        study.make(PermutationQuality(replace(match, epoch=2), "tiny", "tiny")) / "metrics.json"
    )
    worse = [early["groups"][name]["matched"] <= own[name]["matched"] for name in own]
    assert all(worse) and early["groups"] != found["groups"]
    plain = [[row for row in each["barriers"] if not row["matched"]] for each in (early, found)]
    assert plain[0] == plain[1]
    drawn = read_json(
        study.make(PermutationQuality(replace(match, recipe="random"), "few", "tiny"))
        / "metrics.json"
    )
    mean = {
        name: sum(group["matched"] for group in each["groups"].values())
        for name, each in (("random", drawn), ("own", found))
    }
    assert mean["random"] < mean["own"]
    with pytest.raises(UserError, match="random compares no activations"):
        study.graph.inputs(PermutationQuality(match, "random", "tiny"))


def test_a_curve_is_measured_with_repair_at_blocks_beside_the_others(tmp_path: Path) -> None:
    """The other corrections give the same rows as without it; a network without blocks is refused."""
    recipes = RECIPES.replace("corrections: [none, repair]}", "corrections: [none, repair]}\n"
                              "  blocks: {points: 3, images: 64, batch_size: 64,\n"
                              "           corrections: [none, repair, repair-blocks]}")  # fmt: skip
    root = write_study(tmp_path, recipes)
    study = Tiny(root, root / "results")
    match = study.cell("permuted").run.match
    assert match
    plain, more = (
        read_csv(study.make(Curve(match, recipe)) / "curve.csv") for recipe in ("tiny", "blocks")
    )
    kept = [row for row in more if row["correction"] != "repair-blocks"]
    assert kept == plain and len(more) > len(plain)
    chosen = [row for row in more if row["alpha"] == "0.5" and row["split"] == "test"]
    assert len({row["loss"] for row in chosen}) == len(chosen) == 6  # with and without pi
    vgg = replace(match, **{side: replace(getattr(match, side), model="vgg11") for side in "ab"})
    with pytest.raises(UserError, match="leave repair-blocks out"):
        job = Job(study.config, Curve(vgg, "blocks"))
        ground(job, vgg.b)


def test_a_chain_of_barriers_ends_at_the_sparsity_that_it_names(tiny: Tiny) -> None:
    """The last prune is capped; the rounds before it are those of the chain without a target."""
    mask = tiny.mask(0.5)
    rounds = mask.prunes(tiny.graph)
    capped, full = (
        ImpBarrier(mask.dense, mask.recipe, "tiny", rounds, target) for target in ("S0.50", None)
    )
    rows = [read_csv(tiny.make(run) / "barrier.csv") for run in (capped, full)]
    before = [[row for row in each if row["iteration"] != str(rounds)] for each in rows]
    assert before[0] == before[1] and before[0]
    zeros = read_json(tiny.path(mask, "metrics.json"))["sparsity"]
    ends = [float(row["sparsity"]) for row in rows[0][len(before[0]) :]]
    assert ends == pytest.approx([zeros] * len(ends)) and ends
    assert zeros == pytest.approx(0.5, abs=1e-4) and float(rows[1][-1]["sparsity"]) > 0.51
    with pytest.raises(UserError, match=f"S0.50 takes {rounds} rounds"):
        tiny.graph.check(replace(capped, rounds=rounds + 1))


# --- runs that diverge -----------------------------------------------------------------------


@pytest.mark.parametrize("experiment", ["wild", "wild-rewound"])
def test_a_diverged_parent_gives_a_diverged_child(tiny: Tiny, experiment: str) -> None:
    """No stage stops, and no number is made of what has diverged."""
    a = tiny.dense(recipe="wild")
    imp = "tiny" if experiment == "wild" else "tiny-rewind"
    runs: list[Run] = [tiny.cell(m, k=k, experiment=experiment).run
                       for m in ("lth", "naive", "permuted") for k in (0, 1)]  # fmt: skip
    match = tiny.cell("permuted", experiment=experiment).run.match
    assert match
    runs += [tiny.solution(0.6, experiment), Curve(match, "tiny"), ImpBarrier(a, imp, "tiny", 3)]
    permuted = tiny.cell("permuted", experiment=experiment).run
    runs.append(Plane(permuted, "tiny"))
    for run in tiny.graph.closure(runs):
        if isinstance(run, Snapshot):
            weights = read_state(tiny.make(run) / "weights.safetensors")
            assert not all(t.isfinite().all() for t in weights.values())
            continue
        metrics = read_json(tiny.make(run) / "metrics.json")
        assert metrics["status"] == "diverged", run
        assert metrics.get("test_accuracy") is None
        for name in run.files:
            assert tiny.path(run, name).exists()


def test_a_mask_from_a_diverged_run_spoils_a_sound_start(tiny: Tiny, fresh: Tiny) -> None:
    """k = 0 is sound even where the dense run diverges later; its mask is not."""
    run = fresh.cell("naive", experiment="wild").run
    fresh.make(run)
    start = trunk(fresh, run.init, 0)
    assert all(t.isfinite().all() for t in start.values())
    metrics = read_json(fresh.path(run, "metrics.json"))
    assert metrics["status"] == "diverged" and "mask" in metrics["reason"]
    assert metrics["epochs"] == 0


def replace_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Other tensors in a file, as if its run had written them."""
    write_tensors(path, tensors)
    files = read_json(path.with_name("provenance.json"))["files"]
    rewrite(path.parent, files=files | {path.name: file_digest(path)})


def test_a_diverged_chain_is_not_mended_by_rewinding(tiny: Tiny, fresh: Tiny) -> None:
    """The mask says nothing once the weights it was cut from are not finite."""
    block = fresh.block(1, "tiny-rewind")
    copy_parents(tiny, fresh, block)
    path = fresh.path(block.dense, "weights.safetensors")
    replace_tensors(path, {k: v * float("nan") for k, v in read_tensors(path).items()})
    for run in (block, fresh.block(2, "tiny-rewind"), fresh.mask(0.5, "rewound"),
                fresh.solution(0.5, "rewound"), fresh.cell("lth", experiment="rewound").run):  # fmt: skip
        assert read_json(fresh.make(run) / "metrics.json")["status"] == "diverged", run


def test_trunk_states_behind_a_divergence_are_not_finite(tiny: Tiny) -> None:
    run = tiny.dense(recipe="wild")
    tiny.make(run)
    assert tiny.graph.recipe(run).trunk == (0, 2, 3)
    finite = [
        all(bool(t.isfinite().all()) for t in trunk(tiny, run, epoch).values())
        for epoch in (0, 2, 3)
    ]
    assert finite == [True, False, False]


# --- kills and resumes -----------------------------------------------------------------------


def command(stage: str, key: str) -> list[str]:
    return [sys.executable, str(REPOSITORY / "workflow/scripts/run.py"), stage, key]


def environment(study: Tiny, folder: Path, **more: str) -> dict[str, str]:
    """Variables of a job of the study, as it was submitted."""
    name = str(freeze(study.config, folder))
    del os.environ["PIPELINE_CONFIG"]
    return os.environ | {"PIPELINE_CONFIG": name, "PYTHONPATH": str(REPOSITORY / "src")} | more


def finished(study: Tiny, run: Run) -> dict[str, str]:
    """Digests of a run's files, none of them hidden."""
    found = contents(study.folder(run))
    assert not [name for name in found if name.startswith(".")], found
    assert set(run.files) <= set(found)
    return found


def long_runs(study: Tiny) -> dict[str, Run]:
    return {
        "dense": study.dense(recipe="tiny-all"),
        "imp": study.block(1),
        "sparse": study.cell("permuted", k=1).run,
        "snapshot": Snapshot(study.dense(), 3),
        "solution": study.solution(),
    }


def copy_parents(tiny: Tiny, study: Tiny, run: Run) -> None:
    """Put the parents of a run from the shared results into those of another study."""
    tiny.make(run)
    for parent in tiny.graph.parents(run):
        shutil.copytree(tiny.folder(parent), study.folder(parent))


@pytest.mark.parametrize(
    ("stage", "number"),
    [("dense", signal.SIGKILL), ("imp", signal.SIGKILL), ("sparse", signal.SIGTERM)],
)
def test_a_killed_process_goes_on_with_the_same_bits(
    tiny: Tiny, fresh: Tiny, tmp_path: Path, stage: str, number: signal.Signals
) -> None:
    run = long_runs(tiny)[stage]
    copy_parents(tiny, fresh, run)
    state = fresh.folder(run) / RESUME
    variables = environment(fresh, tmp_path, PIPELINE_SAVE_SECONDS="0")
    for delay in (random.uniform(0, 0.08), 0.01, 0.0):
        process = subprocess.Popen(
            command(run.stage, run.key), env=variables, cwd=tmp_path, text=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while not state.exists() and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(delay)
        process.send_signal(number)
        _, errors = process.communicate()
        if state.exists():
            break
        shutil.rmtree(fresh.folder(run))  # it was faster than the kill
    assert state.exists() and not (fresh.folder(run) / "provenance.json").exists()
    if number == signal.SIGTERM:
        assert process.returncode == 143
        assert errors.splitlines() == [STOPPED]
    assert read_info(state)["digest"] == fresh.graph.digest(run)
    fresh.run(run)
    assert finished(fresh, run) == finished(tiny, run)


@pytest.mark.parametrize("stage", ["dense", "imp", "sparse", "snapshot", "solution"])
def test_a_run_stopped_many_times_has_the_same_bits(
    tiny: Tiny, fresh: Tiny, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    """SIGTERM at the third step of every attempt: rounds, trunk states and epochs are crossed."""
    run = long_runs(tiny)[stage]
    copy_parents(tiny, fresh, run)
    take, stops = Step.__call__, 0

    def stopping(self: Step, *args: Any) -> None:
        nonlocal count
        count += 1
        if count == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        take(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Step, "__call__", stopping)
        while True:
            count = 0
            try:
                fresh.run(run)
                break
            except Interrupted:
                stops += 1
                assert not (fresh.folder(run) / "provenance.json").exists()
                assert not (fresh.folder(run) / LOCK).exists()
    assert stops >= 2
    assert finished(fresh, run) == finished(tiny, run)
    assert not list((fresh.results / ".progress").iterdir())


def interrupt(study: Tiny, run: Run, after: int) -> None:
    """Execute a run and stop it by SIGTERM in its step ``after``."""
    take, count = Step.__call__, 0

    def stopping(self: Step, *args: Any) -> None:
        nonlocal count
        count += 1
        if count == after:
            os.kill(os.getpid(), signal.SIGTERM)
        take(self, *args)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(Step, "__call__", stopping)
        study.run(run)


def other_settings(folder: Path) -> None:
    for path in [*folder.glob(".trunk*"), *folder.glob(".round*"), folder / RESUME]:
        if path.exists():
            info = read_info(path)
            info = info | {"digest": "old"} if isinstance(info, dict) else "old"
            spoilt = {k: v * 0 for k, v in read_tensors(path).items()}
            write_tensors(path, spoilt, info)


def damaged(folder: Path) -> None:
    for path in folder.glob(".*.safetensors"):
        path.write_bytes(path.read_bytes()[:-100])


def lost(folder: Path) -> None:
    """The parts are gone, the resume state is there."""
    for path in [*folder.glob(".trunk*"), *folder.glob(".round*")]:
        path.unlink()


@pytest.mark.parametrize("stage", ["dense", "imp"])
@pytest.mark.parametrize("change", [other_settings, damaged, lost])
def test_states_that_do_not_fit_are_not_used(
    tiny: Tiny, fresh: Tiny, stage: str, change: Callable[[Path], None]
) -> None:
    run = long_runs(tiny)[stage]
    copy_parents(tiny, fresh, run)
    interrupt(fresh, run, 11)  # in the second epoch or round
    folder = fresh.folder(run)
    assert (folder / RESUME).exists() and list(folder.glob(".[tr]*[0-9].safetensors"))
    change(folder)
    fresh.run(run)
    assert finished(fresh, run) == finished(tiny, run)


def test_what_a_kill_left_half_written_is_cleared(tiny: Tiny, fresh: Tiny) -> None:
    run = tiny.mask()
    copy_parents(tiny, fresh, run)
    folder = fresh.folder(run)
    folder.mkdir(parents=True)
    for name in (".mask.safetensors.4711", ".metrics.json.abc", ".round07.safetensors", LOCK):
        (folder / name).write_text("half")
    fresh.run(run)
    assert finished(fresh, run) == finished(tiny, run)


# --- one at a time, wherever -----------------------------------------------------------------


def test_a_second_process_on_a_run_is_refused(fresh: Tiny, tmp_path: Path) -> None:
    run = fresh.dense()
    with Job(fresh.config, run), pytest.raises(UserError, match="another process"):
        Job(fresh.config, run).__enter__()
    with Job(fresh.config, run):
        done = subprocess.run(
            command(run.stage, run.key), env=environment(fresh, tmp_path), cwd=tmp_path,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 1 and done.stdout == ""
    refusal = f"error: {fresh.folder(run)}: another process is working on this run"
    assert done.stderr.startswith(refusal) and len(done.stderr.splitlines()) == 1
    assert contents(fresh.folder(run)) == {}
    with Job(fresh.config, run):  # free again
        pass


@contextmanager
def busy() -> Iterator[None]:
    """Another process that computes."""
    process = subprocess.Popen([sys.executable, "-c", "while True: sum(range(10000))"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def test_the_bits_do_not_depend_on_place_language_or_company(
    tiny: Tiny, fresh: Tiny, tmp_path: Path
) -> None:
    run = tiny.dense(recipe="tiny-all")
    tiny.make(run)
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    if build.compiled():  # kernels, found in the home of the other process, too
        shutil.copytree(build._folder(), tmp_path / "home/.cache/pipeline-kernels")
    variables = environment(
        fresh, tmp_path, LC_ALL="C", LANG="C", TZ="Pacific/Chatham", PYTHONHASHSEED="5",
        HOME=str(tmp_path / "home"), OMP_NUM_THREADS="2", MKL_NUM_THREADS="2", COLUMNS="20",
    )  # fmt: skip
    with busy():
        done = subprocess.run(
            command(run.stage, run.key), env=variables, cwd=elsewhere, capture_output=True,
            check=True,
        )  # fmt: skip
    assert b"epoch 4/4: loss " in done.stdout and done.stderr == b""
    assert finished(fresh, run) == finished(tiny, run)
    assert not list(elsewhere.iterdir())


def test_a_dense_run_depends_on_recipe_and_seed_alone(
    tiny: Tiny, tiny_root: Path, tmp_path: Path
) -> None:
    """Another study, other runs before it in the same process, other global random numbers."""
    run = tiny.dense(1)
    tiny.make(run)
    other = Tiny(tiny_root, tmp_path / "results", protocol="authors-code")
    other.run(tiny.dense(2))
    torch.manual_seed(12)
    torch.rand(7)
    random.seed(3)
    other.run(run)
    assert finished(other, run) == finished(tiny, run)
    assert contents(other.folder(tiny.dense(2))) != finished(tiny, run)


# --- parents ---------------------------------------------------------------------------------


def test_a_spoilt_parent_is_refused_with_its_remedy(tiny: Tiny, fresh: Tiny) -> None:
    run = tiny.cell("permuted", k=1).run
    copy_parents(tiny, fresh, run)
    for parent, name in (
        (run.mask, "mask.safetensors"),
        (run.match, "permutation.safetensors"),
        (Snapshot(run.init, 1), "weights.safetensors"),
    ):
        path = fresh.path(parent, name)
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(UserError, match="content changed since it was written") as caught:
            fresh.run(run)
        assert f"rm '{path}' && snakemake -c1 '{path}'" in str(caught.value)
        path.write_bytes(content)
    assert contents(fresh.folder(run)) == {}
    fresh.run(run)
    assert finished(fresh, run) == finished(tiny, run)


def test_the_files_of_another_run_are_refused(tiny: Tiny, fresh: Tiny) -> None:
    """A whole folder in the place of another, true to itself."""
    run = tiny.cell("naive").run
    copy_parents(tiny, fresh, run)
    tiny.make(tiny.dense(0))
    shutil.rmtree(fresh.folder(run.init))
    shutil.copytree(tiny.folder(tiny.dense(0)), fresh.folder(run.init))
    with pytest.raises(UserError, match="made by another run or with other settings"):
        fresh.run(run)


def test_a_run_refuses_settings_of_another_submission(tiny: Tiny) -> None:
    from pipeline import stages

    run = tiny.dense()
    with pytest.raises(UserError, match="changed since this job was submitted"):
        stages.run(tiny.config, run.stage, run.key, "0" * 16)
    with pytest.raises(UserError, match="not the path of a run"):
        stages.run(tiny.config, "dense", "nonsense")


def test_metrics_name_their_settings_and_provenance_their_parents(tiny: Tiny) -> None:
    run = tiny.cell("permuted", k=1).run
    folder = tiny.make(run)
    metrics, record = read_json(folder / "metrics.json"), read_json(folder / "provenance.json")
    assert metrics["digest"] == record["digest"] == tiny.graph.digest(run)
    assert metrics["settings"] == record["settings"] == tiny.graph.settings(run)
    for file in tiny.graph.inputs(run).values():
        made = read_json(tiny.path(file.run, "provenance.json"))["files"][file.name]
        assert record["parents"][file.path] == made
    assert record["epochs_executed"] == pytest.approx(run.epochs)
    assert record["threads"] == 1 and record["device"].startswith("cpu ")
    assert not {"seconds", "host", "finished"} & set(metrics)


def test_masks_of_a_foreign_network_do_not_fit(tiny: Tiny, fresh: Tiny) -> None:
    """A block whose start is not of the network is one line, no traceback."""
    block = tiny.block(2)
    copy_parents(tiny, fresh, block)
    path = fresh.path(tiny.block(1), "rounds.safetensors")
    tensors = read_tensors(path)
    name = next(name for name in tensors if name.startswith(round_prefix(2) + "values/"))
    replace_tensors(path, tensors | {name: tensors[name][:-1]})
    with pytest.raises(UserError, match="do not fit their mask"):
        fresh.run(block)


def test_a_folder_that_cannot_be_written_is_one_line(tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "results").write_text("a file in the way")
    study = Tiny(tiny.root, tmp_path / "results")
    with pytest.raises(UserError, match="cannot be written: ") as caught:
        study.run(study.dense())
    assert "\n" not in str(caught.value)


def test_a_table_leaves_empty_what_is_not_there_or_not_finite(fresh: Tiny) -> None:
    with Job(fresh.config, fresh.dense()) as job:
        row = {"a": None, "b": float("inf"), "c": 0.1, "d": "unasked"}
        job.write_csv("table.csv", ("c", "b", "a"), [row])
        assert read_csv(job.folder / "table.csv") == [{"c": "0.1", "b": "", "a": ""}]


def test_masks_and_targets_have_their_own_runs(tiny: Tiny) -> None:
    """Adding a sparsity retrains nothing: both masks come from the same blocks."""
    wanted = [tiny.mask(sparsity) for sparsity in (0.5, 0.6)]
    assert all(isinstance(mask, Mask) for mask in wanted) and wanted[0] != wanted[1]
    blocks = [
        {run for run in tiny.graph.closure([mask]) if isinstance(run, ImpBlock)} for mask in wanted
    ]
    assert blocks[0] == blocks[1] == {tiny.block(1), tiny.block(2)}


def test_the_flag_of_a_stop_does_not_outlive_it(fresh: Tiny) -> None:
    interrupt(fresh, fresh.dense(), 2)
    assert not training._stop_requested()
