"""Laws of weight matching: planted permutations, all permutations, ascents, bounds, the matcher."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.datasets import load_digits
from small import RECIPES, STUDY, Tiny, fit, same, seeded, spec_of, write_study
from torch import Tensor, nn

from pipeline import symmetry
from pipeline.artifacts.store import read_json, read_tensors
from pipeline.errors import UserError
from pipeline.models import build, traced
from pipeline.study.settings import MatchSettings
from pipeline.symmetry.matchers import Pair, find
from pipeline.symmetry.matching import Match, collect, match
from pipeline.symmetry.permutation import Group, Permutation, PermutationSpec
from pipeline.symmetry.trace import permutation_spec
from pipeline.symmetry.weight_matching import Ascent, Problem, best
from pipeline.weights import dense_state, read_mask

#: Built-in networks, at widths at which a law is quickly tried.
WIDTHS = {
    "mlp": 0.125, "vgg8_ln": 0.25, "vgg16_ln": 0.125, "resnet20_ln": 0.5, "resnet20_ln3": 0.25,
    "resnet20": 0.5, "vgg11": 0.25,
}  # fmt: skip
State = dict[str, Tensor]


def network(name: str, seed: int, size: int = 8) -> tuple[nn.Module, PermutationSpec]:
    model = build(
        name, width=WIDTHS[name], classes=10, channels=1, size=size, generator=seeded(seed)
    )
    return model, spec_of(name, model)


def parameters(model: nn.Module) -> list[str]:
    return [name for name, _ in model.named_parameters()]


def problem(spec: PermutationSpec, a: State, b: State, names: list[str] | None = None) -> Problem:
    return Problem(spec, a, b, names or list(a))


def climbed(
    made: Problem, seed: int = 0, start: Permutation | None = None, **options: Any
) -> Ascent:
    return made.climb(start or symmetry.identity(made.spec), seeded(seed), **options)


# --- small networks of matrices alone --------------------------------------------------------


def chain(sizes: list[int], seed: int) -> tuple[PermutationSpec, State]:
    """Linear layers with biases; the units of all but the first and the last may move."""
    spec = PermutationSpec(
        tuple(Group(f"h{i}", size, "") for i, size in enumerate(sizes[1:-1], 1)),
        {
            name: axes
            for i in range(1, len(sizes))
            for out, back in [(f"h{i}" if i < len(sizes) - 1 else None, f"h{i - 1}" if i > 1 else None)]
            for name, axes in ((f"{i}.weight", (out, back)), (f"{i}.bias", (out,)))
        },
    )  # fmt: skip
    draws = seeded(seed)
    state = {}
    for i, (inputs, outputs) in enumerate(itertools.pairwise(sizes), 1):
        state[f"{i}.weight"] = torch.randn(outputs, inputs, generator=draws)
        state[f"{i}.bias"] = torch.randn(outputs, generator=draws)
    return spec, state


def every(spec: PermutationSpec) -> Iterator[Permutation]:
    """All permutations of all groups."""
    parts = [itertools.permutations(range(group.size)) for group in spec.groups]
    for orders in itertools.product(*parts):
        yield {g.name: torch.tensor(o) for g, o in zip(spec.groups, orders, strict=True)}


def product(spec: PermutationSpec, p: Permutation, a: State, b: State) -> float:
    """F by its definition."""
    moved = symmetry.apply(spec, p, a)
    return sum(float((moved[n].double() * b[n].double()).sum()) for n in a if any(spec.axes[n]))


def test_the_best_of_20_starts_is_the_best_of_all_permutations() -> None:
    """Hidden layers of 3 and 4 units: 3! 4! = 144 permutations."""
    optima = 0
    for seed in range(8):
        (spec, a), (_, b) = chain([5, 3, 4, 2], seed), chain([5, 3, 4, 2], seed + 50)
        values = [product(spec, p, a, b) for p in every(spec)]
        assert len(values) == 144
        made, draws = problem(spec, a, b), seeded(9)
        ascents = [climbed(made, n, symmetry.random(spec, draws)) for n in range(20)]
        chosen = ascents[best(ascents)].permutation
        assert product(spec, chosen, a, b) == pytest.approx(max(values), rel=1e-12)
        assert sum(made.bounds.values()) >= max(values)
        optima = max(optima, len({round(each.objectives[-1], 6) for each in ascents}))
    assert optima > 1  # one start would not always do


def test_one_hidden_layer_is_one_assignment_and_one_sweep() -> None:
    (spec, a), (_, b) = chain([6, 8, 3], 1), chain([6, 8, 3], 2)
    found = climbed(problem(spec, a, b))
    scores = (
        b["1.weight"].double() @ a["1.weight"].double().T
        + b["2.weight"].double().T @ a["2.weight"].double()
        + torch.outer(b["1.bias"].double(), a["1.bias"].double())
    )
    assert len(found.moved) == 1
    expected = linear_sum_assignment(scores.numpy(), maximize=True)[1]
    assert found.permutation["h1"].tolist() == expected.tolist()


def test_a_layer_from_a_stream_to_itself_is_climbed_too() -> None:
    """Its group is on both axes, so that no assignment is exact: what would fall is not taken."""
    spec = PermutationSpec(
        (Group("s", 12, ""),), {"in": ("s", None), "loop": ("s", "s"), "out": (None, "s")}
    )
    recovered = 0
    for seed in range(20):
        draws = seeded(seed)
        a = {
            n: torch.randn(s, generator=draws)
            for n, s in (("in", (12, 3)), ("loop", (12, 12)), ("out", (3, 12)))
        }
        planted = symmetry.random(spec, draws)
        made = problem(spec, a, symmetry.apply(spec, planted, a))
        found = climbed(made, start=symmetry.random(spec, draws))
        rising(found)
        assert found.objectives[-1] == pytest.approx(made.objective(found.permutation), rel=1e-12)
        recovered += same(found.permutation, planted)
        assert sum(made.bounds.values()) >= found.objectives[-1] * (1 - 1e-12)
    assert recovered >= 10  # of 20; one at random of 12! would be found never


# --- ascents ---------------------------------------------------------------------------------


def rising(ascent: Ascent) -> None:
    """The objective never falls, and rises while a group moves."""
    assert len(ascent.objectives) == len(ascent.moved) + 1
    for (before, after), moved in zip(
        itertools.pairwise(ascent.objectives), ascent.moved, strict=True
    ):
        assert after > before if moved else after == before


@pytest.mark.parametrize("order", ["random", "forward"])
@pytest.mark.parametrize("name", WIDTHS)
def test_an_ascent_never_falls_and_ends_where_no_group_gains(name: str, order: str) -> None:
    """Its end is told exactly: by the distance, as a start of its own, and below the bound."""
    (model, spec), (other, _) = network(name, 1), network(name, 2)
    a, b = model.state_dict(), other.state_dict()
    made = problem(spec, a, b, parameters(model))
    found = climbed(made, order=order)
    rising(found)
    assert found.objectives[-1] > found.objectives[0]
    again = climbed(made, 5, found.permutation, order=order)
    assert again.moved == (0,) and same(again.permutation, found.permutation)
    moved = symmetry.apply(spec, found.permutation, a)
    names = [n for n in parameters(model) if any(spec.axes[n])]
    squares = [sum(float(x[n].double().square().sum()) for n in names) for x in (a, b)]
    apart = sum(float((moved[n].double() - b[n].double()).square().sum()) for n in names)
    assert found.objectives[-1] == pytest.approx((sum(squares) - apart) / 2, rel=1e-9)
    assert found.objectives[-1] <= sum(made.bounds.values())
    quality = made.quality(found.permutation)
    for group in spec.groups:
        known = quality[group.name]
        assert known.objective == pytest.approx(known.matched * group.size, rel=1e-9)
        assert known.objective <= known.bound and known.matched > known.random
        own = [n for n in names if group.name in spec.axes[n]]
        apart = sum(float((moved[n].double() - b[n].double()).square().sum()) for n in own)
        assert known.distance == pytest.approx(apart**0.5, rel=1e-9)
        assert known.fixed_points == int(
            (found.permutation[group.name] == torch.arange(group.size)).sum()
        )


def test_sweeps_may_be_limited() -> None:
    (model, spec), (other, _) = network("vgg8_ln", 1), network("vgg8_ln", 2)
    made = problem(spec, model.state_dict(), other.state_dict(), parameters(model))
    whole, two = climbed(made), climbed(made, sweeps=2)
    assert len(whole.moved) > 2 and two.objectives == whole.objectives[:3]


def test_scale_and_statistics_change_nothing() -> None:
    """Weights of b three times as large, and BatchNorm's buffers, which are no parameters."""
    (model, spec), (other, _) = network("resnet20", 1), network("resnet20", 2)
    a, b = model.state_dict(), other.state_dict()
    names = parameters(model)
    found = climbed(problem(spec, a, b, names)).permutation
    assert same(
        climbed(problem(spec, a, {n: 3 * t for n, t in b.items()}, names)).permutation, found
    )
    draws = seeded(3)
    for state in (a, b):
        for name in state:
            if "running" in name:
                state[name] = 100 * torch.rand(state[name].shape, generator=draws)
    assert same(climbed(problem(spec, a, b, names)).permutation, found)
    assert not same(climbed(problem(spec, a, b)).permutation, found)  # as they would


# --- planted permutations --------------------------------------------------------------------


def planted(model: nn.Module, spec: PermutationSpec, seed: int) -> bool:
    """Whether a permutation is found again: exactly, with the objective at its bound."""
    a, there = model.state_dict(), symmetry.random(spec, seeded(100 + seed))
    made = problem(spec, a, symmetry.apply(spec, there, a), parameters(model))
    found = climbed(made, seed)
    exact = same(found.permutation, there)
    reached = found.objectives[-1] / sum(made.bounds.values())
    assert not exact or reached == pytest.approx(1, rel=1e-9)
    return exact


@pytest.mark.parametrize("name", WIDTHS)
def test_a_planted_permutation_of_drawn_weights_is_recovered_10_of_10_times(name: str) -> None:
    assert [planted(*network(name, seed), seed) for seed in range(10)] == [True] * 10


def test_a_flattened_map_moves_with_its_units() -> None:
    """VGG11 at 96 pixels: nine columns of the classifier a unit."""
    model, spec = network("vgg11", 0, size=96)
    assert spec.owned("classifier.weight", 1) == 9
    assert planted(model, spec, 0)


def test_a_hidden_layer_behind_a_flattened_map_has_a_bound_as_well() -> None:
    """Both of its axes move, and three consecutive columns belong to a unit: a sum over the three."""
    spec = PermutationSpec(
        (Group("map", 7, ""), Group("h", 9, "")),
        {"conv": ("map", None), "hidden": ("h", "map"), "head": (None, "h")},
        {"hidden": (1, 3)},
    )
    draws = seeded(0)
    shapes = {"conv": (7, 4), "hidden": (9, 21), "head": (5, 9)}
    a, b = ({n: torch.randn(s, generator=draws) for n, s in shapes.items()} for _ in range(2))
    there = symmetry.random(spec, draws)
    made = problem(spec, a, symmetry.apply(spec, there, a))
    found = climbed(made)
    assert same(found.permutation, there)
    assert found.objectives[-1] == pytest.approx(sum(made.bounds.values()), rel=1e-12)
    columns = [a["hidden"].double()[:, place::3] for place in range(3)]
    others = [b["hidden"].double()[:, place::3] for place in range(3)]
    expected = sum(
        float((torch.linalg.svdvals(x) * torch.linalg.svdvals(y)).sum())
        for x, y in zip(columns, others, strict=True)
    )
    assert problem(spec, a, b).bounds["hidden"] == pytest.approx(expected, rel=1e-12)


class Concatenated(nn.Module):
    """Two layers' units side by side on one axis."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(2, 12, 3), nn.Conv2d(12, 10, 3, padding=1)
        self.head = nn.Linear(22, 5)

    def forward(self, images: Tensor) -> Tensor:
        one = self.one(images).relu()
        both = torch.cat([one, self.two(one).relu()], 1)
        logits: Tensor = self.head(both.mean((2, 3)))
        return logits


class Grouped(nn.Module):
    """A convolution in four groups, which read other units each: blocks, and units in blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(2, 12, 3), nn.Conv2d(12, 16, 3, padding=1, groups=4)
        self.head = nn.Linear(16, 5)

    def forward(self, images: Tensor) -> Tensor:
        inner = self.two(self.one(images).relu()).relu()
        logits: Tensor = self.head(inner.mean((2, 3)))
        return logits


@pytest.mark.parametrize("kind", [Concatenated, Grouped])
def test_parts_of_axes_and_units_in_blocks_are_recovered(kind: type[nn.Module]) -> None:
    hits = 0
    for seed in range(10):
        torch.manual_seed(seed)
        model = kind()
        spec = permutation_spec(model, channels=2, size=6).spec
        assert spec.parts
        there = symmetry.random(spec, seeded(seed))
        state = model.state_dict()
        made = problem(spec, state, symmetry.apply(spec, there, state))
        found = climbed(made, seed)
        rising(found)
        assert found.objectives[-1] <= sum(made.bounds.values()) * (1 + 1e-12)
        made.quality(found.permutation)
        hits += same(found.permutation, there)
    assert hits == 10


@functools.cache
def trained(name: str, seed: int) -> nn.Module:
    """Some epochs on digits."""
    data = load_digits()
    images = torch.from_numpy(data.images[:1200]).float()[:, None] / 8 - 1
    model, _ = network(name, seed)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    order = torch.randperm(1200, generator=seeded(seed))
    batches = [b for _ in range(3) for b in order.split(64)]
    fit(model, optimizer, images, torch.from_numpy(data.target[:1200]), batches)
    with torch.inference_mode():
        hits = model(images).argmax(1) == torch.from_numpy(data.target[:1200])
    assert hits.float().mean() > 0.5
    return model


@pytest.mark.parametrize("name", ["mlp", "vgg8_ln", "resnet20_ln"])
def test_a_planted_permutation_of_trained_networks_is_recovered_10_of_10_times(name: str) -> None:
    model = trained(name, 0)
    spec = spec_of(name, model)
    assert [planted(model, spec, seed) for seed in range(10)] == [True] * 10


def residual(seed: int, anchored: bool) -> tuple[PermutationSpec, State, Permutation]:
    """A stream of 30 units and 50 inner ones, tied by two matrices; or with an input and a head."""
    axes: dict[str, tuple[str | None, ...]] = {"up": ("inner", "s"), "down": ("s", "inner")}
    axes |= {"in": ("s", None), "out": (None, "s")} if anchored else {}
    shapes = {"up": (50, 30), "down": (30, 50), "in": (30, 10), "out": (10, 30)}
    spec = PermutationSpec((Group("s", 30, ""), Group("inner", 50, "")), axes)
    draws = seeded(seed)
    a = {name: torch.randn(shapes[name], generator=draws) for name in axes}
    return spec, a, symmetry.random(spec, draws)


def test_without_an_anchor_a_planted_permutation_is_rarely_recovered() -> None:
    """The cause of git-re-basin's issue 8; benchmarks/weight_matching.py counts 100 of each."""

    def recovered(anchored: bool, starts: int) -> int:
        count = 0
        for seed in range(20):
            spec, a, there = residual(seed, anchored)
            made, draws = problem(spec, a, symmetry.apply(spec, there, a)), seeded(1000 + seed)
            ascents = [
                climbed(made, n, symmetry.random(spec, draws) if n else None) for n in range(starts)
            ]
            count += same(ascents[best(ascents)].permutation, there)
        return count

    alone, ten, held = recovered(False, 1), recovered(False, 10), recovered(True, 1)
    assert alone <= 4 < ten and held >= 17


# --- the matcher -----------------------------------------------------------------------------


def given(a: nn.Module, b: nn.Module, spec: PermutationSpec) -> Pair:
    """A pair as a stage makes it, with a hundred digits to look at."""
    images = torch.from_numpy(load_digits().images[:100]).float()[:, None] / 8 - 1
    return Pair(
        spec, a.state_dict(), b.state_dict(), lambda: (a, b),
        lambda: ((part, None) for part in images.split(50)),
        lambda purpose: seeded(sum(purpose.encode())),
    )  # fmt: skip


def matched(pair: Pair, **settings: Any) -> Match:
    return find(pair, MatchSettings(similarity="weights", **settings))


@pytest.fixture(scope="module")
def two() -> Pair:
    a, b = trained("vgg8_ln", 0), trained("vgg8_ln", 1)
    return given(a, b, spec_of("vgg8_ln", a))


def test_every_start_and_sweep_is_told_and_the_best_counts(
    two: Pair, capsys: pytest.CaptureFixture[str]
) -> None:
    found = matched(two, starts=4)
    told: Mapping[str, Any] = found.search
    assert [each["start"] for each in told["starts"]] == ["identity", *["random"] * 3]
    assert capsys.readouterr().out.count("objective") == 4
    heights = [each["objectives"][-1] for each in told["starts"]]
    assert told["objective"] == max(heights) == heights[told["chosen"] - 1]
    assert len(set(heights)) == 4
    for each in told["starts"]:
        assert len(each["objectives"]) == len(each["moved"]) + 1 and each["moved"][0] > 0
    assert told["objective_identity"] == told["starts"][0]["objectives"][0] < told["objective"]
    assert told["objective"] < told["bound"]
    assert same(found.permutation, matched(two, starts=4).permutation)
    (first,) = matched(two).search["starts"]
    assert first == told["starts"][0]  # more starts change no start before them
    assert found.images == 0


def test_an_ascent_may_start_at_what_activations_find(two: Pair) -> None:
    statistics = collect(*two.networks(), two.spec, two.batches())
    start = match(statistics, similarity="inner").permutation
    found = matched(two, start="activations")
    (told,) = found.search["starts"]
    made = Problem(two.spec, two.a, two.b, parameters(two.networks()[0]))
    assert told["start"] == "activations" and found.images == 100
    assert told["objectives"][0] == pytest.approx(made.objective(start), rel=1e-12)
    assert told["objectives"][-1] > told["objectives"][0]
    (random,) = matched(two, start="random").search["starts"]
    assert random["start"] == "random" and random["objectives"][0] < told["objectives"][0]


def test_biases_may_be_left_out(two: Pair) -> None:
    """Those of norms as well, whose scales stay in."""
    a, b = (dict(state) for state in (two.a, two.b))
    draws = seeded(1)
    for state in (a, b):
        for name in state:
            if name.endswith("bias"):
                state[name] = 10 * torch.randn(state[name].shape, generator=draws)
    changed = Pair(two.spec, a, b, two.networks, two.given, two.generator)
    without = matched(two, biases=False)
    assert same(matched(changed, biases=False).permutation, without.permutation)
    assert not same(matched(changed).permutation, without.permutation)
    for state in (a, b):
        for name in state:
            if "norm" in name and name.endswith("weight"):
                state[name] = 10 * torch.randn(state[name].shape, generator=draws)
    assert not same(matched(changed, biases=False).permutation, without.permutation)


def test_units_without_a_weight_are_counted_and_stay_in_order() -> None:
    """As pruning leaves them: which of them goes where is no matter, and so the same every time."""
    (spec, a), (_, b) = chain([6, 6, 3], 1), chain([6, 6, 3], 2)
    for state, units in ((a, [1, 4, 5]), (b, [0, 3])):
        for name, axis in (("1.weight", 0), ("1.bias", 0), ("2.weight", 1)):
            state[name].index_fill_(axis, torch.tensor(units), 0)
    made = problem(spec, a, b)
    found = climbed(made).permutation
    (known,) = made.quality(found).values()
    assert (known.dead_a, known.dead_b) == (3, 2)
    symmetry.validate(found, spec)
    assert made.objective(found) == pytest.approx(
        max(product(spec, p, a, b) for p in every(spec)), rel=1e-9
    )


@pytest.mark.parametrize("change", ["nothing carried", "another shape", "not finite"])
def test_what_does_not_fit_is_told_in_one_line(change: str) -> None:
    (spec, a), (_, b) = chain([6, 8, 3], 1), chain([6, 8, 3], 2)
    names, words = (
        list(a),
        {
            "nothing carried": "no tensor",
            "another shape": "[7, 6] in b",
            "not finite": "not finite",
        },
    )
    if change == "nothing carried":
        names = ["2.bias"]
    elif change == "another shape":
        b["1.weight"] = b["1.weight"][:7]
    else:
        b["1.weight"][0, 0] = np.nan
    with pytest.raises(UserError) as caught:
        problem(spec, a, b, names)
    assert words[change] in str(caught.value) and "\n" not in str(caught.value)


LAYER_NORM = {
    "  random: {similarity: random}\n": (
        "  weights: {similarity: weights, starts: 2, start: activations, images: 64}\n"
    ),
    "  naive: {init: b}\n": "  permuted-weights: {init: b, permute: true, match: weights}\n",
    "    dataset: few\n": "    model: resnet20_ln\n    methods: [permuted-weights]\n",
}  # fmt: skip


def test_masks_of_a_study_move_by_it(tmp_path: Path) -> None:
    """A method like others: the sparse run's mask is a's, moved by the ascent's permutation."""
    recipes, study = RECIPES, STUDY
    for line, more in LAYER_NORM.items():
        assert (recipes + study).count(line) == 1
        recipes, study = (text.replace(line, line + more) for text in (recipes, study))
    root = write_study(tmp_path, recipes, study)
    tiny = Tiny(root, root / "results")
    run = tiny.cell("permuted-weights").run
    like = build("resnet20_ln", width=0.25, classes=10, channels=1, size=8, generator=None)
    _, mask = dense_state(read_tensors(tiny.make(run) / "weights.safetensors"), like.state_dict())
    permutation = read_tensors(tiny.path(run.match))
    assert same(
        mask,
        symmetry.apply(
            traced("resnet20_ln", like).spec, permutation, read_mask(tiny.path(run.mask))
        ),
    )
    told = read_json(tiny.path(run.match, "metrics.json"))
    assert [each["start"] for each in told["starts"]] == ["activations", "random"]
    assert told["status"] == "ok" and told["images"] == 64 and len(told["groups"]) == 12
    assert all(0 < group["objective"] < group["bound"] for group in told["groups"].values())
