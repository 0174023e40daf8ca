"""Permutation groups of the built-in networks: traced, named as declared, equal to hand-written."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
import torch
from handwritten_groups import handwritten
from small import same, seeded
from torch import nn

from pipeline import symmetry
from pipeline.catalog.networks import NETWORKS
from pipeline.models import build, traced, vgg
from pipeline.models.built_in import family
from pipeline.models.groups import Observed, named
from pipeline.symmetry import trace

#: Width, classes, channels and size of the images.
SHAPES = {
    "resnet20": [(0.0625, 10, 1, 8), (0.25, 1, 3, 1), (1, 100, 3, 32), (1.5, 7, 2, 33)],
    "vgg11": [
        (1 / 64, 10, 1, 8), (0.125, 1, 3, 1), (0.25, 7, 2, 28), (0.5, 100, 3, 32),
        (0.0625, 10, 1, 96), (0.0625, 10, 3, 250),
    ],
    "resnet20_ln": [(0.0625, 10, 1, 8), (0.25, 1, 3, 1), (1, 100, 3, 32)],
    "resnet20_ln3": [(0.25, 10, 1, 8)],
    "vgg16_ln": [(1 / 64, 10, 1, 8), (0.25, 7, 2, 28), (0.5, 100, 3, 32), (0.0625, 10, 3, 96)],
    "vgg8_ln": [(1 / 64, 1, 1, 1), (0.25, 10, 1, 8)],
    "mlp": [(1 / 512, 10, 1, 8), (0.125, 1, 3, 1), (1, 100, 3, 32)],
    "resnet50": [(0.125, 1, 1, 1), (0.25, 10, 3, 32), (0.375, 7, 2, 65), (1, 1000, 3, 224)],
}  # fmt: skip
CASES = [(name, shape) for name, shapes in SHAPES.items() for shape in shapes]
WIDE = [
    ("resnet20", 16, 32), ("vgg11", 4, 224), ("resnet50", 2, 224), ("vgg16_ln", 4, 32),
    ("resnet20_ln", 32, 32),
]  # fmt: skip


def small(name: str, seed: int | None = None) -> Any:
    generator = None if seed is None else seeded(seed)
    return build(name, width=0.25, classes=10, channels=1, size=8, generator=generator)


@pytest.mark.parametrize("taps", ["last", "authors", "all"])
@pytest.mark.parametrize(("name", "shape"), CASES)
def test_the_groups_are_the_hand_written_ones(
    name: str, shape: tuple[float, int, int, int], taps: str
) -> None:
    """Names, order, sizes, taps, sides, axes and positions."""
    width, classes, channels, size = shape
    model = build(name, width=width, classes=classes, channels=channels, size=size, generator=None)
    found = traced(name, model, taps=taps).spec
    assert found == handwritten(name, model, taps=taps)
    assert list(found.axes) == list(model.state_dict())


@pytest.mark.parametrize(("name", "width", "size"), WIDE)
def test_wide_networks_have_the_hand_written_groups(name: str, width: float, size: int) -> None:
    """Shapes decide: on the meta device there are no weights."""
    with torch.device("meta"):
        model = family(NETWORKS[name]).network(width, 1000, 3, size)
    assert traced(name, model).spec == handwritten(name, model)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_network_is_left_as_it_is_and_its_weights_play_no_part(name: str) -> None:
    model = small(name, seed=1).double().train()
    before = copy.deepcopy(model.state_dict())
    torch.manual_seed(0)
    state = torch.get_rng_state()
    assert traced(name, model).spec == traced(name, small(name)).spec
    assert same(before, model.state_dict()) and all(m.training for m in model.modules())
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("name", NETWORKS)
def test_no_layer_stays(name: str) -> None:
    model = small(name)
    found = trace.trace(model, torch.zeros(2, 1, 8, 8))
    assert found.stay == {}
    # the size of the images of a network that reads any plays no part
    assert named(found, family(NETWORKS[name]).observed("last")) == traced(name, model).spec


def test_another_forward_pass_has_other_groups() -> None:
    """A BatchNorm around a block of stage 1 moves with the stream, though nothing declares it."""
    model = small("resnet20", seed=0)
    model.stage1[1].shortcut = nn.BatchNorm2d(4)
    spec, written = traced("resnet20", model).spec, handwritten("resnet20", model)
    kinds = ("weight", "bias", "running_mean", "running_var")
    around = {f"stage1.1.shortcut.{kind}": ("stage1",) for kind in kinds}
    assert spec.groups == written.groups
    assert spec.axes == written.axes | around | {"stage1.1.shortcut.num_batches_tracked": ()}
    with torch.no_grad():
        model.stage1[1].shortcut.weight.copy_(torch.tensor([1.0, 2, 3, 4]))
    images = torch.randn(8, 1, 8, 8, generator=seeded(1), dtype=torch.float64)
    model.double()
    assert symmetry.prove(model, spec, images, seeded(2)) < 1e-12
    assert symmetry.prove(model, written, images, seeded(2)) > 1e-3


@pytest.mark.parametrize(
    ("block", "layer", "other", "message"),
    [
        # what the block adds to is another stream from here on
        (1, "shortcut", nn.Conv2d(4, 4, 1), r"not declared: \['stage1.1.conv2'\]"),
        # no inner units of the block's own
        (2, "conv1", nn.Identity(), r"not traced: \['stage1.2.conv1'\]"),
    ],
)
def test_a_network_that_no_longer_fits_its_declaration_is_an_error(
    block: int, layer: str, other: nn.Module, message: str
) -> None:
    model = small("resnet20")
    setattr(model.stage1[block], layer, other)
    with pytest.raises(ValueError, match=message):
        traced("resnet20", model)


def _changed(each: Observed, **changes: Any) -> Observed:
    return dataclasses.replace(each, **changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d[1:], r"not declared: \['features.conv1'\]; declared and not traced: \[\]"),
        (lambda d: [*d, d[0]], r"not declared: \[\]; .* not traced: \['features.conv1'\]"),
        (lambda d: [_changed(d[0], layer="features.conv9"), *d[1:]], r"not traced: \['features.conv9'\]"),
        (lambda d: [_changed(d[0], name=d[1].name), *d[1:]], "two groups share a name"),
        (lambda d: [_changed(d[0], tap=d[1].tap), *d[1:]],
         "group conv1: the output of features.relu2 does not show the units of features.conv1"),
        (lambda d: [_changed(d[0], also=(d[1].tap,)), *d[1:]], "the output of features.relu2 does"),
        (lambda d: [_changed(d[0], tap="features.relu"), *d[1:]], "the output of features.relu "),
        # a convolution reads other units than it writes
        (lambda d: [_changed(d[0], side="input", tap="features.conv1"), *d[1:]], "the input of"),
        # the ReLU works in place: what the convolution gave is gone
        (lambda d: [_changed(d[0], tap="features.conv1"), *d[1:]], "the output of features.conv1"),
    ],
)  # fmt: skip
def test_a_wrong_declaration_is_an_error(change: Any, message: str) -> None:
    traced = trace.trace(small("vgg11"), torch.zeros(2, 1, 8, 8))
    declared = vgg.VGG11.observed("last")
    assert named(traced, declared) == handwritten("vgg11", small("vgg11"))
    with pytest.raises(ValueError, match=message):
        named(traced, change(declared))
