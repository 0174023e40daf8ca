"""The graph: the least that a table needs, and what a change of settings does and does not touch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from studies import BASE, ROOT, digests, graph, recipes, refused

from pipeline import runs
from pipeline.runs import (
    STAGES,
    Curve,
    Dense,
    ImpBlock,
    Mask,
    Match,
    Run,
    Snapshot,
    Solution,
    Sparse,
    parse,
)
from pipeline.runs.snapshot import weights_at
from pipeline.study.config import read
from pipeline.study.cost import Costs
from pipeline.study.graph import Graph

FIGURES = {
    "table_one": {"kind": "rewind-grid", "experiments": ["one"]},
    "figure_3": {"kind": "interpolation", "experiments": ["one"]},
    "figure_4a": {"kind": "imp-barrier", "experiments": ["one"], "sparsity": 0.95},
    "figure_4b": {"kind": "plane", "experiments": ["one"], "sparsity": 0.8, "rewind_epoch": 11},
    "table_1": {
        "kind": "diversity", "experiments": ["one"], "sparsity": 0.8, "rewind_epoch": 11,
        "imp_seeds": [0, 2],
    },
}  # fmt: skip
#: Snapshots, and runs for every kind of output.
ONE = BASE | {"rewind_epochs": [0, 11], "pairs": [[0, 1], [0, 3]], "replicates": 2}
SWEPT = {
    "dataset": "cifar10", "dense": "sharma-tiny", "sweep": "sharma-tiny", "pairs": [[0, 1]],
    "connectivity": "sharma-tiny-planes",
}  # fmt: skip
SWEEPS = {
    "figure_alignment": {"kind": "accuracy-vs-alignment", "experiments": ["one"]},
    "figure_barrier": {"kind": "barrier", "experiments": ["swept"]},
    "figure_landscape": {"kind": "landscape", "experiments": ["swept"]},
}


def full(**changes: Any) -> Graph:
    """A graph with runs of every stage that a pair of networks has."""
    return graph({"one": ONE}, FIGURES, **changes)


def whole() -> Graph:
    """A graph with runs of every stage."""
    return graph({"one": ONE, "swept": SWEPT}, FIGURES | SWEEPS)


# -- the least -----------------------------------------------------------------------------


def test_table_5_needs_no_more_than_the_paper_says() -> None:
    study = Graph(read(ROOT, {"study": "paper"}))
    runs = study.closure(study.outputs(["table_5"]))
    epochs: Counter[str] = Counter()
    for run in runs:
        epochs[run.stage] += run.trained_epochs(study)
    count = Counter(run.stage for run in runs)

    # Section 4 and Table 5: three pairs of seeds; 80, 90, 95, 97 %; three methods; nine rewind
    # epochs; T = 200. A.3: 20 % a round and 50 epochs of fine-tuning between prunes.
    pairs, T, rewinds = 3, 200, (0, 5, 10, 15, 20, 25, 50, 75, 100)
    cells = pairs * 4 * 3 * len(rewinds)
    rounds = 0
    while 0.8 ** (rounds + 1) > 0.03:  # the 16th prune goes beyond 97 % and is capped: 15 between
        rounds += 1
    assert (cells, rounds) == (324, 15)
    assert count == {
        "dense": 2 * pairs, "imp": pairs * rounds // 5, "mask": pairs * 4, "match": pairs, "sparse": cells,
    }  # fmt: skip
    assert epochs["dense"] == 2 * pairs * T
    assert epochs["imp"] == pairs * rounds * 50
    assert epochs["sparse"] == pairs * 4 * 3 * sum(T - k for k in rewinds)
    assert epochs.total() == 57_450
    chains = {(run.dense, run.recipe) for run in runs if isinstance(run, ImpBlock)}
    assert len(chains) == pairs
    for chain in chains:
        blocks = [r for r in runs if isinstance(r, ImpBlock) and (r.dense, r.recipe) == chain]
        trained = [number for block in blocks for number in block.rounds(study)]
        assert sorted(trained) == list(range(1, rounds + 1))


def test_lth_does_not_depend_on_b() -> None:
    study = graph({"one": BASE | {"pairs": [[0, 1], [0, 2], [0, 3]]}})
    cells = list(study.config.experiments["one"].cells())
    lth = {cell.run for cell in cells if cell.method == "lth"}
    assert len(lth) == 2 * 2  # sparsities and rewind epochs, whatever the pair
    for ancestor in study.closure(lth):
        assert not isinstance(ancestor, Match)
        assert not isinstance(ancestor, Dense) or ancestor.seed == 0
    assert len({cell.run for cell in cells}) == 4 + 2 * 3 * 4


def test_naive_needs_no_permutation_and_permuted_needs_one() -> None:
    study = graph({"one": BASE})
    for cell in study.config.experiments["one"].cells():
        ancestors = study.closure([cell.run])
        matches = [run for run in ancestors if isinstance(run, Match)]
        assert len(matches) == (cell.method == "permuted")
        assert {r.seed for r in ancestors if isinstance(r, Dense)} <= set(cell.pair)


def test_one_mask_serves_every_rewind_epoch_and_one_matching_every_sparsity() -> None:
    count = Counter(
        run.stage for run in _all(graph({"one": BASE | {"rewind_epochs": list(range(50))}}))
    )
    assert (count["mask"], count["match"], count["dense"]) == (2 * 2, 2, 4)


def test_replicates_differ_in_their_sparse_runs_alone() -> None:
    one, three = (digests(graph({"one": BASE | {"replicates": n}})) for n in (1, 3))
    assert one.items() <= three.items()
    assert {path.split("/")[0] for path in three.keys() - one.keys()} == {"sparse"}
    assert sum(path.startswith("sparse/") for path in three) == 3 * sum(
        path.startswith("sparse/") for path in one
    )


# -- files ---------------------------------------------------------------------------------


def _all(study: Graph) -> list[Run]:
    cells = [cell.run for one in study.config.experiments.values() for cell in one.cells()]
    return study.closure([*cells, *study.outputs(study.config.outputs)])


def test_the_weights_of_an_epoch_are_the_end_a_trunk_state_or_a_snapshot() -> None:
    study = graph({"one": BASE})
    dense = study.config.experiments["one"].dense_run(0)
    assert weights_at(study, dense, 200).path == f"{dense.folder}/weights.safetensors"
    trunk = weights_at(study, dense, 50)
    assert (trunk.path, trunk.prefix) == (
        dense.path("trunk.safetensors"),
        "epoch0050/weights/",
    )
    assert weights_at(study, dense, 51).run == Snapshot(dense, 51)
    refused(lambda: weights_at(study, dense, 201), "epoch 201 lies beyond T = 200")


def test_a_mask_is_cut_from_the_weights_one_round_before() -> None:
    study = graph({"one": BASE})
    one = study.config.experiments["one"]
    assert one.mask(0, 0.2).source(study).run == one.source_run(0)  # 20 %: one prune
    at_80 = one.mask(0, 0.8).source(study)  # 8 prunes: round 7, in block 2 of five each
    assert (at_80.run, at_80.prefix) == (ImpBlock(one.source_run(0), "imp-ft", 2), "round07/")
    at_97 = one.mask(0, 0.97).source(study)
    assert (at_97.run, at_97.prefix) == (ImpBlock(one.source_run(0), "imp-ft", 3), "round15/")
    thirteen = Mask(one.source_run(0), "imp-ft", "P13").source(study)
    assert (thirteen.run, thirteen.prefix) == (at_97.run, "round12/")


def test_every_file_that_is_read_is_one_that_its_run_leaves() -> None:
    study = full()
    for run in _all(study):
        for file in study.inputs(run).values():
            assert file.name in STAGES[file.run.stage].files
            assert file.path == file.run.path(file.name)


def test_imp_with_rewinding_reads_the_state_it_rewinds_to() -> None:
    study = graph({"one": BASE | {"imp": {"recipe": "imp-rewind", "rewind_epoch": 7}}})
    blocks = [run for run in _all(study) if isinstance(run, ImpBlock)]
    assert blocks
    for block in blocks:
        assert study.inputs(block)["rewind"].run == Snapshot(block.dense, 7)
    other = graph({"one": BASE})
    assert all("rewind" not in other.inputs(run) for run in _all(other))


# -- closure -------------------------------------------------------------------------------


def test_closure_has_ancestors_first_and_each_run_once() -> None:
    study = whole()
    runs = _all(study)
    assert {run.stage for run in runs} == STAGES.keys()
    assert len(runs) == len(set(runs))
    place = {run: at for at, run in enumerate(runs)}
    assert all(place[parent] < place[run] for run in runs for parent in study.parents(run))
    assert study.closure(reversed(runs)) and set(study.closure(reversed(runs))) == set(runs)
    assert study.closure(runs) == runs and study.closure([]) == []


def test_chains_of_any_length_have_a_closure_and_a_digest() -> None:
    slow = {"recipe": "imp-ft", "fraction": 0.01, "rounds_per_block": 1}
    study = graph({"one": BASE | {"imp": slow, "sparsities": [0.999999]}})
    mask = study.config.experiments["one"].mask(0, 0.999999)
    runs = study.closure([mask])
    assert len(runs) == 1 + 1374 + 1  # dense, a block for each round but the last, the mask
    assert study.digest(mask) == Graph(study.config).digest(mask)
    assert len({study.digest(run) for run in runs}) == len(runs)


def test_an_output_that_is_not_declared() -> None:
    study = full()
    refused(lambda: study.outputs(["table_2"]), "unknown table or figure 'table_2'", "'table_1'")


# -- what a change touches -----------------------------------------------------------------

ADDITIONS: dict[str, dict[str, Any]] = {
    "sparsity": {"sparsities": [0.5, 0.8, 0.9, 0.95, 0.97]},
    "rewind epoch": {"rewind_epochs": [0, 3, 11, 12, 150]},
    "pair": {"pairs": [[0, 1], [4, 5], [1, 0], [0, 3]]},
    "method": {"methods": ["random-permutation", "permuted-inner", "permuted", "naive", "lth"]},
    "replicate": {"replicates": 5},
    "order": {"sparsities": [0.95, 0.8], "methods": ["permuted", "lth", "naive"]},
    "all": {"sparsities": [0.8, 0.9, 0.95], "rewind_epochs": [0, 1, 11], "pairs": [[0, 1], [0, 3], [6, 7]]},
}  # fmt: skip


@pytest.mark.parametrize("what", ADDITIONS)
def test_what_is_added_changes_no_run_that_exists(what: str) -> None:
    before = digests(full())
    after = digests(graph({"one": ONE | ADDITIONS[what]}, FIGURES))
    assert before.items() <= after.items()
    assert (len(after) > len(before)) == (what != "order")


def test_another_experiment_table_or_title_changes_no_run_that_exists() -> None:
    before = digests(full())
    more = {"one": ONE, "two": {"extends": "one", "width": 4}, "three": ONE | {"model": "vgg11"}}
    outputs = {
        "figure_9": {"kind": "accuracy-vs-sparsity", "experiments": ["two", "one"]}
    } | FIGURES
    assert before.items() <= digests(graph(more, outputs)).items()


@pytest.mark.parametrize("kind", ["dense", "imp", "match", "sparse", "connectivity"])
def test_settings_of_one_experiment_are_no_matter_of_another(kind: str) -> None:
    key, value = {"match": ("epsilon", 0.5), "connectivity": ("points", 5)}.get(kind, ("lr", 0.5))
    every = recipes()
    for name, entries in every.items():
        if name in ("dense", "imp", "match", "sparse", "connectivity"):
            first = "dense" if name == "dense" else next(iter(entries))
            entries["own"] = {"extends": first}
    own = ("dense", "imp", "match", "sparse", "connectivity")
    experiments = {"one": ONE, "two": ONE | dict.fromkeys(own, "own")}
    figure = {"figure_two": {"kind": "interpolation", "experiments": ["two"]}}

    def made() -> dict[str, str]:
        return digests(graph(experiments, FIGURES | figure, recipes=every))

    before = made()
    every[kind]["own"][key] = value
    after = made()
    assert before.keys() == after.keys()
    changed = {path for path in before if before[path] != after[path]}
    assert changed and all("/own/" in path or "/own+" in path for path in changed)
    assert not changed & digests(full()).keys()


def _descendants(study: Graph, origin: Callable[[Run], bool]) -> set[str]:
    """Paths of the runs that ``origin`` names and of all that depends on them."""
    touched: set[Run] = set()
    for run in _all(study):  # ancestors come first
        if origin(run) or any(parent in touched for parent in study.parents(run)):
            touched.add(run)
    return {run.folder for run in touched}


RECIPE_CHANGES: dict[str, tuple[str, str, Any, set[str]]] = {
    "dense": ("dense", "lr", 0.5, {"dense", "snapshot"}),
    "imp": ("imp", "lr", 0.5, {"imp", "mask", "solution"}),
    "match": ("match", "epsilon", 0.5, {"match"}),
    "sparse": ("sparse", "lr", 0.5, {"sparse"}),
    "connectivity": ("connectivity", "points", 5, {"curve", "imp-barrier", "plane"}),
}


@pytest.mark.parametrize("kind", RECIPE_CHANGES)
def test_a_changed_recipe_changes_its_runs_and_their_descendants_and_nothing_else(
    kind: str,
) -> None:
    _, key, value, stages = RECIPE_CHANGES[kind]
    name = {"dense": "dense", "imp": "imp-ft", "match": "activations", "sparse": "sparse",
            "connectivity": "line"}[kind]  # fmt: skip
    study = full()
    before = digests(study)
    every = recipes()
    every[kind][name] = (every[kind][name] or {}) | {key: value}
    after = digests(full(recipes=every))
    assert before.keys() == after.keys()
    changed = {path for path in before if before[path] != after[path]}
    assert changed == _descendants(study, lambda run: run.stage in stages)
    assert changed < before.keys() or kind == "dense"


def test_a_changed_matching_touches_no_lth_and_no_naive_run() -> None:
    every = recipes()
    before = digests(full())
    every["match"]["activations"] = {"similarity": "inner"}
    after = digests(full(recipes=every))
    changed = {path for path in before if before[path] != after[path]}
    assert changed
    assert not [path for path in changed if "/lth/" in path or "/naive/" in path]


def test_training_on_some_of_the_images_costs_their_share_of_an_epoch() -> None:
    """CIFAR-10 has 50,000; matching goes on looking at all of them."""
    every, fewer = recipes(), recipes()
    for entry in fewer["dense"].values():
        entry["images"] = 12_500
    costs, less = (
        Costs(graph({"one": ONE}, FIGURES, recipes=each), "cpu") for each in (every, fewer)
    )
    for run in _all(costs.graph):
        if run.stage in ("dense", "snapshot"):
            assert 4 * less._work(run) == pytest.approx(costs._work(run))
        elif run.stage in ("sparse", "match"):
            assert less.seconds(run) == costs.seconds(run)


def test_a_matching_that_looks_at_no_image_is_planned_without_passes() -> None:
    """By weights from the identity; one that starts at what activations find looks at all."""
    every = recipes()
    every["match"] |= {
        "from-activations": {"similarity": "weights", "start": "activations"},
        "from-random": {"similarity": "weights", "start": "random", "starts": 3},
    }
    study = graph({"one": ONE}, recipes=every)
    passes = {
        name: study.config.experiments["one"].matching((0, 1), recipe=name).passes(study)
        for name in ("activations", "random", "weights", "from-random", "from-activations")
    }
    assert passes["activations"] == passes["from-activations"] > 0
    assert {passes[name] for name in ("random", "weights", "from-random")} == {0}


def test_changed_facts_of_a_data_set_change_the_runs_on_it_alone() -> None:
    own = {"kind": "npz", "path": "own.npz", "classes": 10, "channels": 3, "size": 32,
           "train_images": 50, "test_images": 20, "mean": [0.5] * 3, "std": [0.5] * 3, "flip": False,
           "pad": 1}  # fmt: skip
    experiments = {"one": ONE, "two": {"extends": "one", "dataset": "own"}}
    before = digests(graph(experiments, FIGURES, datasets={"own": own}))
    for change in ({"flip": True}, {"pad": 2}, {"mean": [0.4] * 3}, {"train_images": 60}):
        after = digests(graph(experiments, FIGURES, datasets={"own": own | change}))
        changed = {path for path in before if before[path] != after[path]}
        assert changed == {path for path in before if "/own/" in path} != set()
    moved = digests(graph(experiments, FIGURES, datasets={"own": own | {"path": "/else/own.npz"}}))
    assert moved == before


@pytest.mark.parametrize("stage", STAGES)
def test_a_raised_algorithm_changes_its_stage_and_the_descendants_and_nothing_else(
    stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = whole()
    before = digests(study)
    expected = _descendants(study, lambda run: run.stage == stage)
    monkeypatch.setattr(runs.STAGES[stage], "algorithm", 2)
    after = digests(whole())
    assert {path for path in before if before[path] != after[path]} == expected != set()
    assert before.keys() == after.keys()


def test_settings_are_sorted_plain_and_complete() -> None:
    study = full()
    for run in _all(study):
        found = study.settings(run)
        assert list(found) == sorted(found)
        assert (found["stage"], found["run"]) == (run.stage, run.key)
        assert found["algorithm"] == run.algorithm
        parents = [entry[0] for entry in found.get("parents", {}).values()]
        assert set(parents) == {study.digest(parent) for parent in study.parents(run)}


# -- runs that are asked for by path -------------------------------------------------------

DENSE = "digits/resnet20-w1/dense"
CELL = f"{DENSE}/imp-ft/permuted.activations/S0.90/k5-e195/sparse/a0-b1"
ASKED = {
    "unknown data set": ("dense", "kmnist/resnet20-w1/dense/seed0", "unknown data set 'kmnist'"),
    "unknown model": ("dense", "digits/resnet21-w1/dense/seed0", "unknown model 'resnet21'"),
    "impossible width": ("dense", "digits/resnet20-w0.3/dense/seed0", "width 0.3 of resnet20"),
    "unknown recipe": ("dense", "digits/resnet20-w1/desne/seed0", "unknown dense recipe 'desne'"),
    "other spelling": ("dense", "digits/resnet20-w1/dense+lr=0.080/seed0", "write it as 'dense'"),
    "snapshot beyond T": ("snapshot", f"{DENSE}/seed0/epoch200", "200 must lie below T = 200"),
    "IMP recipe": ("imp", f"{DENSE}/imp/seed0/block1", "unknown imp recipe 'imp'"),
    "IMP rewinding beyond T": (
        "imp", f"{DENSE}+epochs=101/imp-rewind+rewind_epoch=101/seed0/block1", "below T = 101"
    ),
    "matching beyond T": ("match", f"{DENSE}/activations/a0-b1@t200", "200 must lie below T = 200"),
    "matching of other shapes": (
        "match", f"{DENSE}/activations/a0@svhn@dense-b1", "svhn and digits differ"
    ),
    "rewinding beyond T": ("sparse", CELL.replace("k5-", "k200-"), "200 must lie below T = 200"),
    "unknown method": ("sparse", CELL.replace("permuted.", "permtued."), "unknown method 'permtued'"),
    "method without its matching": (
        "sparse", CELL.replace("permuted.activations", "permuted"), "does not fit method 'permuted'"
    ),
    "matching without its method": ("sparse", CELL.replace("permuted.", "naive."), "does not fit"),
    "LTH of a pair": ("sparse", CELL.replace("permuted.activations", "lth"), "does not fit"),
    "naive without a pair": (
        "sparse", CELL.replace("permuted.activations", "naive").replace("-b1", ""), "does not fit"
    ),
    "mask of other shapes": (
        "sparse", CELL.replace("imp-ft", "imp-ft@svhn@dense"), "svhn and digits differ"
    ),
    "plane of what is not permuted": (
        "plane", "line/" + CELL.replace("permuted.activations", "naive"), "a plane needs a permuted run"
    ),
    "connectivity recipe": ("curve", f"{DENSE}/activations/lien/a0-b1", "recipe 'lien'"),
}  # fmt: skip


@pytest.mark.parametrize("name", ASKED)
def test_a_run_that_cannot_be_made_is_refused_in_one_line(name: str) -> None:
    stage, key, words = ASKED[name]
    study = graph({"one": BASE})
    run = parse(stage, key)
    for ask in (study.inputs, study.settings, study.digest, lambda run: study.closure([run])):
        refused(lambda ask=ask: ask(run), words)


@pytest.mark.parametrize("model", ["mlp", "resnet20_ln"])
def test_repair_of_a_network_that_has_no_place_for_it_is_refused(model: str) -> None:
    """When its curves are wanted, by a figure or by path; an experiment without them need not care."""
    one, figure = {"one": BASE | {"model": model}}, {"figure_3": FIGURES["figure_3"]}
    words = ("connectivity: line", "repair", repr(model), "allowed: none, reset")
    refused(lambda: graph(one, figure), "outputs: figure_3", *words)
    study = graph(one)
    match = study.config.experiments["one"].matching((0, 1))
    refused(lambda: study.digest(Curve(match, "line")), *words)
    every = recipes()
    every["connectivity"]["line"]["corrections"] = ["none", "reset"]
    outputs = {"figure_3": FIGURES["figure_3"] | {"corrections": ["none"]}}
    graph({"one": BASE | {"model": model}}, outputs, recipes=every).outputs(["figure_3"])


def test_a_run_that_no_study_declares_can_be_asked_for_by_path() -> None:
    study = graph({"one": BASE})
    run = parse("sparse", CELL.replace("S0.90", "S0.123") + "@t7")
    assert isinstance(run, Sparse)
    assert study.digest(run)
    assert {r.stage for r in study.closure([run])} == {
        "dense",
        "imp",
        "mask",
        "match",
        "snapshot",
        "sparse",
    } - (
        {"imp"}  # 12.3 % is the first prune: cut from the dense weights
    )
    assert study.closure([Solution(run.mask)])[-1] == Solution(run.mask)
