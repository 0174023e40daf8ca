"""Sweeps: series of states, permutations of a whole family, the lines measured under them."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from small import RECIPES, Tiny, same, write_study
from studies import BASE, ROOT, config, recipes, refused

from pipeline import symmetry
from pipeline.artifacts.store import read_csv, read_json, read_tensors
from pipeline.connectivity.barrier import alphas, barrier, curve
from pipeline.report.tables.cells import spread
from pipeline.results import CONNECTIONS, Results
from pipeline.runs import Align, Connect, Curve, Dense, Landscape, Match, Run, Snapshot, parse
from pipeline.runs.dense import epoch_prefix
from pipeline.runs.snapshot import weights_at
from pipeline.runs.sweeps import SWEEPS
from pipeline.runs.sweeps.triples import Triples
from pipeline.stages import job as jobs
from pipeline.stages.job import Job
from pipeline.stages.lines import ground
from pipeline.study.config import read
from pipeline.study.cost import Costs
from pipeline.study.graph import Graph
from pipeline.study.outputs.fixed_points import FixedPoints
from pipeline.study.outputs.sweep_barriers import SweepBarriers
from pipeline.weights import read_state, under

EPOCHS = (1, 2, 3)
SWEEP_RECIPES = (
    RECIPES.replace(
        "dense:\n",
        "dense:\n"
        "  serial: {epochs: 4, lr: 0.1, batch_size: 64, trunk: [0, 2], series: [1, 3]}\n"
        "  every: {epochs: 4, lr: 0.1, batch_size: 64, trunk: [0, 1, 2, 3]}\n"
        "  wild-serial: {epochs: 4, lr: 1e6, batch_size: 64, trunk: [0], series: [1, 2, 3]}\n",
    ).replace(
        "connectivity:\n",
        "connectivity:\n"
        "  all: &all {points: 5, grid: 5, images: 64, batch_size: 64, corrections: [none], at: [all]}\n"
        "  some: {<<: *all, at: [own, end]}\n"
        "  planes: {<<: *all, splits: [test], planes: [ends, permutations, start]}\n",
    )
    + """
sweep:
  along: {over: epochs, epochs: [1, 2, 3]}
  short: {over: epochs, epochs: [2]}
  third: {over: epochs, epochs: [1], final: 3}
  triples: {over: triples}
  spawns: {over: spawns, permutations: along, spawns: [2], noises: [2, 1]}
  layers: {over: layers, epochs: [2], layers: [2], kinds: [bottom-up, put-in]}
  pruned: {over: pruned, epochs: [2], fractions: [0.5]}
  rounds: {over: rounds, imp: tiny, rounds: 2}
"""
)
SWEEP_STUDY = """
experiments:
  pair: &pair
    dataset: few
    model: mlp
    width: 0.0625
    dense: serial
    imp: tiny
    match: tiny
    matches: [tiny, random]
    sparse: tiny
    connectivity: all
    pairs: [[0, 1]]
    sweep: along
  triples: {<<: *pair, sweep: triples, pairs: [[0, 1], [2, 0]]}
outputs: {}
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    torch.set_num_threads(1)
    root = write_study(tmp_path_factory.mktemp("sweeps"), SWEEP_RECIPES, SWEEP_STUDY)
    return Tiny(root, root / "results")


def dense(seed: int, recipe: str = "serial") -> Dense:
    return Dense("few", "mlp", "0.0625", recipe, seed)


def align(
    sweep: str = "along",
    seeds: tuple[int, ...] = (0, 1),
    match: str = "tiny",
    recipe: str = "serial",
) -> Align:
    return Align(tuple(dense(seed, recipe) for seed in seeds), match, sweep)


def permutations(study: Tiny, run: Align) -> dict[str, dict[str, torch.Tensor]]:
    found = read_tensors(study.make(run) / "permutations.safetensors")
    return {point: under(f"{point}/", found) for point in {name.split("/")[0] for name in found}}


def state_of(study: Tiny, run: Dense, epoch: int) -> dict[str, torch.Tensor]:
    file = weights_at(study.graph, run, epoch)
    study.make(file.run)
    found: dict[str, torch.Tensor] = read_state(study.results / file.path, file.prefix)
    return found


# -- series ------------------------------------------------------------------------------------


def test_a_series_has_the_bits_of_trunk_states_and_no_momentum(study: Tiny) -> None:
    serial, every = dense(0), dense(0, "every")
    study.make(serial), study.make(every)
    for epoch in range(5):
        file = weights_at(study.graph, serial, epoch)
        assert not isinstance(file.run, Snapshot)
        assert same(state_of(study, serial, epoch), state_of(study, every, epoch)), epoch
    tensors = read_tensors(study.path(serial, "trunk.safetensors"))
    with_momentum = {name.split("/")[0] for name in tensors if "/momentum/" in name}
    assert with_momentum == {epoch_prefix(2).rstrip("/")}


def test_a_series_is_counted_on_the_disk(study: Tiny) -> None:
    network = 1e6
    assert dense(0).disk(study.graph, network) == network * (1 + 2 * 2 + 2)
    long = Costs(Graph(read(ROOT, {"study": "sharma"})), "cuda")
    serial, end = (
        Dense("cifar10", "vgg16_ln", "4", name, 0) for name in ("sharma-r", "sharma-r-end")
    )
    more = 9 * long.network_bytes(serial)
    assert long.disk(serial) - long.disk(end) == pytest.approx(more)
    assert long.memory_mb(serial) - long.memory_mb(end) == pytest.approx(more / 1e6, abs=1)
    folder = study.make(dense(0))
    size = sum(
        (folder / name).stat().st_size for name in ("weights.safetensors", "trunk.safetensors")
    )
    weights = (folder / "weights.safetensors").stat().st_size
    # the first trunk state has no momentum yet
    assert size == pytest.approx(weights * (1 + 3 + 2), rel=0.1)


# -- permutations ------------------------------------------------------------------------------


def test_the_permutation_of_the_end_is_that_of_the_single_matching(study: Tiny) -> None:
    single = read_tensors(study.make(Match(dense(0), dense(1), "tiny")) / "permutation.safetensors")
    found = permutations(study, align())
    assert found.keys() == {"t0001", "t0002", "t0003", "end"}
    assert same(found["end"], single)
    assert any(not same(found["end"], found[point]) for point in ("t0001", "t0002"))


def test_an_epoch_can_stand_for_the_end(study: Tiny) -> None:
    found, along = permutations(study, align("third")), permutations(study, align())
    assert found.keys() == {"t0001", "end"}
    assert same(found["end"], along["t0003"]) and same(found["t0001"], along["t0001"])
    lines = align("third").lines(study.graph, ("along",))
    assert {line.evaluated_at for line in lines} == {1, 3}


def test_a_point_does_not_depend_on_the_others(study: Tiny) -> None:
    assert same(permutations(study, align("short"))["t0002"], permutations(study, align())["t0002"])


def test_fixed_points_are_counted_against_the_reference(study: Tiny) -> None:
    found = permutations(study, align())
    for row in read_csv(study.folder(align()) / "align.csv"):
        own, end = found[row["point"]][row["group"]], found["end"][row["group"]]
        assert int(row["alike"]) == sum(
            x == y for x, y in zip(own.tolist(), end.tolist(), strict=True)
        )
        assert row["reference"] == "end"
        assert int(row["size"]) == len(own) == 32
        if row["point"] == "end":
            assert row["alike"] == row["size"]


def test_an_indirect_permutation_is_its_steps_one_after_another(study: Tiny) -> None:
    """Also where a step runs against the direction that was matched."""
    run = align("triples", (0, 1, 2))
    found = permutations(study, run)
    assert found.keys() == {"0-1", "0-2", "1-2", "0-1.2", "0-2.1", "1-2.0"}
    spec, a = Job(study.config, run).spec(run), state_of(study, dense(1), 4)
    back = symmetry.inverse(found["0-1"])
    by_hand = symmetry.apply(spec, found["0-2"], symmetry.apply(spec, back, a))
    assert same(symmetry.apply(spec, found["1-2.0"], a), by_hand)


def test_the_paths_of_a_triangle_have_equally_many_fixed_points(study: Tiny) -> None:
    study.make(align("triples", (0, 1, 2)))
    found = read_csv(study.folder(align("triples", (0, 1, 2))) / "align.csv")
    for group in {row["group"] for row in found}:
        alike = [row["alike"] for row in found if row["group"] == group and "." in row["point"]]
        assert len(alike) == 3 and len({*alike}) == 1


def test_triples_are_all_paths_or_some_of_them_whatever_is_drawn() -> None:
    for count in (3, 4, 5):
        every = Triples().paths(range(count))
        assert len({*every}) == len(every) == count * (count - 1) * (count - 2) // 2
        assert all(a < b and c not in (a, b) for a, c, b in every)
        fewer = [Triples(triples=number).paths(range(count)) for number in (1, 2)]
        assert {*fewer[0]} < {*fewer[1]} < {*every} and [len(f) for f in fewer] == [1, 2]


# -- lines -------------------------------------------------------------------------------------


def rows(study: Tiny, run: Connect) -> list[dict[str, str]]:
    found: list[dict[str, str]] = read_csv(study.make(run) / "barriers.csv")
    return found


def test_a_line_has_the_barriers_of_its_curve(study: Tiny) -> None:
    """Of the ends, as they are and matched: to the last bit what the single curve measures."""
    curve = read_json(study.make(Curve(Match(dense(0), dense(1), "tiny"), "all")) / "metrics.json")
    at_end = [row for row in rows(study, Connect(align(), "all")) if row["evaluated_at"] == "4"]
    for each in curve["barriers"]:
        point = "end" if each["matched"] else ""
        (row,) = (r for r in at_end if (r["point"], r["split"]) == (point, each["split"]))
        assert float(row[f"{each['metric']}_barrier"]) == each["barrier"]
        assert float(row[f"{each['metric']}_half"]) == each["at_half"]


def test_the_inverse_permutation_of_b_gives_the_same_barriers(study: Tiny) -> None:
    """B(π(a), b) = B(a, π⁻¹(b)): strong connectivity implies weak (Sharma et al., Section 4)."""
    run = Connect(align(), "all")
    study.make(run)
    job = Job(study.config, run)
    spec, at = job.spec(run.align), ground(job, run.home)
    π = permutations(study, align())["end"]
    b = symmetry.apply(spec, symmetry.inverse(π), state_of(study, dense(1), 4))
    found = curve(at, state_of(study, dense(0), 4), b, alphas=alphas(5), corrections=("none",))
    (row,) = (
        r
        for r in rows(study, run)
        if (r["point"], r["evaluated_at"], r["split"]) == ("end", "4", "test")
    )
    assert barrier(found, "none", "test", "loss") == pytest.approx(
        float(row["loss_barrier"]), abs=1e-5
    )


def test_what_is_measured_in_part_is_a_part_of_what_is_measured_at_all(study: Tiny) -> None:
    def told(run: Connect) -> dict[tuple[str, ...], dict[str, str]]:
        keys = ("arm", "point", "matched_at", "evaluated_at", "split")
        return {tuple(row[key] for key in keys): row for row in rows(study, run)}

    every, some = told(Connect(align(), "all")), told(Connect(align(), "some"))
    assert some.items() < every.items()
    matched = [(int(k[2]), int(k[3])) for k in some if k[0] == "matched" and k[4] == "test"]
    assert sorted(matched) == [(1, 1), (1, 4), (2, 2), (2, 4), (3, 3), (3, 4), (4, 4)]
    matched = [(int(k[2]), int(k[3])) for k in every if k[0] == "matched" and k[4] == "test"]
    assert len(matched) == 16


@pytest.mark.parametrize("at", [("own",), ("end",), ("along",), ("all",), ("own", "along")])
def test_lines_between_the_same_states_follow_each_other(study: Tiny, at: tuple[str, ...]) -> None:
    lines = align().lines(study.graph, at)
    states = [(line.a, line.b) for line in lines]
    changes = sum(left != right for left, right in pairwise(states))
    assert changes == len({*states}) - 1
    assert len({(line.point, line.evaluated_at) for line in lines}) == len(lines)


def test_a_sweep_holds_two_states_however_many_epochs_it_has(
    study: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is constant in the number of epochs."""
    alive: list[weakref.ref[torch.Tensor]] = []
    counts: list[int] = []

    def watched(*given: Any) -> dict[str, torch.Tensor]:
        found: dict[str, torch.Tensor] = read_state(*given)
        alive.append(weakref.ref(next(iter(found.values()))))
        gc.collect()
        counts.append(sum(each() is not None for each in alive))
        return found

    def measured(run: Run) -> tuple[int, int]:
        """Most states in memory at once, and how many were read."""
        study.make(run)
        alive.clear(), counts.clear()
        gc.freeze()  # to collect what comes now is quick
        with monkeypatch.context() as patched:
            patched.setattr(jobs, "read_state", watched)
            study.run(run)
        gc.unfreeze()
        return max(counts), len(counts)

    for kind in (
        align,
        lambda s: Connect(align(s), "all"),
        lambda s: Landscape(align(s), "planes"),
    ):
        (fewer, short), (most, long) = (measured(kind(sweep)) for sweep in ("short", "along"))
        assert most == fewer and long > short
        # beside the two that are kept, those on their way; a landscape has its corners
        assert most <= 4 + 3 * (kind("short").stage == "landscape")


def test_each_state_of_a_sweep_is_read_once(study: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    times: list[tuple[Any, ...]] = []
    monkeypatch.setattr(
        jobs, "read_state", lambda *given: times.append(given) or read_state(*given)
    )
    for run in (align(), Connect(align(), "all")):
        study.make(run)
        times.clear()
        study.run(run)
        assert len(times) == len({*times}) == 2 * 4


def test_a_diverged_network_has_no_barrier_and_spoils_no_job(study: Tiny) -> None:
    run = Connect(align(recipe="wild-serial"), "all")
    found = rows(study, run)
    assert read_json(study.path(run, "metrics.json"))["status"] == "diverged"
    assert {row["error_barrier"] for row in found if row["evaluated_at"] == "4"} == {""}
    assert read_json(study.path(run.align, "metrics.json"))["status"] == "diverged"


# -- planes ------------------------------------------------------------------------------------


def test_the_corners_of_a_landscape_lie_in_their_planes(study: Tiny) -> None:
    run = Landscape(align(), "planes")
    folder = study.make(run)
    paths, grid = read_csv(folder / "paths.csv"), read_csv(folder / "planes.csv")
    assert {row["plane"] for row in paths} == {"ends", "permutations", "start"}
    for plane, corners in {
        "ends": [("b", 4), ("a", 4), ("π(a)", 4)],
        "permutations": [("b", 4), ("π_T(a)", 4), ("π(a)", 4)],
        "start": [("b", 4), ("b", 0), ("π(a)", 4)],
    }.items():
        for point in ("t0001", "t0002", "t0003"):
            own = {
                (row["network"], int(row["epoch"])): row
                for row in paths
                if (row["plane"], row["point"]) == (plane, point)
            }
            if not own:  # the permutation is that of the end already
                assert plane == "permutations"
                continue
            assert {epoch for _, epoch in own} == {0, 1, 2, 3, 4}
            scale = float(own[corners[1]]["x"])
            for corner in corners:
                assert float(own[corner]["distance"]) <= 1e-6 * scale
            x, y = (
                {float(row[key]) for row in grid if (row["plane"], row["point"]) == (plane, point)}
                for key in "xy"
            )
            assert len(x) == len(y) == 5
            for row in own.values():
                assert min(x) <= float(row["x"]) <= max(x) and min(y) <= float(row["y"]) <= max(y)


# -- identity ----------------------------------------------------------------------------------


def test_a_change_of_the_grid_runs_the_lines_again_and_no_matching(
    study: Tiny, tmp_path: Path
) -> None:
    def digests(recipes: str, name: str) -> dict[str, str]:
        root = write_study(tmp_path / name, recipes, SWEEP_STUDY)
        other = Tiny(root, root / "results")
        found = (align(), Connect(align(), "all"), align("short"))
        return {run.folder: other.graph.digest(run) for run in found}

    before = digests(SWEEP_RECIPES, "before")
    finer = digests(SWEEP_RECIPES.replace("points: 5", "points: 7"), "finer")
    assert [path for path in before if before[path] != finer[path]] == [
        Connect(align(), "all").folder
    ]
    longer = digests(SWEEP_RECIPES.replace("epochs: [2]", "epochs: [2, 3]"), "longer")
    assert [path for path in before if before[path] != longer[path]] == [align("short").folder]


def test_a_sweep_costs_as_many_matchings_as_it_has_points(study: Tiny) -> None:
    single = Match(dense(0), dense(1), "tiny").passes(study.graph)
    assert align().passes(study.graph) == pytest.approx(4 * single)
    assert align("triples", (0, 1, 2)).passes(study.graph) == pytest.approx(3 * single)
    lines = len(align().lines(study.graph, ("all",)))
    assert lines == 4 * (1 + 4)
    assert Connect(align(), "all").points(study.graph) == lines * 5


# -- mistakes ----------------------------------------------------------------------------------

SWEPT: dict[str, Any] = BASE | {"sparsities": [], "rewind_epochs": [], "sweep": "sharma-eight",
                                "dense": "sharma-t", "model": "vgg16_ln"}  # fmt: skip
MISTAKES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "an epoch that no series keeps": (
        {"dense": "sharma-r-end"},
        ["sweep sharma-eight: epoch 1 is kept by neither trunk nor series", "kept: 0, 160"],
    ),
    "a triple of two seeds": (
        {"sweep": "sharma-triples", "pairs": [[0, 1]]}, ["needs three seeds or more, got 2"],
    ),
    "more triples than there are": (
        {"sweep": "sharma-triples", "pairs": [[0, 1], [0, 2]]}, ["triples: 3 seeds have no more than 3"],
    ),
    "an unknown sweep": ({"sweep": "sharma-eigth"}, ["unknown sweep recipe", "did you mean 'sharma-eight'?"]),
    "an unknown matching": ({"matches": ["weight"]}, ["matches: unknown match recipe 'weight'"]),
    "a matching twice": (
        {"matches": ["weights", {"recipe": "weights", "starts": 2}]}, ["'weights' stands twice"],
    ),
    "matchings without a sweep": ({"sweep": None, "matches": ["random"]}, ["matches go with a sweep"]),
    "a sweep of no pairs": ({"pairs": []}, ["pairs: a sweep needs at least one pair"]),
    "a from elsewhere": ({"mask_from": {"dataset": "svhn"}}, ["sweep goes with no mask_from"]),
}  # fmt: skip


def test_a_figure_names_matchings_as_the_study_does_whatever_the_protocol_makes_of_them() -> None:
    found = recipes()
    found["protocols"]["other"] = {
        "recipes": {"weights": "weights-best"},
        "match": {"epsilon": 0.5},
    }
    study = SWEPT | {"matches": ["weights", "sharma-activations"], "connectivity": "sharma-all"}
    output = {"figure_one": {"kind": "barrier", "experiments": ["one"], "matches": ["weights"]}}
    one = config({"one": study}, output, "other", recipes=found)
    (run, *_) = one.outputs["figure_one"].runs(one.experiments["one"])
    assert run.align.recipe == "weights-best"
    assert [*one.experiments["one"].matchers.values()] == [
        "weights-best", "sharma-activations+epsilon=0.5",
    ]  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_in_a_sweep_is_one_line_before_anything_runs(name: str) -> None:
    wrong, words = MISTAKES[name]
    refused(lambda: config({"one": SWEPT | wrong}), "experiments: one", *words)


DRAWN: dict[str, tuple[dict[str, Any], list[str]]] = {
    "a width that no study of widths declares": (
        {"widths": [1, 48]}, ["widths: 48 is the width of none of its experiments; allowed: 1"],
    ),
    "a matching that is not declared": ({"matches": ["random"]}, ["unknown matching recipe 'random'"]),
    "a line that is not measured": (
        {"lines": ["fixed"]}, ["measures it: unknown line 'fixed'", "allowed: end, none, own"],
    ),
    "a line of triples": ({"lines": ["indirect"]}, ["unknown line 'indirect'"]),
    "a correction that is not measured": ({"correction": "reset"}, ["unknown correction 'reset'"]),
    "nothing": ({"lines": []}, ["lines, metrics and splits must name at least one each"]),
}  # fmt: skip


@pytest.mark.parametrize("name", DRAWN)
def test_a_mistake_in_a_figure_of_sweeps_is_one_line(name: str) -> None:
    wrong, words = DRAWN[name]
    entry = {"kind": "barrier", "experiments": ["one"]} | wrong
    output = {"figure_one": {"lines": ["none"]} | entry}
    swept = SWEPT | {"connectivity": "sharma-own"}
    study = {"experiments": {"one": swept}, "outputs": output}
    refused(lambda: config(study=study, recipes=own_recipes()), *words)


def own_recipes() -> dict[str, Any]:
    found = recipes()
    found["connectivity"]["sharma-own"] = {"corrections": ["none"], "at": ["own", "end"]}
    return found


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({"over": "epoch"}, ["over: unknown sweep 'epoch'", "did you mean 'epochs'?"]),
        ({"epochs": [1]}, ["over: unknown sweep None", "allowed: epochs, layers, pruned, "]),
        ({"over": "epochs", "triples": 3}, ["unknown key 'triples'"]),
        ({"over": "epochs", "epochs": [1, 1]}, ["every value may stand once"]),
        ({"over": "triples", "triples": 0}, ["triples: 0 is not allowed"]),
    ],
)  # fmt: skip
def test_a_mistake_in_a_sweep_recipe_is_one_line(raw: dict[str, Any], words: list[str]) -> None:
    found = own_recipes()
    found["sweep"]["mine"] = raw
    refused(lambda: config(recipes=found), "sweep: mine", *words)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"series": [2]}, "series: 2 is a trunk epoch"),
        ({"series": [4]}, "series: epochs must lie below epochs = 4"),
        ({"series": [0]}, "series[0]: 0 is not allowed"),
    ],
)
def test_a_mistake_in_a_series_is_one_line(changes: dict[str, Any], words: str) -> None:
    found = own_recipes()
    found["dense"]["mine"] = {"epochs": 4, "trunk": [0, 2], **changes}
    refused(lambda: config(recipes=found), "dense: mine", words)


@pytest.mark.parametrize(
    ("stage", "end", "words"),
    [
        ("align", "along/a0-b0", "every seed once"),
        ("align", "along/seeds0-1-2", "is of a pair"),
        ("align", "triples/a0-b1", "needs three seeds or more"),
        ("align", "triples/seeds2-1-0", "ascending"),
        ("landscape", "triples/planes/seeds0-1-2", "needs a sweep over epochs"),
        ("connect", "along/nothing/a0-b1", "unknown connectivity recipe"),
    ],
)
def test_a_path_of_no_sweep_is_refused_in_one_line(
    study: Tiny, stage: str, end: str, words: str
) -> None:
    refused(lambda: study.graph.inputs(parse(stage, f"few/mlp-w0.0625/serial/tiny/{end}")), words)


# -- studies -----------------------------------------------------------------------------------


def test_a_study_is_laid_over_another(tmp_path: Path) -> None:
    root = write_study(tmp_path, SWEEP_RECIPES, SWEEP_STUDY)
    folder = root / "config" / "studies"
    (folder / "over.yaml").write_text(
        "extends: tiny\ntitle: Over\nexperiments:\n  pair: {sweep: short}\n  triples: null\n"
        "  new: {extends: pair, width: 0.125}\n"
    )
    (folder / "again.yaml").write_text("extends: over\n")
    found = read(root, {"study": "again"})
    assert found.title == "Over" and [*found.experiments] == ["pair", "new"]
    pair, new = found.experiments.values()
    assert (pair.sweep, [*pair.matchers], pair.width) == ("short", ["tiny", "random"], 0.0625)
    assert (new.sweep, new.width) == ("short", 0.125)
    (folder / "over.yaml").write_text("extends: again\n")
    refused(lambda: read(root, {"study": "again"}), "over.yaml: extends", "leads back")
    (folder / "over.yaml").write_text("extends: tyni\n")
    refused(
        lambda: read(root, {"study": "again"}), "unknown study 'tyni'", "allowed: again, over, tiny"
    )


# -- frames ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def results(study: Tiny) -> Iterator[Results]:
    for run in (Connect(align(match=match), "all") for match in ("tiny", "random")):
        study.make(run)
    yield Results(study.config)


def test_the_frame_has_a_row_for_each_line_correction_and_split(
    study: Tiny, results: Results
) -> None:
    output = SweepBarriers(experiments=("pair",))
    frame = results.connections(output)
    assert [*frame.columns] == CONNECTIONS
    assert len(frame) == 2 * 20 * 2
    assert {*frame["matcher"]} == {"activations", "random"}
    assert {*frame["status"]} == {"ok"}
    means = spread(
        frame.assign(value=frame["error_barrier"]), ["arm", "matched_at", "evaluated_at"]
    )
    assert (means["n"] == 4).all() or means["n"].isin((2, 4)).all()
    missing = results.connections(SweepBarriers(experiments=("triples",)))
    assert [*missing["status"]] == ["missing"] * 2 and missing["arm"].isna().all()


def test_every_kind_of_sweep_names_its_roles_and_compares_its_points(study: Tiny) -> None:
    pairs = ("epochs", "layers", "pruned", "rounds", "spawns")
    seeds = dict.fromkeys(pairs, (0, 1)) | {"triples": (0, 1, 2)}
    assert SWEEPS.keys() == seeds.keys()
    for over, members in seeds.items():
        run = align({"epochs": "along"}.get(over, over), members)
        finding = run.permutations(study.graph)
        sweep = finding.over(study.graph)
        points = [each.point for each in finding.matchings(study.graph)]
        points += [each.point for each in sweep.compositions(run.members)]
        assert len({*points}) == len(points)
        assert {sweep.reference(point) for point in points} <= {*points, None}
        measured = {line.point for line in run.lines(study.graph, ("all",))}
        assert measured == ({*points, None} if finding == run else {"end", None})
        assert {"none"} < {*run.over(study.graph).roles(("all",))}


def test_seeds_of_a_caption_are_those_of_the_sweep(study: Tiny) -> None:
    experiment = study.config.experiments["triples"]
    assert FixedPoints(experiments=("triples",)).pairs(experiment) == tuple(
        combinations(range(3), 2)
    )
