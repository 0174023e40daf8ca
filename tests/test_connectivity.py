"""Merged networks, their correction, barriers and loss planes."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional

from pipeline.catalog.networks import NETWORKS
from pipeline.connectivity import survey as survey_module
from pipeline.connectivity.barrier import barrier, curve
from pipeline.connectivity.correction import (
    CORRECTIONS,
    blocks,
    endpoint_statistics,
    measured_modules,
    mix_statistics,
    repair,
    repaired_blocks,
    reset_batch_norm,
)
from pipeline.connectivity.merge import combine, interpolate
from pipeline.connectivity.plane import project, span, survey_plane
from pipeline.connectivity.survey import Ground
from pipeline.data.augment import normalise
from pipeline.evaluation import evaluate
from pipeline.models import build

MEAN, STD = (0.45,), (0.25,)
CLASSES = 4
BATCH = 32


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv, self.bn = (
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x):
        return functional.relu(x + self.bn(self.conv(x)), inplace=True)


def with_norm():
    stem = [nn.Conv2d(1, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU(inplace=True)]
    return nn.Sequential(
        *stem, Block(6), Block(6), nn.AvgPool2d(6), nn.Flatten(), nn.Linear(6, CLASSES)
    )


def without_norm():
    convs = [nn.Conv2d(1, 6, 3), nn.ReLU(inplace=True), nn.Conv2d(6, 8, 3), nn.ReLU(inplace=True)]
    return nn.Sequential(*convs, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32, CLASSES))


def resnet20():
    return build("resnet20", width=0.25, classes=CLASSES, channels=1, size=8, generator=draw(9))


def vgg11():
    return build("vgg11", width=0.125, classes=CLASSES, channels=1, size=8, generator=draw(9))


#: Those for networks without blocks, too.
PLAIN = tuple(name for name in CORRECTIONS if name != "repair-blocks")
NETS = {net.__name__: net for net in (with_norm, without_norm, resnet20, vgg11)}
SMALL = {"with_norm": with_norm, "without_norm": without_norm}


def draw(seed):
    return torch.Generator().manual_seed(seed)


def split(seed=0, images=96):
    """Four kinds of stripes in noise: something to learn, and images to measure on."""
    generator = draw(seed)
    labels = torch.randint(0, CLASSES, (images,), generator=generator)
    stripes = torch.stack([torch.sin(torch.arange(8) * (1 + 0.6 * c)) for c in range(CLASSES)])
    clean = 128 + 70 * stripes[labels][:, None, None, :].expand(-1, 1, 8, -1)
    noisy = clean + 40 * torch.randn(images, 1, 8, 8, generator=generator)
    return SimpleNamespace(images=noisy.clamp(0, 255).to(torch.uint8), labels=labels)


def randomised(net, seed):
    """State dict of a network with every tensor at random, BatchNorm weights of both signs."""
    model = NETS[net]()
    generator = draw(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                fan_in = module.weight[0].numel()
                module.weight.normal_(0, (2 / fan_in) ** 0.5, generator=generator)
                if module.bias is not None:
                    module.bias.normal_(0, 0.2, generator=generator)
            if isinstance(module, nn.BatchNorm2d):
                module.weight.normal_(0, 1, generator=generator)
                module.bias.normal_(0, 0.2, generator=generator)
                module.running_mean.normal_(0, 0.3, generator=generator)
                module.running_var.uniform_(0.5, 2, generator=generator)
                module.num_batches_tracked.fill_(seed)
    return model.state_dict()


def loaded(net, theta):
    model = NETS[net]()
    model.load_state_dict(theta)
    return model.eval()


def trained(net, seed):
    torch.manual_seed(seed)
    model, data = NETS[net](), split(1, 256)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    images = normalise(data.images, MEAN, STD)
    for step in range(60):
        batch = torch.arange(64) + 64 * (step % 4)
        optimiser.zero_grad()
        functional.cross_entropy(model(images[batch]), data.labels[batch]).backward()
        optimiser.step()
    return model.state_dict()


def statistics_batches(batch_size=BATCH, seed=2):
    return Ground.of_images(None, {}, MEAN, STD, split(seed).images, batch_size).batches


def merged_and_targets(net, alpha, batches, seeds=(1, 2)):
    a, b = (randomised(net, seed) for seed in seeds)
    statistics = [endpoint_statistics(loaded(net, theta), batches) for theta in (a, b)]
    merged = loaded(net, interpolate(a, b, alpha))
    return merged, mix_statistics(statistics, (1 - alpha, alpha))


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


# --- interpolation


@pytest.mark.parametrize("net", SMALL)
def test_interpolation_is_equation_3(net):
    a, b = randomised(net, 1), randomised(net, 2)
    merged = interpolate(a, b, 0.3)
    for name, tensor in merged.items():
        if tensor.is_floating_point():
            assert torch.allclose(tensor, 0.7 * a[name] + 0.3 * b[name], atol=1e-6)
        else:
            assert torch.equal(tensor, b[name])
    assert equal(interpolate(a, b, 0.0), a)
    assert equal(interpolate(a, b, 1.0), b)
    assert equal(interpolate(a, a, 0.3), a)
    assert equal(combine((a, b), (0.0, 1.0)), b)
    assert all(merged[n].data_ptr() not in (a[n].data_ptr(), b[n].data_ptr()) for n in merged)
    halves = combine((a, b), (0.7, 0.3))
    assert all(torch.allclose(halves[n], merged[n], atol=1e-6) for n in merged if "num" not in n)


def test_only_equal_architectures_are_merged():
    a, b = randomised("with_norm", 1), randomised("without_norm", 1)
    with pytest.raises(ValueError, match="one network only"):
        interpolate(a, b, 0.5)
    b = {name: tensor[:1] if name == "7.bias" else tensor for name, tensor in a.items()}
    with pytest.raises(ValueError, match=r"7.bias has shapes \(4,\) and \(1,\)"):
        interpolate(a, b, 0.5)
    with pytest.raises(ValueError, match=r"allowed is \[0, 1\]"):
        interpolate(a, a, 1.5)


# --- statistics and corrections


@pytest.mark.parametrize("net", NETS)
def test_endpoint_statistics_are_those_of_all_images_at_once(net):
    model = loaded(net, randomised(net, 1))
    streamed = endpoint_statistics(model, statistics_batches(20))
    kind = nn.BatchNorm2d if net in ("with_norm", "resnet20") else nn.Conv2d
    assert list(streamed) == [n for n, m in model.named_modules() if isinstance(m, kind)]
    outputs = {}
    for name in streamed:
        model.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: outputs.update({name: output.double()})
        )
    with torch.no_grad():
        model(next(iter(statistics_batches(1000)())))
    for name, (mean, std) in streamed.items():
        assert mean.dtype == std.dtype == torch.float64
        assert torch.allclose(mean, outputs[name].mean((0, 2, 3)), atol=1e-5)
        assert torch.allclose(std, outputs[name].std((0, 2, 3), correction=0), atol=1e-5)


def test_reset_is_torchs_cumulative_average():
    theta = randomised("with_norm", 1)
    ours, theirs = loaded("with_norm", theta), loaded("with_norm", theta)
    ours.train()
    reset_batch_norm(ours, statistics_batches(20))
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    theirs.train()
    with torch.no_grad():
        for batch in statistics_batches(20)():
            theirs(batch)
    assert equal(ours.state_dict(), theirs.state_dict())
    assert ours[1].momentum == 0.1
    assert all(module.training for module in ours.modules())


def test_reset_without_norm_changes_nothing():
    theta = randomised("without_norm", 1)
    model = loaded("without_norm", theta)
    reset_batch_norm(model, statistics_batches())
    assert equal(model.state_dict(), theta)


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("alpha", [0.25, 0.5])
def test_repair_meets_its_targets(net, alpha):
    """Eq. 2.17, exactly: one batch is the whole data, so batch and pooled moments are the same."""
    batches = statistics_batches(1000)
    merged, targets = merged_and_targets(net, alpha, batches)
    before = {name: tensor.clone() for name, tensor in merged.state_dict().items()}
    repair(merged, batches, targets)
    for name, (mean, std) in endpoint_statistics(merged, batches).items():
        scale = targets[name][1].max()
        assert torch.allclose(mean, targets[name][0], atol=1e-4 * scale)
        assert torch.allclose(std, targets[name][1], rtol=1e-4, atol=1e-4 * scale)
    after = merged.state_dict()
    assert after.keys() == before.keys()
    last = [name for name in before if name.endswith(("weight", "bias"))][-2:]
    assert all(torch.equal(after[name], before[name]) for name in last)  # the classifier


@pytest.mark.parametrize("net", ["with_norm", "resnet20"])
def test_repair_over_batches_meets_its_targets_in_training_mode(net):
    batches = statistics_batches(24)
    merged, targets = merged_and_targets(net, 0.5, batches)
    repair(merged, batches, targets)
    outputs = {name: [] for name in targets}
    for name in targets:
        module = merged.get_submodule(name)
        # What the layer makes of a batch by the batch's own statistics is wanted std and mean, up
        # to the batch's share of the pooled variance.
        module.register_forward_hook(
            lambda module, inputs, output, name=name: outputs[name].append(output.double())
        )
    merged.train()
    with torch.no_grad():
        for batch in batches():
            merged(batch)
    for name, (mean, std) in targets.items():
        values = torch.cat(outputs[name])
        assert torch.allclose(values.mean((0, 2, 3)), mean, atol=1e-5)
        assert torch.allclose(values.std((0, 2, 3), correction=0), std, rtol=0.01, atol=1e-5)


@pytest.mark.parametrize("net", NETS)
def test_repair_of_two_equal_networks_keeps_the_function(net):
    """BatchNorm weights of either sign keep it, and a layer's eps does not shrink its output."""
    batches = statistics_batches(1000)
    theta = randomised(net, 1)
    if net == "with_norm":
        theta["0.weight"] *= 0.01  # variance below eps
    original, merged = loaded(net, theta), loaded(net, theta)
    statistics = endpoint_statistics(original, batches)
    repair(merged, batches, mix_statistics((statistics, statistics), (0.5, 0.5)))
    with torch.no_grad():
        images = next(iter(batches()))
        expected, found = original(images), merged(images)
    assert torch.allclose(found, expected, atol=1e-3 * float(expected.abs().max()))


# --- REPAIR and a reset on networks with BatchNorm -------------------------------------------


def positive(net, seed):
    """As ``randomised``, BatchNorm's weights above zero, as training leaves them."""
    theta = randomised(net, seed)
    norms = [n for n, m in NETS[net]().named_modules() if isinstance(m, nn.BatchNorm2d)]
    return {n: t.abs() if n.removesuffix(".weight") in norms else t for n, t in theta.items()}


def logits_after(net, theta, batches, correct):
    model = loaded(net, theta)
    correct(model)
    with torch.no_grad():
        return torch.cat([model(batch) for batch in batches()])


@pytest.mark.parametrize("net", ["with_norm", "resnet20"])
def test_in_training_mode_a_norms_output_has_the_moments_of_its_own_weights(net):
    """Mean beta and standard deviation |gamma| whatever comes in: nothing for REPAIR to mix."""
    theta = randomised(net, 1)
    model = loaded(net, theta)
    found = endpoint_statistics(model, statistics_batches(96), training=True)
    for name, (mean, std) in found.items():
        norm = model.get_submodule(name)
        torch.testing.assert_close(mean, norm.bias.double(), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(std, norm.weight.abs().double(), rtol=1e-2, atol=1e-4)
    assert equal(model.state_dict(), theta)


@pytest.mark.parametrize("net", ["with_norm", "resnet20"])
def test_repair_at_norms_is_a_reset_by_construction(net):
    """Ends measured in training mode: the same function as a reset gives, to rounding and eps.

    Ends measured in evaluation mode, by their running statistics, make all the difference there is.
    """
    batches, alpha = Ground.of_images(None, {}, MEAN, STD, split(2, 1024).images, 1024).batches, 0.4
    a, b = (positive(net, seed) for seed in (1, 2))
    merged = interpolate(a, b, alpha)

    def repaired(training):
        ends = [endpoint_statistics(loaded(net, t), batches, training=training) for t in (a, b)]
        targets = mix_statistics(ends, (1 - alpha, alpha))
        return logits_after(net, merged, batches, lambda model: repair(model, batches, targets))

    reset = logits_after(net, merged, batches, lambda model: reset_batch_norm(model, batches))
    scale = float(reset.std())
    in_training, in_evaluation = (
        float((repaired(training) - reset).abs().max()) / scale for training in (True, False)
    )
    # what is left: eps, and the unbiased variance of a reset, over the layers
    assert in_training < 0.01
    assert in_evaluation > 100 * in_training


def test_blocks_are_the_residual_blocks():
    stages = [f"stage{stage}.{block}" for stage in (1, 2, 3) for block in range(3)]
    assert list(blocks(resnet20())) == stages
    fifty = build("resnet50", width=0.125, classes=CLASSES, channels=3, size=64, generator=draw(9))
    assert [type(block).__name__ for block in blocks(fifty).values()] == ["Bottleneck"] * 16
    for net in (vgg11(), with_norm()):  # without BatchNorm, and with one to a block
        with pytest.raises(ValueError, match="blocks of several BatchNorm layers"):
            blocks(net)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_catalogue_knows_which_networks_have_blocks(name):
    made = build(name, width=0.125, classes=CLASSES, channels=3, size=64, generator=draw(9))
    if NETWORKS[name].blocks:
        assert blocks(made)
    else:
        with pytest.raises(ValueError, match="there are none"):
            blocks(made)


def ends_at_blocks(batches, *thetas):
    names = blocks(resnet20())
    return [
        endpoint_statistics(loaded("resnet20", t), batches, names=names, training=True)
        for t in thetas
    ]


def test_repair_at_blocks_meets_its_targets_and_leaves_nothing_behind():
    batches, alpha = statistics_batches(96), 0.5
    a, b = (randomised("resnet20", seed) for seed in (1, 2))
    model = loaded("resnet20", interpolate(a, b, alpha))
    ends = ends_at_blocks(batches, a, b)
    targets = mix_statistics(ends, (1 - alpha, alpha))
    with repaired_blocks(model, batches, targets):
        # hooks of the measurement come after those of the correction, and see what they return
        found = endpoint_statistics(model, batches, names=blocks(model))
        inside = model(next(iter(batches())))
    for name, (mean, std) in targets.items():
        torch.testing.assert_close(found[name][0], mean, rtol=0.03, atol=0.03)
        live = found[name][1] > 0  # a channel that is dead in the merged network has no spread
        torch.testing.assert_close(found[name][1][live], std[live], rtol=0.03, atol=0.03)
        assert live.double().mean() >= 0.75
    with torch.no_grad():
        assert not torch.allclose(model(next(iter(batches()))), inside)
    assert not any(module._forward_hooks for module in model.modules())


def test_repair_at_blocks_of_two_equal_networks_is_a_reset():
    batches = statistics_batches(96)
    theta = randomised("resnet20", 1)
    targets = mix_statistics(ends_at_blocks(batches, theta, theta), (0.5, 0.5))
    model = loaded("resnet20", theta)
    reset = logits_after("resnet20", theta, batches, lambda model: reset_batch_norm(model, batches))
    with repaired_blocks(model, batches, targets), torch.no_grad():
        found = torch.cat([model(batch) for batch in batches()])
    torch.testing.assert_close(found, reset, rtol=1e-3, atol=1e-4)


def test_repair_at_blocks_is_another_function_than_a_reset():
    """The sum of a block's two branches has other moments in the merged network than in the ends."""
    batches = statistics_batches(96)
    a, b = (positive("resnet20", seed) for seed in (1, 2))
    merged = interpolate(a, b, 0.5)
    targets = mix_statistics(ends_at_blocks(batches, a, b), (0.5, 0.5))
    reset = logits_after("resnet20", merged, batches, lambda m: reset_batch_norm(m, batches))
    model = loaded("resnet20", merged)
    with repaired_blocks(model, batches, targets), torch.no_grad():
        found = torch.cat([model(batch) for batch in batches()])
    assert float((found - reset).abs().max() / reset.std()) > 0.1


def test_a_curve_has_rows_of_repair_at_blocks():
    a, b = (positive("resnet20", seed) for seed in (1, 2))
    rows = the_curve("resnet20", a, b, CORRECTIONS)
    middle = {
        r["correction"]: r["loss"] for r in rows if r["alpha"] == 0.5 and r["split"] == "train"
    }
    assert len(set(middle.values())) == 4 and all(map(math.isfinite, middle.values()))
    alone = the_curve("resnet20", a, b, ("repair-blocks",))
    assert [r for r in rows if r["correction"] == "repair-blocks"] == alone


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("net", SMALL)
def test_channels_without_variance_stay_finite(net, precision):
    batches = statistics_batches(1000)
    theta = randomised(net, 1)
    theta["0.weight"][:2] = 0.0
    if net == "with_norm":
        theta["1.weight"][2] = 0.0
    else:
        theta["0.bias"][:2] = 0.1234567  # constant up to rounding, not exactly 0
    other = randomised(net, 2)
    other["0.weight"][0] = 0.0
    if net == "with_norm":
        other["1.weight"][2] = 0.0
    statistics = [
        endpoint_statistics(loaded(net, t), batches, precision=precision) for t in (theta, other)
    ]
    merged = loaded(net, interpolate(theta, other, 0.5))
    targets = mix_statistics(statistics, (0.5, 0.5))
    repair(merged, batches, targets, precision=precision)
    assert all(bool(t.isfinite().all()) for t in merged.state_dict().values())
    # Weights that were zero are zero: a mask survives.
    assert torch.equal(merged[0].weight[0], torch.zeros_like(merged[0].weight[0]))
    measured = endpoint_statistics(merged, batches, precision=precision)
    tolerance = {"fp32": 1e-4, "bf16": 3e-2}[precision]
    name = "1" if net == "with_norm" else "0"
    for found, wanted in zip(measured[name], targets[name], strict=True):
        assert torch.allclose(found[1:], wanted[1:], rtol=tolerance, atol=tolerance)
    assert measured[name][0][0] == pytest.approx(float(targets[name][0][0]), abs=tolerance)


@pytest.mark.parametrize("net", SMALL)
def test_rounding_noise_is_not_taken_for_variance(net):
    batches = statistics_batches(1000)
    merged, targets = merged_and_targets(net, 0.5, batches)
    first, measured = ("0", "0") if net == "without_norm" else ("3.conv", "3.bn")
    conv = merged.get_submodule(first)
    conv.bias = nn.Parameter(torch.zeros(6) if conv.bias is None else conv.bias)
    with torch.no_grad():
        conv.weight[0] *= 1e-8
        conv.bias[0] = 1.0
    repair(merged, batches, targets)
    mean, std = endpoint_statistics(merged, batches)[measured]
    assert float(mean[0]) == pytest.approx(float(targets[measured][0][0]), abs=1e-4)
    assert float(std[0]) < 1e-3


@pytest.mark.parametrize("net", SMALL)
def test_collapsed_variance_is_restored(net):
    """The mean of two independent networks loses variance; REPAIR gives it back."""
    batches = statistics_batches(1000)
    merged, targets = merged_and_targets(net, 0.5, batches)
    if net == "with_norm":
        reset_batch_norm(merged, batches)
    name = list(targets)[-1]
    wanted = float(targets[name][1].mean())

    def found():
        return float(endpoint_statistics(merged, batches)[name][1].mean())

    assert found() < 0.8 * wanted
    repair(merged, batches, targets)
    assert found() == pytest.approx(wanted, rel=1e-3)


def test_mixed_targets_mix_standard_deviations():
    first = {"bn": (torch.tensor([1.0, 0.0]), torch.tensor([1.0, 2.0]))}
    second = {"bn": (torch.tensor([3.0, 4.0]), torch.tensor([3.0, 0.0]))}
    mean, std = mix_statistics((first, second), (0.75, 0.25))["bn"]
    assert mean.tolist() == [1.5, 1.0]
    assert std.tolist() == [1.5, 1.5]
    assert mix_statistics((first, second), (1.5, -0.5))["bn"][1].tolist() == [0.0, 3.0]


def test_repair_needs_a_place_for_its_result():
    linear = nn.Sequential(nn.Flatten(), nn.Linear(64, CLASSES))
    with pytest.raises(ValueError, match="neither"):
        endpoint_statistics(linear, statistics_batches())
    no_bias = nn.Sequential(nn.Conv2d(1, 2, 3, bias=False))
    with pytest.raises(ValueError, match="needs a bias in 0"):
        endpoint_statistics(no_bias, statistics_batches())
    with pytest.raises(ValueError, match="not those of this network"):
        repair(with_norm(), statistics_batches(), {})


# --- curves and barriers


def two_splits():
    return {"train": split(1, 120), "test": split(3, 60)}


def ground(model, **changes):
    return replace(
        Ground.of_images(model, two_splits(), MEAN, STD, split(2).images, BATCH), **changes
    )


def the_curve(net, a, b, corrections=PLAIN, **changes):
    on = ground(NETS[net](), **changes)
    return curve(on, a, b, alphas=(0.25, 0.5, 0.75), corrections=corrections)


@pytest.mark.parametrize("net", SMALL)
def test_curve_rows(net):
    a, b = randomised(net, 1), randomised(net, 2)
    rows = the_curve(net, a, b)
    assert len(rows) == 5 * 3 * 2
    assert list(rows[0]) == ["alpha", "correction", "split", "loss", "error"]
    assert [row["alpha"] for row in rows] == sorted(row["alpha"] for row in rows)
    found = {(r["alpha"], r["correction"], r["split"]): (r["loss"], r["error"]) for r in rows}
    for name, data in two_splits().items():
        for alpha in (0.0, 0.5, 1.0):
            alone = loaded(net, interpolate(a, b, alpha))
            result = evaluate(alone, data.images, data.labels, MEAN, STD, batch_size=BATCH)
            corrections = ["none"] if alpha == 0.5 else PLAIN  # end points are not corrected
            for correction in corrections:
                assert found[alpha, correction, name] == (result.loss, result.error)
        alone = loaded(net, interpolate(a, b, 0.5))
        reset_batch_norm(alone, statistics_batches())
        result = evaluate(alone, data.images, data.labels, MEAN, STD, batch_size=BATCH)
        assert found[0.5, "reset", name] == (result.loss, result.error)
        assert (found[0.5, "none", name] == found[0.5, "reset", name]) == (net == "without_norm")
        assert found[0.5, "repair", name] != found[0.5, "none", name]


def test_curve_does_nothing_twice(monkeypatch):
    counts = dict.fromkeys(
        ("endpoint_statistics", "evaluate_batches", "repair", "reset_batch_norm"), 0
    )

    def counting(name, original):
        def counted(*args, **options):
            counts[name] += 1
            return original(*args, **options)

        return counted

    for name in counts:
        monkeypatch.setattr(survey_module, name, counting(name, getattr(survey_module, name)))
    a, b = randomised("with_norm", 1), randomised("with_norm", 2)
    the_curve("with_norm", a, b)
    assert counts == {
        "endpoint_statistics": 2,
        "repair": 3,
        "reset_batch_norm": 3,
        "evaluate_batches": 2 * (3 * 3 + 2),
    }
    a, b = randomised("without_norm", 1), randomised("without_norm", 2)
    counts.update(dict.fromkeys(counts, 0))
    the_curve("without_norm", a, b)
    assert counts["evaluate_batches"] == 2 * (3 * 2 + 2)
    assert counts["reset_batch_norm"] == 0


def test_curve_leaves_its_inputs_alone():
    a, b, model = randomised("with_norm", 1), randomised("with_norm", 2), with_norm()
    copies = [{n: t.clone() for n, t in theta.items()} for theta in (a, b, model.state_dict())]
    curve(ground(model), a, b, alphas=[0.5], corrections=PLAIN)
    assert all(map(equal, copies, (a, b, model.state_dict())))


def test_curve_in_half_precision_is_close():
    a, b = trained("with_norm", 1), trained("with_norm", 2)
    exact, half = (the_curve("with_norm", a, b, precision=p) for p in ("fp32", "bf16"))
    for one, other in zip(exact, half, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=0.1, abs=0.05)


@pytest.mark.parametrize("net", SMALL)
def test_corrections_lower_the_barrier_of_trained_networks(net):
    rows = the_curve(net, trained(net, 1), trained(net, 2))
    ends = [row["error"] for row in rows if row["alpha"] in (0.0, 1.0)]
    assert max(ends) < 10
    plain, reset, repaired = (barrier(rows, c, "train", "loss") for c in PLAIN)
    assert repaired < plain
    if net == "with_norm":
        assert reset < plain


def test_diverged_networks_have_no_finite_barrier():
    a, b = randomised("with_norm", 1), randomised("with_norm", 2)
    b["7.bias"][0] = math.nan
    rows = the_curve("with_norm", a, b)
    assert math.isnan(barrier(rows, "repair", "test", "loss"))


def row(alpha, loss, correction="none", split="train"):
    return {
        "alpha": alpha,
        "correction": correction,
        "split": split,
        "loss": loss,
        "error": 10 * loss,
    }


def test_barrier_is_equation_3():
    rows = [row(0.0, 1.0), row(0.25, 2.0), row(0.5, 2.1), row(0.75, 2.0), row(1.0, 3.0)]
    rows += [row(a, 50.0 * a * (1 - a), correction="repair") for a in (0.0, 0.5, 1.0)]
    rows += [row(a, 0.0, split="test") for a in (0.0, 0.5, 1.0)]
    assert barrier(rows, "none", "train", "loss") == pytest.approx(0.5)  # 2.0 - 1.5, at 0.25
    assert barrier(rows, "none", "train", "error") == pytest.approx(5.0)
    assert barrier(rows, "none", "train", "loss", at=0.5) == pytest.approx(0.1)
    assert barrier(rows, "none", "train", "loss", at=0.75) == pytest.approx(-0.5)
    assert barrier(rows, "repair", "train", "loss") == pytest.approx(12.5)
    assert barrier(rows, "none", "test", "loss") == 0.0
    # A convex loss has no barrier, and a loss that changes linearly has none either.
    assert barrier([row(a, (a - 0.5) ** 2) for a in (0, 0.5, 1)], "none", "train", "loss") == 0.0
    third = [row(a, 0.1 + 0.7 * a) for a in (0.0, 1 / 3, 1.0)]
    assert barrier(third, "none", "train", "loss") == pytest.approx(0.0, abs=1e-12)


def test_barrier_of_infinite_losses():
    merged = [row(0.0, 1.0), row(0.5, math.inf), row(1.0, 1.0)]
    assert barrier(merged, "none", "train", "loss") == math.inf
    assert math.isnan(barrier([row(0.0, 1.0), row(1.0, math.inf)], "none", "train", "loss"))


def test_barrier_says_what_is_missing():
    with pytest.raises(ValueError, match="both end points"):
        barrier([row(0.0, 1.0)], "none", "train", "loss")
    with pytest.raises(ValueError, match="not on the curve"):
        barrier([row(0.0, 1.0), row(1.0, 1.0)], "none", "train", "loss", at=0.5)


def test_unknown_corrections_are_refused():
    a = randomised("with_norm", 1)
    with pytest.raises(ValueError, match="allowed are none, reset, repair"):
        the_curve("with_norm", a, a, corrections=("fix",))


# --- planes


def three(net):
    return {name: randomised(net, seed) for name, seed in (("lth", 1), ("dense", 2), ("other", 3))}


def test_plane_coordinates_are_distances():
    thetas = three("with_norm")
    model = with_norm()
    names = [name for name, _ in model.named_parameters()]
    plane = span(tuple(thetas.values()), names)
    flat = [torch.cat([t[n].double().flatten() for n in names]) for t in thetas.values()]
    for i in range(3):
        for j in range(3):
            expected = float((flat[i] - flat[j]).norm())
            assert math.dist(plane.points[i], plane.points[j]) == pytest.approx(expected)
    # Any point: Gram-Schmidt's basis by hand gives the same weights as the combination.
    x_axis = (flat[1] - flat[0]) / plane.base
    y_axis = flat[2] - flat[0] - plane.foot * x_axis
    y_axis = y_axis / y_axis.norm()
    c = plane.coefficients(1.5, -2.0)
    assert sum(c) == pytest.approx(1.0)
    by_hand = flat[0] + 1.5 * x_axis - 2.0 * y_axis
    assert torch.allclose(sum(a * b for a, b in zip(c, flat, strict=True)), by_hand)
    combined = combine(tuple(thetas.values()), c)
    found = torch.cat([combined[n].double().flatten() for n in names])
    assert torch.allclose(found, by_hand, atol=1e-5)
    assert [plane.coefficients(*point) for point in plane.points] == [
        (1, 0, 0),
        (0, 1, 0),
        (0, 0, 1),
    ]


def test_the_projection_of_a_mixture_is_the_mixture_and_what_stands_off_is_the_distance():
    thetas = tuple(
        {name: t.double() for name, t in theta.items()} for theta in three("without_norm").values()
    )
    names = [name for name, _ in without_norm().named_parameters()]
    plane = span(thetas, names)
    for place, corner in zip(plane.points, thetas, strict=True):
        assert project(plane, thetas, corner, names) == pytest.approx((*place, 0.0), abs=1e-9)
    for shares in ((0.2, 0.5, 0.3), (1.5, -0.75, 0.25)):
        mixture = combine(thetas, shares)
        x, y = (sum(s * p[i] for s, p in zip(shares, plane.points, strict=True)) for i in (0, 1))
        assert project(plane, thetas, mixture, names) == pytest.approx((x, y, 0.0), abs=1e-9)
        # A step at right angles to the plane changes the distance alone, by its length.
        flat = torch.cat([mixture[n].flatten() for n in names])
        basis = torch.linalg.qr(torch.stack([
            torch.cat([(t[n] - thetas[0][n]).flatten() for n in names]) for t in thetas[1:]
        ]).T)[0]  # fmt: skip
        step = torch.randn(flat.shape, generator=torch.Generator().manual_seed(0), dtype=flat.dtype)
        step -= basis @ (basis.T @ step)
        sizes = [mixture[n].numel() for n in names]
        parts = torch.split(flat + step, sizes)
        moved = {n: part.view_as(mixture[n]) for n, part in zip(names, parts, strict=True)}
        found = project(plane, thetas, mixture | moved, names)
        assert found == pytest.approx((x, y, float(step.norm())), abs=1e-9)


def test_plane_axes_have_a_border():
    plane = span(tuple(three("without_norm").values()), ["0.weight", "2.weight"])
    xs, ys = plane.axes(5, 0.25)
    assert len(xs) == len(ys) == 5
    low, high = (pick(x for x, _ in plane.points) for pick in (min, max))
    assert xs[0] == pytest.approx(low - 0.25 * (high - low))
    assert xs[-1] == pytest.approx(high + 0.25 * (high - low))
    assert ys[0] == pytest.approx(-0.25 * plane.height)
    assert ys[-1] == pytest.approx(1.25 * plane.height)
    far = plane.axes(5, 0.0, also=[(low - 3, 0.0), (0.0, 2 * plane.height)])
    assert (far[0][0], far[1][-1]) == pytest.approx((low - 3, 2 * plane.height))


@pytest.mark.parametrize("correction", PLAIN)
@pytest.mark.parametrize("net", SMALL)
def test_plane_at_the_networks_is_the_networks(net, correction):
    thetas = three(net)
    result = survey_plane(ground(NETS[net]()), thetas, grid=3, margin=0.2, correction=correction)
    assert len(result.grid) == 3 * 3 * 2
    assert list(result.grid[0]) == ["x", "y", "correction", "split", "loss", "error"]
    assert [r["model"] for r in result.models] == [n for n in thetas for _ in range(2)]
    assert [(r["x"], r["y"]) for r in result.models[::2]] == list(result.plane.points)
    for found in result.models:
        data = two_splits()[found["split"]]
        alone = loaded(net, thetas[found["model"]])
        expected = evaluate(alone, data.images, data.labels, MEAN, STD, batch_size=BATCH)
        assert (found["loss"], found["error"]) == (expected.loss, expected.error)
    if correction != "none":
        assert all(math.isfinite(r["loss"]) for r in result.grid)


def test_three_networks_on_a_line_span_no_plane():
    a, b = randomised("with_norm", 1), randomised("with_norm", 2)
    names = [name for name, _ in with_norm().named_parameters()]
    for thetas in [(a, b, b), (a, a, b), (a, b, a)]:
        with pytest.raises(ValueError, match="on a line"):
            span(thetas, names)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_catalog_knows_where_repair_has_a_place(name):
    """So that a study is refused before it trains, not at its last job."""
    model = build(name, width=0.125, classes=CLASSES, channels=1, size=8, generator=None)
    if NETWORKS[name].repairs:
        assert measured_modules(model)
    else:
        with pytest.raises(ValueError, match="REPAIR needs"):
            measured_modules(model)
