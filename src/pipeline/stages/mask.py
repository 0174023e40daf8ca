"""The mask of a sparsity target, cut from the weights after one IMP round."""

from __future__ import annotations

from pipeline import models, pruning
from pipeline.artifacts.store import read_tensors
from pipeline.runs import Mask
from pipeline.stages.job import Job
from pipeline.stages.outcome import finite
from pipeline.weights import dense_state, is_sparse, write_mask


def execute(job: Job) -> None:
    """Cut and write the mask, and its sparsity in all and per tensor."""
    run = job.run
    assert isinstance(run, Mask)
    model = job.model(run.dense)
    names = models.prunable_parameters(model, job.recipe.prunable)
    shapes = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    tensors = read_tensors(job.input("weights"), job.graph.inputs(run)["weights"].prefix)
    if is_sparse(tensors):
        state, before = dense_state(tensors, shapes)
    else:
        state, before = tensors, pruning.full({name: tensors[name] for name in names})
    weights = {name: state[name] for name in names}
    if run.target[0] == "P":
        mask = pruning.prune_fraction(weights, before, job.recipe.fraction)
    else:
        mask = pruning.prune_to(weights, before, float(run.target[1:]))
    write_mask(job.folder / "mask.safetensors", mask)
    zeros, entries = pruning.count(mask)
    job.metrics(
        status="ok" if finite(state) else "diverged",
        sparsity=zeros / entries,
        zeros=zeros,
        prunable=entries,
        per_layer=pruning.per_layer(mask),
    )
    job.finish("mask.safetensors", "metrics.json")
