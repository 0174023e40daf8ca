"""Groups by tracing: equal to the hand-written ones, right on odd graphs, refused where unknown."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import pytest
import torch
from handwritten_groups import handwritten
from small import seeded
from torch import Tensor, nn
from torch.nn import functional

from pipeline import symmetry
from pipeline.errors import UserError
from pipeline.models import build
from pipeline.symmetry import matching, trace
from pipeline.symmetry.permutation import Group, Part, PermutationSpec
from pipeline.symmetry.trace import Place, Traced
from pipeline.symmetry.trace.operations import TABLE

SIZE = 6


def parts(spec: PermutationSpec) -> dict[frozenset[tuple[str, int, int]], tuple[int, str]]:
    """Each group as what it moves: (tensor, axis, entries per unit) to its size and tap."""
    found = {}
    for group in spec.groups:
        moved = frozenset(
            (name, axis, spec.owned(name, axis))
            for name, carried in spec.axes.items()
            for axis, each in enumerate(carried)
            if each == group.name
        )
        found[moved] = (group.size, group.tap)
    return found


def traced(model: nn.Module) -> Traced:
    """Groups of a small network, after a proof of our own: matching recovers a planted one."""
    before = copy.deepcopy(model.state_dict())
    found = trace.permutation_spec(model, channels=2, size=SIZE)
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
    generator = seeded(3)
    a = trace.proof.drawn(model, generator)
    images = torch.randn(24, 2, SIZE, SIZE, generator=generator, dtype=torch.float64)
    assert symmetry.prove(a, found.spec, images, generator) < 1e-9
    planted = symmetry.random(found.spec, generator)
    b = copy.deepcopy(a)
    b.load_state_dict(symmetry.apply(found.spec, planted, a.state_dict()))
    statistics = matching.collect(a, b, found.spec, [images])
    match = matching.match(statistics, similarity="inner")
    assert match.permutation.keys() == planted.keys()
    for name in statistics:
        live = ~statistics[name].dead("inner")[1]
        assert live.any()
        assert torch.equal(match.permutation[name][live], planted[name][live]), name
    for name in planted.keys() - statistics.keys():  # blocks go by what lies in them
        assert torch.equal(match.permutation[name], planted[name]), name
    assert found.spec.axes.keys() == model.state_dict().keys()
    assert [group.name for group in found.spec.groups] == list(found.places)
    for group in found.spec.groups:
        if group.tap and group.entries is None:
            assert found.places[group.name][group.tap, group.side] == group.axis
    # where a group is visible, the permuted network shows its units permuted
    before, after = shown(a, images), shown(b, images)
    for name, places in found.places.items():
        for place, axis in places.items():
            moved = before[place]
            for other, index in planted.items():
                if place in found.places[other]:
                    moved = moved.index_select(found.places[other][place], index)
            assert moved.shape[axis] == len(planted[name])
            assert torch.allclose(after[place], moved, rtol=1e-9, atol=1e-9), place
    return found


def shown(model: nn.Module, images: Tensor) -> dict[Place, Tensor]:
    """The first input and the output of every module at its last call, as hooks see them."""
    found: dict[Place, Tensor] = {}

    def hook(name: str, module: nn.Module) -> None:
        def before(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            found[name, "input"] = inputs[0]

        def after(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            found[name, "output"] = output

        module.register_forward_pre_hook(before)
        module.register_forward_hook(after)

    model = copy.deepcopy(model)
    for name, module in model.named_modules():
        hook(name, module)
    with torch.inference_mode():
        model(images)
    return found


def taps(found: Traced) -> dict[str, tuple[str, str]]:
    return {group.name: (group.tap, group.side) for group in found.spec.groups}


def refusal(model: nn.Module) -> str:
    with pytest.raises(UserError) as caught:
        trace.permutation_spec(model, channels=2, size=SIZE)
    message = str(caught.value)
    assert len(message) <= 200, message
    assert message.isprintable() and message.startswith("the permutation groups"), message
    return message


class Net(nn.Module):
    """Layers by name and a forward pass given as a function."""

    def __init__(self, forward: Callable[[Net, Tensor], Tensor], **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)
        self.steps = forward

    def forward(self, images: Tensor) -> Tensor:
        return self.steps(self, images)


def conv(inputs: int, outputs: int, **options: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, **options)


def head(units: int) -> nn.Linear:
    return nn.Linear(units, 3)


def pooled(images: Tensor) -> Tensor:
    return images.mean((2, 3))


# -- the built-in networks -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "width", "size"),
    [
        ("resnet20", 0.25, 8),
        ("resnet20", 0.0625, 8),  # stage 1 has a single unit
        ("vgg11", 0.0625, 32),
        ("vgg11", 0.0625, 96),  # a last map of 3 x 3
        ("vgg11", 1 / 64, 8),
    ],
)
def test_the_built_in_networks_have_the_hand_written_groups(
    name: str, width: float, size: int
) -> None:
    model = build(name, width=width, classes=10, channels=1, size=size, generator=None)
    found = trace.permutation_spec(model, channels=1, size=size)
    written = handwritten(name, model)
    assert parts(found.spec) == parts(written)
    assert found.spec.axes.keys() == written.axes.keys()
    assert found.stay == {}


def test_the_result_depends_on_the_architecture_alone() -> None:
    def groups(seed: int | None) -> Traced:
        generator = None if seed is None else seeded(seed)
        model = build("resnet20", width=0.25, classes=10, channels=1, size=8, generator=generator)
        torch.manual_seed(0 if seed is None else seed)
        state = torch.get_rng_state()
        found = trace.permutation_spec(model, channels=1, size=8)
        assert torch.equal(state, torch.get_rng_state())
        return found

    assert groups(None) == groups(1) == groups(2)


# -- layers ----------------------------------------------------------------------------------------


def test_functional_activations_are_observed_where_the_next_module_reads() -> None:
    found = traced(
        Net(
            lambda n, x: n.out(pooled(functional.relu(n.bn(n.two(torch.relu(n.one(x)).relu()))))),
            one=conv(2, 5), two=conv(5, 4), bn=nn.BatchNorm2d(4), out=head(4),
        )
    )  # fmt: skip
    # no module reads the second activation itself: it is observed as the classifier reads it
    assert taps(found) == {"one": ("two", "input"), "two": ("out", "input")}


def test_an_activation_module_is_observed_at_its_last_call() -> None:
    found = traced(
        Net(
            lambda n, x: n.out(pooled(n.act(n.two(n.act(n.one(x)))))),
            one=conv(2, 5), two=conv(5, 4), act=nn.ReLU(), out=head(4),
        )
    )  # fmt: skip
    assert taps(found) == {"one": ("two", "input"), "two": ("act", "output")}


def test_a_tensor_that_is_changed_in_place_is_not_observed() -> None:
    def forward(n: Net, x: Tensor) -> Tensor:
        hidden = n.act(n.one(x))
        hidden += n.two(hidden)
        return n.out(pooled(n.last(hidden)))

    found = traced(
        Net(forward, one=conv(2, 5), two=conv(5, 5), act=nn.ReLU(), last=nn.ReLU(), out=head(5))
    )
    assert taps(found) == {"one": ("last", "output")}


def test_layers_that_normalise_carry_the_units() -> None:
    for norm in (
        nn.BatchNorm2d(4), nn.InstanceNorm2d(4, affine=True), nn.LayerNorm([4, SIZE, SIZE]),
        nn.GroupNorm(1, 4), nn.GroupNorm(4, 4), nn.PReLU(4), nn.PReLU(), nn.LayerNorm(SIZE),
    ):  # fmt: skip
        model = Net(
            lambda n, x: n.out(pooled(n.act(n.norm(n.one(x))))),
            one=conv(2, 4), norm=norm, act=nn.ReLU(), out=head(4),
        )  # fmt: skip
        found = traced(model)
        assert [group.name for group in found.spec.groups] == ["one"] and not found.stay
        carried = {name for name, axes in found.spec.axes.items() if "one" in axes}
        own = {f"norm.{name}" for name, t in norm.state_dict().items() if t.shape[:1] == (4,)}
        assert carried == {"one.weight", "one.bias", "out.weight"} | own


def test_layer_norm_over_the_units_of_a_linear_layer() -> None:
    found = traced(
        Net(
            lambda n, x: n.out(n.act(n.norm(n.one(x.flatten(1))))),
            one=nn.Linear(2 * SIZE * SIZE, 7), norm=nn.LayerNorm(7), act=nn.GELU(), out=head(7),
        )
    )  # fmt: skip
    assert found.spec.axes["norm.weight"] == ("one",)


def test_layers_over_units_on_the_last_axis_are_observed_there() -> None:
    """As in ConvNeXt: channels go last, through linear layers, and back."""

    def forward(n: Net, x: Tensor) -> Tensor:
        x = n.one(x)
        inner = functional.layer_norm(x.permute(0, 2, 3, 1), (4,), n.norm.weight, n.norm.bias)
        inner = n.narrow(n.act(n.wide(inner))).permute(0, 3, 1, 2)
        return n.out(pooled(n.last(x + inner)))

    found = traced(
        Net(
            forward, one=conv(2, 4), norm=nn.LayerNorm(4), wide=nn.Linear(4, 9), act=nn.GELU(),
            narrow=nn.Linear(9, 4), last=nn.ReLU(), out=head(4),
        )
    )  # fmt: skip
    assert found.spec.groups == (Group("one", 4, "last"), Group("wide", 9, "act", axis=3))
    assert found.spec.axes["norm.weight"] == ("one",)


@pytest.mark.parametrize(
    "flatten",
    [
        lambda x: x.flatten(1), lambda x: x.view(x.size(0), -1),
        lambda x: torch.flatten(x, start_dim=1), lambda x: x.reshape(x.shape[0], 4 * 9),
        lambda x: x.flatten(2).flatten(1), lambda x: x.unsqueeze(1).squeeze(1).flatten(1),
    ],
)  # fmt: skip
def test_flatten_gives_each_unit_its_run_of_columns(
    flatten: Callable[[Tensor], Tensor],
) -> None:
    def forward(n: Net, x: Tensor) -> Tensor:
        return n.out(n.last(n.hidden(flatten(n.pool(n.act(n.one(x)))))))

    found = traced(
        Net(
            forward, one=conv(2, 4), act=nn.ReLU(), pool=nn.MaxPool2d(2),
            hidden=nn.Linear(36, 8), last=nn.ReLU(), out=head(8),
        )
    )  # fmt: skip
    assert taps(found) == {"one": ("act", "output"), "hidden": ("last", "output")}
    # the hidden layer carries two groups, with a run of columns for the units of one of them only
    assert found.spec.axes["hidden.weight"] == ("hidden", "one")
    assert found.spec.positions == {"hidden.weight": (1, 9)}


def test_units_may_be_flattened_last_and_own_every_fourth_column() -> None:
    found = traced(
        Net(
            lambda n, x: n.out(
                n.last(n.hidden(n.act(n.one(x)).permute(0, 2, 3, 1).flatten(1)))
            ),
            one=conv(2, 4), act=nn.ReLU(), hidden=nn.Linear(4 * SIZE * SIZE, 8), last=nn.ReLU(),
            out=head(8),
        )
    )  # fmt: skip
    assert taps(found) == {"one": ("act", "output"), "hidden": ("last", "output")}
    (part,) = found.spec.parts
    assert (part.tensor, part.axis, part.group) == ("hidden.weight", 1, "one")
    assert part.index[1] == tuple(range(1, 4 * SIZE * SIZE, 4))


# -- graphs ----------------------------------------------------------------------------------------


def test_a_skip_without_a_shortcut_ties_the_layers() -> None:
    found = traced(
        Net(
            lambda n, x: n.out(
                pooled(n.act2(n.three(n.act1(n.two(h := n.act0(n.one(x))))) + h))
            ),
            one=conv(2, 4), two=conv(4, 6), three=conv(6, 4), act0=nn.ReLU(), act1=nn.ReLU(),
            act2=nn.ReLU(), out=head(4),
        )
    )  # fmt: skip
    assert taps(found) == {"one": ("act2", "output"), "two": ("act1", "output")}
    assert found.spec.axes["three.weight"] == ("one", "two", None, None)


def test_an_output_that_is_used_twice_and_a_gate() -> None:
    """Squeeze and excitation: the gate's units are the stream's."""

    def forward(n: Net, x: Tensor) -> Tensor:
        h = n.act(n.one(x))
        gate = n.open(n.up(n.small(n.down(h.mean((2, 3), keepdim=True)))))
        return n.out(pooled(h * gate))

    found = traced(
        Net(
            forward, one=conv(2, 6), act=nn.ReLU(), down=nn.Conv2d(6, 3, 1), small=nn.ReLU(),
            up=nn.Conv2d(3, 6, 1), open=nn.Sigmoid(), out=head(6),
        )
    )  # fmt: skip
    # the stream is observed, not its gate
    assert taps(found) == {"one": ("act", "output"), "down": ("small", "output")}


def test_a_skip_from_the_image_stays() -> None:
    found = traced(
        Net(
            lambda n, x: n.out(pooled(n.act1(n.two(n.act0(n.one(x))) + x))),
            one=conv(2, 5), two=conv(5, 2), act0=nn.ReLU(), act1=nn.ReLU(), out=head(2),
        )
    )  # fmt: skip
    assert taps(found) == {"one": ("act0", "output")}
    assert "node add" in found.stay["two"]


def test_concatenated_units_move_within_their_parts() -> None:
    found = traced(
        Net(
            lambda n, x: n.out(
                pooled(n.act2(n.three(torch.cat([n.act0(n.one(x)), x, n.act1(n.two(x))], dim=1))))
            ),
            one=conv(2, 4), two=conv(2, 3), three=conv(9, 5), act0=nn.ReLU(), act1=nn.ReLU(),
            act2=nn.ReLU(), out=head(5),
        )
    )  # fmt: skip
    assert {g.name: g.size for g in found.spec.groups} == {"one": 4, "two": 3, "three": 5}
    assert not found.stay
    assert set(found.spec.parts) == {
        Part("three.weight", 1, "one", ((0,), (1,), (2,), (3,))),
        Part("three.weight", 1, "two", ((6,), (7,), (8,))),
    }
    assert found.spec.axes["three.weight"] == ("three", None, None, None)


@pytest.mark.parametrize("multiplier", [1, 2])
def test_depthwise_convolution_moves_with_its_channels(multiplier: int) -> None:
    units = 4 * multiplier
    found = traced(
        Net(
            lambda n, x: n.out(pooled(n.last(n.bn(n.deep(n.act(n.one(x))))))),
            one=conv(2, 4), act=nn.ReLU(), deep=conv(4, units, groups=4),
            bn=nn.BatchNorm2d(units), last=nn.ReLU(), out=head(units),
        )
    )  # fmt: skip
    (group,) = found.spec.groups
    assert group == Group("one", 4, "last" if multiplier == 1 else "act")
    assert found.spec.axes["deep.weight"] == ("one", None, None, None)
    assert {found.spec.owned(f"bn.{kind}", 0) for kind in ("weight", "running_var")} == {multiplier}


def sizes(found: Traced) -> dict[str, tuple[int, str | None]]:
    return {group.name: (group.size, group.within) for group in found.spec.groups}


@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
def test_units_of_a_grouped_convolution_move_within_their_groups_and_whole_groups(
    kind: type[nn.Module],
) -> None:
    found = traced(
        Net(
            lambda n, x: n.out(pooled(n.c(n.three(n.b(n.two(n.a(n.one(x)))))))),
            one=conv(2, 6), a=nn.ReLU(), two=kind(6, 9, 3, padding=1, groups=3), b=nn.ReLU(),
            three=conv(9, 5), c=nn.ReLU(), out=head(5),
        )
    )  # fmt: skip
    assert sizes(found) == {
        "one.blocks": (3, None), "one": (6, "one.blocks"), "two": (9, "one.blocks"),
        "three": (5, None),
    }  # fmt: skip
    assert not found.stay


def test_the_filters_of_a_group_that_reads_the_image_move_within_it() -> None:
    """Its channels are fixed, so the groups are."""
    found = traced(
        Net(
            lambda n, x: n.out(pooled(n.b(n.two(n.a(n.one(x)))))),
            one=conv(2, 6, groups=2), a=nn.ReLU(), two=conv(6, 5), b=nn.ReLU(), out=head(5),
        )
    )  # fmt: skip
    assert set(found.stay) == {"one"}  # depthwise: the filters of a channel keep their order
    found = traced(
        Net(
            lambda n, x: n.out(pooled(n.b(n.two(n.a(n.one(torch.cat([x, x], 1))))))),
            one=conv(4, 6, groups=2), a=nn.ReLU(), two=conv(6, 5), b=nn.ReLU(), out=head(5),
        )
    )  # fmt: skip
    assert sizes(found) == {"one[0:3]": (3, None), "one[3:6]": (3, None), "two": (5, None)}


def test_of_groups_within_groups_the_smaller_move() -> None:
    """Four pairs that lie in two fours: the pairs of a four may change places, the fours not."""
    found = traced(
        Net(
            lambda n, x: n.out(pooled(n.c(n.three(n.b(n.two(n.a(n.one(x)))))))),
            one=conv(2, 8), a=nn.ReLU(), two=conv(8, 8, groups=4), b=nn.ReLU(),
            three=conv(8, 8, groups=2), c=nn.ReLU(), out=head(8),
        )
    )  # fmt: skip
    assert sizes(found) == {
        "one[0:4].blocks": (2, None), "one[0:4]": (4, "one[0:4].blocks"),
        "one[4:8].blocks": (2, None), "one[4:8]": (4, "one[4:8].blocks"),
        "two[0:4]": (4, "one[0:4].blocks"), "two[4:8]": (4, "one[4:8].blocks"),
        "three[0:4]": (4, None), "three[4:8]": (4, None),
    }  # fmt: skip


def test_channels_are_shuffled_between_groups() -> None:
    """As ShuffleNet has it: by hand and by torch's own."""

    def by_hand(x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)

    for shuffle in (by_hand, nn.ChannelShuffle(2), nn.Sequential(nn.Identity())):
        found = traced(
            Net(
                lambda n, x, shuffle=shuffle: n.out(pooled(n.c(n.three(
                    shuffle(torch.cat([n.a(n.one(x)), n.b(n.two(x))], 1))
                )))),
                one=conv(2, 4), two=conv(2, 4), a=nn.ReLU(), b=nn.ReLU(), three=conv(8, 5),
                c=nn.ReLU(), out=head(5),
            )
        )  # fmt: skip
        assert sizes(found) == {"one": (4, None), "two": (4, None), "three": (5, None)}


def test_group_norm_in_several_groups_keeps_its_groups_together() -> None:
    model = Net(
        lambda n, x: n.out(pooled(n.b(n.two(n.a(n.norm(n.one(x))))))),
        one=conv(2, 4), norm=nn.GroupNorm(2, 4), a=nn.ReLU(), two=conv(4, 5), b=nn.ReLU(),
        out=head(5),
    )  # fmt: skip
    found = traced(model)
    assert sizes(found) == {"one.blocks": (2, None), "one": (4, "one.blocks"), "two": (5, None)}


def test_maxout_chooses_among_units_that_may_change_places() -> None:
    model = Net(
        lambda n, x: n.out(pooled(n.two(n.one(x).unflatten(1, (4, 2)).amax(2)).relu())),
        one=conv(2, 8), two=conv(4, 5), out=head(5),
    )  # fmt: skip
    assert sizes(traced(model)) == {
        "one.blocks": (4, None), "one": (8, "one.blocks"), "two": (5, None),
    }  # fmt: skip


def test_a_linear_layer_that_is_viewed_as_a_map_has_a_unit_for_each_channel() -> None:
    found = traced(
        Net(
            lambda n, x: n.out(pooled(n.b(n.two(n.a(n.hid(x.flatten(1))).view(-1, 4, 3, 3))))),
            hid=nn.Linear(2 * SIZE * SIZE, 36), a=nn.ReLU(), two=conv(4, 5), b=nn.ReLU(),
            out=head(5),
        )
    )  # fmt: skip
    assert sizes(found) == {"hid": (4, None), "two": (5, None)}
    assert found.spec.owned("hid.weight", 0) == 9


def test_both_halves_of_a_concatenation_with_itself_move_alike() -> None:
    found = traced(
        Net(
            lambda n, x: n.out(pooled(n.b(n.two(torch.cat([h := n.one(x), -h], 1).relu())))),
            one=conv(2, 4), two=conv(8, 5), b=nn.ReLU(), out=head(5),
        )
    )  # fmt: skip
    assert sizes(found) == {"one": (4, None), "two": (5, None)}
    assert found.spec.parts == (Part("two.weight", 1, "one", ((0, 4), (1, 5), (2, 6), (3, 7))),)


def test_a_module_that_is_used_twice_reads_and_writes_one_group() -> None:
    found = traced(
        Net(
            lambda n, x: n.out(pooled(n.b(n.again(n.a(n.again(n.first(x))))))),
            first=conv(2, 4), again=conv(4, 4), a=nn.ReLU(), b=nn.ReLU(), out=head(4),
        )
    )  # fmt: skip
    assert taps(found) == {"first": ("b", "output")}
    assert found.spec.axes["again.weight"] == ("first", "first", None, None)


def test_weights_that_are_shared_under_two_names_carry_the_same() -> None:
    model = Net(
        lambda n, x: n.out(pooled(n.c(n.three(n.b(n.two(n.a(n.one(x)))))))),
        one=conv(2, 4), two=conv(4, 4), three=conv(4, 4), a=nn.ReLU(), b=nn.ReLU(), c=nn.ReLU(),
        out=head(4),
    )  # fmt: skip
    model.three.weight = model.two.weight
    found = traced(model)
    assert len(found.spec.groups) == 1
    assert found.spec.axes["three.weight"] == found.spec.axes["two.weight"]
    assert found.spec.axes["three.bias"] == ("one",)


def test_weights_that_are_shared_transposed() -> None:
    """An autoencoder before the classifier, whose decoder is its encoder turned round."""
    model = Net(
        lambda n, x: n.out(
            n.b(functional.linear(n.a(n.code(n.first(x.flatten(1)).relu())), n.code.weight.t()))
        ),
        first=nn.Linear(2 * SIZE * SIZE, 6), code=nn.Linear(6, 4), a=nn.ReLU(), b=nn.ReLU(),
        out=head(6),
    )  # fmt: skip
    found = traced(model)
    assert found.spec.axes["code.weight"] == ("code", "first")
    assert found.spec.axes["out.weight"] == (None, "first")


def test_parameters_of_ones_own() -> None:
    scale = nn.Module()
    scale.gain = nn.Parameter(torch.ones(4, 1, 1))
    scale.register_buffer("fixed", torch.ones(5, 1, 1), persistent=False)
    model = Net(
        lambda n, x: n.out(pooled(n.b(n.two(n.a(n.scale.gain * n.one(x)) ** 2) * n.scale.fixed))),
        one=conv(2, 4), scale=scale, a=nn.ReLU(), two=conv(4, 5), b=nn.ReLU(), out=head(5),
    )  # fmt: skip
    found = traced(model)
    assert found.spec.axes["scale.gain"] == ("one", None, None)
    # what is not in the state dict cannot be moved
    assert set(taps(found)) == {"one"} and "node mul" in found.stay["two"]


def test_a_branch_without_effect_is_left_alone() -> None:
    def forward(n: Net, x: Tensor) -> Tensor:
        h = n.a(n.one(x))
        torch.fft.fft(n.dead(h))
        return n.out(pooled(h))

    found = traced(Net(forward, one=conv(2, 4), a=nn.ReLU(), dead=conv(4, 5), out=head(4)))
    assert set(taps(found)) == {"one"}
    assert found.spec.axes["dead.weight"] == (None, None, None, None)


def test_a_change_in_place_has_its_effect_though_nothing_reads_its_result() -> None:
    def forward(n: Net, x: Tensor) -> Tensor:
        h = n.one(x)
        h.add_(n.two(x))
        functional.relu(h, inplace=True)
        return n.out(pooled(n.last(h)))

    found = traced(Net(forward, one=conv(2, 4), two=conv(2, 4), last=nn.ReLU(), out=head(4)))
    assert set(taps(found)) == {"one"} and found.spec.axes["two.weight"][0] == "one"


def test_whole_slices_keep_the_units_and_parts_divide_them() -> None:
    layers = {"one": conv(2, 4), "a": nn.ReLU(), "two": conv(4, 5), "b": nn.ReLU()}
    found = traced(
        Net(
            lambda n, x: n.out(pooled(n.b(n.two(n.a(n.one(x))[:, :, ::2, ::2])))),
            **layers, out=head(5),
        )
    )  # fmt: skip
    assert set(taps(found)) == {"one", "two"}
    found = traced(
        Net(lambda n, x: n.out(pooled(n.b(n.two(n.a(n.one(x))))[:, :3])), **layers, out=head(3))
    )
    # what nothing reads may change places as well
    assert sizes(found) == {"one": (4, None), "two[0:3]": (3, None), "two[3:5]": (2, None)}


def test_padding_the_channels_divides_the_units() -> None:
    """Option A of the ResNet paper: a shortcut that appends zeros, among which nothing differs."""

    def forward(n: Net, x: Tensor) -> Tensor:
        h = n.a(n.one(x))
        return n.out(pooled(n.c(n.two(n.b(n.inner(h))) + functional.pad(h, (0, 0, 0, 0, 1, 1)))))

    layers = {"one": conv(2, 4), "inner": conv(4, 5), "two": conv(5, 6)}
    found = traced(
        Net(forward, **layers, a=nn.ReLU(), b=nn.ReLU(), c=nn.ReLU(), out=head(6))
    )  # fmt: skip
    assert sizes(found) == {"one": (4, None), "inner": (5, None), "two[0:6]": (2, None)}
    assert not found.stay


def test_layers_in_a_row_without_activation_and_dropout() -> None:
    found = traced(
        Net(
            lambda n, x: n.out(functional.dropout(pooled(n.two(n.drop(n.one(x)))), 0.5, n.training)),
            one=conv(2, 4), drop=nn.Dropout2d(0.5), two=conv(4, 5), out=head(5),
        )
    )  # fmt: skip
    assert taps(found) == {"one": ("drop", "output"), "two": ("out", "input")}


# -- functions, and operations of one's own --------------------------------------------------------


def test_functions_have_the_groups_of_the_modules_that_do_the_same() -> None:
    layers = {
        "one": conv(2, 4), "norm": nn.BatchNorm2d(4), "deep": conv(4, 4, groups=4),
        "a": nn.Identity(), "two": nn.ConvTranspose2d(4, 5, 3), "act": nn.PReLU(5),
        "group": nn.GroupNorm(5, 5), "b": nn.Identity(), "last": nn.LayerNorm(5), "out": head(5),
    }  # fmt: skip

    def modules(n: Net, x: Tensor) -> Tensor:
        hidden = n.b(n.group(n.act(n.two(n.a(n.deep(n.norm(n.one(x))))))))
        return n.out(n.last(pooled(hidden)))

    def functions(n: Net, x: Tensor) -> Tensor:
        x = functional.conv2d(x, n.one.weight, n.one.bias, padding=1)
        norm = n.norm
        x = functional.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias)
        x = n.a(functional.conv2d(x, n.deep.weight, n.deep.bias, 1, 1, 1, 4))
        x = functional.conv_transpose2d(x, n.two.weight, bias=n.two.bias)
        x = functional.group_norm(
            functional.prelu(x, n.act.weight), 5, n.group.weight, n.group.bias
        )
        x = functional.layer_norm(pooled(n.b(x)), (5,), n.last.weight, bias=n.last.bias)
        return functional.linear(input=x, weight=n.out.weight, bias=n.out.bias)

    known, found = traced(Net(modules, **layers)), traced(Net(functions, **layers))
    assert [group.name for group in found.spec.groups] == ["one", "two"]
    assert found.spec.axes == known.spec.axes and not found.stay and not known.stay


def gated(images: Tensor, gate: Tensor) -> Tensor:
    """By a detour that no rule follows."""
    sums = images.cumsum(-1)
    return (sums - functional.pad(sums[..., :-1], (1, 0))) * gate.sigmoid()[:, None, None]


class Gated(nn.Module):
    def __init__(self, units: int) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.ones(units))

    def forward(self, images: Tensor) -> Tensor:
        return gated(images, self.gate)


@pytest.fixture
def table() -> Iterator[None]:
    """The table of operations, put back afterwards."""
    before = dict(TABLE)
    yield
    TABLE.clear()
    TABLE.update(before)


@pytest.mark.usefixtures("table")
@pytest.mark.parametrize("own", [(gated,), (gated, Gated)])
def test_an_operation_of_ones_own_is_known_once_its_rule_is_registered(
    own: tuple[Callable[..., Tensor], ...],
) -> None:
    """One rule for a function and a module, which gives its attributes by name."""
    model = Net(
        lambda n, x: n.out(pooled(n.b(n.gated(gated(n.one(x), n.gated.gate))))),
        one=conv(2, 4), gated=Gated(4), b=nn.ReLU(), out=head(4),
    )  # fmt: skip
    assert "node cumsum" in refusal(model)

    @trace.operation(*own)
    def _(call: trace.Call, images: trace.Value, gate: trace.Value) -> trace.Labels:
        trace.join(images.labels[1], gate.labels[0], f"gated at {call.place}")
        return images.labels

    found = traced(model)
    assert taps(found) == {"one": ("b", "output")}
    assert found.spec.axes["gated.gate"] == ("one",)


def squashed(images: Tensor) -> Tensor:
    return images * torch.special.expit(images)


@pytest.mark.usefixtures("table")
def test_a_rule_may_serve_an_activation_of_ones_own() -> None:
    model = Net(
        lambda n, x: n.out(pooled(n.two(n.norm(squashed(n.one(x)))))),
        one=conv(2, 4), norm=nn.BatchNorm2d(4), two=conv(4, 4), out=head(4),
    )  # fmt: skip
    assert taps(traced(model))["one"] == ("norm", "output")
    trace.operation(squashed, activation=True)(trace.rules.elementwise)
    assert taps(traced(model))["one"] == ("norm", "input")


@pytest.mark.usefixtures("table")
def test_a_rule_that_does_not_fit_the_call_is_no_rule() -> None:
    model = Net(lambda n, x: n.out(pooled(n.gated(n.one(x)))), one=conv(2, 4), gated=Gated(4),
                out=head(4))  # fmt: skip
    trace.operation(Gated)(lambda call, images, other: images.labels)
    assert "module gated: it is not known" in refusal(model)
    trace.operation(Gated)(lambda call, images: images.labels[1:])
    assert "module gated: it is not known" in refusal(model)


# -- what is refused -------------------------------------------------------------------------------


def test_control_flow_on_the_images_is_refused() -> None:
    def forward(n: Net, x: Tensor) -> Tensor:
        h = n.a(n.one(x))
        return n.out(pooled(h)) if h.sum() > 0 else -n.out(pooled(h))

    message = refusal(Net(forward, one=conv(2, 4), a=nn.ReLU(), out=head(4)))
    assert "control flow" in message and "test_tracing.py:" in message


def test_an_operation_that_is_not_known_is_refused_by_node_and_layer() -> None:
    def forward(n: Net, x: Tensor) -> Tensor:
        return n.out(pooled(torch.roll(n.a(n.one(x)), 1, 1)))

    layers = {"one": conv(2, 4), "a": nn.ReLU(), "out": head(4)}
    message = refusal(Net(forward, **layers))
    assert "node roll" in message and "units of one" in message
    # the same on images, whose channels do not move, is fine
    assert traced(Net(lambda n, x: n.out(pooled(n.a(n.one(torch.roll(x, 1, 1))))), **layers))


def attends(n: Net, x: Tensor) -> Tensor:
    h = n.one(x.flatten(2).transpose(1, 2))
    return n.out((h + n.attention(n.norm(h))).mean(1))


class Attention(nn.Module):
    """Heads as they are written by hand, over [N, tokens, 6]."""

    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.qkv, self.proj, self.fused = nn.Linear(6, 18), nn.Linear(6, 6), fused

    def forward(self, x: Tensor) -> Tensor:
        n, tokens, _ = x.shape
        q, k, v = self.qkv(x).reshape(n, tokens, 3, 2, 3).permute(2, 0, 3, 1, 4).unbind(0)
        if self.fused:
            y = functional.scaled_dot_product_attention(q, k, v)
        else:
            y = (q @ k.transpose(-2, -1) / 3**0.5).softmax(-1) @ v
        return self.proj(y.transpose(1, 2).reshape(n, tokens, 6))


class Torchs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(6, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x, x, x, need_weights=self.training)[0]


@pytest.mark.parametrize("kind", [lambda: Attention(False), lambda: Attention(True), Torchs])
def test_heads_move_and_so_do_the_dims_within_each(kind: Callable[[], nn.Module]) -> None:
    """Queries and keys by one permutation, values by another."""
    model = Net(attends, one=nn.Linear(2, 6), attention=kind(), norm=nn.LayerNorm(6), out=head(6))
    found = traced(model)
    assert not found.stay
    (blocks,) = {group.within for group in found.spec.groups if group.within}
    assert sorted(sizes(found).values(), key=str) == [
        (2, None), (6, blocks), (6, blocks), (6, None)
    ]  # fmt: skip
    both, values = (g for g in found.spec.groups if g.within)
    assert both.entries and all(len(places) == 2 for places in both.entries)
    assert all(len(places) == 1 for places in values.entries or ())


def test_a_part_may_gate_another() -> None:
    def forward(n: Net, x: Tensor) -> Tensor:
        left, right = n.one(x).chunk(2, dim=1)
        return n.out(pooled(left * right.sigmoid()))

    found = traced(Net(forward, one=conv(2, 4), out=head(2)))
    assert sizes(found) == {"one": (2, None)}
    assert set(found.spec.parts) >= {Part("one.weight", 0, "one", ((0, 2), (1, 3)))}


def test_a_network_with_nothing_to_move_is_refused_with_the_reasons() -> None:
    assert "no hidden layer" in refusal(Net(lambda n, x: n.out(pooled(x)), out=head(2)))
    model = Net(lambda n, x: n.out(pooled(x + n.one(x).relu())), one=conv(2, 2), out=head(2))
    assert "one: meets at node add" in refusal(model)


def test_parametrised_weights_are_refused() -> None:
    one = torch.nn.utils.parametrizations.weight_norm(conv(2, 4))
    model = Net(lambda n, x: n.out(pooled(n.one(x).relu())), one=one, out=head(4))
    assert "parametrised" in refusal(model)


def test_errors_of_the_network_are_told_in_one_line_with_the_node() -> None:
    model = Net(lambda n, x: n.out(pooled(n.one(x))), one=conv(3, 4), out=head(4))
    assert "module one fails: " in refusal(model)
    model = Net(lambda n, x: n.one(x), one=conv(2, 4))
    assert "logits [N, classes]" in refusal(model)


def test_a_network_that_draws_numbers_in_evaluation_is_refused() -> None:
    model = Net(
        lambda n, x: n.out(pooled(functional.dropout(n.a(n.one(x)), 0.5, True))),
        one=conv(2, 4), a=nn.ReLU(), out=head(4),
    )  # fmt: skip
    assert "repeated in evaluation mode" in refusal(model)


def test_a_wrong_specification_does_not_pass_the_proof() -> None:
    """Whatever tensor of whatever group is forgotten, and wherever a tap is put wrongly."""
    model = Net(
        lambda n, x: n.out(pooled(n.b(n.two(n.a(n.bn(n.one(x))))))),
        one=conv(2, 4), bn=nn.BatchNorm2d(4), a=nn.ReLU(), two=conv(4, 4), b=nn.ReLU(), out=head(4),
    )  # fmt: skip
    spec = trace.permutation_spec(model, channels=2, size=SIZE).spec
    network = trace.proof.drawn(model, seeded(0))
    images = torch.randn(8, 2, SIZE, SIZE, generator=seeded(1), dtype=torch.float64)
    trace.prove(network, spec, images, seeded(2))
    for name, carried in spec.axes.items():
        if any(carried):
            less = {key: axes for key, axes in spec.axes.items() if key != name}
            with pytest.raises(UserError, match=r"wrong: (one|two)"):
                trace.prove(network, PermutationSpec(spec.groups, less), images, seeded(2))
    one, two = spec.groups
    crossed = (Group(one.name, 4, two.tap), Group(two.name, 4, one.tap))
    with pytest.raises(UserError, match="not recovered"):
        trace.prove(network, PermutationSpec(crossed, spec.axes), images, seeded(2))


def test_torchvisions_residual_network() -> None:
    """One ReLU for all of a block, additions in place, shortcuts, a flatten of single pixels."""
    from torchvision.models.resnet import BasicBlock, ResNet

    model = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=3)
    found = trace.permutation_spec(model, channels=3, size=32)
    assert taps(found) == {
        "conv1": ("layer1.0.relu", "output"),
        "layer1.0.conv1": ("layer1.0.conv2", "input"),
        "layer2.0.conv1": ("layer2.0.conv2", "input"),
        "layer2.0.conv2": ("layer2.0.relu", "output"),
        "layer3.0.conv1": ("layer3.0.conv2", "input"),
        "layer3.0.conv2": ("layer3.0.relu", "output"),
        "layer4.0.conv1": ("layer4.0.conv2", "input"),
        "layer4.0.conv2": ("layer4.0.relu", "output"),
    }
    assert found.spec.axes["layer2.0.downsample.0.weight"] == (
        "layer2.0.conv2", "conv1", None, None,
    )  # fmt: skip
