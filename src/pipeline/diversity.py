"""Ensembles and functional diversity of runs, from their test logits (Table 1, appendix C).

Every function takes logits [R, N, classes] of R runs on the same N images, any floating type, and
computes in float64. Pairwise measures are means over pairs of runs; pairs are visited one by one,
so that memory stays at a few times [N, classes].
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import reduce
from itertools import combinations, permutations
from statistics import fmean

import torch
from torch import Tensor

from pipeline.catalog.schema import choose
from pipeline.streams import generator

#: Samples of the test images, drawn with replacement, behind a standard error.
RESAMPLES = 1000


@dataclass(frozen=True)
class Variants:
    """What Table 1 leaves open: which average an ensemble takes, which divergences are meant.

    ensemble: average of probabilities ("softmax") or of "logits". kl: over "ordered" pairs, both
    directions of each, or "forward" ones, i < j. js: the mean of both halves' divergences from the
    middle ("halved", the usual definition) or their sum ("whole"); js_unit: "nats" or "bits".
    """

    ensemble: str = "softmax"
    kl: str = "ordered"
    js: str = "halved"
    js_unit: str = "nats"

    @property
    def greatest_ratio(self) -> float:
        """The greatest JS / KL that is possible, whatever the networks.

        Both are f-divergences of t = p / q. For halved JS in nats and the mean over both directions
        of KL, f'' of the first is t / (1 + t)² times that of the second, at most 1/4, at t = 1. For
        one direction it is 1 / (2 (1 + t)) times, which falls with t, and so does f / f: from
        ln 2 / 2 at t = 0. Means over pairs and images keep the bound.
        """
        bound = {"ordered": 0.25, "forward": math.log(2) / 2}[self.kl]
        bound *= {"halved": 1, "whole": 2}[self.js]
        return bound / {"nats": 1, "bits": math.log(2)}[self.js_unit]


@dataclass(frozen=True)
class Diversity:
    """One row of Table 1.

    test_accuracy_mean, test_accuracy_std: over runs, in %, the sample standard deviation (ddof 1).
    ensemble_accuracy: in %. disagreement: a fraction; disagreement_per_error: divided by the error
    rate. kl: in nats; js: in the unit of the variants. ensemble_gain: of the ensemble over the mean
    of its members, in points, ensemble_gain_error: its standard error over test images.
    """

    runs: int
    test_accuracy_mean: float
    test_accuracy_std: float
    ensemble_accuracy: float
    disagreement: float
    kl: float
    js: float
    disagreement_per_error: float
    ensemble_gain: float
    ensemble_gain_error: float


def diversity(logits: Tensor, labels: Tensor, variants: Variants = Variants()) -> Diversity:
    """All measures of Table 1 for runs with ``logits`` [R, N, classes] and labels int64 [N].

    Needs two runs or more and finite logits; ValueError names what is wrong otherwise. `UserError`
    for an unknown setting.
    """
    _check(logits)
    per_run = accuracies(logits, labels)
    ensemble = ensemble_accuracy(logits, labels, ensemble=variants.ensemble)
    gain, error = ensemble_gain(logits, labels, ensemble=variants.ensemble)
    return Diversity(
        runs=len(per_run),
        test_accuracy_mean=float(per_run.mean()),
        test_accuracy_std=float(per_run.std(correction=1)),
        ensemble_accuracy=ensemble,
        disagreement=disagreement(logits),
        kl=kl_divergence(logits, pairs=variants.kl),
        js=js_divergence(logits, form=variants.js, unit=variants.js_unit),
        disagreement_per_error=disagreement(logits, labels, normalise="error"),
        ensemble_gain=gain,
        ensemble_gain_error=error,
    )


def accuracies(logits: Tensor, labels: Tensor) -> Tensor:
    """Accuracy of each run in %, float64 [R]."""
    return 100.0 * (predictions(logits) == labels).double().mean(dim=1)


def ensemble_accuracy(logits: Tensor, labels: Tensor, *, ensemble: str = "softmax") -> float:
    """Accuracy in % of the runs' average: of their probabilities ("softmax") or their logits."""
    return float(100.0 * _ensemble_right(logits, labels, ensemble).double().mean())


def ensemble_gain(
    logits: Tensor, labels: Tensor, *, ensemble: str = "softmax"
) -> tuple[float, float]:
    """Gain of the ensemble over the mean accuracy of its members, in points, and its standard error.

    The error is that over test images, by a paired bootstrap: the images are drawn anew with
    replacement, the same for the ensemble and its members, `RESAMPLES` times. The networks stay as
    they are; it says nothing of other seeds.
    """
    right = _ensemble_right(logits, labels, ensemble).double()
    gain = 100.0 * (right - (predictions(logits) == labels).double().mean(dim=0))
    draws, count = generator(0, "bootstrap"), len(gain)
    means = torch.stack(
        [gain[torch.randint(count, (count,), generator=draws)].mean() for _ in range(RESAMPLES)]
    )
    return float(gain.mean()), float(means.std(correction=1))


def average(logits: Tensor, *, ensemble: str = "softmax") -> Tensor:
    """Log-probabilities [N, classes] of the runs' average: of probabilities, or of their logits.

    Finite where the logits are. A single run's are its own.
    """
    choose(ensemble, ("softmax", "logits"), "diversity", "ensemble")
    _check(logits, runs=1)
    if ensemble == "logits":
        return _log_probabilities(sum(run.double() for run in logits) / len(logits))
    members = [_log_probabilities(run) for run in logits]
    return reduce(torch.logaddexp, members) - math.log(len(members))


def _ensemble_right(logits: Tensor, labels: Tensor, ensemble: str) -> Tensor:
    """Whether the runs' average has the largest value at the label, bool [N]."""
    return average(logits, ensemble=ensemble).argmax(dim=1) == labels


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


def js_divergence(logits: Tensor, *, form: str = "halved", unit: str = "nats") -> float:
    """Mean over unordered pairs and images of the Jensen-Shannon divergence.

    The divergence, not the distance that is its square root. ``form``: "halved", the mean of
    KL(p_i || m) and KL(p_j || m) with m in the middle, at most ln 2 nats; "whole": their sum.
    ``unit``: "nats" or "bits".
    """
    choose(form, ("halved", "whole"), "diversity", "js")
    choose(unit, ("nats", "bits"), "diversity", "js_unit")
    _check(logits)
    factor = {"halved": 1.0, "whole": 2.0}[form] / {"nats": 1.0, "bits": math.log(2.0)}[unit]

    def pair(i: int, j: int) -> float:
        first, second = _log_probabilities(logits[i]), _log_probabilities(logits[j])
        middle = torch.logaddexp(first, second) - math.log(2.0)
        return max(0.0, (_kl(first, middle) + _kl(second, middle)) / 2)

    return factor * fmean(pair(i, j) for i, j in combinations(range(len(logits)), 2))


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
