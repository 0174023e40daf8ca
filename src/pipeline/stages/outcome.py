"""What every training run leaves at its end, also where it could not begin."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from pipeline import pruning
from pipeline.stages.job import Job
from pipeline.training.loop import HISTORY, Outcome

#: Of a run that could not begin because what it starts from has diverged.
NOT_BEGUN = Outcome("diverged", {}, [], None, 0.0, 0.0)


def leave(job: Job, outcome: Outcome, **more: object) -> None:
    """Write history, metrics (of the last epoch, and ``more``), and logits that were kept."""
    last = outcome.history[-1] if outcome.history else {}
    final, checked = outcome.final, outcome.validation
    job.write_csv("history.csv", HISTORY, outcome.history)
    job.metrics(
        status=outcome.status,
        epochs=len(outcome.history),
        test_accuracy=final.accuracy if final else None,
        test_top5=final.top5 if final else None,
        test_loss=final.loss if final else None,
        train_loss=last.get("train_loss"),
        train_accuracy=last.get("train_accuracy"),
        **({"validation_accuracy": checked.accuracy} if checked else {}),
        **more,
    )
    if final and final.logits is not None:
        job.write_tensors("logits.safetensors", {"logits": final.logits})


def emptied(mask: Mapping[str, Tensor]) -> dict[str, list[str]]:
    """For the metrics of a run under a mask: the layers that it prunes away entirely, if any.

    The log says so, too.
    """
    names = pruning.emptied(mask)
    if names:
        print(f"pruned away entirely: {', '.join(names)}", flush=True)
    return {"emptied": names} if names else {}


def finite(state: Mapping[str, Tensor]) -> bool:
    """Whether every number of a state is finite."""
    return all(bool(torch.isfinite(t).all()) for t in state.values() if t.is_floating_point())
