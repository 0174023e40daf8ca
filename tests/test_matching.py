"""Laws of activation matching: a planted permutation is found, one pass is enough, ties settle."""

from __future__ import annotations

import copy
import functools
import itertools
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from sklearn.datasets import load_digits
from small import fit, same, seeded, spec_of
from torch import Tensor, nn

from pipeline import symmetry
from pipeline.errors import UserError
from pipeline.models import build, prunable_parameters
from pipeline.study.settings import MatchSettings
from pipeline.symmetry.assignment import Scored, assign
from pipeline.symmetry.matchers import MATCHERS
from pipeline.symmetry.matching import Match, Statistics, collect, match
from pipeline.symmetry.permutation import Group, PermutationSpec

WIDTHS = {"resnet20": 0.5, "vgg11": 0.25}
SETTINGS = [("correlation", "pooled"), ("correlation", "batch-mean"), ("inner", "pooled")]


@functools.cache
def digits() -> tuple[Tensor, Tensor]:
    data = load_digits()
    images = torch.from_numpy(data.images).float()[:, None]
    return (images - images.mean()) / images.std(), torch.from_numpy(data.target)


@pytest.fixture(scope="session")
def networks() -> dict[str, tuple[nn.Module, nn.Module]]:
    """Two independently trained networks of each family; they fit the digits well."""
    return {name: (_train(name, 0), _train(name, 1)) for name in WIDTHS}


def _train(name: str, seed: int) -> nn.Module:
    generator = seeded(seed)
    model = build(name, width=WIDTHS[name], classes=10, channels=1, size=8, generator=generator)
    images, labels = digits()
    # VGG without BatchNorm does not leave its plateau in this little time with SGD
    optimizer: torch.optim.Optimizer
    if name == "vgg11":
        epochs, optimizer = 10, torch.optim.Adam(model.parameters(), 3e-3)
    else:
        epochs, optimizer = 2, torch.optim.SGD(model.parameters(), 0.08, 0.9, weight_decay=5e-4)
    orders = (torch.randperm(len(images), generator=generator) for _ in range(epochs))
    fit(model, optimizer, images, labels, (index for order in orders for index in order.split(64)))
    with torch.inference_mode():
        assert (model(images).argmax(1) == labels).float().mean() > 0.5
    return model


def pair(
    networks: dict[str, tuple[nn.Module, nn.Module]], name: str, taps: str = "last"
) -> tuple[nn.Module, nn.Module, PermutationSpec]:
    a, b = (copy.deepcopy(model) for model in networks[name])
    return a, b, spec_of(name, a, taps=taps)


def batches(size: int = 100, total: int = 400) -> Iterator[Tensor]:
    """A plain iterator: a second pass over it would find nothing."""
    return iter(digits()[0][:total].split(size))


def permuted(model: nn.Module, spec: PermutationSpec, permutation: dict[str, Tensor]) -> nn.Module:
    result = copy.deepcopy(model)
    result.load_state_dict(symmetry.apply(spec, permutation, model.state_dict()))
    return result


def live_part(
    spec: PermutationSpec, dead: dict[str, Tensor], tensors: dict[str, Tensor]
) -> dict[str, Tensor]:
    """The entries of every tensor that touch live units only."""
    result = {}
    for name, tensor in tensors.items():
        for axis, group in enumerate(spec.axes[name]):
            if group is not None:
                live = torch.repeat_interleave(~dead[group], spec.positions.get(name, 1))
                tensor = tensor.index_select(axis, live.nonzero().flatten())
        result[name] = tensor
    return result


@pytest.mark.parametrize(("similarity", "std"), SETTINGS)
@pytest.mark.parametrize("name", WIDTHS)
def test_a_planted_permutation_is_recovered_on_every_live_unit(
    networks: dict[str, tuple[nn.Module, nn.Module]], name: str, similarity: str, std: str
) -> None:
    """Without epsilon, which favours pairs of unlike size among units that are nearly collinear.

    Twins, whose activations are multiples of each other on all images, may change places: they
    count as dead here.
    """
    a, _, spec = pair(networks, name)
    planted = symmetry.random(spec, seeded(7))
    b = permuted(a, spec, planted)
    statistics = collect(a, b, spec, batches())
    found = match(statistics, similarity=similarity, std=std, epsilon=0)
    dead_b = {}
    for group in spec.groups:
        key = group.name
        dead_a, dead_b[key] = statistics[key].dead(similarity)
        quality = found.quality[key]
        assert quality.dead_a == quality.dead_b == dead_a.sum() == dead_b[key].sum()
        assert torch.equal(dead_a[planted[key]], dead_b[key])
        index, rows = found.permutation[key], torch.arange(group.size)
        wrong = ~dead_b[key] & (index != planted[key])
        correlation = statistics[key].similarity(epsilon=0)[rows, index]
        assert (correlation[wrong] > 1 - 1e-9).all(), key
        dead_b[key] |= wrong
    symmetry.validate(found.permutation, spec)
    assert sum(int((~dead).sum()) for dead in dead_b.values()) > 0.5 * sum(spec.sizes.values())

    generator = seeded(8)
    masks = {
        key: torch.rand(tensor.shape, generator=generator) < 0.3
        for key, tensor in a.state_dict().items()
        if key in prunable_parameters(a, "all")
    }
    for tensors in (a.state_dict(), masks):
        ours = symmetry.apply(spec, found.permutation, tensors)
        theirs = symmetry.apply(spec, planted, tensors)
        assert same(live_part(spec, dead_b, ours), live_part(spec, dead_b, theirs))


@pytest.mark.parametrize("taps", ["last", "authors", "all"])
@pytest.mark.parametrize("name", WIDTHS)
def test_one_pass_equals_the_layer_by_layer_procedure(
    networks: dict[str, tuple[nn.Module, nn.Module]], name: str, taps: str
) -> None:
    """Match a group, permute the network, go on with the next group on the permuted network."""
    a, b, spec = pair(networks, name, taps)
    at_once = match(collect(a, b, spec, batches())).permutation
    one_by_one: dict[str, Tensor] = {}
    for group in spec.groups:
        alone = PermutationSpec((group,), {})
        index = match(collect(a, b, alone, batches())).permutation[group.name]
        one_by_one[group.name] = index
        a = permuted(a, spec, symmetry.identity(spec) | {group.name: index})
    assert same(at_once, one_by_one)
    assert any((index != torch.arange(len(index))).any() for index in at_once.values())


@pytest.fixture(scope="module")
def seen(
    networks: dict[str, tuple[nn.Module, nn.Module]],
) -> dict[str, list[dict[str, list[np.ndarray]]]]:
    """What each of a and b computes at every tap, [units, samples] for each batch."""
    return {name: [_activations(name, model) for model in both] for name, both in networks.items()}


def _activations(name: str, model: nn.Module) -> dict[str, list[np.ndarray]]:
    found: dict[str, list[np.ndarray]] = defaultdict(list)
    handles = [
        model.get_submodule(group.tap).register_forward_hook(
            lambda module, inputs, output, tap=group.tap: found[tap].append(
                output.movedim(1, 0).flatten(1).double().numpy().copy()
            )
        )
        for group in spec_of(name, model).groups
    ]
    with torch.inference_mode():
        for images in batches():
            model(images)
    for handle in handles:
        handle.remove()
    return found


def _reference(samples: list[list[np.ndarray]], kind: str, std: str, epsilon: float) -> np.ndarray:
    """The score by its definition, on all activations at once."""
    x, y = (np.concatenate(kept, axis=1) for kept in samples)
    if kind == "inner":
        return y @ x.T / x.shape[1]
    if std == "pooled":
        std_x, std_y = x.std(axis=1), y.std(axis=1)
    else:
        std_x, std_y = (
            np.mean([part.std(axis=1, ddof=1) for part in kept], axis=0) for kept in samples
        )
    centred = (y - y.mean(1, keepdims=True)) @ (x - x.mean(1, keepdims=True)).T / x.shape[1]
    return centred / (np.outer(std_y, std_x) + epsilon)


@pytest.mark.parametrize(("similarity", "std"), SETTINGS)
@pytest.mark.parametrize("name", WIDTHS)
def test_scores_are_their_definition(
    networks: dict[str, tuple[nn.Module, nn.Module]],
    seen: dict[str, list[dict[str, list[np.ndarray]]]],
    name: str,
    similarity: str,
    std: str,
) -> None:
    a, b, spec = pair(networks, name)
    statistics = collect(a, b, spec, batches())
    for group in spec.groups:
        samples = [taps[group.tap] for taps in seen[name]]
        for epsilon in (1e-4, 0.1):
            ours = statistics[group.name].similarity(similarity, std=std, epsilon=epsilon)
            expected = _reference(samples, similarity, std, epsilon)
            assert ours.shape == (group.size, group.size)
            np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-9, atol=1e-10)


def test_all_taps_of_a_stream_are_samples_of_its_units(
    networks: dict[str, tuple[nn.Module, nn.Module]],
) -> None:
    """The inner product over all taps is the sum of those at each: their Gram matrices add up."""
    a, b, spec = pair(networks, "resnet20", taps="all")
    together = collect(a, b, spec, batches())
    for group in spec.groups:
        assert len(group.taps) == {"stage1": 4, "stage2": 3, "stage3": 3}.get(group.name, 1)
        alone = PermutationSpec(tuple(Group(tap, group.size, tap) for tap in group.taps), {})
        parts = collect(a, b, alone, batches()).values()
        total = together[group.name]
        assert total.count == sum(part.count for part in parts)
        expected = sum(part.count * part.similarity("inner") for part in parts)
        found = total.count * total.similarity("inner")
        np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_large_offsets_cost_no_digits() -> None:
    """Means far larger than the spread: a difference of squares in single precision would fail."""
    model = nn.Sequential(nn.Identity())
    spec = PermutationSpec((Group("g", 4, "0"),), {})
    x = torch.randn(500, 4, 1, 1, generator=seeded(0)) + 3000
    score = collect(model, model, spec, x.split(50))["g"].similarity(epsilon=0)
    expected = np.corrcoef(x.flatten(1).double().numpy().T)
    np.testing.assert_allclose(score.numpy(), expected, atol=1e-8)


@pytest.mark.parametrize("name", WIDTHS)
def test_how_images_are_batched_does_not_matter(
    networks: dict[str, tuple[nn.Module, nn.Module]], name: str
) -> None:
    a, b, spec = pair(networks, name)
    whole = collect(a, b, spec, batches(400))
    for size in (1, 64, 150):
        split = collect(a, b, spec, batches(size))
        assert same(match(whole).permutation, match(split).permutation)
        for key, statistics in whole.items():
            other = split[key]
            assert other.count == statistics.count
            for kind in ("correlation", "inner"):
                one = statistics.similarity(kind)
                two = other.similarity(kind)
                assert torch.allclose(one, two, rtol=1e-5, atol=1e-6 * one.abs().max().item()), (
                    key,
                    kind,
                )


def test_single_samples_have_no_deviation_of_their_own() -> None:
    model = nn.Sequential(nn.Identity())
    spec = PermutationSpec((Group("g", 3, "0"),), {})
    x = torch.randn(9, 3, generator=seeded(0))
    statistics = collect(model, model, spec, x.split(4))["g"]  # batches of 4, 4 and 1
    expected = (x[:4].double().std(0) + x[4:8].double().std(0)) / 2
    assert torch.allclose(statistics.batch_std[0], expected)
    ones = collect(model, model, spec, x.split(1))["g"]
    assert torch.allclose(ones.similarity(), statistics.similarity())
    with pytest.raises(UserError, match="two samples"):
        ones.similarity(std="batch-mean")


@pytest.mark.parametrize("name", WIDTHS)
def test_a_is_moved_onto_b(networks: dict[str, tuple[nn.Module, nn.Module]], name: str) -> None:
    """pi(a) lies nearer to b than a does, and than a moved the other way round."""
    a, b, spec = pair(networks, name)
    planted = symmetry.random(spec, seeded(9))
    b = permuted(a, spec, planted)
    pi = match(collect(a, b, spec, batches())).permutation

    def distance(model: nn.Module) -> float:
        mine, yours = dict(model.named_parameters()), dict(b.named_parameters())
        return sum((mine[key] - yours[key]).square().sum().item() for key in mine) ** 0.5

    moved = distance(permuted(a, spec, pi))
    assert moved < 0.8 * distance(a)
    assert moved < 0.8 * distance(permuted(a, spec, symmetry.inverse(pi)))


@pytest.mark.parametrize("name", WIDTHS)
def test_matching_beats_chance_for_networks_trained_apart(
    networks: dict[str, tuple[nn.Module, nn.Module]], name: str
) -> None:
    a, b, spec = pair(networks, name)
    statistics = collect(a, b, spec, batches())
    found = match(statistics)
    for group in spec.groups:
        quality = found.quality[group.name]
        score = statistics[group.name].similarity()
        index = found.permutation[group.name]
        rows = torch.arange(group.size)
        assert quality.size == group.size
        assert quality.objective == pytest.approx(score[rows, index].sum().item())
        assert quality.objective >= score.diagonal().sum().item()
        assert quality.fixed_points == (index == rows).sum()
        if not (quality.dead_a or quality.dead_b):
            assert quality.matched == pytest.approx(quality.objective / group.size)
            assert quality.identity == pytest.approx(score.diagonal().mean().item())
            assert quality.random == pytest.approx(score.mean().item())
            assert quality.matched > max(quality.random, quality.identity)


def test_dead_units_are_found_counted_and_put_in_order(
    networks: dict[str, tuple[nn.Module, nn.Module]],
) -> None:
    a, b, spec = pair(networks, "resnet20")
    before = match(collect(a, b, spec, batches()), similarity="inner").quality

    def kill(model: nn.Module, units: list[int], level: float) -> None:
        bn: Any = model.get_submodule("stage2.1.bn1")
        with torch.no_grad():
            bn.weight[units], bn.bias[units] = 0.0, level

    kill(a, [3, 8, 1], -1.0)
    kill(b, [5, 2, 9], -1.0)
    for similarity in ("correlation", "inner"):
        found = match(collect(a, b, spec, batches()), similarity=similarity)
        quality, index = found.quality["stage2.1.inner"], found.permutation["stage2.1.inner"]
        assert (quality.dead_a, quality.dead_b) == (3, 3)
        assert index[[2, 5, 9]].tolist() == sorted(index[[2, 5, 9]].tolist())
        for key, other in found.quality.items() if similarity == "inner" else ():
            assert key == "stage2.1.inner" or other.dead_a == before[key].dead_a

    # a constant unit that fires has no correlation, but an inner product
    kill(a, [3, 8, 1], +1.0)
    statistics = collect(a, b, spec, batches())
    assert match(statistics).quality["stage2.1.inner"].dead_a == 3
    assert match(statistics, similarity="inner").quality["stage2.1.inner"].dead_a == 0


def artificial(score: Tensor, dead_a: Tensor, dead_b: Tensor) -> dict[str, Statistics]:
    """Statistics whose correlation is ``score`` but for dead units."""
    size = len(score)
    zero = torch.zeros(2, size, dtype=torch.float64)
    one = torch.stack((~dead_a, ~dead_b)).double()
    return {"g": Statistics(10, zero, one, one, score.double())}


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 6), st.integers(0, 2**31))
def test_the_assignment_is_optimal_and_its_dead_units_are_in_order(size: int, seed: int) -> None:
    generator = seeded(seed)
    score = 2 * torch.rand(size, size, generator=generator, dtype=torch.float64) - 1
    dead_a, dead_b = (torch.rand(size, generator=generator) < 0.4 for _ in range(2))
    found = match(artificial(score, dead_a, dead_b), epsilon=0)
    index, quality = found.permutation["g"], found.quality["g"]
    scores = score * (~dead_b).double()[:, None] * (~dead_a).double()
    best = max(
        sum(scores[row, column].item() for row, column in enumerate(columns))
        for columns in itertools.permutations(range(size))
    )
    assert sorted(index.tolist()) == list(range(size))
    assert quality.objective == pytest.approx(best, abs=1e-9)
    for rows in (dead_b, ~dead_b & dead_a[index]):
        assert index[rows].tolist() == sorted(index[rows].tolist())
    # whatever noise the dead units carry
    noise = score + 1e-3 * (dead_b[:, None] | dead_a[None, :]).double()
    again = match(artificial(noise, dead_a, dead_b), epsilon=0)
    assert same(again.permutation, found.permutation)


def test_everything_dead_gives_the_identity() -> None:
    dead = torch.ones(5, dtype=torch.bool)
    found = match(artificial(torch.rand(5, 5, generator=seeded(0)), dead, dead))
    assert found.permutation["g"].tolist() == list(range(5))
    quality = found.quality["g"]
    assert (quality.dead_a, quality.matched, quality.random, quality.fixed_points) == (5, 0, 0, 5)


def test_ties_are_settled_the_same_way_every_time(
    networks: dict[str, tuple[nn.Module, nn.Module]],
) -> None:
    """Duplicate units can change places; nothing else does, and every run gives the same bits."""
    a, _, spec = pair(networks, "resnet20")
    with torch.no_grad():
        block: Any = a.get_submodule("stage1.1")
        for tensor in (*block.conv1.parameters(), *block.bn1.parameters(), *block.bn1.buffers()):
            if tensor.ndim:
                tensor[5] = tensor[2]
    planted = symmetry.random(spec, seeded(11))
    b = permuted(a, spec, planted)
    runs = [match(collect(a, b, spec, batches(size))) for size in (100, 100, 400)]
    assert same(runs[0].permutation, runs[1].permutation)
    assert runs[0].quality == runs[1].quality
    expected = planted["stage1.1.inner"]
    for found in runs:
        index = found.permutation["stage1.1.inner"]
        twins = torch.isin(expected, torch.tensor([2, 5]))
        assert torch.equal(index[~twins], expected[~twins])
        assert set(index[twins].tolist()) == {2, 5}


def test_collecting_leaves_the_networks_alone(
    networks: dict[str, tuple[nn.Module, nn.Module]],
) -> None:
    a, b, spec = pair(networks, "resnet20")
    a.train()
    a.get_submodule("stage1").eval()
    modes = [module.training for module in a.modules()]
    before = copy.deepcopy(a.state_dict())
    collect(a, b, spec, batches(100, 200))
    assert [module.training for module in a.modules()] == modes
    assert same(a.state_dict(), before)
    assert not any(module._forward_hooks for module in (*a.modules(), *b.modules()))


def test_a_network_matches_itself_by_the_identity(
    networks: dict[str, tuple[nn.Module, nn.Module]],
) -> None:
    a, _, spec = pair(networks, "resnet20")
    found = match(collect(a, a, spec, batches()))
    assert same(found.permutation, symmetry.identity(spec))
    assert all(q.fixed_points == q.size and q.matched > 0.9 for q in found.quality.values())


def test_mistakes_are_told_in_one_line(
    networks: dict[str, tuple[nn.Module, nn.Module]],
) -> None:
    a, b, spec = pair(networks, "resnet20")
    with pytest.raises(UserError, match="no images"):
        collect(a, b, spec, [])
    wide = build("resnet20", width=1, classes=10, channels=1, size=8, generator=seeded(0))
    with pytest.raises(UserError, match="8 and 16 units, expected 8"):
        collect(a, wide, spec, batches())
    nn.init.constant_(b.get_parameter("stage2.0.conv1.weight"), torch.nan)
    with pytest.raises(UserError, match=r"stage2\.0\.inner: network b .* not finite"):
        collect(a, b, spec, batches())
    statistics = collect(a, a, spec, batches(100, 100))
    with pytest.raises(UserError, match="correlation, inner"):
        match(statistics, similarity="cosine")
    with pytest.raises(UserError, match="batch-mean, pooled"):
        match(statistics, std="none")


def test_the_solver_sees_rows_of_b_and_columns_of_a() -> None:
    """Unit i of b is best explained by unit p[i] of a."""
    score = torch.rand(6, 6, generator=seeded(3))
    none = torch.zeros(6, dtype=torch.bool)
    found: Match = match(artificial(score, none, none), epsilon=0)
    _, columns = linear_sum_assignment(score.numpy(), maximize=True)
    assert found.permutation["g"].tolist() == columns.tolist()
    assert found.permutation["g"].dtype == torch.int64


def test_every_value_of_similarity_has_a_matcher_and_no_other() -> None:
    known = get_args(get_type_hints(MatchSettings)["similarity"])
    assert sorted(MATCHERS) == sorted(known)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 3), st.integers(1, 2), st.integers(1, 3), st.integers(0, 2**31))
def test_blocks_are_matched_by_the_best_within_them(
    blocks: int, first: int, second: int, seed: int
) -> None:
    """The best of all permutations that keep blocks whole, found by trying each of them."""
    generator = seeded(seed)
    sizes = {"one": first, "two": second}
    scores = {
        name: torch.rand(blocks * n, blocks * n, generator=generator).numpy()
        for name, n in sizes.items()
    }
    none = {name: np.zeros(blocks * n, dtype=bool) for name, n in sizes.items()}
    found = assign(
        {name: Scored(scores[name], none[name], none[name], ("above", n))
         for name, n in sizes.items()}
    )  # fmt: skip
    chosen = {name: index for name, (_, index) in found.items()}

    def total(indices: dict[str, np.ndarray]) -> float:
        return sum(scores[n][np.arange(len(indices[n])), indices[n]].sum() for n in sizes)

    best = 0.0
    for order in itertools.permutations(range(blocks)):
        value = 0.0
        for name, n in sizes.items():
            for row, column in enumerate(order):
                part = scores[name][row * n : row * n + n, column * n : column * n + n]
                value += max(
                    sum(part[i, j] for i, j in enumerate(way))
                    for way in itertools.permutations(range(n))
                )
        best = max(best, value)
    assert total(chosen) == pytest.approx(best)
    for name, n in sizes.items():
        assert (chosen[name].reshape(blocks, n) // n == chosen["above"][:, None]).all()
