"""The mask of a sparsity target, cut from the weights after one IMP round or read from a file."""

from __future__ import annotations

from pipeline import models, pruning
from pipeline.runs import Mask
from pipeline.stages.imp import masked_state, scored
from pipeline.stages.job import Job
from pipeline.stages.outcome import emptied, finite
from pipeline.weights import own_mask, write_mask


def execute(job: Job) -> None:
    """Cut and write the mask, and its sparsity in all and per tensor."""
    run = job.run
    assert isinstance(run, Mask)
    model = job.model(run.dense)
    names = models.prunable_parameters(model, job.recipe.prunable)
    state, before = masked_state(job, "weights", model, names)
    if (path := run.own(job.graph)) is not None:
        mask = own_mask(path, {name: state[name] for name in names}, run.target[1:])
    else:
        scores = scored(job, model, names, state, before, run.prunes(job.graph))
        if run.target[0] == "P":
            mask = pruning.prune_fraction(scores, before, job.recipe.fraction)
        else:
            mask = pruning.prune_to(scores, before, float(run.target[1:]))
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
