"""The runs behind every table and figure of the paper and the thesis, counted independently."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import UserError
from pipeline.report import published
from pipeline.runs import Run
from pipeline.study.config import Config, read
from pipeline.study.cost import ASSUMED, Costs
from pipeline.study.graph import Graph
from pipeline.study.jobs import Jobs

ROOT = Path(__file__).parents[1]
SEEDS = 3
METHODS = 3
#: Tables of the paper: sparsities and rewind epochs as printed.
GRIDS = {
    **{f"table_{n}": ((80, 90, 95, 97), (0, 5, 10, 15, 20, 25, 50, 75, 100)) for n in (5, 6)},
    **{f"table_{n}": ((80, 90, 95, 97), (0, 10, 25, 50, 100)) for n in (7, 8, 11, 12, 13, 14)},
    "table_9": ((80, 90), (0, 5, 10, 15, 20, 25, 50)),
}
#: Rounds trained for a mask: prunes to S, less one; 97 % needs 15, 90 % needs 10.
ROUNDS = {97: 15, 90: 10}


def runs_of(graph: Graph, *names: str) -> list[Run]:
    return graph.closure(graph.outputs(names))


def epochs(graph: Graph, runs: list[Run]) -> int:
    costs = Costs(graph, "cpu")
    return sum(run.trained_epochs(costs.graph) for run in runs)


def stages(runs: list[Run]) -> Counter[str]:
    return Counter(run.stage for run in runs)


@pytest.mark.parametrize("name", GRIDS)
def test_a_grid_has_the_runs_and_epochs_of_the_printed_table(paper: Graph, name: str) -> None:
    sparsities, rewinds = GRIDS[name]
    rounds = ROUNDS[max(sparsities)]
    found = runs_of(paper, name)
    count = stages(found)
    assert count["dense"] == 2 * SEEDS
    assert count["match"] == SEEDS
    assert count["imp"] == SEEDS * rounds // 5  # blocks of five rounds
    assert count["mask"] == SEEDS * len(sparsities)
    assert count["sparse"] == SEEDS * METHODS * len(sparsities) * len(rewinds)
    assert set(count) == {"dense", "match", "imp", "mask", "sparse"}
    sparse = SEEDS * METHODS * len(sparsities) * sum(200 - k for k in rewinds)
    assert epochs(paper, found) == 2 * SEEDS * 200 + SEEDS * rounds * 50 + sparse


def test_table_5_is_the_graph_of_the_paper(paper: Graph) -> None:
    found = runs_of(paper, "table_5")
    assert epochs(paper, found) == 57_450
    assert stages(found) == {"dense": 6, "imp": 9, "match": 3, "mask": 12, "sparse": 324}


@pytest.mark.parametrize("name", [*GRIDS, "table_15", "table_10"])
def test_every_published_cell_is_declared_and_no_other(paper: Graph, name: str) -> None:
    label = name.removeprefix("table_")
    cells = published.table(label)
    config = paper.config
    output = config.outputs[name]
    declared = set()
    for experiment in output.chosen(config.experiments):
        for cell in experiment.cells():
            declared.add((cell.method, cell.sparsity, cell.rewind_epoch, cell.matching_epoch))
    printed = {
        (row.method, float(row.sparsity), int(row.rewind_epoch),
         None if row.matching_epoch != row.matching_epoch else int(row.matching_epoch))
        for row in cells.itertuples()
    }  # fmt: skip
    if name == "table_15":  # matching at the end of b is the cell without a matching epoch
        declared = {(m, s, k, None if t == 200 else t) for m, s, k, t in declared}
        printed = {(m, s, k, None if t == 200 else t) for m, s, k, t in printed}
    assert declared == printed
    networks = {(row.dataset, row.model, float(row.width)) for row in cells.itertuples()}
    chosen = output.chosen(config.experiments)
    assert networks == {(e.dataset, e.model, float(e.width)) for e in chosen}


def test_early_matching_adds_only_the_permuted_runs_before_the_end(paper: Graph) -> None:
    five, both = runs_of(paper, "table_5"), runs_of(paper, "table_5", "table_15")
    new = [run for run in both if run not in set(five)]
    assert stages(new) == {"match": 4 * SEEDS, "sparse": 4 * SEEDS * 4}
    assert epochs(paper, new) == 8_640


def test_table_1_has_five_runs_a_row(paper: Graph) -> None:
    output = paper.config.outputs["table_1"]
    for experiment in output.chosen(paper.config.experiments):
        members = output.members(experiment)
        assert list(members) == ["dense", "imp", "lth", "naive", "permuted"]
        assert all(len(runs) == 5 for runs in members.values())
        # one mask and start, five data orders
        assert {run.replicate for run in members["lth"]} == {0, 1, 2, 3, 4}
        assert len({(run.init, run.mask) for run in members["lth"]}) == 1
        # one mask, five permutations, five starts
        assert len({run.mask for run in members["permuted"]}) == 1
        assert len({run.match for run in members["permuted"]}) == 5
        assert len({run.init for run in members["permuted"]}) == 5
        # five masks of five seeds
        assert len({run.mask.dense.seed for run in members["imp"]}) == 5
    assert epochs(paper, runs_of(paper, "table_1")) <= 14_900


def test_the_cifar_tables_share_what_they_can(paper: Graph) -> None:
    names = [f"table_{n}" for n in (1, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15)]
    assert epochs(paper, runs_of(paper, *names)) <= 355_000
    alone = sum(epochs(paper, runs_of(paper, name)) for name in names)
    assert alone > epochs(paper, runs_of(paper, *names))
    regular = [n for n, o in paper.config.outputs.items() if o.what == "table" and not o.optional]
    assert epochs(paper, runs_of(paper, *regular)) == epochs(paper, runs_of(paper, *names))


@pytest.mark.parametrize(
    ("name", "same_as"),
    [("figure_5", (5, 6, 7, 8)), ("figure_6", (11, 12, 13, 14)), ("figure_8", (9,))],
)
def test_a_figure_against_rewind_shows_the_runs_of_its_tables(
    paper: Graph, name: str, same_as: tuple[int, ...]
) -> None:
    tables = [f"table_{n}" for n in same_as]
    assert set(runs_of(paper, name)) == set(runs_of(paper, *tables))


@pytest.mark.parametrize(
    ("name", "same_as"), [("figure_9", (5, 6, 7, 8)), ("figure_10", (11, 12, 13, 14))]
)
def test_a_figure_against_sparsity_has_four_panels_a_width(
    paper: Graph, name: str, same_as: tuple[int, ...]
) -> None:
    found = stages(runs_of(paper, name))
    assert found["sparse"] == len(same_as) * SEEDS * METHODS * 4 * 4
    assert set(runs_of(paper, name)) <= set(runs_of(paper, *(f"table_{n}" for n in same_as)))


def test_the_connectivity_figures(paper: Graph) -> None:
    three = stages(runs_of(paper, "figure_3"))
    assert three == {"dense": 8 * 2 * SEEDS, "match": 8 * SEEDS, "curve": 8 * SEEDS}
    barriers = runs_of(paper, "figure_4a")
    # eleven rounds to 90 %, each rewound to epoch 10 and trained to T = 200; the last prune is
    # capped, so that the eleventh round is the solution of the mask
    chain = dict.fromkeys(("dense", "mask", "solution", "imp-barrier"), SEEDS)
    assert stages(barriers) == chain | {"imp": SEEDS * 10}
    assert {run.target for run in barriers if run.stage == "imp-barrier"} == {"S0.90"}
    assert epochs(paper, barriers) == SEEDS * (200 + 11 * 190)
    plane = stages(runs_of(paper, "figure_4b"))
    assert plane == {"dense": 2, "imp": 2, "mask": 1, "match": 1, "sparse": 2, "plane": 1}


@pytest.mark.parametrize("name", ["table_2", "table_3", "table_4"])
def test_hyperparameters_need_no_run(paper: Graph, name: str) -> None:
    assert runs_of(paper, name) == []


def test_imagenet_is_declared_and_planned(paper: Graph) -> None:
    found = runs_of(paper, "table_10")
    assert stages(found)["sparse"] == 3 * 3 * 3
    sparse = 3 * 3 * ((80 - 10) + (80 - 25) + (80 - 50))
    # two dense runs; 95 % needs the weights after 13 rounds
    assert epochs(paper, found) == 2 * 80 + 13 * 20 + sparse


def test_the_authors_schedule_of_imagenet_is_a_protocol() -> None:
    """Other recipes in the place of those of the text, which its switches leave alone."""
    graph = Graph(read(ROOT, {"study": "paper", "protocol": "authors-code"}))
    experiment = graph.config.experiments["resnet50-imagenet"]
    by_stage = {run.stage: run for run in graph.closure(runs_of(graph, "table_10"))}
    dense, imp, sparse = (graph.recipe(by_stage[stage]) for stage in ("dense", "imp", "sparse"))
    assert (dense.lr, dense.schedule, dense.warmup_epochs, dense.epochs) == (0.04, "steps", 5, 80)
    assert (imp.lr, imp.schedule, imp.momentum, imp.weight_decay) == (0.002, "constant", 0.9, 1e-4)
    assert imp.prunable == "no-shortcut" and sparse.milestones == dense.milestones == (30, 61)
    targets = [experiment.mask(0, sparsity).target for sparsity in (0.8, 0.9, 0.95)]
    assert targets == ["P8", "P11", "S0.95"]
    # every snapshot is a trunk state: nothing is trained again
    assert "snapshot" not in by_stage


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"recipes": {"dense-imagenet": "sparse-imagenet"}}, "unknown dense recipe"),
        ({"recipes": {"nothing": "sparse"}}, "unknown recipe 'nothing'"),
        ({"sparsity_prunes": {"resnet50": {"x": 3}}}, "'x' is no sparsity"),
        ({"sparsity_prunes": {"resnet5": {"0.8": 3}}}, "did you mean 'resnet50'"),
        ({"sparsity_prunes": {"resnet50": {"0.8": 0}}}, "0 is not allowed"),
    ],
)
def test_a_protocol_that_names_nothing_is_refused(changes: dict[str, Any], words: str) -> None:
    raw = read(ROOT, {"study": "paper"}).raw
    protocols = {**raw["recipes"]["protocols"], "paper": changes}
    with pytest.raises(UserError, match=words):
        Config({**raw, "recipes": {**raw["recipes"], "protocols": protocols}})


def test_a_shared_training_asks_for_its_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.study.jobs.device", lambda: "cuda")
    one = Jobs(Graph(read(ROOT, {"study": "paper"})))
    many = Jobs(Graph(read(ROOT, {"study": "paper", "processes": 8, "nodes": 2})))
    for name, shared in (("table_10", True), ("table_5", False)):
        for run in one.graph.closure(one.graph.outputs([name])):
            trains, alone = shared and run.stage in ("dense", "imp", "sparse"), run.stage != "mask"
            assert many.gpus(run) == (8 if trains else alone) and one.gpus(run) == alone
            assert many.nodes(run) == (2 if trains else None) and one.nodes(run) is None
            assert many.threads(run) == one.threads(run) * (4 if trains else 1)
            assert many.costs.memory_mb(run) >= one.costs.memory_mb(run) * (3.9 if trains else 1)
            long, short = one.costs.wall(run), many.costs.wall(run)
            assert long == pytest.approx(8 * short, rel=0.05) if trains else long == short
            assert one.costs.seconds(run) == many.costs.seconds(run)  # of all devices together


@pytest.mark.parametrize("name", ["figure_7", "figure_11"])
def test_the_imagenet_figures_show_the_runs_of_table_10(paper: Graph, name: str) -> None:
    assert set(runs_of(paper, name)) == set(runs_of(paper, "table_10"))
    metric = "top5" if name == "figure_7" else "top1"  # paper, captions of both figures
    assert paper.config.outputs[name].metrics == (metric,)


def test_figure_3c_is_the_line_of_imagenet(paper: Graph) -> None:
    found = runs_of(paper, "figure_3c")
    assert stages(found) == {"dense": 2, "match": 1, "curve": 1}
    both = runs_of(paper, "figure_3c_widths")
    assert set(found) < set(both) and stages(both) == {"dense": 4, "match": 2, "curve": 2}
    recipes = {paper.recipe(run).images for run in both if run.stage in ("match", "curve")}
    assert recipes == {12_800}  # a stated subset


def test_the_cost_of_imagenet_is_planned(paper: Graph) -> None:
    """From the size of network and data; photographs are bound by their decoding as well."""
    costs = Costs(paper, "cuda")
    found = {run.stage: run for run in runs_of(paper, "table_10", "figure_3c")}
    epoch = costs.rate(found["dense"]).seconds
    assert epoch >= 1_281_167 / ASSUMED["cuda"].decoded
    assert costs.seconds(found["dense"]) > 80 * epoch
    # a pass over 12,800 images with two networks, of 1,281,167
    assert 0 < found["match"].passes(costs.graph) < 0.01
    assert found["curve"].passes(costs.graph) < 25 * 2 * 3 * 0.05
    for stage in ("dense", "match", "curve"):  # never the whole of ImageNet in memory
        assert 4_000 < costs.memory_mb(found[stage]) < 64_000


def test_mask_reuse_shares_the_masks_of_table_5(paper: Graph, thesis: Graph) -> None:
    found = runs_of(thesis, "table_4_2")
    count = stages(found)
    assert count["sparse"] == SEEDS * METHODS * 3 * 2
    svhn = [run for run in found if run.stage == "dense" and run.dataset == "svhn"]
    assert len(svhn) == 2 * SEEDS  # a's start trained on SVHN for LTH, and b
    masks = {run.key for run in found if run.stage == "mask"}
    assert masks <= {run.key for run in runs_of(paper, "table_5") if run.stage == "mask"}
    for run in found:
        if run.stage == "sparse":
            assert run.init.dataset == "svhn" and run.mask.dense.dataset == "cifar10"
            assert run.epochs == 50 - run.rewind
            assert run.home.dataset == "svhn"
            assert run.match is None or run.match.home.dataset == "svhn"


def test_barriers_of_both_kinds_of_imp_stand_side_by_side(thesis: Graph) -> None:
    found = stages(runs_of(thesis, "figure_4_5"))
    both = dict.fromkeys(("mask", "solution", "imp-barrier"), 2 * SEEDS)
    assert found == both | {"dense": SEEDS, "imp": SEEDS * 10 + SEEDS * 2}


def test_tiny_has_every_kind_of_output() -> None:
    from pipeline.study.outputs import KINDS

    studies = (read(ROOT, {"study": name}) for name in ("tiny", "sharma-tiny"))
    assert {one.kind for study in studies for one in study.outputs.values()} == set(KINDS)


def test_protocols_share_what_they_do_not_differ_in() -> None:
    graphs = {
        p: Graph(read(ROOT, {"study": "paper", "protocol": p})) for p in ("paper", "authors-code")
    }
    found = {p: {r.key for r in runs_of(g, "table_5")} for p, g in graphs.items()}
    shared = found["paper"] & found["authors-code"]
    assert len(shared) == 6  # the dense runs
    authors = runs_of(graphs["authors-code"], "table_5")
    config: Config = graphs["authors-code"].config
    assert config.scope == "paper/authors-code"
    # k epochs are k + 1 of training; 95 % stops after 13 full prunes
    assert {run.epoch for run in authors if run.stage == "snapshot"} >= {1, 6, 101}
    targets = {run.target for run in authors if run.stage == "mask"}
    assert targets == {"S0.80", "S0.90", "P13", "S0.97"}
    experiment = config.experiments["resnet20-w1-cifar10"]
    shares = [round(experiment.pruned(s), 4) for s in experiment.sparsities]
    assert shares == [0.8, 0.9, 0.945, 0.97]
    assert all(run.epochs + run.rewind == 201 for run in authors if run.stage == "sparse")
