"""Sparse run: training from a rewind snapshot under a's mask, permuted or not."""

from __future__ import annotations

from pipeline import pruning, symmetry
from pipeline.artifacts.store import read_json, read_tensors
from pipeline.runs import Align, Sparse
from pipeline.stages.job import Job
from pipeline.stages.outcome import NOT_BEGUN, emptied, finite, leave
from pipeline.streams import generator
from pipeline.training.loop import Schedule, Training, graceful
from pipeline.weights import read_mask, sparse_state, state_of


def execute(job: Job) -> None:
    """Train, and write metrics, history, and by settings logits and non-zero weights."""
    run, settings = job.run, job.recipe
    assert isinstance(run, Sparse)
    model = job.model(run.init)
    state = job.state("start")
    mask = read_mask(job.input("mask"))
    if run.match and run.permutation:
        permutation = read_tensors(job.input("permutation"), run.permutation.prefix)
        mask = symmetry.apply(job.spec(run.match), permutation, mask)
    if run.shuffled:
        mask = pruning.shuffled(
            mask, generator(run.init.stream, "shuffled-mask", run.mask.dense.stream)
        )
    reason = None
    if not finite(state):
        reason = "the snapshot to start from is not finite"
    elif job.diverged(run.mask) or _unmatched(job, run):
        reason = "the run behind its mask or permutation has diverged"
    if reason:
        leave(job, NOT_BEGUN, reason=reason)
        return
    model.load_state_dict(state)
    first = run.rewind if settings.training == "dense" else 0
    last = first + run.epochs
    training = Training(
        Schedule(first, last, last),
        lambda purpose, epoch: generator(
            run.init.stream, f"sparse-{purpose}", run.replicate, epoch
        ),
        mask=mask,
        keep_logits=settings.keep_logits,
    )
    with graceful():
        outcome = job.train(model, training)
    if settings.keep_weights:
        job.write_tensors("weights.safetensors", sparse_state(state_of(model), mask))
    leave(job, outcome, sparsity=pruning.sparsity(mask), **emptied(mask))


def _unmatched(job: Job, run: Sparse) -> bool:
    """Whether the networks behind the permutation have diverged: of a sweep, those of its point."""
    if not isinstance(run.match, Align):
        return run.match is not None and job.diverged(run.match)
    spoilt = read_json(job.read(run.match, "metrics.json"))["diverged"]
    return run.permutation is not None and run.permutation.prefix.rstrip("/") in spoilt
