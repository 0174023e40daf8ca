"""The IMP solution at a sparsity: the last, capped prune, and one more round of training."""

from __future__ import annotations

from pipeline.pruning import sparsity
from pipeline.runs import Solution
from pipeline.stages.imp import round_of
from pipeline.stages.job import Job
from pipeline.stages.outcome import final_metrics, finite, nothing
from pipeline.training.loop import HISTORY, graceful, history_rows
from pipeline.weights import read_mask, sparse_state, state_of


def execute(job: Job) -> None:
    """Train under the mask as a round of the chain trains; write weights, logits and metrics."""
    run, settings = job.run, job.recipe
    assert isinstance(run, Solution)
    names = ["metrics.json", "history.csv", "weights.safetensors", "logits.safetensors"]
    model = job.model(run.mask.dense)
    mask = read_mask(job.input("mask"))
    state = job.state("start", model.state_dict())
    if not finite(state):
        job.metrics(**nothing("diverged", "the weights to start from are not finite"))
        job.write_csv("history.csv", HISTORY, [])
        job.write_tensors(names[2], sparse_state(state, mask))
        job.write_tensors(names[3], {"logits": next(iter(state.values())).new_zeros(0)})
        job.finish(*names)
        return
    number = run.mask.prunes(job.graph)
    with graceful():
        outcome = round_of(job, run.mask.dense, settings, model).train(
            job, model, state, mask, number, keep_logits=True
        )
    weights = state_of(model)
    job.write_tensors(names[2], sparse_state(weights, mask))
    logits = outcome.final.logits if outcome.final else None
    empty = next(iter(weights.values())).new_zeros(0)
    job.write_tensors(names[3], {"logits": empty if logits is None else logits})
    job.write_csv(names[1], HISTORY, history_rows(outcome.history))
    job.metrics(**final_metrics(outcome), sparsity=sparsity(mask))
    job.spent(outcome)
    job.finish(*names)
