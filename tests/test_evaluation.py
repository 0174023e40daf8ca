"""Loss and accuracy of a network on a split."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from pipeline.data.augment import normalise
from pipeline.evaluation import evaluate, evaluate_batches, normalised

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def split():
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (103, 3, 6, 6), dtype=torch.uint8, generator=draw)
    return images, torch.randint(0, 10, (103,), generator=draw)


@pytest.fixture
def net():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(128, 10)]
    model = nn.Sequential(*layers)
    model[1].running_mean.normal_()
    return model


def test_shares_of_the_images_add_up_to_the_whole(net, split):
    """As processes do it: each has its images, the totals are added up."""
    images, labels = split

    def batches(part):
        return normalised([(images[part], labels[part])], MEAN, STD, images.device)

    whole = evaluate(net, images, labels, MEAN, STD, logits=True, top5=True)
    totals = []
    parts = [
        evaluate_batches(
            net, batches(part), logits=True, top5=True,
            reduce=lambda own: totals.append(own.clone()),
        )
        for part in (slice(0, 40), slice(40, 103))
    ]  # fmt: skip
    shared = evaluate_batches(
        net, batches(slice(0, 40)), top5=True,
        reduce=lambda own: own.add_(totals[1]),
    )  # fmt: skip
    assert shared.loss == pytest.approx(whole.loss, rel=1e-9)
    assert (shared.accuracy, shared.top5) == (whole.accuracy, whole.top5)
    assert torch.equal(torch.cat([part.logits for part in parts]), whole.logits)


def test_equals_one_pass_over_everything(net, split):
    images, labels = split
    result = evaluate(net, images, labels, MEAN, STD, batch_size=16, logits=True, top5=True)
    with torch.no_grad():
        logits = net.eval()(normalise(images, MEAN, STD))
    assert result.loss == pytest.approx(functional.cross_entropy(logits, labels).item(), rel=1e-6)
    correct = (logits.argmax(1) == labels).float().mean().item()
    assert result.accuracy == pytest.approx(100 * correct)
    assert result.accuracy + result.error == 100
    correct5 = (logits.topk(5).indices == labels[:, None]).any(1).float().mean().item()
    assert result.top5 == pytest.approx(100 * correct5)
    assert result.finite
    assert result.logits.dtype == torch.float16
    assert torch.allclose(result.logits.float(), logits, atol=1e-2)
    result.logits.add_(1)  # an ordinary tensor, not one of inference mode


@pytest.mark.parametrize("batch_size", [1, 50, 103, 1000])
def test_batch_size_does_not_matter(net, split, batch_size):
    one = evaluate(net, *split, MEAN, STD, batch_size=103)
    other = evaluate(net, *split, MEAN, STD, batch_size=batch_size)
    assert other.loss == pytest.approx(one.loss, rel=1e-6)
    assert other.accuracy == one.accuracy


def test_leaves_the_network_as_it_was(net, split):
    net.train()
    net[1].eval()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    evaluate(net, *split, MEAN, STD)
    assert [module.training for module in net] == [True, False, True, True, True]
    assert net.training
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    functional.cross_entropy(net(normalise(split[0], MEAN, STD)), split[1]).backward()


def test_half_precision_is_close(net, split):
    exact = evaluate(net, *split, MEAN, STD)
    half = evaluate(net, *split, MEAN, STD, precision="bf16")
    assert half.loss != exact.loss
    assert half.loss == pytest.approx(exact.loss, rel=0.05)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_diverged_network_has_infinite_loss(net, split, value):
    with torch.no_grad():
        net[4].bias[3] = value
    result = evaluate(net, *split, MEAN, STD)
    assert not result.finite
    assert result.loss == math.inf
    assert result.accuracy == pytest.approx(100 * (split[1] == 3).float().mean().item())


def test_saved_logits_stay_in_the_range_of_half_precision(net, split):
    with torch.no_grad():
        net[4].bias[3] = 1e6
    result = evaluate(net, *split, MEAN, STD, logits=True)
    assert result.finite
    assert bool(result.logits.isfinite().all())


def test_top5_needs_more_than_five_classes(split):
    net = nn.Sequential(nn.Flatten(), nn.Linear(108, 5))
    images, labels = split
    assert evaluate(net, images, labels % 5, MEAN, STD, top5=True).top5 is None


def test_bad_arguments_are_refused(net, split):
    images, labels = split
    for arguments, options in [
        ((images, labels[:-1]), {}),
        ((images[:0], labels[:0]), {}),
        ((images, labels), {"precision": "fp8"}),
    ]:
        with pytest.raises(ValueError):
            evaluate(net, *arguments, MEAN, STD, **options)
