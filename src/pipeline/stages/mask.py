"""The mask of a sparsity target, cut from the weights after one IMP round or read from a file."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

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
    if (path := run.own_file(job.graph)) is not None:
        mask = own_mask(path, {name: state[name] for name in names}, run.target[1:])
    else:
        scores = scored(job, model, names, state, before, run.prunes(job.graph))
        mask = cut(scores, before, run.target, job.recipe.fraction)
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


def cut(
    scores: Mapping[str, Tensor], before: pruning.Mask, target: str, fraction: float
) -> pruning.Mask:
    """The mask of a target: a full prune, all of its prunes at once, or exactly to a sparsity."""
    kind, number = target[0], target[1:]
    if kind == "P":
        return pruning.prune_fraction(scores, before, fraction)
    if kind == "O":
        return pruning.one_shot(scores, fraction, int(number))
    return pruning.prune_to(scores, before, float(number))
