"""Sparse run: T - k epochs from a rewind snapshot under a's mask, permuted or not."""

from __future__ import annotations

from pipeline import symmetry
from pipeline.artifacts.store import read_tensors
from pipeline.pruning import sparsity
from pipeline.runs import Sparse
from pipeline.stages.job import Job
from pipeline.stages.outcome import final_metrics, finite, nothing
from pipeline.streams import generator
from pipeline.training.loop import HISTORY, Schedule, graceful, history_rows
from pipeline.weights import read_mask, sparse_state, state_of


def execute(job: Job) -> None:
    """Train, and write metrics, history, and by settings logits and non-zero weights."""
    run, settings = job.run, job.recipe
    assert isinstance(run, Sparse)
    names = ["metrics.json", "history.csv"]
    model = job.model(run.init)
    state = job.state("start")
    mask = read_mask(job.input("mask"))
    if run.match:
        permutation = read_tensors(job.input("permutation"))
        mask = symmetry.apply(job.spec(run.match), permutation, mask)
    reason = None
    if not finite(state):
        reason = "the snapshot to start from is not finite"
    elif job.diverged(run.mask, *([run.match] if run.match else [])):
        reason = "the run behind its mask or permutation has diverged"
    if reason:
        job.metrics(**nothing("diverged", reason))
        job.write_csv("history.csv", HISTORY, [])
        job.finish(*names)
        return
    model.load_state_dict(state)
    with graceful():
        outcome = job.trainer(settings).train(
            model,
            Schedule(0, run.epochs, run.epochs),
            lambda purpose, epoch: generator(
                run.init.seed, f"sparse-{purpose}", run.replicate, epoch
            ),
            mask=mask,
            keeper=job.keeper(),
            report=job.progress.epochs(run.epochs),
            keep_logits=settings.keep_logits,
        )
    if settings.keep_logits and outcome.final and outcome.final.logits is not None:
        job.write_tensors("logits.safetensors", {"logits": outcome.final.logits})
        names.append("logits.safetensors")
    if settings.keep_weights:
        weights = state_of(model)
        job.write_tensors("weights.safetensors", sparse_state(weights, mask))
        names.append("weights.safetensors")
    job.write_csv("history.csv", HISTORY, history_rows(outcome.history))
    job.metrics(**final_metrics(outcome), sparsity=sparsity(mask))
    job.spent(outcome)
    job.finish(*names)
