"""Pruning modulo permutation: rounds that rewind the rate, masks of one prune, masks carried over."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import synthetic
import torch
from small import RECIPES, Tiny, contents, same, write_study
from studies import BASE, config, graph, recipes, refused
from torch import Tensor

from pipeline import models, pruning, symmetry
from pipeline.artifacts.record import PROVENANCE
from pipeline.artifacts.store import read_csv, read_json, read_tensors
from pipeline.connectivity.barrier import alphas, barrier, curve
from pipeline.report import build, claims, levels
from pipeline.report.claims import sweeps
from pipeline.results import Results
from pipeline.runs import (
    Align,
    Connect,
    Curve,
    Dense,
    ImpBlock,
    Mask,
    Match,
    Plane,
    Run,
    Solution,
    Sparse,
    parse,
)
from pipeline.runs.imp import round_prefix
from pipeline.runs.snapshot import weights_at
from pipeline.runs.sweeps.rounds import point_of
from pipeline.stages.job import Job
from pipeline.stages.lines import ground
from pipeline.study.experiment import Cell
from pipeline.study.outputs.accuracy import AccuracyVsSparsity
from pipeline.study.outputs.sweep_barriers import SweepBarriers
from pipeline.training.loop import Schedule, Trainer, Training
from pipeline.weights import dense_state, read_mask, read_state, under

ROUND_RECIPES = (
    RECIPES.replace(
        "dense:\n",
        "dense:\n"
        "  warm: {epochs: 4, lr: 0.1, batch_size: 64, trunk: [0, 2], warmup_epochs: 1,\n"
        "         lr_changes: step, evaluate_every: 1}\n"
        "  wild-end: {epochs: 4, lr: 1e6, batch_size: 64, trunk: [0]}\n",
    )
    .replace(
        "imp:\n",
        "imp:\n"
        "  back: {style: rewind, rewind_epoch: 2, prunable: no-head, rounds_per_block: 2}\n"
        "  rate: {style: lr-rewind, prunable: no-head, rounds_per_block: 2}\n",
    )
    .replace("sparse:\n", "sparse:\n  onward: {training: dense}\n  whole: {training: full}\n")
    .replace(
        "connectivity:\n",
        "connectivity:\n"
        "  line: {points: 5, images: 64, batch_size: 64, corrections: [none], augment: false}\n",
    )
    .replace(
        "protocols:\n",
        "  again: {init: b, permute: true, label: perm. again}\n"
        "  level: {init: b, permute: true, view: level}\n"
        "  one-shot: {init: b, mask: b, cut: one-shot}\n"
        "protocols:\n  released: {one_shot: rewound}\n",
    )
    + "sweep:\n  rounds: {over: rounds, imp: back, rounds: 3}\n  epochs: {over: epochs, epochs: [2]}\n"
)
ROUND_STUDY = """
experiments:
  weights: &weights
    dataset: few
    model: mlp
    width: 0.0625
    dense: warm
    imp: back
    match: tiny
    sparse: onward
    connectivity: line
    sweep: rounds
    methods: [permuted, level, naive, one-shot]
    levels: [1, 3]
    rewind_epochs: [2]
    pairs: [[0, 1]]
  rate: {<<: *weights, imp: rate, sparse: whole, sweep: null, methods: [permuted, one-shot],
         levels: [2], rewind_epochs: [4]}
  wild: {<<: *weights, dense: wild-end, levels: [1], methods: [level]}
outputs:
  barriers: {kind: barrier, experiments: [weights], lines: [none, dense, sparse, one-shot]}
  notions: {kind: notions, experiments: [weights]}
  alike: {kind: fixed-points, experiments: [weights]}
  accuracies: {kind: accuracy-vs-sparsity, experiments: [weights, rate], x: level}
"""
State = dict[str, Tensor]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study(tmp_path_factory.mktemp("rounds"), ROUND_RECIPES, ROUND_STUDY)


@pytest.fixture(scope="module")
def study(root: Path) -> Tiny:
    torch.set_num_threads(1)
    return Tiny(root, root / "results")


def dense(seed: int, recipe: str = "warm") -> Dense:
    return Dense("few", "mlp", "0.0625", recipe, seed)


def align(recipe: str = "warm") -> Align:
    return Align((dense(0, recipe), dense(1, recipe)), "tiny", "rounds")


def cell(study: Tiny, method: str, level: int, experiment: str = "weights") -> Cell:
    one = study.config.experiments[experiment]
    sparsity = one.sparsities[one.levels.index(level)]
    (found,) = one.cells((sparsity,), (), (method,))
    return found


def end_of(study: Tiny, run: Dense, epoch: int = 4) -> State:
    file = weights_at(study.graph, run, epoch)
    study.make(file.run)
    found: State = read_state(study.results / file.path, file.prefix)
    return found


def prunable(study: Tiny, state: State) -> State:
    """The weights that may be pruned of a network."""
    model = Job(study.config, dense(0)).model(dense(0))
    return {name: state[name] for name in models.prunable_parameters(model, "no-head")}


def round_of(study: Tiny, seed: int, number: int, recipe: str = "back") -> tuple[State, State]:
    """Weights and mask after a round."""
    run = ImpBlock(dense(seed), recipe, (number + 1) // 2)
    path = study.make(run) / "rounds.safetensors"
    return dense_state(read_tensors(path, round_prefix(number)), end_of(study, dense(seed)))


def mask_of(study: Tiny, run: Mask) -> State:
    study.make(run)
    found: State = read_mask(study.path(run))
    return found


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[tuple[State, Training]]:
    """State of the network at the start of every training, and how it is trained."""
    found: list[tuple[State, Training]] = []
    train = Trainer.train

    def recorded(self: Trainer, model: Any, training: Training) -> Any:
        found.append(({k: v.clone() for k, v in model.state_dict().items()}, training))
        return train(self, model, training)

    monkeypatch.setattr(Trainer, "train", recorded)
    return found


# -- rewinding the learning rate ---------------------------------------------------------------


def test_rewinding_the_rate_trains_the_pruned_end_by_the_whole_dense_recipe(
    root: Path, tmp_path: Path, begun: list[tuple[State, Training]]
) -> None:
    fresh = Tiny(root, tmp_path)
    end = end_of(fresh, dense(0))
    block = ImpBlock(dense(0), "rate", 1)
    assert fresh.graph.inputs(block).keys() == {"start"}
    (first, mask), _ = round_of(fresh, 0, 1, "rate"), round_of(fresh, 0, 2, "rate")
    _, (start, training), (again, _) = begun
    assert training.mask and same(training.mask, mask)
    pruned = pruning.prune_fraction(prunable(fresh, end), pruning.full(prunable(fresh, end)), 0.2)
    assert same(mask, pruned)
    assert same(pruning.apply(mask, start), pruning.apply(mask, end))
    assert same(again, first)  # the second round starts where the first one ended
    assert all((first[name][~kept] == 0).all() for name, kept in mask.items())
    # the schedule is the dense one, from its warm-up on: the first step moves nothing
    assert training.schedule == Schedule(0, 4, 4)
    assert training.schedule.lr(fresh.graph.recipe(dense(0)), 0, 0, 8) == 0
    rates = {
        run: [row["learning_rate"] for row in read_csv(fresh.path(run, "history.csv"))]
        for run in (dense(0), block)
    }
    assert rates[block] == 2 * rates[dense(0)]


def test_rounds_that_rewind_the_rate_cost_whole_dense_runs(study: Tiny) -> None:
    assert ImpBlock(dense(0), "rate", 1).trained_epochs(study.graph) == 2 * 4
    assert ImpBlock(dense(0), "back", 1).trained_epochs(study.graph) == 2 * 2
    for run, epochs in (
        (cell(study, "permuted", 2, "rate").run, 4), (cell(study, "naive", 1).run, 2),
    ):  # fmt: skip
        assert run.trained_epochs(study.graph) == epochs


@pytest.mark.parametrize("recipe", ["back", "rate"])
def test_a_killed_chain_goes_on_with_the_same_bits(
    study: Tiny, tmp_path: Path, recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in the second round, after the first one was written."""
    block = ImpBlock(dense(0), recipe, 1)
    whole = contents(study.make(block))
    again = Tiny(study.root, tmp_path)
    for run in again.graph.closure([block])[:-1]:
        again.run(run)
    train, calls = Trainer.train, []

    def stopped(self: Trainer, model: Any, training: Training) -> Any:
        calls.append(training)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return train(self, model, training)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "train", stopped)
        with pytest.raises(KeyboardInterrupt):
            again.run(block)
    assert not again.path(block, PROVENANCE).exists()
    again.run(block)
    ours = contents(again.folder(block))
    assert ours["rounds.safetensors"] == whole["rounds.safetensors"]
    assert ours["history.csv"] == whole["history.csv"]


# -- masks of one prune ------------------------------------------------------------------------


def test_one_prune_at_once_is_one_prune(study: Tiny) -> None:
    once, first = (Mask(dense(0), "back", target) for target in ("O1", "P1"))
    study.make(once), study.make(first)
    assert study.path(once).read_bytes() == study.path(first).read_bytes()


@pytest.mark.parametrize("level", [2, 3])
def test_a_mask_of_one_prune_is_as_sparse_as_that_of_many_and_another(
    study: Tiny, level: int
) -> None:
    once = mask_of(study, Mask(dense(0), "back", f"O{level}"))
    many = mask_of(study, Mask(dense(0), "back", f"P{level}"))
    assert pruning.count(once) == pruning.count(many)
    assert not same(once, many)
    weights = prunable(study, end_of(study, dense(0)))
    assert once.keys() == weights.keys() and not any("head" in name for name in once)
    kept = torch.cat([weights[name][mask].abs() for name, mask in once.items()])
    gone = torch.cat([weights[name][~mask].abs() for name, mask in once.items()])
    assert gone.max() <= kept.min()


def test_the_released_code_ranks_rewound_weights_and_shares_the_chain(study: Tiny) -> None:
    released = Tiny(study.root, study.results, protocol="released")
    ours, theirs = (cell(each, "one-shot", 3).run.mask for each in (study, released))
    assert (ours.recipe, theirs.recipe) == ("back", "back+one_shot=rewound")
    for method in ("permuted", "level", "naive"):
        assert cell(study, method, 3).run == cell(released, method, 3).run
    rewound = prunable(study, end_of(study, dense(1), 2))
    released.make(theirs)
    assert same(read_mask(study.path(theirs)), pruning.one_shot(rewound, 0.2, 3))
    assert not same(read_mask(study.path(theirs)), mask_of(study, ours))


# -- masks carried from a to b -----------------------------------------------------------------


def test_a_mask_is_carried_to_weights_that_no_pruning_of_b_has_touched(
    study: Tiny, begun: list[tuple[State, Training]]
) -> None:
    """b has a chain of its own (Sharma et al.'s code starts from its masked weights)."""
    round_of(study, 1, 3)
    run = cell(study, "permuted", 3).run
    for each in study.graph.closure([run])[:-1]:
        study.make(each)
    begun.clear()
    study.run(run)
    ((start, training),) = begun
    π = read_tensors(study.path(Match(dense(0), dense(1), "tiny")))
    mask = mask_of(study, Mask(dense(0), "back", "P3"))
    spec = Job(study.config, Match(dense(0), dense(1), "tiny")).spec(
        Match(dense(0), dense(1), "tiny")
    )
    assert training.mask and same(training.mask, symmetry.apply(spec, π, mask))
    assert not same(training.mask, mask)
    assert same(start, end_of(study, dense(1), 2))
    assert all((start[name] != 0).all() for name in mask)
    under_mask = pruning.apply(training.mask, start)
    assert all(((under_mask[name] == 0) == ~kept).all() for name, kept in training.mask.items())


def test_a_mask_at_a_level_is_permuted_as_the_networks_of_the_level(
    study: Tiny, begun: list[tuple[State, Training]]
) -> None:
    run = cell(study, "level", 3).run
    assert "/level.tiny@rounds/P3/" in run.path()
    study.make(run)
    training = begun[-1][1]
    found = read_tensors(study.path(align()))
    π, dense_π = (under(f"{point}/", found) for point in (point_of(3), "end"))
    mask, spec = (
        mask_of(study, Mask(dense(0), "back", "P3")),
        Job(study.config, run.match).spec(run.match),
    )
    assert training.mask and same(training.mask, symmetry.apply(spec, π, mask))
    assert not same(π, dense_π)


def test_retraining_goes_on_by_the_dense_recipe_or_by_all_of_it(study: Tiny) -> None:
    study.make(dense(1))
    rates = [row["learning_rate"] for row in read_csv(study.path(dense(1), "history.csv"))]
    for run, expected in (
        (cell(study, "naive", 1).run, rates[2:]), (cell(study, "permuted", 2, "rate").run, rates),
    ):  # fmt: skip
        found = read_csv(study.make(run) / "history.csv")
        assert [row["learning_rate"] for row in found] == expected


def test_the_whole_recipe_starts_from_the_end_of_b(
    study: Tiny, begun: list[tuple[State, Training]]
) -> None:
    run = cell(study, "one-shot", 2, "rate").run
    assert run.path().endswith("one-shot/O2/k4-e4/whole/a1/metrics.json")
    study.make(run)
    start, training = begun[-1]
    assert same(start, end_of(study, dense(1)))
    assert training.schedule == Schedule(0, 4, 4)
    assert training.mask and same(training.mask, mask_of(study, Mask(dense(1), "rate", "O2")))


def test_the_solution_at_a_level_is_its_round(study: Tiny) -> None:
    """So the gold standard, b's own pruning, costs no further training."""
    solution = Solution(Mask(dense(1), "back", "P2"))
    path = study.make(solution) / "weights.safetensors"
    state, mask = dense_state(read_tensors(path), end_of(study, dense(1)))
    ours = round_of(study, 1, 2)
    assert same(state, ours[0]) and same(mask, ours[1])
    measured = read_json(study.path(solution, "metrics.json"))["test_accuracy"]
    (row,) = (r for r in Results(study.config).runs([only(study, 2)]).to_dict("records")
              if r["kind"] == "imp" and r["a"] == 1)  # fmt: skip
    assert row["test_accuracy"] == measured and row["rewind_epoch"] == 2
    assert row["sparsity_exact"] == pruning.sparsity(mask)


def only(study: Tiny, level: int) -> Any:
    """The experiment with one level alone."""
    experiment = study.config.experiments["weights"]
    return replace(experiment, levels=(level,), sparsities=(round(1 - 0.8**level, 6),))


def test_what_diverged_carries_no_mask(study: Tiny) -> None:
    run = cell(study, "level", 1, "wild").run
    found = read_json(study.make(run) / "metrics.json")
    assert found["status"] == "diverged"
    assert "r01" in read_json(study.path(align("wild-end"), "metrics.json"))["diverged"]


# -- the sweep ---------------------------------------------------------------------------------


def rows(study: Tiny) -> list[dict[str, str]]:
    found: list[dict[str, str]] = read_csv(study.make(Connect(align(), "line")) / "barriers.csv")
    return found


def test_a_sweep_over_rounds_has_a_point_for_each_and_one_for_the_dense_ends(study: Tiny) -> None:
    found = read_tensors(study.make(align()) / "permutations.safetensors")
    assert {name.split("/")[0] for name in found} == {"r01", "r02", "r03", "end"}
    single = read_tensors(study.make(Match(dense(0), dense(1), "tiny")) / "permutation.safetensors")
    assert same(under("end/", found), single)


def test_lines_of_a_level_are_between_its_networks(study: Tiny) -> None:
    found = [row for row in rows(study) if row["split"] == "test"]
    assert [(row["arm"], row["point"], row["evaluated_at"]) for row in found] == [
        ("none", "", "0"), ("dense", "end", "0"),
        *(
            (arm, point, str(level))
            for level in (1, 2, 3)
            for arm, point in (
                ("none", ""), ("dense", "end"), ("sparse", point_of(level)), ("one-shot", "end"),
            )
        ),
    ]  # fmt: skip
    at_0 = read_json(study.make(Curve(Match(dense(0), dense(1), "tiny"), "line")) / "metrics.json")
    for each in at_0["barriers"]:
        arm = "dense" if each["matched"] else "none"
        (row,) = (r for r in rows(study)
                  if (r["arm"], r["evaluated_at"], r["split"]) == (arm, "0", each["split"]))  # fmt: skip
        assert float(row[f"{each['metric']}_barrier"]) == each["barrier"]


@pytest.mark.parametrize("arm", ["dense", "sparse", "one-shot"])
def test_a_barrier_at_a_level_is_that_of_its_states(study: Tiny, arm: str) -> None:
    study.make(Connect(align(), "line"))
    job = Job(study.config, Connect(align(), "line"))
    spec, at = job.spec(align()), ground(job, dense(0))
    point = point_of(2) if arm == "sparse" else "end"
    π = under(f"{point}/", read_tensors(study.path(align())))
    (a, _), (b, _) = round_of(study, 0, 2), round_of(study, 1, 2)
    if arm == "one-shot":
        end = end_of(study, dense(1))
        b = pruning.apply(pruning.one_shot(prunable(study, end), 0.2, 2), end)
    found = curve(at, symmetry.apply(spec, π, a), b, alphas=alphas(5), corrections=("none",))
    (row,) = (r for r in rows(study)
              if (r["arm"], r["evaluated_at"], r["split"]) == (arm, "2", "test"))  # fmt: skip
    assert barrier(found, "none", "test", "loss") == float(row["loss_barrier"])
    assert found[-1]["loss"] == float(row["loss_b"])


# -- frames ------------------------------------------------------------------------------------


def test_accuracies_by_level_say_how_their_masks_came(study: Tiny) -> None:
    experiments = [study.config.experiments[name] for name in ("weights", "rate")]
    frame = levels.accuracies(Results(study.config), experiments)
    told = frame[["rewound", "arm", "matcher", "level"]].drop_duplicates()
    assert {*told.itertuples(index=False, name=None)} == {
        *(
            ("weights", arm, matcher, level)
            for level in (1, 3)
            for arm, matcher in (
                ("imp", ""), ("dense", "activations"), ("sparse", "activations"), ("none", ""),
                ("one-shot", ""),
            )
        ),
        *(("rate", arm, matcher, 2)
          for arm, matcher in (("imp", ""), ("dense", "activations"), ("one-shot", ""))),
        ("weights", "unpruned", "", 0), ("rate", "unpruned", "", 0),
    }  # fmt: skip
    # with the sweep both networks of a pair are pruned, without it a alone
    pruned = frame[frame["arm"] == "imp"].groupby("rewound")["a"].unique()
    assert {key: {*seeds} for key, seeds in pruned.items()} == {"weights": {0, 1}, "rate": {0}}
    once = frame[frame["arm"] == "one-shot"]
    assert (once["a"] == 0).all() and (once["b"] == 1).all()


def test_claims_and_figures_find_their_cells_in_the_runs(study: Tiny) -> None:
    results, outputs = Results(study.config), study.config.outputs
    for run in study.graph.closure(study.graph.outputs(outputs)):
        study.make(run)
    swept = [output for output in outputs.values() if isinstance(output, SweepBarriers)]
    connections = pd.concat(map(results.connections, swept), ignore_index=True)
    shown = {one.name: one for output in outputs.values() for one in results.chosen(output)}
    accuracies = levels.accuracies(results, [one for one in shown.values() if one.levels])
    assert {*connections["status"]} == {*accuracies["status"]} == {"ok"}
    values = sweeps.of_levels(connections, accuracies)
    assert values is not None
    counts = values.places.groupby("metric").size()
    # a sweep of a matcher: none and dense at four levels, sparse and one-shot at three
    assert counts["barrier"] == 2 * 4 + 2 * 3
    # by weights: dense, and four ways to a mask and b's own rounds at two levels; by rate: dense, two
    assert counts["accuracy"] == (1 + 5 * 2) + (1 + 2)
    assert not values.means.isna().any().any()
    named = {claim.id: claim for claim in claims.on_sweeps(connections, accuracies=accuracies)}
    assert named["masks-can-be-carried-over"].of == 3
    assert {claim.verdict for claim in named.values()} == {"undecided"}  # of one pair
    for name, kept in (
        ("barriers", [100, 80, 64, 51.2]), ("accuracies", [100, 80, 64, 51.2]),
    ):  # fmt: skip
        figure, frame = build.figure(study.config, name)
        assert (
            frame["mean"].notna().all() and figure.get_axes()[-1].get_xlabel() == "Weights left (%)"
        )
        at = frame["x"] if "x" in frame else 100 * (1 - frame["sparsity"])
        assert sorted({*at.round(4)}, reverse=True) == kept


def test_methods_of_one_question_are_not_mixed(study: Tiny) -> None:
    """Two matchers that look at the same, controls and a's own runs have a line each."""
    experiment = study.config.experiments["weights"]
    methods = ("lth", "random-mask", "permuted", "again", "naive")
    ways = {name: study.config.recipes.methods[name] for name in methods}
    frame = levels.accuracies(
        Results(study.config), [replace(experiment, methods=methods, ways=ways)]
    )
    frame = frame.assign(status="ok", test_accuracy=range(len(frame)))
    output = AccuracyVsSparsity(experiments=("weights",), x="level")
    figure, cells = synthetic.figure(output, frame)
    assert cells.groupby("level")["method"].nunique().to_dict() == {0: 1, 1: 6, 3: 6}
    assert (cells.loc[cells["method"].isin(("lth", "again")), "n"] == 1).all()
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len({*words}) == len(words) == 7
    looks = [(line.get_color(), line.get_linestyle(), line.get_marker())
             for line in figure.legends[0].get_lines()]  # fmt: skip
    assert len({*looks}) == len(looks)


def test_one_permutation_for_all_levels_is_a_notion(study: Tiny) -> None:
    table = build.table(study.config, "notions")
    dense = [float(row["error_barrier"]) for row in rows(study)
             if row["split"] == "test" and row["arm"] in ("none", "dense")]  # fmt: skip
    (found,) = table.tidy.to_dict("records")
    assert found["notion"] == "simultaneous (3)"
    worst = {arm: max(float(row["error_barrier"]) for row in rows(study)
                      if row["split"] == "test" and row["arm"] == arm)
             for arm in ("none", "dense")}  # fmt: skip
    assert len(dense) == 8 and found["worst"] == pytest.approx(min(worst.values()))


def test_permutations_of_levels_are_compared_with_the_dense_one(study: Tiny) -> None:
    study.make(align())
    _, frame = build.figure(study.config, "alike")
    found = read_tensors(study.path(align()))
    for left, level in ((80.0, 1), (64.0, 2), (51.2, 3)):
        (row,) = frame[frame["x"].round(6) == left].to_dict("records")
        same_places = [
            (found[f"{point_of(level)}/{group}"] == index).float()
            for group, index in under("end/", found).items()
        ]
        assert row["mean"] == pytest.approx(float(torch.cat(same_places).mean()))
    mixed = {"kind": "fixed-points", "experiments": ["one", "two"]}
    swept = LEVELS | {"levels": [], "rewind_epochs": [], "methods": []}
    experiments = {
        "one": swept | {"sweep": "sharma-rounds"},
        "two": swept | {"sweep": "sharma-epochs"},
    }
    refused(
        lambda: config(experiments, {"f": mixed}),
        "sweeps over rounds stand in a figure of their own",
    )


# -- what is refused ---------------------------------------------------------------------------

LEVELS: dict[str, Any] = BASE | {
    "dense": "sharma-t", "imp": "sharma-imp", "sparse": "sharma", "sparsities": [],
    "levels": [1, 2], "rewind_epochs": [5], "methods": ["one-shot"], "pairs": [[0, 1]],
}  # fmt: skip
BY_LEVEL = {"methods": ["permuted-weights-level"], "sweep": "sharma-rounds"}
MISTAKES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "levels and sparsities": ({"sparsities": [0.5]}, ["levels: stand in place of sparsities"]),
    "level 0": ({"levels": [0]}, ["levels[0]: 0 is not allowed; expected a number in [1, 9999]"]),
    "level twice": ({"levels": [2, 2]}, ["levels: every value may stand once"]),
    "level that pruning does not reach": (
        {"levels": [5, 60]}, ["levels: 60 prunes leave next to nothing; allowed: up to 51"],
    ),
    "levels without pairs": ({"pairs": []}, ["pairs: at least one pair [a, b] of seeds is needed"]),
    "level beyond the rounds": (
        BY_LEVEL | {"levels": [3, 21]},
        ["sweep 'sharma-rounds': level 21 has no permutation; its rounds: up to 20"],
    ),
    "no sweep over rounds": (
        {"methods": ["permuted-weights-level"]},
        ["permuted-weights-level: view: level needs levels and a sweep over rounds"],
    ),
    "another sweep": (
        BY_LEVEL | {"sweep": "sharma-epochs"}, ["view: level needs levels and a sweep over rounds"],
    ),
    "rounds of another chain": (
        BY_LEVEL | {"imp": "sharma-lrr"},
        ["its rounds are of imp recipe 'sharma-imp', masks of 'sharma-lrr'"],
    ),
    "one prune to a sparsity": (
        {"levels": [], "sparsities": [0.5]}, ["methods: one-shot: cut: one-shot needs levels"],
    ),
    "beyond the end": ({"rewind_epochs": [160]}, ["rewind_epochs: 160 must lie below T = 160"]),
    "beyond the end of the whole recipe": (
        {"rewind_epochs": [161], "sparse": "sharma-rate"},
        ["rewind_epochs: 161 must not exceed T = 160"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_what_fits_no_level_is_refused_before_anything_runs(name: str) -> None:
    config({"one": LEVELS})
    changed, words = MISTAKES[name]
    refused(lambda: config({"one": LEVELS | changed}), "experiments: one: ", *words)


def test_a_sweep_follows_what_a_protocol_changes_in_the_pruning_that_it_names() -> None:
    experiment = LEVELS | BY_LEVEL | {"sweep": {"recipe": "sharma-rounds", "rounds": 3}}
    found = graph({"one": experiment}, protocol="authors-code")
    one = found.config.experiments["one"]
    assert one.imp == "sharma-imp+momentum=0+prunable=no-shortcut+weight_decay=0"
    assert one.sweep == f"sharma-rounds+imp={one.imp}+rounds=3"
    for cell in one.cells():
        assert parse("sparse", cell.run.key) == cell.run and found.digest(cell.run)
        (align,) = (run for run in found.parents(cell.run) if isinstance(run, Align))
        blocks = [run for run in found.parents(align) if isinstance(run, ImpBlock)]
        assert {run.recipe for run in blocks} == {one.imp} and len(blocks) == 2 * 3
    refused(
        lambda: found.sweep(one.sweep.replace("momentum", "moment"), "x"), "unknown key 'moment'"
    )


def test_no_offset_leads_beyond_the_end() -> None:
    experiment = LEVELS | {"sparse": "sharma-rate", "rewind_epochs": [10, 160]}
    one = config({"one": experiment}, protocol="authors-code").experiments["one"]
    assert {(cell.rewind_epoch, cell.run.rewind, cell.run.epochs) for cell in one.cells()} == {
        (10, 11, 160), (160, 160, 160),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "entry", "words"),
    [
        ("methods", {"init": "a", "mask": "b"}, ["mask: b goes with init: b"]),
        ("methods", {"init": "b", "mask": "b", "permute": True}, ["mask: b goes with init: b"]),
        ("methods", {"init": "b", "view": "level"}, ["view: level goes with permute: true"]),
        (
            "methods", {"init": "b", "permute": True, "view": "level", "cut": "one-shot"},
            ["view: level goes with permute: true and cut: imp only"],
        ),
        ("imp", {"style": "lr-rewind", "rewind_epoch": 3}, ["rewind_epoch goes with style: rewind"]),
        ("imp", {"one_shot": "rewound"}, ["one_shot: rewound goes with style: rewind"]),
        ("sweep", {"over": "rounds", "rounds": 2}, ["key 'imp' is missing"]),
        ("sweep", {"over": "rounds", "imp": "imp-ft"}, ["key 'rounds' is missing"]),
        ("sweep", {"over": "rounds", "imp": "imp-ft", "rounds": 0}, ["rounds: 0 is not allowed"]),
        ("sweep", {"over": "rounds", "imp": "imp-fat", "rounds": 1}, ["unknown imp recipe 'imp-fat'"]),
    ],
)  # fmt: skip
def test_what_recipes_of_pruning_cannot_say(
    kind: str, entry: dict[str, Any], words: list[str]
) -> None:
    known = recipes()
    known[kind]["new"] = entry
    refused(lambda: config(recipes=known), f"config/recipes.yaml: {kind}: new", *words)


def test_a_sweep_is_not_called_as_a_mask_in_paths() -> None:
    known = recipes()
    known["sweep"]["shuffled"] = {"over": "triples"}
    refused(lambda: config(recipes=known), "sweep: shuffled: the name stands for a mask in paths")


def test_of_several_rewind_epochs_a_figure_by_level_shows_one() -> None:
    one = LEVELS | {"rewind_epochs": [0, 5]}
    entry = {"kind": "accuracy-vs-sparsity", "experiments": ["one"], "x": "level"}
    refused(lambda: config({"one": one}, {"f": entry}), "x: level: choose one of the rewind_epochs")
    assert config({"one": one}, {"f": entry | {"rewind_epochs": [5]}}).outputs
    refused(
        lambda: config({"one": BASE}, {"f": entry}), "x: level: experiment 'one' declares no levels"
    )


PATH = "few/mlp-w0.0625/warm/back/{}/k2-e2/onward/a0-b1"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (PATH.format("level.tiny@rounds/P4"), ["@rounds: level 4 has no permutation"]),
        (PATH.format("level.tiny@rounds/S0.50"), ["needs a sweep over rounds and a target P<n>"]),
        (PATH.format("level.tiny@epochs/P2"), ["needs a sweep over rounds and a target P<n>"]),
        (PATH.format("level.tiny@round/P2"), ["unknown sweep recipe 'round'"]),
        (PATH.format("level.tiny/P2"), ["does not fit method 'level'"]),
        (PATH.format("permuted.tiny@rounds/P2"), ["does not fit method 'permuted'"]),
        (PATH.format("naive/O2"), ["does not fit method 'naive'"]),
        (PATH.format("one-shot/P2").replace("a0-b1", "a1"), ["does not fit method 'one-shot'"]),
        (PATH.format("one-shot/O2"), ["does not fit method 'one-shot'"]),
        (PATH.format("naive/P2").replace("e2", "e4"), ["write it as k2-e2"]),
        (PATH.format("naive/P2").replace("k2-e2/onward", "k5-e4/whole"), ["lies beyond T = 4"]),
        (
            PATH.format("level.tiny@rounds/P2").replace("/back", "/rate"),
            ["its rounds are of imp recipe 'back', masks of 'rate'"],
        ),
        (
            PATH.format("level.tiny@rounds/P2").replace("/back", "/back@few@tiny"),
            ["needs a and b of one data set and recipe"],
        ),
    ],
)  # fmt: skip
def test_paths_that_name_no_run_are_refused(study: Tiny, path: str, words: list[str]) -> None:
    refused(lambda: study.graph.inputs(parse("sparse", path)), *words)


def test_words_tell_one_prune_from_many_and_a_plane_needs_a_dense_permutation(study: Tiny) -> None:
    said = {Mask(dense(0), "back", target).what for target in ("O2", "P2")}
    assert said == {"mask 2 prunes seed 0", "mask 2 prunes at once seed 0"}
    run: Run = Plane(cell(study, "level", 1).run, "line")
    refused(lambda: study.graph.inputs(run), "a plane needs a permuted run")
    assert isinstance(cell(study, "one-shot", 1).run, Sparse)
