"""Ensembles and functional diversity from saved logits."""

import math
from itertools import combinations, permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.special import rel_entr, softmax

from pipeline.calibration import negative_log_likelihood
from pipeline.diversity import (
    Variants,
    accuracies,
    average,
    disagreement,
    diversity,
    ensemble_accuracy,
    ensemble_gain,
    js_divergence,
    kl_divergence,
)
from pipeline.errors import UserError
from pipeline.report import divergences


def random_runs(seed=0, runs=4, images=50, classes=7, scale=3.0):
    draw = torch.Generator().manual_seed(seed)
    logits = (scale * torch.randn(runs, images, classes, generator=draw)).half()
    return logits, torch.randint(0, classes, (images,), generator=draw)


def logits_of(probabilities):
    return torch.tensor(probabilities, dtype=torch.float64).log()


def test_a_case_by_hand():
    # Two classes, two images, three runs; labels 0 and 1.
    logits = logits_of(
        [[[0.9, 0.1], [0.8, 0.2]], [[0.6, 0.4], [0.4, 0.6]], [[0.45, 0.55], [0.1, 0.9]]]
    )
    labels = torch.tensor([0, 1])
    assert accuracies(logits, labels).tolist() == [50.0, 100.0, 50.0]
    # Pairs: (0, 1) differ on image 1, (0, 2) on both, (1, 2) on image 0.
    assert disagreement(logits) == pytest.approx((0.5 + 1.0 + 0.5) / 3)
    # Divided by the pairs' mean error rates 1/4, 1/2 and 1/4.
    assert disagreement(logits, labels, normalise="error") == pytest.approx((2 + 2 + 2) / 3)
    result = diversity(logits, labels)
    assert result.disagreement_per_error == pytest.approx(2)
    assert result.runs == 3
    assert result.test_accuracy_mean == pytest.approx(200 / 3)
    assert result.test_accuracy_std == pytest.approx(np.std([50, 100, 50], ddof=1))
    assert result.ensemble_accuracy == 100.0  # mean probabilities (.65, .35) and (.43, .57)


def test_divergences_by_hand():
    logits = logits_of([[[0.5, 0.5]], [[0.25, 0.75]]])
    forward = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    backward = 0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)
    assert kl_divergence(logits, pairs="forward") == pytest.approx(forward)
    assert kl_divergence(logits, pairs="ordered") == pytest.approx((forward + backward) / 2)
    middle = (0.375, 0.625)
    first = 0.5 * math.log(0.5 / middle[0]) + 0.5 * math.log(0.5 / middle[1])
    second = 0.25 * math.log(0.25 / middle[0]) + 0.75 * math.log(0.75 / middle[1])
    assert js_divergence(logits) == pytest.approx((first + second) / 2)


def test_softmax_and_logit_ensembles_differ():
    # One very sure run outweighs two others by its logits, not by its probabilities.
    logits = torch.tensor([[[20.0, 0.0]], [[0.0, 3.0]], [[0.0, 3.0]]])
    assert ensemble_accuracy(logits, torch.tensor([1]), ensemble="softmax") == 100.0
    assert ensemble_accuracy(logits, torch.tensor([0]), ensemble="logits") == 100.0


def test_equal_to_scipy():
    logits, _ = random_runs()
    p = softmax(logits.double().numpy(), axis=-1)
    ordered = [rel_entr(p[i], p[j]).sum(-1).mean() for i, j in permutations(range(4), 2)]
    forward = [rel_entr(p[i], p[j]).sum(-1).mean() for i, j in combinations(range(4), 2)]
    js = [(jensenshannon(p[i], p[j], axis=-1) ** 2).mean() for i, j in combinations(range(4), 2)]
    assert kl_divergence(logits, pairs="ordered") == pytest.approx(np.mean(ordered))
    assert kl_divergence(logits, pairs="forward") == pytest.approx(np.mean(forward))
    assert js_divergence(logits) == pytest.approx(np.mean(js))


@pytest.mark.parametrize("ensemble", ["softmax", "logits"])
def test_identical_runs_are_one_run(ensemble):
    logits, labels = random_runs(runs=1)
    result = diversity(logits.expand(5, -1, -1), labels, Variants(ensemble=ensemble))
    assert (
        result.ensemble_accuracy == result.test_accuracy_mean == float(accuracies(logits, labels))
    )
    assert result.test_accuracy_std == result.disagreement == result.kl == 0.0
    assert result.ensemble_gain == result.ensemble_gain_error == 0.0
    assert 0.0 <= result.js < 1e-15


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**16), scale=st.sampled_from([0.01, 1.0, 10.0, 1000.0]))
def test_laws(seed, scale):
    logits, labels = random_runs(seed, runs=3, images=20, classes=4, scale=scale)
    result = diversity(logits, labels)
    assert 0.0 <= result.js <= math.log(2) + 1e-12
    for variants in divergences.variants():
        kl = kl_divergence(logits, pairs=variants.kl)
        js = js_divergence(logits, form=variants.js, unit=variants.js_unit)
        assert js <= variants.greatest_ratio * kl + 1e-12
    assert 0.0 <= result.disagreement <= 1.0
    # Two runs that disagree cannot both be right.
    errors = 1 - accuracies(logits, labels) / 100
    assert result.disagreement <= 2 * float(errors.mean()) + 1e-12
    shuffled = logits[torch.randperm(3, generator=torch.Generator().manual_seed(seed))]
    for field, value in vars(diversity(shuffled, labels)).items():
        assert value == pytest.approx(getattr(result, field), rel=1e-12, abs=1e-13)
    # Adding a constant to all logits of an image changes no probability.
    moved = logits.double() + 5.0
    assert kl_divergence(moved) == pytest.approx(result.kl, rel=1e-9, abs=1e-12)
    assert js_divergence(moved) == pytest.approx(result.js, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("variants", list(divergences.variants()), ids=str)
def test_the_greatest_ratio_of_js_and_kl_is_reached(variants):
    """By networks that hardly differ; for one direction, by a class that the first rules out."""
    near = {"ordered": (0.5, 0.501), "forward": (1e-300, 1e-7)}[variants.kl]
    logits = logits_of([[[share, 1 - share]] for share in near])
    ratio = js_divergence(logits, form=variants.js, unit=variants.js_unit)
    ratio /= kl_divergence(logits, pairs=variants.kl)
    assert ratio == pytest.approx(variants.greatest_ratio, rel=1e-3)


def test_units_and_halves_of_js():
    logits, _ = random_runs()
    whole = js_divergence(logits, form="whole")
    assert whole == pytest.approx(2 * js_divergence(logits))
    assert js_divergence(logits, unit="bits") == pytest.approx(whole / 2 / math.log(2))


def test_no_printed_row_has_both_divergences_in_one_unit():
    """Issue of Table 1: the printed ratios are 0.284 to 0.370, above a quarter in all eight rows."""
    found = {
        (one.kl, one.js, one.js_unit): int(divergences.excluded(one).sum())
        for one in divergences.variants()
    }
    assert found["ordered", "halved", "nats"] == 8
    rows = divergences.rows()
    out = divergences.excluded(Variants(js_unit="bits"))
    assert set(rows["method"][out]) == {"imp"} and out.sum() == 2
    out = divergences.excluded(Variants(kl="forward"))
    assert set(rows["dataset"] + rows["method"][out]) >= {"cifar10imp", "cifar100imp"}
    assert sum(found.values()) == 8 + 2 + int(out.sum())  # all else is possible for every row


def test_the_error_of_an_ensembles_gain_is_that_of_a_mean_over_images():
    logits, labels = random_runs(images=400, classes=3)
    gain, error = ensemble_gain(logits, labels)
    right = (logits.double().softmax(-1).sum(0).argmax(-1) == labels).double()
    each = 100 * (right - (logits.float().argmax(-1) == labels).double().mean(0))
    assert gain == pytest.approx(float(each.mean()))
    assert gain == pytest.approx(
        ensemble_accuracy(logits, labels) - float(accuracies(logits, labels).mean())
    )
    assert error == pytest.approx(float(each.std(correction=0)) / 20, rel=0.1)  # 400 images
    assert (gain, error) == ensemble_gain(logits, labels)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**16), scale=st.sampled_from([0.01, 1.0, 10.0, 1000.0]))
def test_an_ensembles_likelihood_is_at_least_its_members(seed, scale):
    """Jensen: by the average of probabilities, and by that of logits (a product of experts)."""
    logits, labels = random_runs(seed, runs=3, images=20, classes=4, scale=scale)
    single = [negative_log_likelihood(average(run[None]), labels) for run in logits]
    for ensemble in ("softmax", "logits"):
        p = average(logits, ensemble=ensemble)
        assert p.isfinite().all()
        assert torch.allclose(p.exp().sum(1), torch.ones(20).double())
        assert negative_log_likelihood(p, labels) <= np.mean(single) + 1e-9
    expected = softmax(logits.double().numpy(), axis=-1).mean(0)
    np.testing.assert_allclose(average(logits).exp().numpy(), expected, atol=1e-12)


def test_opposite_certainties():
    logits = torch.tensor([[[600.0, -600.0]], [[-600.0, 600.0]]]).half()
    assert js_divergence(logits) == pytest.approx(math.log(2))
    assert kl_divergence(logits) == pytest.approx(1200.0)


def test_bad_input_is_refused():
    logits, labels = random_runs(runs=2)
    for options in ({"ensemble": "mean"}, {"kl": "reverse"}, {"js": "third"}, {"js_unit": "dits"}):
        with pytest.raises(UserError, match="allowed: "):
            diversity(logits, labels, Variants(**options))
    with pytest.raises(UserError, match="allowed: "):
        disagreement(logits, labels, normalise="accuracy")
    with pytest.raises(ValueError, match="runs"):
        diversity(logits[:1], labels)
    logits[1, 3, 2] = math.nan
    with pytest.raises(ValueError, match=r"runs \[1\] are not finite"):
        diversity(logits, labels)
