"""How far a network's, or an ensemble's, probabilities can be trusted.

Every function takes log-probabilities [N, classes], float64, and labels int64 [N].
"""

from __future__ import annotations

import torch
from torch import Tensor


def negative_log_likelihood(log_probabilities: Tensor, labels: Tensor) -> float:
    """Mean over images of -log p(label), in nats: a proper score, lowest for the true p."""
    return float(-log_probabilities.gather(1, labels[:, None]).mean())


def expected_calibration_error(
    log_probabilities: Tensor, labels: Tensor, *, bins: int = 15
) -> float:
    """Expected calibration error in %: Guo et al. (2017), eq. (3).

    Images are put into ``bins`` intervals (m / bins, (m + 1) / bins] of the probability of the
    predicted class; the error is the mean over images of the distance between accuracy and mean
    probability of their interval. ValueError for fewer than one bin.
    """
    if bins < 1:
        raise ValueError(f"bins {bins}: need at least 1")
    confidence, predicted = log_probabilities.double().exp().max(dim=1)
    gap = (predicted == labels).double() - confidence
    interval = (confidence * bins).ceil().long().sub(1).clamp(0, bins - 1)
    of_bins = torch.zeros(bins, dtype=torch.float64).index_add(0, interval, gap)
    return float(100.0 * of_bins.abs().sum() / len(labels))
