"""Laws of permutation symmetry on trained bottleneck networks, masks included."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator

import pytest
import torch
from handwritten_groups import handwritten
from small import fit, same, seeded, spec_of
from test_matching import digits, live_part, permuted
from torch import Tensor, nn

from pipeline import pruning, symmetry
from pipeline.connectivity.merge import interpolate
from pipeline.models import build, prunable_parameters
from pipeline.symmetry import trace
from pipeline.symmetry.matching import collect, match
from pipeline.symmetry.permutation import PermutationSpec

WIDTH, SIZE = 0.25, 32


@functools.cache
def photographs() -> tuple[Tensor, Tensor]:
    """Digits enlarged to a size that five halvings leave a pixel of."""
    images, labels = digits()
    return nn.functional.interpolate(images[:640], SIZE, mode="bilinear"), labels[:640]


@functools.cache
def trained(seed: int) -> nn.Module:
    """Trained under a mask of half its weights; far better than chance."""
    generator = seeded(seed)
    model = build("resnet50", width=WIDTH, classes=10, channels=1, size=SIZE, generator=generator)
    images, labels = photographs()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)

    def batches(epochs: int) -> Iterator[Tensor]:
        for _ in range(epochs):
            yield from torch.randperm(len(images), generator=generator).split(32)

    fit(model, optimizer, images, labels, batches(3))
    mask = masked(model)
    for batch in batches(2):
        fit(model, optimizer, images, labels, [batch])
        model.load_state_dict(pruning.apply(mask, model.state_dict()))
    with torch.inference_mode():
        assert (model(images).argmax(1) == labels).float().mean() > 0.5
    return model


def masked(model: nn.Module) -> pruning.Mask:
    """The mask of half of a network's weights, or of the zeros that a pruned one has."""
    parameters = dict(model.named_parameters())
    weights = {name: parameters[name] for name in prunable_parameters(model, "all")}
    return pruning.prune_to(weights, pruning.full(weights), 0.5)


def test_the_proven_groups_are_the_hand_written_ones() -> None:
    model = build("resnet50", width=WIDTH, classes=10, channels=1, size=SIZE, generator=None)
    found = trace.permutation_spec(model, channels=1, size=SIZE)
    assert found.stay == {}
    assert moves(found.spec) == moves(handwritten("resnet50", model))


def moves(spec: PermutationSpec) -> set[tuple[int, frozenset[tuple[str, int]]]]:
    """Size of each group and the axes it moves, whatever its name and where it is observed."""
    return {
        (
            group.size,
            frozenset(
                (name, axis)
                for name, carried in spec.axes.items()
                for axis, each in enumerate(carried)
                if each == group.name
            ),
        )
        for group in spec.groups
    }


def test_permuting_a_trained_sparse_network_keeps_its_function() -> None:
    model = copy.deepcopy(trained(0)).double()
    spec, images = spec_of("resnet50", model), photographs()[0][:16].double()
    assert symmetry.prove(model, spec, images, seeded(2)) < 1e-12
    permutation, mask = symmetry.random(spec, seeded(3)), masked(model)
    moved = symmetry.apply(spec, permutation, mask)
    state = symmetry.apply(spec, permutation, model.state_dict())
    assert pruning.count(moved) == pruning.count(mask)
    assert same(pruning.apply(moved, state), state)  # the zeros went where the mask's went
    assert not same(pruning.apply(mask, state), state)


@pytest.mark.parametrize("similarity", ["correlation", "inner"])
def test_a_planted_permutation_is_recovered(similarity: str) -> None:
    """On every live unit of all 37 groups; conv2 of each block is permuted on a."""
    a = trained(0)
    spec = spec_of("resnet50", a)
    planted = symmetry.random(spec, seeded(7))
    b = permuted(a, spec, planted)
    statistics = collect(a, b, spec, photographs()[0][:256].split(64))
    found = match(statistics, similarity=similarity, epsilon=0)
    dead = {name: group.dead(similarity)[1] for name, group in statistics.items()}
    for name, index in found.permutation.items():
        # activations that are multiples of each other on all images may change places
        rows = torch.arange(len(index))
        wrong = ~dead[name] & (index != planted[name])
        correlation = statistics[name].similarity(epsilon=0)[rows, index]
        assert (correlation[wrong] > 1 - 1e-9).all(), name
        dead[name] |= wrong
    assert sum(int((~d).sum()) for d in dead.values()) > 0.5 * sum(spec.sizes.values())
    for tensors in (a.state_dict(), masked(a)):
        ours = symmetry.apply(spec, found.permutation, tensors)
        theirs = symmetry.apply(spec, planted, tensors)
        assert same(live_part(spec, dead, ours), live_part(spec, dead, theirs))


def test_one_pass_equals_a_pass_per_group() -> None:
    """Match a group, permute the network, go on with the next group: 37 passes."""
    a, b = trained(0), trained(1)
    spec = spec_of("resnet50", a)
    images = photographs()[0][:64].split(32)
    at_once = match(collect(a, b, spec, images)).permutation
    moved, found = copy.deepcopy(a), symmetry.identity(spec)
    for group in spec.groups:
        own = PermutationSpec((group,), {})
        index = match(collect(moved, b, own, images)).permutation[group.name]
        found[group.name] = index
        step = symmetry.identity(spec) | {group.name: index}
        moved.load_state_dict(symmetry.apply(spec, step, moved.state_dict()))
    equal = [int((found[name] == at_once[name]).sum()) for name in found]
    # single precision sums in another order can swap units that are all but equal
    assert sum(equal) >= 0.98 * sum(spec.sizes.values())


def test_matching_lowers_the_barrier_of_networks_trained_apart() -> None:
    """Weights modulo the permutation lie nearer: dense conv2 included."""
    a, b = trained(0), trained(1)
    spec = spec_of("resnet50", a)
    found = match(collect(a, b, spec, photographs()[0][:256].split(64)))
    moved = symmetry.apply(spec, found.permutation, a.state_dict())

    def distance(state: dict[str, Tensor], part: str) -> float:
        theirs = b.state_dict()
        names = [name for name in state if name.endswith(part)]
        return sum(float((state[name] - theirs[name]).square().sum()) for name in names)

    for part in ("conv1.weight", "conv2.weight", "conv3.weight"):
        assert distance(moved, part) < distance(a.state_dict(), part), part
    half = interpolate(moved, b.state_dict(), 0.5)
    assert all(torch.isfinite(tensor).all() for tensor in half.values())
