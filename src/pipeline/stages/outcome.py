"""What every training run reports at its end."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from pipeline.training.loop import Outcome


def final_metrics(outcome: Outcome) -> dict[str, object]:
    """Status, last-epoch test accuracy and loss, and what the last epoch measured in training."""
    last = outcome.history[-1] if outcome.history else {}
    final = outcome.final
    return {
        "status": outcome.status,
        "epochs": len(outcome.history),
        "test_accuracy": final.accuracy if final else None,
        "test_top5": final.top5 if final else None,
        "test_loss": final.loss if final else None,
        "train_loss": last.get("train_loss"),
        "train_accuracy": last.get("train_accuracy"),
    }


def finite(state: Mapping[str, Tensor]) -> bool:
    """Whether every number of a state is finite."""
    return all(bool(torch.isfinite(t).all()) for t in state.values() if t.is_floating_point())


def nothing(status: str, reason: str) -> dict[str, object]:
    """Metrics of a run that could not start because what it starts from has diverged."""
    names = ("test_accuracy", "test_top5", "test_loss", "train_loss", "train_accuracy")
    return {"status": status, "reason": reason, "epochs": 0} | dict.fromkeys(names)
