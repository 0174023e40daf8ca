"""The mask of a sparsity target, cut from the weights after one IMP round."""

from __future__ import annotations

from pipeline import models, pruning
from pipeline.runs import Mask
from pipeline.stages.imp import masked_state
from pipeline.stages.job import Job
from pipeline.stages.outcome import emptied, finite
from pipeline.weights import write_mask


def execute(job: Job) -> None:
    """Cut and write the mask, and its sparsity in all and per tensor."""
    run = job.run
    assert isinstance(run, Mask)
    model = job.model(run.dense)
    names = models.prunable_parameters(model, job.recipe.prunable)
    state, before = masked_state(job, "weights", model, names)
    weights = {name: state[name] for name in names}
    kind, number = run.target[0], run.target[1:]
    if kind == "P":
        mask = pruning.prune_fraction(weights, before, job.recipe.fraction)
    elif kind == "O":
        mask = pruning.one_shot(weights, job.recipe.fraction, int(number))
    else:
        mask = pruning.prune_to(weights, before, float(number))
    write_mask(job.path("mask.safetensors"), mask)
    zeros, entries = pruning.count(mask)
    job.metrics(
        status="ok" if finite(state) else "diverged",
        sparsity=zeros / entries,
        zeros=zeros,
        prunable=entries,
        per_layer=pruning.per_layer(mask),
        **emptied(mask),
    )
