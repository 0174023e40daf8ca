"""Laws of permutation symmetry: relabelling units changes no function, training included."""

from __future__ import annotations

import copy
import dataclasses
import functools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from small import fit, same, seeded, spec_of
from torch import Tensor, nn

from pipeline import symmetry
from pipeline.errors import UserError
from pipeline.models import build, prunable_parameters
from pipeline.symmetry.permutation import Group, Part, PermutationSpec

CASES = [
    ("resnet50", 0.25, 32),
    ("resnet50", 0.375, 16),
    ("resnet20", 0.125, 8),
    ("resnet20", 0.5, 8),
    ("resnet20", 0.25, 16),
    ("vgg11", 0.125, 8),
    ("vgg11", 0.0625, 32),
    ("vgg11", 0.0625, 96),  # a last map of 3 x 3: the flatten before the classifier matters
    ("mlp", 0.125, 8),
    ("vgg8_ln", 0.25, 8),
    ("vgg16_ln", 0.0625, 32),
    ("resnet20_ln", 0.25, 8),
    ("resnet20_ln3", 0.125, 8),
]


@functools.cache
def digits(size: int) -> tuple[Tensor, Tensor]:
    data = load_digits()
    images = torch.from_numpy(data.images[:256])[:, None] / 8 - 1
    return nn.functional.interpolate(images, size), torch.from_numpy(data.target[:256])


@functools.cache
def _trained(name: str, width: float, size: int) -> nn.Module:
    """A few steps in double precision: weights and BatchNorm statistics away from their start."""
    model = build(name, width=width, classes=10, channels=1, size=size, generator=seeded(1))
    model.double()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    batches = [slice(16 * step, 16 * step + 16) for step in range(6)]
    return fit(model, optimizer, *digits(size), batches)


def trained(name: str, width: float, size: int) -> tuple[nn.Module, PermutationSpec, Tensor]:
    model = copy.deepcopy(_trained(name, width, size))
    return model, spec_of(name, model), digits(size)[0][:16]


def random_masks(model: nn.Module, seed: int) -> dict[str, Tensor]:
    parameters = dict(model.named_parameters())
    generator = seeded(seed)
    return {
        name: torch.rand(parameters[name].shape, generator=generator) < 0.4
        for name in prunable_parameters(model, "all")
    }


@pytest.mark.parametrize(("name", "width", "size"), CASES)
def test_permuting_keeps_the_function(name: str, width: float, size: int) -> None:
    model, spec, images = trained(name, width, size)
    assert symmetry.prove(model, spec, images, seeded(2)) < 1e-12
    assert symmetry.prove(model.float(), spec, images.float(), seeded(2)) < 1e-4


@pytest.mark.parametrize(("name", "width", "size"), CASES)
def test_permuting_weights_and_masks_keeps_the_sparse_function(
    name: str, width: float, size: int
) -> None:
    model, spec, images = trained(name, width, size)
    state, masks = model.state_dict(), random_masks(model, 3)
    permutation = symmetry.random(spec, seeded(4))

    def logits(tensors: dict[str, Tensor], masks: dict[str, Tensor]) -> Tensor:
        sparse = {name: tensors[name] * mask for name, mask in masks.items()}
        return torch.func.functional_call(model, tensors | sparse, (images,))

    before = logits(state, masks)
    moved = symmetry.apply(spec, permutation, masks)
    after = logits(symmetry.apply(spec, permutation, state), moved)
    naive = logits(symmetry.apply(spec, permutation, state), masks)
    assert (after - before).abs().max() < 1e-12 * before.abs().max()
    assert (naive - before).abs().max() > 1e-3 * before.abs().max()
    for key, mask in moved.items():
        assert mask.dtype == torch.bool and mask.sum() == masks[key].sum()


def test_a_wrong_spec_is_caught() -> None:
    """Each tensor that carries a group matters: the proof fails without any one of them."""
    model, spec, images = trained("resnet20", 0.25, 8)
    for name in spec.axes:
        if any(spec.axes[name]):
            axes = {key: value for key, value in spec.axes.items() if key != name}
            wrong = dataclasses.replace(spec, axes=axes)
            assert symmetry.prove(model, wrong, images[:4], seeded(2)) > 1e-6, name


@pytest.mark.parametrize("name", ["resnet20", "vgg11", "resnet20_ln"])
def test_training_commutes_with_permuting(name: str) -> None:
    """Permute weights, statistics and momenta, then train: the same as train, then permute."""
    model, spec, _ = trained(name, 0.125, 8)
    images, labels = (part[:64] for part in digits(8))
    permutation = symmetry.random(spec, seeded(5))

    def optimise(network: nn.Module) -> torch.optim.SGD:
        return torch.optim.SGD(network.parameters(), 0.02, momentum=0.9, weight_decay=5e-4)

    def train(network: nn.Module, optimizer: torch.optim.SGD) -> None:
        fit(network, optimizer, images, labels, [slice(None)] * 2)

    def momenta(network: nn.Module, optimizer: torch.optim.SGD) -> dict[str, Tensor]:
        return {
            name: optimizer.state[parameter]["momentum_buffer"]
            for name, parameter in network.named_parameters()
        }

    optimizer = optimise(model)
    train(model, optimizer)
    twin = copy.deepcopy(model)
    twin.load_state_dict(symmetry.apply(spec, permutation, model.state_dict()))
    twin_optimizer = optimise(twin)
    moved = symmetry.apply(spec, permutation, momenta(model, optimizer))
    for key, parameter in twin.named_parameters():
        twin_optimizer.state[parameter]["momentum_buffer"] = moved[key]
    train(model, optimizer)
    train(twin, twin_optimizer)
    expected = symmetry.apply(spec, permutation, model.state_dict())
    for key, tensor in twin.state_dict().items():
        assert torch.allclose(tensor.double(), expected[key].double(), rtol=1e-9, atol=1e-10), key


@pytest.mark.parametrize(("name", "width", "size"), CASES)
def test_the_spec_covers_every_tensor(name: str, width: float, size: int) -> None:
    model, spec, _ = trained(name, width, size)
    state = model.state_dict()
    assert spec.axes.keys() == state.keys()
    assert all(len(spec.axes[key]) == tensor.ndim for key, tensor in state.items())
    assert all(any(spec.axes[key]) for key in prunable_parameters(model, "all"))
    classifier = "fc" if name == "resnet50" else "classifier"
    assert spec.axes[f"{classifier}.bias"] == (None,)
    assert spec.axes[f"{classifier}.weight"][0] is None


@pytest.mark.parametrize(
    ("name", "width", "groups", "units"),
    [
        ("mlp", 1, 3, 1_536), ("vgg8_ln", 1, 6, 1_728), ("vgg16_ln", 1, 13, 4_224),
        ("resnet20_ln", 1, 12, 448), ("resnet20_ln", 4, 12, 1_792),
    ],
)  # fmt: skip
def test_networks_of_sharma_have_their_groups(
    name: str, width: float, groups: int, units: int
) -> None:
    """Of VGG-16 and ResNet-20x4 the numbers by which expected fixed points are counted."""
    model = build(name, width=width, classes=10, channels=3, size=32, generator=seeded(0))
    spec = spec_of(name, model)
    assert (len(spec.groups), sum(spec.sizes.values())) == (groups, units)
    images = torch.randn(2, 3, 32, 32, generator=seeded(1))
    assert symmetry.prove(model, spec, images, seeded(2)) < 1e-5


def test_a_permutation_that_does_not_fit_is_refused() -> None:
    model, spec, _ = trained("resnet20", 0.25, 8)
    good = symmetry.random(spec, seeded(0))
    symmetry.validate(good, spec)
    first = good["stage1"]
    for wrong, complaint in [
        ({key: value for key, value in good.items() if key != "stage1"}, "missing"),
        (good | {"stage4": first}, "unknown"),
        (good | {"stage1": torch.arange(5)}, "expected int64"),
        (good | {"stage1": first.float()}, "expected int64"),
        (good | {"stage1": torch.zeros_like(first)}, "exactly once"),
        (good | {"stage1": first - 1}, "exactly once"),
    ]:
        with pytest.raises(UserError, match=complaint):
            symmetry.validate(wrong, spec)
        with pytest.raises(UserError, match=complaint):
            symmetry.apply(spec, wrong, model.state_dict())


def test_tensors_that_do_not_fit_are_refused() -> None:
    model, spec, _ = trained("resnet20", 0.25, 8)
    permutation = symmetry.identity(spec)
    wide = build("resnet20", width=0.5, classes=10, channels=1, size=8, generator=None)
    with pytest.raises(UserError, match="expected 4"):
        symmetry.apply(spec, permutation, wide.state_dict())
    with pytest.raises(UserError, match="axes"):
        symmetry.apply(spec, permutation, {"conv1.weight": torch.zeros(4)})
    prefixed = {f"module.{name}": mask for name, mask in random_masks(model, 0).items()}
    with pytest.raises(UserError, match="none of these"):
        symmetry.apply(spec, permutation, prefixed)
    with pytest.raises(UserError, match="different groups"):
        symmetry.compose(permutation, {"stage1": permutation["stage1"]})


def test_apply_leaves_its_input_alone() -> None:
    model, spec, _ = trained("resnet20", 0.25, 8)
    state = model.state_dict() | {"extra": torch.ones(3)}
    before = copy.deepcopy(state)
    permutation = symmetry.random(spec, seeded(0))
    for tensor in symmetry.apply(spec, permutation, state).values():
        tensor.zero_()
    assert all(torch.equal(state[key], before[key]) for key in before)


def test_a_spec_names_each_group_once_and_no_other() -> None:
    with pytest.raises(ValueError, match="share a name"):
        PermutationSpec((Group("g", 2, "t"), Group("g", 3, "t")), {})
    with pytest.raises(ValueError, match="not a group"):
        PermutationSpec((Group("g", 2, "t"),), {"w": ("h",)})


@st.composite
def parted(draw: st.DrawFn) -> tuple[PermutationSpec, dict[str, Tensor], int]:
    """Groups in blocks, side by side on an axis in any order, and the weight of a convolution in
    groups, whose columns mean other units in each block of its rows."""
    blocks, read, written, plain = (draw(st.integers(1, 3)) for _ in range(4))
    groups = (
        Group("blocks", blocks, ""),
        Group("read", blocks * read, "tap", within="blocks"),
        Group("written", blocks * written, "tap", within="blocks"),
        Group("plain", plain, "tap"),
    )
    places = draw(st.permutations(range(blocks * read + 2 * plain + 1)))
    mixed = [
        Part("w", 1, "read", tuple((p,) for p in places[: blocks * read])),
        Part("w", 1, "plain", tuple(
            tuple(places[blocks * read + 2 * i :][:2]) for i in range(plain)
        )),
    ]  # fmt: skip
    columns = tuple((i % read,) for i in range(blocks * read))
    rows = tuple(
        tuple(range(i // read * written, (i // read + 1) * written)) for i in range(blocks * read)
    )
    spec = PermutationSpec(
        groups,
        {"w": ("written", None), "grouped": ("written", None, None), "table": (None, "blocks")},
        {},
        (*mixed, Part("grouped", 1, "read", columns, rows)),
    )
    shapes = {
        "w": (blocks * written, len(places)), "grouped": (blocks * written, read, 2),
        "table": (2, blocks),
    }  # fmt: skip
    tensors = {n: torch.arange(math.prod(shape)).reshape(shape) for n, shape in shapes.items()}
    return spec, tensors, draw(st.integers(0, 2**31))


@st.composite
def specs(draw: st.DrawFn) -> tuple[PermutationSpec, dict[str, Tensor], int]:
    """A random spec, tensors with all entries different, and a seed."""
    sizes = draw(st.lists(st.integers(1, 6), min_size=1, max_size=4))
    groups = tuple(Group(f"g{i}", size, "tap") for i, size in enumerate(sizes))
    axes: dict[str, tuple[str | None, ...]] = {}
    positions: dict[str, int] = {}
    tensors = {"free": torch.arange(3)}
    for number in range(draw(st.integers(1, 4))):
        carried = draw(st.lists(st.sampled_from([None, *groups]), max_size=3))
        name = f"t{number}"
        axes[name] = tuple(group.name if group else None for group in carried)
        positions[name] = draw(st.integers(1, 3))
        shape = [group.size * positions[name] if group else 2 for group in carried]
        tensors[name] = torch.arange(int(torch.tensor(shape).prod())).reshape(shape)
    return PermutationSpec(groups, axes, positions), tensors, draw(st.integers(0, 2**31))


@settings(deadline=None, max_examples=60)
@given(st.one_of(specs(), parted()))
def test_permutations_form_a_group_that_acts_on_tensors(
    case: tuple[PermutationSpec, dict[str, Tensor], int],
) -> None:
    spec, tensors, seed = case
    generator = seeded(seed)
    p, q, r = (symmetry.random(spec, generator) for _ in range(3))
    one = symmetry.identity(spec)
    apply, compose, inverse = symmetry.apply, symmetry.compose, symmetry.inverse
    for permutation in (p, one, inverse(p), compose(p, q)):
        symmetry.validate(permutation, spec)
    assert same(compose(p, one), p) and same(compose(one, p), p)
    assert same(compose(p, inverse(p)), one) and same(compose(inverse(p), p), one)
    assert same(compose(compose(p, q), r), compose(p, compose(q, r)))
    assert same(inverse(compose(p, q)), compose(inverse(q), inverse(p)))
    assert same(apply(spec, one, tensors), tensors)
    assert same(apply(spec, compose(p, q), tensors), apply(spec, p, apply(spec, q, tensors)))
    assert same(apply(spec, inverse(p), apply(spec, p, tensors)), tensors)
    for name, moved in apply(spec, p, tensors).items():
        assert torch.equal(moved.flatten().sort().values, tensors[name].flatten().sort().values)


def test_fixed_points_are_the_units_on_which_two_permutations_agree() -> None:
    """Of groups of 4 and 2 units 2 and 0: 2 of 6, where a mean of shares would give a quarter."""
    left = {"g": torch.tensor([2, 0, 1, 3]), "h": torch.tensor([0, 1])}
    right = {"g": torch.tensor([2, 1, 0, 3]), "h": torch.tensor([1, 0])}
    assert symmetry.fixed_points(left, right) == {"g": 2, "h": 0}
    assert symmetry.fixed_points(left, left) == {"g": 4, "h": 2}
    groups = tuple(Group(f"g{number}", 8, "") for number in range(13))
    spec, draws, total = PermutationSpec(groups, {}), seeded(0), 0
    for _ in range(200):
        one, two, more = (symmetry.random(spec, draws) for _ in range(3))
        found = symmetry.fixed_points(one, two)
        for inner, outer in ((one, two), (two, one)):
            assert symmetry.fixed_points(inner, outer) == found
        before = (symmetry.compose(each, more) for each in (one, two))
        after = (symmetry.compose(more, each) for each in (one, two))
        assert sum(symmetry.fixed_points(*before).values()) == sum(found.values())
        assert sum(symmetry.fixed_points(*after).values()) == sum(found.values())
        total += sum(found.values())
    # of unrelated permutations one unit a group, with a variance of one
    assert total / 200 == pytest.approx(13, abs=3 * (13 / 200) ** 0.5)
    with pytest.raises(UserError, match="different groups"):
        symmetry.fixed_points(left, {"g": left["g"]})


@settings(deadline=None, max_examples=40)
@given(parted())
def test_a_grouped_convolution_computes_the_same_units_elsewhere(
    case: tuple[PermutationSpec, dict[str, Tensor], int],
) -> None:
    spec, tensors, seed = case
    p = symmetry.random(spec, seeded(seed))
    weight = tensors["grouped"].double().sin()
    units = torch.randn(5, spec.sizes["read"], 7, generator=seeded(seed), dtype=torch.float64)
    groups = spec.sizes["blocks"]
    moved = symmetry.apply(spec, p, {"grouped": weight})["grouped"]
    expected = nn.functional.conv1d(units, weight, groups=groups)[:, p["written"]]
    found = nn.functional.conv1d(units[:, p["read"]], moved, groups=groups)
    assert torch.allclose(found, expected, rtol=1e-12, atol=1e-12)


@settings(deadline=None, max_examples=40)
@given(parted())
def test_a_permutation_keeps_blocks_whole_or_is_refused(
    case: tuple[PermutationSpec, dict[str, Tensor], int],
) -> None:
    spec, tensors, seed = case
    p = symmetry.random(spec, seeded(seed))
    size, blocks = spec.sizes["read"], spec.sizes["blocks"]
    assert torch.equal(p["read"].reshape(blocks, -1)[:, 0] // (size // blocks), p["blocks"])
    rolled = p | {"blocks": p["blocks"].roll(1)}
    if blocks > 1:
        with pytest.raises(UserError, match="whole blocks"):
            symmetry.apply(spec, rolled, tensors)


@settings(deadline=None, max_examples=40)
@given(st.one_of(specs(), parted()))
def test_what_a_group_acts_on_is_what_its_permutation_moves(
    case: tuple[PermutationSpec, dict[str, Tensor], int],
) -> None:
    spec, tensors, seed = case
    p = symmetry.random(spec, seeded(seed))
    moved = symmetry.apply(spec, p, tensors)
    for group in spec.groups:
        for part in spec.acts(group.name):
            assert len(part.index) == group.size
            if part.rows is None and tensors[part.tensor].ndim == 1:
                for unit, places in enumerate(part.index):
                    old = part.index[int(p[group.name][unit])]
                    assert torch.equal(moved[part.tensor][[*places]], tensors[part.tensor][[*old]])


@settings(deadline=None, max_examples=40)
@given(specs())
def test_position_i_of_the_permuted_network_holds_unit_p_i(
    case: tuple[PermutationSpec, dict[str, Tensor], int],
) -> None:
    spec, tensors, seed = case
    p = symmetry.random(spec, seeded(seed))
    moved = symmetry.apply(spec, p, tensors)
    for name, carried in spec.axes.items():
        owned = spec.positions[name]
        for axis, group in enumerate(carried):
            if group is None:
                continue
            # undo this axis alone: then the other axes are the same on both sides
            alone = PermutationSpec(
                spec.groups,
                {name: tuple(g if i != axis else None for i, g in enumerate(carried))},
                {name: owned},
            )
            others = symmetry.apply(alone, p, {name: tensors[name]})[name]
            for i, unit in enumerate(p[group].tolist()):
                run = moved[name].narrow(axis, i * owned, owned)
                assert torch.equal(run, others.narrow(axis, unit * owned, owned))
