"""Ensembles and functional diversity of runs, from their test logits (Table 1, appendix C).

Every function takes logits [R, N, classes] of R runs on the same N images, any floating type, and
computes in float64. Pairwise measures are means over pairs of runs; pairs are visited one by one,
so that memory stays at a few times [N, classes].
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations, permutations
from statistics import fmean

import torch
from torch import Tensor

from pipeline.catalog.schema import choose


@dataclass(frozen=True)
class Diversity:
    """One row of Table 1.

    test_accuracy_mean, test_accuracy_std: over runs, in %, the sample standard deviation (ddof 1).
    ensemble_accuracy: in %. disagreement: a fraction (or a ratio, if normalised by error).
    kl, js: divergences in nats.
    """

    runs: int
    test_accuracy_mean: float
    test_accuracy_std: float
    ensemble_accuracy: float
    disagreement: float
    kl: float
    js: float


def diversity(
    logits: Tensor,
    labels: Tensor,
    *,
    ensemble: str = "softmax",
    kl: str = "ordered",
    normalise: str = "none",
) -> Diversity:
    """All measures of Table 1 for runs with ``logits`` [R, N, classes] and labels int64 [N].

    Needs two runs or more and finite logits; ValueError names what is wrong otherwise. `UserError`
    for an unknown setting.
    """
    _check(logits)
    per_run = accuracies(logits, labels)
    return Diversity(
        runs=len(per_run),
        test_accuracy_mean=float(per_run.mean()),
        test_accuracy_std=float(per_run.std(correction=1)),
        ensemble_accuracy=ensemble_accuracy(logits, labels, ensemble=ensemble),
        disagreement=disagreement(logits, labels, normalise=normalise),
        kl=kl_divergence(logits, pairs=kl),
        js=js_divergence(logits),
    )


def accuracies(logits: Tensor, labels: Tensor) -> Tensor:
    """Accuracy of each run in %, float64 [R]."""
    return 100.0 * (predictions(logits) == labels).double().mean(dim=1)


def ensemble_accuracy(logits: Tensor, labels: Tensor, *, ensemble: str = "softmax") -> float:
    """Accuracy in % of the runs' average: of their probabilities ("softmax") or their logits."""
    choose(ensemble, ("softmax", "logits"), "diversity", "ensemble")
    _check(logits, runs=1)
    members = (run.double() for run in logits)
    total = sum(run.softmax(dim=1) if ensemble == "softmax" else run for run in members)
    assert isinstance(total, Tensor)
    return float(100.0 * (total.argmax(dim=1) == labels).double().mean())


def disagreement(logits: Tensor, labels: Tensor | None = None, *, normalise: str = "none") -> float:
    """Mean over unordered pairs of the fraction of images that two runs classify differently.

    The measure of Fort et al. (2020). ``normalise`` "error" divides each pair's fraction by the
    pair's mean error rate (needs ``labels``), 0 where neither run errs: runs of low accuracy
    disagree more for that reason alone.
    """
    choose(normalise, ("none", "error"), "diversity", "normalise")
    _check(logits)
    predicted = predictions(logits)
    rates = [1.0] * len(predicted)
    if normalise == "error":
        if labels is None:
            raise ValueError("disagreement normalised by error needs labels")
        rates = (1.0 - accuracies(logits, labels) / 100.0).tolist()

    def pair(i: int, j: int) -> float:
        differing = float((predicted[i] != predicted[j]).double().mean())
        # Two runs without an error agree everywhere.
        return differing / ((rates[i] + rates[j]) / 2) if differing else 0.0

    return fmean(pair(i, j) for i, j in combinations(range(len(predicted)), 2))


def kl_divergence(logits: Tensor, *, pairs: str = "ordered") -> float:
    """Mean over pairs and images of KL(p_i || p_j) in nats.

    ``pairs``: "ordered" takes both directions of every pair, so that the order of the runs does
    not matter; "forward" takes i < j only.
    """
    choose(pairs, ("ordered", "forward"), "diversity", "pairs")
    _check(logits)
    chosen = permutations if pairs == "ordered" else combinations
    return fmean(
        _kl(_log_probabilities(logits[i]), _log_probabilities(logits[j]))
        for i, j in chosen(range(len(logits)), 2)
    )


def js_divergence(logits: Tensor) -> float:
    """Mean over unordered pairs and images of the Jensen-Shannon divergence in nats.

    The divergence (at most ln 2), not the distance that is its square root.
    """
    _check(logits)

    def pair(i: int, j: int) -> float:
        first, second = _log_probabilities(logits[i]), _log_probabilities(logits[j])
        middle = torch.logaddexp(first, second) - math.log(2.0)
        return max(0.0, (_kl(first, middle) + _kl(second, middle)) / 2)

    return fmean(pair(i, j) for i, j in combinations(range(len(logits)), 2))


def predictions(logits: Tensor) -> Tensor:
    """Predicted class of every run and image, int64 [R, N]; the first class wins a tie."""
    return logits.float().argmax(dim=-1)


def _log_probabilities(logits: Tensor) -> Tensor:
    return logits.double().log_softmax(dim=-1)


def _kl(log_p: Tensor, log_q: Tensor) -> float:
    """Mean over images of KL(p || q); exactly 0 for equal inputs, as the difference comes first."""
    return float((log_p.exp() * (log_p - log_q)).sum(dim=-1).mean())


def _check(logits: Tensor, runs: int = 2) -> None:
    if logits.ndim != 3 or len(logits) < runs:
        raise ValueError(f"logits {tuple(logits.shape)}: need [runs >= {runs}, images, classes]")
    # Sums over images lose no infinity and no NaN, and need no mask as large as the logits.
    bad = (~logits.float().sum(dim=(1, 2)).isfinite()).nonzero().flatten().tolist()
    if bad:
        raise ValueError(f"logits of runs {bad} are not finite (diverged runs?)")
