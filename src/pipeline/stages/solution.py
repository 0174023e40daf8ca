"""The IMP solution at a sparsity: the last, capped prune, and one more round of training."""

from __future__ import annotations

import torch

from pipeline.pruning import sparsity
from pipeline.runs import Solution
from pipeline.stages.imp import Rounds
from pipeline.stages.job import Job
from pipeline.stages.outcome import NOT_BEGUN, emptied, finite, leave
from pipeline.training.loop import graceful
from pipeline.weights import read_mask, sparse_state, state_of


def execute(job: Job) -> None:
    """Train under the mask as a round of the chain trains; write weights, logits and metrics."""
    run = job.run
    assert isinstance(run, Solution)
    model = job.model(run.mask.dense)
    mask = read_mask(job.input("mask"))
    state = job.state("start", model.state_dict())
    if finite(state):
        last = run.mask.prunes(job.graph)
        with graceful():
            outcome = Rounds(job, model, last).train(last, state, mask, keep_logits=True)
        state = state_of(model)
        leave(job, outcome, sparsity=sparsity(mask), **emptied(mask))
    else:
        outcome = NOT_BEGUN
        leave(job, outcome, reason="the weights to start from are not finite")
    job.write_tensors("weights.safetensors", sparse_state(state, mask))
    if outcome.final is None:  # a file that others may ask for
        job.write_tensors("logits.safetensors", {"logits": torch.zeros(0)})
