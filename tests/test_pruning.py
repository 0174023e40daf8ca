"""Laws of magnitude pruning: exact counts, PyTorch's masks, the schedule, nothing comes back."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from small import same, seeded
from torch import Tensor, nn
from torch.nn.utils import prune

from pipeline import pruning
from pipeline.errors import UserError
from pipeline.models import build, prunable_parameters
from pipeline.runs.mask import mask_target, rounds_for, target_rounds

#: Convolutions and the classifier of ResNet20x1 on CIFAR-10; the shortcuts hold 23,040 of them.
ENTRIES = {"all": 291_376, "no-shortcut": 268_336}


def resnet20() -> nn.Module:
    return build("resnet20", width=1, classes=10, channels=3, size=32, generator=seeded(0))


def weights_of(model: nn.Module, which: str) -> dict[str, Tensor]:
    parameters = dict(model.named_parameters())
    return {name: parameters[name].detach() for name in prunable_parameters(model, which)}


def distinct(weights: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
    """Weights of random sign with the layers' scales, no two of the same magnitude."""
    generator = seeded(seed)
    flat = torch.cat(
        [torch.randn(w.shape, generator=generator).flatten() * w.std() for w in weights.values()]
    )
    rank = flat.abs().argsort().argsort()
    flat = torch.exp(12 * rank / len(flat) - 12) * flat.sign().where(flat != 0, 1)
    assert len(flat.abs().unique()) == len(flat)
    parts = flat.split([w.numel() for w in weights.values()])
    return {
        name: part.reshape(w.shape) for (name, w), part in zip(weights.items(), parts, strict=True)
    }


# --- the schedule ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sparsity", "rounds", "tolerant"),
    [(0.80, 8, "S0.80"), (0.90, 11, "S0.90"), (0.95, 14, "P13"), (0.97, 16, "S0.97")],
)
def test_rounds_of_the_published_sparsities(sparsity: float, rounds: int, tolerant: str) -> None:
    """Exactly S for the text of the paper; within 0.005 for the authors' code on ResNet20."""
    assert rounds_for(sparsity) == rounds
    exact = mask_target(sparsity, 0.2, 0.0)
    assert exact == f"S{sparsity:.2f}" and target_rounds(exact, 0.2) == rounds
    assert mask_target(sparsity, 0.2, 0.005) == tolerant
    assert target_rounds("P13", 0.2) == 13
    # VGG11's tolerance of the authors' code changes nothing
    assert mask_target(sparsity, 0.2, 5e-7) == exact


@given(st.floats(0.001, 0.999), st.floats(0.05, 0.9))
def test_rounds_are_the_fewest_that_reach_a_sparsity(sparsity: float, fraction: float) -> None:
    rounds = rounds_for(sparsity, fraction)
    assert 1 - (1 - fraction) ** rounds >= sparsity - 1e-9
    assert 1 - (1 - fraction) ** (rounds - 1) < sparsity


def test_a_sparsity_that_whole_prunes_reach_takes_no_round_more() -> None:
    for rounds in range(1, 20):
        assert rounds_for(1 - 0.8**rounds) == rounds


def to_target(weights: dict[str, Tensor], sparsity: float, tolerance: float = 0) -> pruning.Mask:
    """The mask of a sparsity as a chain makes it: full prunes, then the last, capped one."""
    mask, target = pruning.full(weights), mask_target(sparsity, 0.2, tolerance)
    for _ in range(target_rounds(target, 0.2) - 1):
        mask = pruning.prune_fraction(weights, mask, 0.2)
    if target[0] == "P":
        return pruning.prune_fraction(weights, mask, 0.2)
    return pruning.prune_to(weights, mask, sparsity)


@pytest.mark.parametrize("which", ["all", "no-shortcut"])
def test_counts_of_zeros_are_exact(which: str) -> None:
    weights = distinct(weights_of(resnet20(), which), 1)
    assert sum(w.numel() for w in weights.values()) == ENTRIES[which]
    for sparsity in (0.80, 0.90, 0.95, 0.97):
        mask = to_target(weights, sparsity)
        assert pruning.count(mask) == (round(sparsity * ENTRIES[which]), ENTRIES[which])
        assert pruning.sparsity(mask) == pytest.approx(sparsity, abs=0.5 / ENTRIES[which])


def test_the_tolerance_ends_at_94_5_per_cent() -> None:
    weights = distinct(weights_of(resnet20(), "no-shortcut"), 1)
    mask = to_target(weights, 0.95, 0.005)
    left = ENTRIES["no-shortcut"]
    for _ in range(13):
        left -= round(0.2 * left)
    assert pruning.count(mask) == (ENTRIES["no-shortcut"] - left, ENTRIES["no-shortcut"])
    assert round(100 * pruning.sparsity(mask), 3) == 94.502
    for sparsity in (0.80, 0.90, 0.97):
        assert same(to_target(weights, sparsity, 0.005), to_target(weights, sparsity))


# --- the masks -------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["all", "no-shortcut"])
def test_masks_equal_those_of_pytorch_round_by_round(which: str) -> None:
    """Weights change between the rounds, the pruned ones too; the last prune is capped."""
    model = resnet20()
    names = prunable_parameters(model, which)
    modules = [(model.get_submodule(name.rpartition(".")[0]), "weight") for name in names]
    weights = weights_of(model, which)
    shapes = weights
    mask = pruning.full(weights)
    for number in range(1, 9):
        weights = distinct(shapes, 10 + number)
        for name, (module, _) in zip(names, modules, strict=True):
            tensor = module.weight_orig if number > 1 else module.weight
            tensor.data.copy_(weights[name])
            if number > 1:  # the ranking reads module.weight
                module.weight = module.weight_orig * module.weight_mask
        if number < 8:
            amount: float = 0.2
            mask = pruning.prune_fraction(weights, mask, 0.2)
        else:  # as a count, so that it is exact
            zeros, entries = pruning.count(mask)
            amount = round(0.8 * entries) - zeros
            mask = pruning.prune_to(weights, mask, 0.8)
        prune.global_unstructured(modules, pruning_method=prune.L1Unstructured, amount=amount)
        theirs = {
            name: module.weight_mask.bool()
            for name, (module, _) in zip(names, modules, strict=True)
        }
        assert same(mask, theirs), f"round {number}"
    assert pruning.count(mask)[0] == round(0.8 * ENTRIES[which])


@st.composite
def cases(draw: st.DrawFn) -> tuple[dict[str, Tensor], pruning.Mask, int]:
    """A few small tensors with ties and odd numbers, a mask, and a number of zeros to reach."""
    number = st.sampled_from([0.0, -0.0, 0.5, -0.5, 1.0, 2.0, math.inf, -math.inf, math.nan])
    numbers = st.one_of(number, st.floats(-3, 3, width=32))
    weights, mask = {}, {}
    for name in draw(st.lists(st.sampled_from("abcd"), min_size=1, max_size=3, unique=True)):
        size = draw(st.integers(1, 6))
        weights[name] = torch.tensor(draw(st.lists(numbers, min_size=size, max_size=size)))
        bits = draw(st.lists(st.booleans(), min_size=size, max_size=size))
        mask[name] = torch.tensor(bits)
    before, entries = pruning.count(mask)
    if before == entries:
        mask[next(iter(mask))][0] = True
        before -= 1
    return weights, mask, draw(st.integers(before, entries - 1))


@settings(deadline=None, max_examples=200)
@given(cases())
def test_the_smallest_of_the_rest_go_and_ties_in_order(
    case: tuple[dict[str, Tensor], pruning.Mask, int],
) -> None:
    """Masked first, then by magnitude, then by position; not-a-number counts as zero."""
    weights, mask, zeros = case
    copies = {k: v.clone() for k, v in weights.items()}, {k: v.clone() for k, v in mask.items()}
    flat = [
        (bool(kept), abs(value) if value == value else 0.0)
        for name in weights
        for kept, value in zip(mask[name].tolist(), weights[name].tolist(), strict=True)
    ]
    order = sorted(range(len(flat)), key=lambda i: (*flat[i], i))
    expected = np.ones(len(flat), dtype=bool)
    expected[order[:zeros]] = False
    found = pruning.global_magnitude(weights, mask, zeros)
    assert np.concatenate([m.numpy() for m in found.values()]).tolist() == expected.tolist()
    assert list(found) == list(weights)
    for name in mask:  # a pruned weight stays pruned
        assert not (found[name] & ~mask[name]).any()
        assert weights[name].view(torch.int32).equal(copies[0][name].view(torch.int32))
        assert mask[name].equal(copies[1][name])


def test_everything_not_a_number_still_gives_a_mask() -> None:
    weights = {"w": torch.full((10,), math.nan)}
    mask = pruning.prune_to(weights, pruning.full(weights), 0.5)
    assert mask["w"].tolist() == [False] * 5 + [True] * 5


def test_limits_are_told_in_one_line() -> None:
    weights = {"w": torch.arange(10.0)}
    mask = pruning.prune_to(weights, pruning.full(weights), 0.5)
    for zeros in (4, 10, 11, -1):
        with pytest.raises(UserError, match="at least one weight must stay"):
            pruning.global_magnitude(weights, mask, zeros)
    with pytest.raises(UserError, match="of 10"):
        pruning.prune_to(weights, mask, 0.4)
    with pytest.raises(UserError, match="of 10"):
        pruning.prune_to(weights, mask, 0.96)
    with pytest.raises(UserError, match="with a mask of"):
        pruning.prune_to({"v": weights["w"]}, mask, 0.9)
    assert pruning.prune_to(weights, mask, 0.9)["w"].tolist() == [False] * 9 + [True]
    assert same(pruning.global_magnitude(weights, mask, 5), mask)


def test_one_in_a_thousand_at_width_one() -> None:
    weights = distinct(weights_of(resnet20(), "all"), 2)
    mask = to_target(weights, 0.999)
    left = ENTRIES["all"] - pruning.count(mask)[0]
    assert left == ENTRIES["all"] - round(0.999 * ENTRIES["all"]) == 291
    kept = torch.cat([w[mask[name]].abs() for name, w in weights.items()])
    gone = torch.cat([w[~mask[name]].abs() for name, w in weights.items()])
    assert kept.min() > gone.max()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**20), shares=st.lists(st.floats(0, 1), min_size=1, max_size=4))
def test_a_shuffled_mask_has_the_zeros_of_each_layer(seed: int, shares: list[float]) -> None:
    draw = torch.Generator().manual_seed(seed)
    mask = {f"w{n}": torch.rand(3, 5, generator=draw) < share for n, share in enumerate(shares)}
    found = pruning.shuffled(mask, torch.Generator().manual_seed(seed))
    assert list(found) == list(mask)
    assert pruning.per_layer(found) == pruning.per_layer(mask)
    assert [m.shape for m in found.values()] == [m.shape for m in mask.values()]


def test_a_shuffled_mask_is_drawn_uniformly() -> None:
    """Of the six masks with two of four weights, each is as frequent; the input plays no part."""
    mask = {"w": torch.tensor([[True, True], [False, False]])}
    draw, seen = torch.Generator().manual_seed(0), Counter[tuple[bool, ...]]()
    for _ in range(1200):
        seen[tuple(pruning.shuffled(mask, draw)["w"].flatten().tolist())] += 1
    assert len(seen) == 6
    assert chisquare(list(seen.values())).pvalue > 0.01


def test_applying_a_mask() -> None:
    weights = {"w": torch.tensor([1.0, math.nan, -3.0]), "b": torch.tensor([2.0])}
    found = pruning.apply({"w": torch.tensor([True, False, False])}, weights)
    assert found["w"].tolist() == [1, 0, 0] and found["b"].tolist() == [2]
    assert weights["w"][2] == -3
    assert pruning.per_layer({"w": torch.tensor([True, False, False, True, False])}) == {"w": 0.6}
