"""How far probabilities can be trusted: against other computations, and laws."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.calibration import expected_calibration_error, negative_log_likelihood


def drawn(seed, images=200, classes=5, scale=2.0):
    draw = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(images, classes, generator=draw, dtype=torch.float64)
    return logits.log_softmax(1), torch.randint(0, classes, (images,), generator=draw)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**16), bins=st.integers(1, 40))
def test_by_pandas(seed, bins):
    p, labels = drawn(seed)
    assert negative_log_likelihood(p, labels) == pytest.approx(
        float(torch.nn.functional.nll_loss(p, labels))
    )
    confidence, predicted = p.exp().max(1)
    frame = pd.DataFrame({"p": confidence.numpy(), "right": (predicted == labels).numpy() * 1.0})
    groups = frame.groupby(pd.cut(frame["p"], np.linspace(0, 1, bins + 1)), observed=True)
    means, counts = groups.mean(), groups.size()
    expected = 100 * ((means["right"] - means["p"]).abs() * counts).sum() / len(frame)
    assert expected_calibration_error(p, labels, bins=bins) == pytest.approx(expected)


def test_one_who_knows_how_often_he_errs_is_calibrated():
    """Labels drawn from the probabilities themselves: the error tends to 0, and is large if sharper."""
    p, _ = drawn(0, images=200_000)
    labels = torch.multinomial(p.exp(), 1, generator=torch.Generator().manual_seed(1))[:, 0]
    assert expected_calibration_error(p, labels) < 0.5
    assert expected_calibration_error((2 * p).log_softmax(1), labels) > 5


def test_one_bin_is_the_distance_of_accuracy_and_certainty():
    p, labels = drawn(3)
    certainty, predicted = p.exp().max(1)
    distance = (predicted == labels).double().mean() - certainty.mean()
    assert expected_calibration_error(p, labels, bins=1) == pytest.approx(
        100 * abs(float(distance))
    )
    # Finer intervals only tell more errors apart.
    assert expected_calibration_error(p, labels, bins=30) >= expected_calibration_error(
        p, labels, bins=15
    )


def test_always_certain():
    p = torch.tensor([[0.0, -1e4], [0.0, -1e4]], dtype=torch.float64)
    assert expected_calibration_error(p, torch.tensor([0, 1])) == pytest.approx(50.0)
    assert negative_log_likelihood(p, torch.tensor([0, 1])) == pytest.approx(5000)
    with pytest.raises(ValueError, match="at least 1"):
        expected_calibration_error(p, torch.tensor([0, 1]), bins=0)
