"""Accuracy by the epoch at which b is matched."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.study.outputs.base import ACCURACIES, OneAccuracy


@dataclass(frozen=True)
class EarlyMatching(OneAccuracy):
    """Accuracy by sparsity and method (rows) and matching epoch (columns): Table 15."""

    kind = "early-matching"
    numbers = ACCURACIES
    shows = (
        "Test accuracy in % where a at its end is matched with b at epoch t, mean ± sample standard "
        "deviation over seeds."
    )
