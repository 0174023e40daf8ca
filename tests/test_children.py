"""Children: dense runs that start from a state of another one, with minibatch noise of their own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from small import RECIPES, Tiny, contents, same, write_study
from studies import BASE, ROOT, config, recipes, refused

from pipeline.artifacts.store import read_csv, read_json, read_tensors
from pipeline.commands import trace
from pipeline.errors import Interrupted
from pipeline.report import about
from pipeline.results import Results
from pipeline.runs import Align, Connect, Dense, ImpBlock, Match, Snapshot, parse
from pipeline.runs.dense import epoch_prefix, seed_numbers
from pipeline.runs.snapshot import weights_at
from pipeline.stages import dense as dense_stage
from pipeline.stages.job import Job
from pipeline.streams import generator
from pipeline.study.config import read
from pipeline.study.cost import Costs
from pipeline.study.graph import Graph
from pipeline.study.outputs.sweep_barriers import SweepBarriers
from pipeline.training import loop
from pipeline.training.loop import Schedule, Training
from pipeline.weights import read_state

EPOCHS = 4
CHILD_RECIPES = (
    RECIPES.replace(
        "dense:\n",
        "dense:\n"
        "  parent: &parent {epochs: 4, lr: 0.1, batch_size: 64, trunk: [0, 2], series: [1, 3],"
        " child_series: [1, 3]}\n"
        "  plain: {<<: *parent, child_series: []}\n"
        "  whole: {<<: *parent, trunk: [0, 1, 2, 3], series: []}\n"
        "  wild-parent: {<<: *parent, lr: 1e6}\n",
    ).replace(
        "connectivity:\n",
        "connectivity:\n"
        "  all: {points: 5, images: 64, batch_size: 64, corrections: [none], at: [all]}\n",
    )
    + """
sweep:
  end: {over: epochs}
  third: {over: epochs, final: 3}
  along: {over: epochs, epochs: [1, 2]}
  triples: {over: triples}
  born: {over: spawns, permutations: end, spawns: [0, 2], epochs: [1, 3]}
  few-born: {over: spawns, permutations: along, spawns: [2], noises: [1, 2]}
  third-born: {over: spawns, permutations: third, spawns: [2], epochs: [3]}
  astray: {over: spawns, permutations: triples, spawns: [2]}
  ring: {over: spawns, permutations: ring, spawns: [2]}
  lost: {over: spawns, permutations: nothing, spawns: [2]}
  late: {over: spawns, permutations: end, spawns: [1]}
"""
)
CHILD_STUDY = """
experiments:
  pair: &pair
    dataset: few
    model: mlp
    width: 0.0625
    dense: parent
    imp: tiny
    match: tiny
    matches: [tiny, random]
    sparse: tiny
    connectivity: all
    pairs: [[0, 1], [2, 3]]
    sweep: born
outputs:
  born: {kind: barrier, experiments: [pair], lines: [instability], x: spawn}
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    torch.set_num_threads(1)
    root = write_study(tmp_path_factory.mktemp("children"), CHILD_RECIPES, CHILD_STUDY)
    return Tiny(root, root / "results")


def dense(
    seed: int = 0, spawn: int | None = None, noise: int | None = None, recipe: str = "parent"
) -> Dense:
    return Dense("few", "mlp", "0.0625", recipe, seed, spawn, noise)


def state_of(study: Tiny, run: Dense, epoch: int = EPOCHS) -> dict[str, torch.Tensor]:
    file = weights_at(study.graph, run, epoch)
    study.make(file.run)
    found: dict[str, torch.Tensor] = read_state(study.results / file.path, file.prefix)
    return found


# -- what a child is -----------------------------------------------------------------------------


def test_a_child_with_its_parents_noise_is_its_parent(study: Tiny) -> None:
    """Also the way there: momentum and rate go on as if nothing had happened."""
    own = dense(0, 2, 0)
    study.make(dense())
    with Job(study.config, own) as job:  # no path names it
        dense_stage.execute(job)
        job.finish()
    found = read_state(study.path(own, "weights.safetensors"))
    assert same(found, state_of(study, dense()))
    trunk = read_tensors(study.path(own, "trunk.safetensors"))
    assert {name.split("/")[0] for name in trunk} == {epoch_prefix(3).rstrip("/")}
    assert same(
        read_state(study.path(own, "trunk.safetensors"), epoch_prefix(3) + "weights/"),
        state_of(study, dense(), 3),
    )
    parents = read_csv(study.path(dense(), "history.csv"))
    assert read_csv(study.path(own, "history.csv")) == parents[2:]


def test_noise_is_what_tells_children_apart(study: Tiny) -> None:
    first, second = dense(0, 2, 1), dense(0, 2, 2)
    ends = [state_of(study, run) for run in (dense(), first, second)]
    assert not any(same(x, y) for n, x in enumerate(ends) for y in ends[:n])
    before = contents(study.folder(first))
    study.run(first)
    assert contents(study.folder(first)) == before


def test_a_child_of_the_start_has_its_parents_initialisation_and_no_more(study: Tiny) -> None:
    """It is a dense run of this initialisation and of other streams of order and augmentation."""
    child = dense(1, 0, 2)
    found = state_of(study, child)
    with Job(study.config, dense(1)) as job:
        model = job.model(dense(1), generator(1, "init"))
        job.trainer.train(
            model,
            Training(
                Schedule(0, EPOCHS, EPOCHS),
                lambda purpose, epoch: generator("1t0n2", purpose, epoch),
            ),
        )
    assert same(found, model.state_dict())


def test_before_it_was_spawned_a_child_is_its_parent(study: Tiny) -> None:
    """So there is no instability at their spawn, and none at all of children of the end."""
    for spawn, epochs in ((2, (0, 1, 2)), (EPOCHS, range(EPOCHS + 1))):
        for epoch in epochs:
            file, parents = (
                weights_at(study.graph, run, epoch) for run in (dense(0, spawn, 1), dense())
            )
            assert file == parents
    assert weights_at(study.graph, dense(0, 2, 1), 3).run == dense(0, 2, 1)


def test_a_child_is_matched_pruned_and_snapped_as_any_dense_run(study: Tiny) -> None:
    child = dense(0, 2, 1)
    metrics = read_json(study.make(Match(child, dense(1), "tiny")) / "metrics.json")
    assert metrics["status"] == "ok"
    assert study.make(ImpBlock(child, "tiny", 1)).parts[-2] == "seed0t2n1"
    bare, kept = dense(0, 2, 1, "plain"), state_of(study, child, 3)
    snapped = weights_at(study.graph, bare, 3)
    assert isinstance(snapped.run, Snapshot)
    assert study.graph.inputs(snapped.run)["trunk"].run == dense(0, recipe="plain")
    assert snapped.run.trained_epochs(study.graph) == 1
    assert same(state_of(study, bare, 3), kept)


def test_children_of_other_states_train_apart(study: Tiny) -> None:
    """Runs that start from two children draw orders of their own."""
    seeds = {run.stream for run in (dense(), dense(0, 2, 1), dense(0, 2, 2), dense(0, 0, 1))}
    assert len(seeds) == 4 and dense(0, 2, 0).stream == dense().stream == "0"


def test_what_children_keep_changes_no_parent_and_no_snapshot_of_one(study: Tiny) -> None:
    for make in (lambda recipe: dense(0, recipe=recipe), lambda r: Snapshot(dense(0, recipe=r), 3)):
        found = [dict(study.graph.settings(make(recipe))) for recipe in ("parent", "plain")]
        assert found[0].pop("run") != found[1].pop("run")
        [one.pop("parents", None) for one in found]
        assert found[0] == found[1]
    child = study.graph.settings(dense(0, 2, 1))
    assert child["recipe"]["series"] == [3] and "child_series" not in child["recipe"]
    assert [*child["parents"]] == ["trunk"]


def test_a_child_of_a_parent_that_diverged_has_diverged(study: Tiny) -> None:
    child = dense(0, 2, 1, "wild-parent")
    assert read_json(study.make(child) / "metrics.json")["status"] == "diverged"
    assert (
        read_json(study.path(dense(recipe="wild-parent"), "metrics.json"))["status"] == "diverged"
    )


class _Cut(Exception):
    """The process is gone."""


@pytest.mark.parametrize("gentle", [True, False])
def test_a_child_that_was_stopped_goes_on_with_the_same_bits(
    study: Tiny, monkeypatch: pytest.MonkeyPatch, gentle: bool
) -> None:
    """By SIGTERM in the middle of an epoch, or cut off behind a state that it had saved."""
    child = dense(1, 2, 1)
    study.make(child)
    whole = contents(study.folder(child))
    for path in study.folder(child).iterdir():
        path.unlink()
    monkeypatch.setenv("PIPELINE_SAVE_SECONDS", "0")
    steps, usual = 0, loop._pause

    def pause(*given: Any) -> None:
        nonlocal steps
        steps += 1
        if steps == 11:
            if not gentle:
                raise _Cut
            patched.setattr(loop, "_stop_requested", lambda: True)
        usual(*given)

    with monkeypatch.context() as patched:
        patched.setattr(loop, "_pause", pause)
        with pytest.raises(Interrupted if gentle else _Cut):
            study.run(child)
    assert any(path.name.startswith(".") for path in study.folder(child).iterdir())
    study.run(child)
    assert read_json(study.path(child, "metrics.json"))["status"] == "ok"
    assert contents(study.folder(child)) == whole


# -- what it costs -------------------------------------------------------------------------------


def test_a_child_costs_the_epochs_that_are_left_and_keeps_what_children_keep(study: Tiny) -> None:
    graph, network = study.graph, 1e6
    for spawn, kept in ((0, 2), (2, 1)):
        child = dense(0, spawn, 1)
        assert child.trained_epochs(graph) == EPOCHS - spawn
        assert child.disk(graph, network) == network * (1 + kept)
        assert len(read_csv(study.make(child) / "history.csv")) == EPOCHS - spawn
    assert dense().disk(graph, network) == network * (1 + 2 * 2 + 2)
    large = Graph(read(ROOT, {"study": "sharma"}))
    costs = Costs(large, "cuda")
    child = Dense("cifar10", "vgg16_ln", "1", "sharma-u", 0, 20, 1)
    parent = child.parent
    assert parent
    work = [costs.seconds(run) - costs._start(run) for run in (child, parent)]
    assert work[0] / work[1] == pytest.approx(140 / 160)
    assert costs.memory_mb(child) < costs.memory_mb(parent)


def test_children_are_counted_and_followed_as_runs_are(study: Tiny) -> None:
    notes = about.provenance(study.config).notes
    assert "Dense runs that start from a state of another one: 16." in notes
    child = dense(0, 2, 1)
    study.make(child)
    told = [line.split(":")[0] for line in trace.ancestors(study.config, child, "")]
    assert [line for line in told if not line.startswith(" ")] == [child.folder, dense().folder]
    used = [*trace.forward(study.config, child)]
    assert used[0] == "born rests on it"
    wanted = f"  {study.config.results}/{Connect(align(), 'all').folder}"
    assert wanted in used and not any("b3" in line for line in used)
    assert child.words == "dense seed 0t2n1 (mlp×0.0625 on few, parent)"


# -- sweeps over spawns --------------------------------------------------------------------------


def align(sweep: str = "born", seeds: tuple[int, ...] = (0, 1), match: str = "tiny") -> Align:
    return Align(tuple(map(dense, seeds)), match, sweep)


def rows(study: Tiny, run: Connect) -> list[dict[str, str]]:
    found: list[dict[str, str]] = read_csv(study.make(run) / "barriers.csv")
    return [row for row in found if row["split"] == "test"]


def test_permutations_are_the_parents_and_depend_on_no_grid(study: Tiny) -> None:
    run = Connect(align(), "all")
    inputs = study.graph.inputs(run)
    assert inputs["permutations"].run == align("end")
    read_by_align = {file.run for file in study.graph.inputs(align("end")).values()}
    assert read_by_align == {dense(0), dense(1)}
    assert not any(
        isinstance(each, Align) and each.sweep == "born" for each in study.graph.closure([run])
    )
    children = {run for run in study.graph.parents(run) if isinstance(run, Dense) and run.parent}
    assert len(children) == 2 * 2 * 2


def test_lines_go_along_training_behind_each_spawn(study: Tiny) -> None:
    found = rows(study, Connect(align(), "all"))
    parents = [r for r in found if r["arm"] in ("none", "matched")]
    assert [(r["arm"], r["point"], r["evaluated_at"]) for r in parents] == [
        (arm, point, now) for now in "134" for arm, point in (("none", ""), ("matched", "end"))
    ]
    instability = [(r["a"], r["b"], r["evaluated_at"]) for r in found if r["arm"] == "instability"]
    expected = {
        (f"{seed}t{spawn}n1", f"{seed}t{spawn}n2", str(now))
        for seed in (0, 1) for spawn in (0, 2) for now in (1, 3, 4) if now > spawn
    }  # fmt: skip
    assert len(instability) == len(expected) and {*instability} == expected
    children = {(r["a"], r["b"], r["evaluated_at"]) for r in found if r["arm"] == "children"}
    assert children == {
        (f"0t{spawn}n{noise}", f"1t{spawn}n{noise}", str(now))
        for noise in (1, 2) for spawn in (0, 2) for now in (1, 3, 4) if now > spawn
    }  # fmt: skip
    assert {r["matched_at"] for r in found if r["point"] == "end"} == {"4"}
    fewer = rows(study, Connect(align("few-born"), "all"))
    assert [(r["arm"], r["a"], r["b"]) for r in fewer if "t" in r["a"]] == [
        ("instability", "1t2n1", "1t2n2"), ("children", "0t2n1", "1t2n1"),
    ]  # fmt: skip


def test_an_epoch_that_stands_for_the_end_is_where_parents_are_matched(study: Tiny) -> None:
    lines = align("third-born").lines(study.graph, ())
    assert {line.matched_at for line in lines if line.point} == {3}
    assert {line.evaluated_at for line in lines} == {3, 4}


def test_children_that_are_their_parents_have_their_parents_barriers(
    study: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under noise 0 instability is 0, and the barrier under π that of the parents, to the bit."""
    from pipeline.runs.sweeps.spawns import Spawns

    monkeypatch.setattr(
        Spawns, "children", lambda self, n, spawn, networks: [networks[n]] * self.noises[n]
    )
    graph = Graph(study.config)
    run = Connect(align(match="random"), "all")
    for each in graph.closure([run])[:-1]:
        study.make(each)
    found = rows(study, run)
    assert {row["error_barrier"] for row in found if row["arm"] == "instability"} == {"0.0"}
    assert {row["distance"] for row in found if row["arm"] == "instability"} == {"0.0"}
    for row in found:
        if row["arm"] == "children":
            (same_end,) = (
                r["loss_barrier"] for r in found
                if r["arm"] == "matched" and r["evaluated_at"] == row["evaluated_at"]
            )  # fmt: skip
            assert row["loss_barrier"] == same_end
    for path in study.folder(run).iterdir():
        path.unlink()


def test_the_frame_says_where_children_start(study: Tiny) -> None:
    for match in ("tiny", "random"):
        study.make(Connect(align(match=match), "all"))
    frame = Results(study.config).connections(SweepBarriers(experiments=("pair",)))
    assert [*frame["status"].groupby(frame["seeds"]).first()] == ["ok", "missing"]
    there = frame[frame["status"] == "ok"]
    assert {*there["dense"]} == {"parent"} and len(there) == 2 * 2 * (6 + 5 * 4)
    born = there["spawn"].notna()
    assert {*there.loc[born, "arm"]} == {"instability", "children"}
    assert {*there.loc[~born, "a"]} == {0} and {*there.loc[~born, "b"]} == {1}
    for row in there[born].to_dict("records"):
        child = dense(*seed_numbers(row["a"]))
        assert child.spawn == row["spawn"] < row["evaluated_at"] and child.who == row["a"]


# -- mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seed", "words"),
    [
        ("0t1n1", ["epoch 1 is no trunk epoch", "momentum included", "trunk: 0, 2"]),
        ("0t9n1", ["epoch 9 is no trunk epoch"]),
        ("0t2n0", ["no seed<s>", "count from 1"]),
        ("0t2n1t2n1", ["no seed<s>", "3t5n1"]),
        ("0n1", ["no seed<s>"]),
        ("0t2", ["no seed<s>", "3t5n1"]),
        ("0t02n1", ["no seed<s>"]),
    ],
)
def test_a_child_that_cannot_be_is_refused_in_one_line(
    study: Tiny, seed: str, words: list[str]
) -> None:
    place = f"few/mlp-w0.0625/parent/seed{seed}"
    message = refused(lambda: study.graph.inputs(parse("dense", place)), *words)
    assert seed in message


@pytest.mark.parametrize(
    ("stage", "end", "words"),
    [
        ("align", "born/a0-b1", "finds no permutations; those it lends: align/few"),
        ("align", "along/a0t2n1-b1", "0t2n1 is a child"),
        ("connect", "born/all/a0-b1t2n2", "1t2n2 is a child"),
        ("connect", "born/all/seeds0-1-2", "is of a pair"),
        ("connect", "astray/all/a0-b1", "'triples' is no sweep over epochs"),
        ("connect", "ring/all/a0-b1", "'ring' is no sweep over epochs"),
        ("connect", "lost/all/a0-b1", "unknown sweep recipe 'nothing'"),
        ("connect", "late/all/a0-b1", "epoch 1 is no trunk epoch"),
        ("landscape", "born/all/a0-b1", "needs a sweep over epochs"),
    ],
)
def test_a_path_of_no_sweep_over_spawns_is_refused_in_one_line(
    study: Tiny, stage: str, end: str, words: str
) -> None:
    refused(lambda: study.graph.inputs(parse(stage, f"few/mlp-w0.0625/parent/tiny/{end}")), words)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({"spawns": [0]}, ["permutations: name a sweep over epochs"]),
        ({"permutations": "sharma-end"}, ["spawns: name at least one"]),
        ({"permutations": "sharma-end", "spawns": [0], "noises": [0, 2]}, ["0 is not allowed"]),
        (
            {"permutations": "sharma-end", "spawns": [0], "noises": [1, 1]},
            ["instability needs two"],
        ),
        ({"permutations": "sharma-end", "spawns": [0], "noises": [2]}, ["expected 2 values"]),
        ({"permutations": "sharma-end", "spawns": [0, 0]}, ["every value may stand once"]),
        ({"permutations": "sharma-end", "spawns": [-1]}, ["-1 is not allowed"]),
    ],
)
def test_a_mistake_in_a_sweep_over_spawns_is_one_line(
    raw: dict[str, Any], words: list[str]
) -> None:
    found = recipes()
    found["sweep"]["mine"] = {"over": "spawns", **raw}
    refused(lambda: config(recipes=found), "sweep: mine", *words)


def test_pairs_of_a_study_are_of_runs_from_their_initialisation() -> None:
    one = BASE | {"pairs": [["0t5n1", 1]]}
    refused(lambda: config({"one": one}), "pairs[0][0]", "expected a whole number, got '0t5n1'")
