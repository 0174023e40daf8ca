"""Laws of the networks: the authors' counts, PyTorch's initialisation, one generator only."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from pipeline.catalog.networks import NETWORKS
from pipeline.errors import UserError
from pipeline.models import build, mlp, prunable_parameters, traced
from pipeline.models.built_in import family
from pipeline.models.parts import ChannelNorm


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def small(name: str, *, size: int = 8, seed: int | None = 0, width: float = 0.25) -> Any:
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    return build(name, width=width, classes=10, channels=1, size=size, generator=generator)


def on_meta(name: str, width: float, classes: int, channels: int, size: int) -> nn.Module:
    """Shapes without memory, for wide networks."""
    with torch.device("meta"):
        made: nn.Module = family(NETWORKS[name]).network(width, classes, channels, size)
    return made


def count(model: nn.Module, names: list[str] | None = None) -> int:
    parameters = dict(model.named_parameters())
    return sum(parameters[name].numel() for name in names or parameters)


@pytest.mark.parametrize(
    ("name", "width", "parameters", "prunable", "shortcut"),
    [
        # 1x1 convolutions around the first blocks: 64x256, 256x512, 512x1024 and 1024x2048
        ("resnet50", 1, 23_528_522, None, 2_768_896),
        ("resnet20", 1, 292_954, 268_336, 23_040),
        ("resnet20", 4, 4_655_434, None, 368_640),
        ("resnet20", 8, 18_600_586, None, 1_474_560),
        ("resnet20", 16, 74_360_074, None, 5_898_240),
        ("vgg11", 1, 9_225_610, 9_222_848, 0),
        # with a 3x3 shortcut it has the parameters of ResNet20 with BatchNorm
        ("resnet20_ln", 4, 4_327_754, None, 40_960),
        ("resnet20_ln3", 4, 4_655_434, None, 368_640),
        ("vgg16_ln", 1, 14_728_266, None, 0),
        ("vgg8_ln", 0.25, 284_106, None, 0),
    ],
)
def test_parameter_counts_are_the_authors(
    name: str, width: float, parameters: int, prunable: int | None, shortcut: int
) -> None:
    model = on_meta(name, width, 10, 3, 32)
    everything = count(model, prunable_parameters(model, "all"))
    without = count(model, prunable_parameters(model, "no-shortcut"))
    assert count(model) == parameters
    assert everything - without == shortcut
    assert prunable in (None, without)


def flops(model: nn.Module, channels: int, size: int) -> int:
    with FlopCounterMode(display=False) as counter:
        model.eval()(torch.empty(1, channels, size, size, device="meta"))
    return int(counter.get_total_flops())


#: Classes for which the catalog counts parameters, where they are not 10.
CLASSES = {"resnet50": 1000}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_catalog_counts_what_the_modules_have_at_width_1(name: str) -> None:
    info = NETWORKS[name]
    size = info.counts.size
    assert size is not None
    model = on_meta(name, 1, CLASSES.get(name, 10), 3, size)
    assert info.parameters(1) == count(model)
    assert info.forward_flops(1, size) == flops(model, 3, size)


#: How far an estimate may be off, as a factor: at the widths of the paper, and at narrow ones.
OFF = {
    "resnet20": (1.02, 1.2), "vgg11": (1.03, 1.3), "resnet50": (1.1, 2.5),
    "resnet20_ln": (1.02, 1.2), "vgg16_ln": (1.03, 1.3), "vgg8_ln": (1.03, 1.3), "mlp": (1.25, 1.5),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "width", "classes", "channels", "size"),
    [
        *(("resnet20", w, 10, 3, 32) for w in (0.125, 0.25, 0.5, 1, 2, 4, 8, 16)),
        ("resnet20", 1, 100, 3, 32), ("resnet20", 0.5, 10, 1, 8), ("resnet20", 1, 10, 1, 28),
        *(("vgg11", w, 10, 3, 32) for w in (0.125, 0.5, 2, 4)),
        ("vgg11", 1, 100, 3, 64), ("vgg11", 0.5, 10, 1, 28),
        *(("resnet20_ln", w, 10, 3, 32) for w in (0.5, 2, 32)),
        *(("vgg16_ln", w, 10, 3, 32) for w in (0.125, 4)),
        *(("vgg8_ln", w, 10, 3, 32) for w in (0.25, 0.5)), *(("mlp", w, 10, 3, 32) for w in (0.125, 0.5, 4)),
        ("resnet50", 2, 1000, 3, 224), ("resnet50", 1, 10, 3, 64), ("resnet50", 0.25, 10, 3, 64),
    ],
)  # fmt: skip
def test_estimates_at_other_widths_and_sizes_are_near(
    name: str, width: float, classes: int, channels: int, size: int
) -> None:
    model = on_meta(name, width, classes, channels, size)
    off = OFF[name][width < 1 or size < 32]
    for found, real in (
        (NETWORKS[name].parameters(width), count(model)),
        (NETWORKS[name].forward_flops(width, size), flops(model, channels, size)),
    ):
        assert 1 / off < found / real < off, found / real


def test_the_catalog_needs_no_torch() -> None:
    code = "import sys, pipeline.catalog.networks; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("name", NETWORKS)
def test_initial_bits_depend_on_the_given_generator_alone(name: str) -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = small(name).state_dict()
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(2)
    second, other = small(name).state_dict(), small(name, seed=1).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)


def test_vgg_starts_from_pytorchs_own_initialisation() -> None:
    """Our draws equal those of every layer's own `reset_parameters` under the same seed."""
    ours, theirs = small("vgg11", seed=5), small("vgg11", seed=None)
    torch.manual_seed(5)
    for module in theirs.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.reset_parameters()
    for key, tensor in ours.state_dict().items():
        assert torch.equal(tensor, theirs.state_dict()[key]), key
    for module in ours.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            bound = 1 / math.sqrt(module.weight[0].numel())
            assert 0.9 * bound < module.weight.abs().max() <= bound
            assert module.bias is not None and module.bias.abs().max() <= bound


def test_resnet_starts_from_kaiming_normal_fan_in() -> None:
    model = small("resnet20", width=1)
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            spread = module.weight.std() * math.sqrt(module.weight[0].numel() / 2)
            assert spread.item() == pytest.approx(1, abs=5 / math.sqrt(module.weight.numel())), name
        if isinstance(module, nn.Conv2d):
            assert module.bias is None
        if isinstance(module, nn.BatchNorm2d):
            fresh = nn.BatchNorm2d(module.num_features).state_dict()
            assert all(torch.equal(fresh[key], value) for key, value in module.state_dict().items())
    assert 0 < model.classifier.bias.abs().max() <= 1 / math.sqrt(64)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_without_generator_shows_that_nothing_was_loaded(name: str) -> None:
    images = torch.randn(4, 1, 8, 8)
    empty, full = small(name, seed=None), small(name)
    assert empty.eval()(images).isnan().all()
    empty.load_state_dict(full.state_dict())
    assert torch.equal(empty.eval()(images), full.eval()(images))


@pytest.mark.parametrize("name", ["resnet20_ln", "vgg16_ln", "vgg8_ln", "mlp"])
def test_networks_of_sharma_start_from_kaiming_normal_and_plain_norms(name: str) -> None:
    model = small(name, width=0.5)
    norms = 0
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            spread = module.weight.std() * math.sqrt(module.weight[0].numel() / 2)
            assert spread.item() == pytest.approx(1, abs=5 / math.sqrt(module.weight.numel()))
            assert (module.bias is None) is (name == "resnet20_ln" and module.weight.ndim == 4)
        assert not isinstance(module, nn.BatchNorm2d)
        if isinstance(module, ChannelNorm):
            norms += 1
            assert torch.equal(module.weight, torch.ones(module.normalized_shape))
            assert torch.equal(module.bias, torch.zeros(module.normalized_shape))
    # behind each convolution, those of two shortcuts included
    assert norms == {"resnet20_ln": 19 + 2, "vgg16_ln": 13, "vgg8_ln": 6, "mlp": 0}[name]


def test_nothing_is_built_of_memory_that_nobody_wrote(monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer that no rule fills is refused, not left as it lay in memory."""
    monkeypatch.setattr(mlp, "network", lambda **_: nn.Sequential(nn.PReLU()))
    with pytest.raises(TypeError, match="PReLU"):
        small("mlp")


def test_layer_norm_over_channels_is_that_of_each_position() -> None:
    """The mean and variance of one pixel's channels; permuting channels permutes the result."""
    norm, images = ChannelNorm(6).double(), torch.randn(3, 6, 4, 5, generator=seeded(0)).double()
    with torch.no_grad():
        norm.weight.copy_(torch.randn(6, generator=seeded(1)))
        norm.bias.copy_(torch.randn(6, generator=seeded(2)))
    pixel = images[1, :, 2, 3]
    spread = ((pixel - pixel.mean()).square().mean() + 1e-5).sqrt()
    expected = (pixel - pixel.mean()) / spread * norm.weight + norm.bias
    assert torch.allclose(norm(images)[1, :, 2, 3], expected, rtol=1e-12)
    order = torch.randperm(6, generator=seeded(3))
    moved = ChannelNorm(6).double()
    moved.load_state_dict({key: tensor[order] for key, tensor in norm.state_dict().items()})
    assert (moved(images[:, order]) - norm(images)[:, order]).abs().max() < 1e-14


def test_vgg16_at_32_pixels_is_that_of_sharma() -> None:
    model = small("vgg16_ln", width=1, size=32)
    plan = [
        module.out_channels if isinstance(module, nn.Conv2d) else "M"
        for module in model.features
        if isinstance(module, nn.Conv2d | nn.MaxPool2d)
    ]
    two, four, eight = [128] * 2, [256] * 3, [512] * 3
    assert plan == [64, 64, "M", *two, "M", *four, "M", *eight, "M", *eight]
    # a 2x2 average pool of what four max pools leave of 32 pixels is the mean over positions
    features = model.features(torch.randn(2, 1, 32, 32, generator=seeded(0)))
    pooled = nn.functional.avg_pool2d(features, 2).flatten(1)
    assert torch.allclose(model.classifier(pooled), model.classifier(features.mean((2, 3))))
    assert model.classifier.weight.shape == (10, 512)


@pytest.mark.parametrize(("name", "kernel"), [("resnet20_ln", 1), ("resnet20_ln3", 3)])
def test_the_shortcut_of_resnet_with_layer_norm_is_a_setting(name: str, kernel: int) -> None:
    model = small(name)
    for stage in (model.stage2, model.stage3):
        convolution = stage[0].shortcut.conv
        assert convolution.kernel_size == (kernel, kernel) and convolution.stride == (2, 2)


def test_resnet_is_the_authors_network() -> None:
    model = small("resnet20", width=1, size=32)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.named_parameters()}
    assert sum(len(shape) == 4 for shape in shapes.values()) == 19 + 2
    for stage, (inputs, outputs) in enumerate([(16, 16), (16, 32), (32, 64)], start=1):
        for block in range(3):
            module: Any = model.get_submodule(f"stage{stage}.{block}")
            changes = stage > 1 and block == 0
            assert module.conv1.stride == ((2, 2) if changes else (1, 1))
            assert isinstance(module.shortcut, nn.Identity) is not changes
            if changes:
                assert module.shortcut.conv.weight.shape == (outputs, inputs, 3, 3)
                assert module.shortcut.conv.stride == (2, 2)
                assert isinstance(module.shortcut.bn, nn.BatchNorm2d)


def test_vgg_at_32_pixels_is_the_authors_network() -> None:
    model = small("vgg11", width=1, size=32)
    plan = [
        module.out_channels if isinstance(module, nn.Conv2d) else "M"
        for module in model.features
        if not isinstance(module, nn.ReLU)
    ]
    assert plan == [64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"]
    assert model.classifier.weight.shape == (10, 512)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("size", [1, 2, 7, 8, 28, 31, 33, 64])
def test_any_image_size_works(name: str, size: int) -> None:
    model = small(name, size=size, width=0.125).eval()
    assert model(torch.zeros(2, 1, size, size)).shape == (2, 10)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("width", [0, -1, 0.3, 1 / 1024, math.nan, math.inf, "1", True])
def test_a_width_without_whole_channels_is_refused_in_one_line(name: str, width: float) -> None:
    message = NETWORKS[name].width_error(width)
    assert message is not None and name in message and "\n" not in message
    with pytest.raises(UserError, match="whole number"):
        small(name, width=width)


@pytest.mark.parametrize("width", [1 / 16, 0.5, 1.5, 3])
def test_fractional_widths_with_whole_channels_are_fine(width: float) -> None:
    assert NETWORKS["resnet20"].width_error(width) is None
    assert small("resnet20", width=width).conv1.out_channels == 16 * width


def test_unknown_words_are_refused() -> None:
    model = small("resnet20")
    with pytest.raises(UserError, match=r"mlp, resnet20, .*, vgg8_ln"):
        small("resnet18")
    with pytest.raises(UserError, match="all, authors, last"):
        traced("resnet20", model, taps="first")
    with pytest.raises(UserError, match="all, no-head, no-shortcut"):
        prunable_parameters(model, "some")
    with pytest.raises(UserError, match="size"):
        small("vgg11", size=0)


@pytest.mark.parametrize("name", NETWORKS)
def test_prunable_parameters_are_all_conv_and_linear_weights_in_module_order(name: str) -> None:
    model = small(name)
    expected = [key for key, tensor in model.named_parameters() if tensor.ndim > 1]
    assert prunable_parameters(model, "all") == expected
    head = "fc.weight" if name == "resnet50" else "classifier.weight"
    assert prunable_parameters(model, "no-head") == [key for key in expected if key != head]


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_trace_and_take_channels_last_and_bfloat16(name: str) -> None:
    model = small(name).eval()
    images = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    logits = model(images)
    assert torch.equal(torch.fx.symbolic_trace(model)(images), logits)
    off = 0.1 if name.startswith("resnet20_ln") else 0.05  # LayerNorm of four channels: large steps
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.allclose(model(images).float(), logits, atol=off * logits.abs().max().item())
    model.to(memory_format=torch.channels_last)
    last = model(images.to(memory_format=torch.channels_last))
    assert torch.allclose(last, logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("taps", ["last", "authors", "all"])
@pytest.mark.parametrize("name", NETWORKS)
def test_taps_see_the_groups_units_after_their_relu(name: str, taps: str) -> None:
    model = small(name, size=32).eval()
    spec = traced(name, model, taps=taps).spec
    seen: dict[str, int] = {}
    least: list[float] = []

    def look(name: str, activation: Tensor) -> None:
        seen[name] = activation.shape[1]
        least.append(activation.min().item())

    for group, tap in [(each, tap) for each in spec.groups for tap in (each.tap, *each.also)]:
        module = model.get_submodule(tap)
        if group.side == "output":
            module.register_forward_hook(
                lambda module, inputs, output, name=group.name: look(name, output)
            )
        else:
            module.register_forward_pre_hook(
                lambda module, inputs, name=group.name: look(name, inputs[0])
            )
    model(torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(0)))
    assert seen == spec.sizes
    assert len(least) == sum(1 + len(group.also) for group in spec.groups) and min(least) == 0
    assert any(group.also for group in spec.groups) is (taps == "all" and name.startswith("resnet"))


def test_resnet50_is_torchvisions() -> None:
    """The same tensors and the same function at width 1, and its initialisation at any."""
    from torchvision.models import resnet50 as reference

    ours = build("resnet50", width=1, classes=10, channels=3, size=64, generator=seeded(3)).eval()
    theirs = reference(num_classes=10).eval()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())
    images = torch.randn(2, 3, 64, 64, generator=seeded(4))
    with torch.inference_mode():
        assert torch.equal(ours(images), theirs(images))
    again = small("resnet50", seed=5, size=32).state_dict()
    torch.manual_seed(5)
    narrow = small("resnet50", seed=None, size=32)
    for name, module in narrow.named_modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            module.reset_parameters()
        elif isinstance(module, nn.BatchNorm2d):
            assert torch.equal(again[f"{name}.weight"], torch.ones(module.num_features))
    for name, tensor in narrow.state_dict().items():
        assert torch.equal(tensor, again[name]), name


def test_width_2_of_resnet50_is_the_papers() -> None:
    """Outer channels twice, inner ones four times as many: 271 million parameters."""
    model = on_meta("resnet50", 2, 1000, 3, 224)
    assert round(count(model) / 1e6) == 271
    block: Any = model.get_submodule("layer1.1")
    assert (block.conv1.in_channels, block.conv1.out_channels) == (512, 256)


@pytest.mark.parametrize("width", [0.75, 0.5, 0.25, 0.125])
def test_narrow_bottlenecks_have_whole_channels(width: float) -> None:
    model = small("resnet50", size=32, width=width)
    assert model.layer1[0].conv2.out_channels == 64 * width * width


def test_a_bottleneck_needs_the_square_of_its_width_whole() -> None:
    message = NETWORKS["resnet50"].width_error(1 / 64)
    assert message is not None and "width²" in message


def test_resnet50_has_a_group_per_pass_of_the_authors() -> None:
    """Two inner groups for each of 16 blocks, four streams and the stem: 37."""
    spec = traced("resnet50", small("resnet50")).spec
    streams = [group.name for group in spec.groups if "." not in group.name]
    assert streams == ["stem", "layer1", "layer2", "layer3", "layer4"]
    assert len(spec.groups) == 2 * 16 + 5
    assert spec.axes["layer1.0.downsample.0.weight"][:2] == ("layer1", "stem")
    assert spec.axes["layer1.0.conv1.weight"][:2] == ("layer1.0.inner1", "stem")
    assert spec.axes["layer1.0.conv2.weight"][:2] == ("layer1.0.inner2", "layer1.0.inner1")


def test_the_authors_tap_differs_in_stage_3_alone() -> None:
    model = small("resnet20")
    last, authors = (traced("resnet20", model, taps=taps).spec for taps in ("last", "authors"))
    assert last.axes == authors.axes
    differing = [(a.tap, b.tap) for a, b in zip(last.groups, authors.groups, strict=True) if a != b]
    assert differing == [("stage3.2.relu2", "stage3.1.relu2")]
    assert [group.name for group in last.groups if "." not in group.name] == [
        "stage1",
        "stage2",
        "stage3",
    ]
    assert len(last.groups) == 9 + 3
