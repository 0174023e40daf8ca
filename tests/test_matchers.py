"""Laws of the matchers that relax permutations: what they move, what they recover, what they refuse."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from small import same, seeded
from test_alignment import batches, by_kind, convolutional, trained
from torch import Tensor, nn

from pipeline import align, align_all, symmetry
from pipeline.errors import UserError
from pipeline.runs import Dense, Match
from pipeline.runs.match import passes_of
from pipeline.runs.trial import Trial
from pipeline.study.settings import MatchSettings
from pipeline.symmetry.matchers.sinkhorn import soft
from pipeline.symmetry.permutation import PermutationSpec
from pipeline.symmetry.relaxation import matrices, mixed, refused, rounded
from pipeline.symmetry.trace import spec_of
from pipeline.symmetry.weight_matching import Problem

RELAXED = {"c2m3": {}, "sinkhorn": {}, "straight-through": {"steps": 20}}


class Heads(nn.Module):
    """Attention of four heads, which move whole, between layers that read parts of an axis."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(6, 16)
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)
        self.wide = nn.Linear(32, 10)

    def forward(self, words: Tensor) -> Tensor:
        read = self.stem(words)
        seen = self.attention(read, read, read, need_weights=False)[0]
        return self.wide(torch.cat([seen, read.relu()], -1)).mean(1)


class Grouped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(1, 12, 3), nn.Conv2d(12, 12, 3, padding=1, groups=3)
        self.head = nn.Linear(12, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.two(self.one(images).relu()).relu().mean((2, 3)))


def posed(model: nn.Module, spec: PermutationSpec) -> Problem:
    state = model.state_dict()
    return Problem(spec, state, state, [name for name, _ in model.named_parameters()])


@pytest.mark.parametrize(
    ("make", "shape"),
    [(convolutional, (1, 8, 8)), (Heads, (5, 6))],
    ids=["convolutional", "heads"],
)
def test_weights_under_the_matrices_of_a_permutation_are_permuted(
    make: Any, shape: tuple[int, ...]
) -> None:
    model = make().double()
    spec = spec_of(model, shape).spec
    problem, permutation = posed(model, spec), symmetry.random(spec, seeded(1))
    hard = matrices(permutation, torch.zeros((), dtype=torch.float64))
    moved = mixed(problem, hard, problem.a)
    assert same(moved, symmetry.apply(spec, permutation, problem.a))
    assert same(rounded(problem, hard), permutation)


def test_soft_matrices_are_doubly_stochastic_and_nearer_to_a_permutation_when_cold() -> None:
    scores = {"units": torch.randn(30, 30, dtype=torch.float64, generator=seeded(0))}
    warm, cold = (soft(scores, temperature)["units"] for temperature in (1.0, 0.05))
    for matrix in (warm, cold):
        assert (matrix >= 0).all()
        assert torch.allclose(matrix.sum(1), torch.ones(30, dtype=torch.float64))
    assert torch.allclose(warm.sum(0), torch.ones(30, dtype=torch.float64), atol=1e-3)
    assert cold.square().sum() > warm.square().sum()


@pytest.mark.parametrize("matcher", RELAXED)
@by_kind()
def test_a_planted_permutation_is_recovered(kind: str, matcher: str) -> None:
    b = trained(kind, 1)
    spec = spec_of(b, batches(kind)[0][0].shape[1:]).spec
    planted = symmetry.random(spec, seeded(5))
    a = copy.deepcopy(b)
    a.load_state_dict(symmetry.apply(spec, symmetry.inverse(planted), b.state_dict()))
    back = align(a, b, batches(kind), matcher=matcher, groups=spec, **RELAXED[matcher])
    assert same(back.permutation, planted)
    assert same(back.apply(a.state_dict()), b.state_dict())


@pytest.mark.parametrize("matcher", RELAXED)
@by_kind()
def test_the_barrier_falls_and_equal_seeds_find_the_same(kind: str, matcher: str) -> None:
    a, b, given = trained(kind, 0), trained(kind, 1), batches(kind)
    found, again = (
        align(a, b, given, matcher=matcher, seed=1, **RELAXED[matcher]) for _ in range(2)
    )
    assert same(found.permutation, again.permutation) and found.quality == again.quality
    line = {"correction": "reset", "points": 3}
    assert found.barrier(given, **line) < found.barrier(given, permuted=False, **line)  # type: ignore[arg-type]


def test_networks_of_one_origin_are_all_brought_back_by_c2m3() -> None:
    home = trained("perceptron", 0)
    spec = spec_of(home, (64,)).spec
    planted = [symmetry.identity(spec), *(symmetry.random(spec, seeded(n)) for n in (1, 2))]
    networks = [symmetry.moved(home, spec, each) for each in planted]
    found = align_all(networks, batches("perceptron"), groups=spec)
    for each, there in zip(found, planted, strict=True):
        assert same(each.permutation, symmetry.inverse(there))


def test_c2m3_finds_more_over_all_pairs_than_matching_each_with_the_first() -> None:
    networks = [trained("perceptron", seed) for seed in range(3)]
    names = [name for name, _ in networks[0].named_parameters()]

    def height(matcher: str) -> float:
        found = align_all(networks, batches("perceptron"), matcher=matcher)
        pairs = [found[j].inverse().compose(found[i]) for i in range(3) for j in range(i)]
        ends = [[network.state_dict() for network in pair.networks or ()] for pair in pairs]
        return sum(
            Problem(pair.spec, *both, names).objective(pair.permutation)
            for pair, both in zip(pairs, ends, strict=True)
        )

    assert height("c2m3") > height("weights")


@pytest.mark.parametrize("cost", ["midpoint", "line"])
def test_sinkhorn_may_lower_the_loss_of_merged_networks(cost: str) -> None:
    a, b, given = trained("perceptron", 0), trained("perceptron", 1), batches("perceptron")
    found = align(a, b, given, matcher="sinkhorn", cost=cost, steps=60)
    assert found.match.images and found.match.search["steps"] == 60
    assert found.match.search["cost_last"] < found.match.search["cost_first"]
    assert found.barrier(given, points=3) < found.barrier(given, points=3, permuted=False)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"matcher": "straight-through"}, "needs labels"),
        ({"matcher": "sinkhorn", "cost": "midpoint"}, "needs labels"),
        ({"matcher": "c2m3", "start": "activations"}, "goes with similarity: weights"),
        ({"matcher": "sinkhorn", "temperature": 0}, "temperature"),
    ],
)
def test_what_does_not_fit_is_told_in_one_line(settings: dict[str, Any], said: str) -> None:
    images = [images for images, _ in batches("perceptron")]
    with pytest.raises(UserError) as told:
        align(trained("perceptron", 0), trained("perceptron", 1), images, **settings)
    assert said in str(told.value) and "\n" not in str(told.value)


@pytest.mark.parametrize("matcher", RELAXED)
def test_units_in_blocks_and_convolutions_in_groups_are_matched_or_refused(matcher: str) -> None:
    """Weight matching, and so the straight-through estimator, knows both; C²M³ blocks."""
    known = {"c2m3": {Heads}, "sinkhorn": set(), "straight-through": {Heads, Grouped}}[matcher]
    for make, shape in ((Heads, (5, 6)), (Grouped, (1, 8, 8))):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            b = make()
        given = [(torch.randn(20, *shape, generator=seeded(3)), torch.arange(20) % 10)]
        spec = spec_of(b, shape).spec
        planted = symmetry.random(spec, seeded(2))
        a = symmetry.moved(b, spec, symmetry.inverse(planted))
        if make in known:
            found = align(a, b, given, matcher=matcher, groups=spec, steps=10)
            symmetry.validate(found.permutation, spec)
        else:
            with pytest.raises(UserError, match="does not know"):
                align(a, b, given, matcher=matcher, groups=spec)


def test_what_looks_at_images_costs_passes() -> None:
    kinds = {
        "weights": 0.0, "c2m3": 0.0, "sinkhorn": 0.0, "correlation": 2 / 3, "straight-through": 25.6,
    }  # fmt: skip
    for similarity, passes in kinds.items():
        assert passes_of(MatchSettings(similarity=similarity), 1000) == pytest.approx(passes)  # type: ignore[arg-type]
    assert MatchSettings(similarity="sinkhorn", cost="line").looks


def test_a_network_whose_units_a_matcher_does_not_know_is_refused_before_it_trains() -> None:
    """By its trial: what that found stops the matching and what follows from it."""
    a, b = (Dense("few", "mine", "1", "tiny", seed) for seed in (0, 1))
    for make, shape, unknown in (
        (Heads, (5, 6), {"sinkhorn"}),
        (Grouped, (1, 8, 8), {"sinkhorn", "c2m3"}),
    ):
        trial = Trial(0, 0, problems=refused(spec_of(make(), shape).spec), done=True)
        assert set(trial.problems) == unknown
        for similarity in ("c2m3", "sinkhorn", "weights"):
            study = SimpleNamespace(recipe=lambda run, s=similarity: MatchSettings(similarity=s))
            found = Match(a, b, "any").obstacle(study, trial)  # type: ignore[arg-type]
            assert (found is not None) == (similarity in unknown)
