"""Barriers between the dense solution and each IMP round's weights (paper, Figure 4a)."""

from __future__ import annotations

import math

from pipeline.artifacts.store import read_tensors
from pipeline.connectivity.barrier import alphas, barrier, curve
from pipeline.pruning import sparsity
from pipeline.runs import ImpBarrier
from pipeline.runs.imp import round_prefix
from pipeline.stages.job import Job
from pipeline.stages.lines import ground
from pipeline.stages.outcome import finite
from pipeline.weights import dense_state

HEADER = ("iteration", "sparsity", "correction", "split", "loss_barrier", "error_barrier")


def execute(job: Job) -> None:
    """Write one row per round, correction and split."""
    run, settings = job.run, job.recipe
    assert isinstance(run, ImpBarrier)
    at = ground(job, run.dense)
    dense = job.state("dense")
    status = "ok"
    rows = []
    per_block = job.graph.config.recipes.resolve("imp", run.imp).rounds_per_block
    for number in range(1, run.rounds + 1):
        if run.target and number == run.rounds:
            tensors = read_tensors(job.input("solution"))
        else:
            path = job.input(f"block{math.ceil(number / per_block)}")
            tensors = read_tensors(path, round_prefix(number))
        state, mask = dense_state(tensors, at.model.state_dict())
        if not (finite(dense) and finite(state)):
            status = "diverged"
            continue
        found = curve(
            at, dense, state, alphas=alphas(settings.points), corrections=settings.corrections
        )
        rows += [
            {
                "iteration": number, "sparsity": sparsity(mask), "correction": correction,
                "split": split, "loss_barrier": barrier(found, correction, split, "loss"),
                "error_barrier": barrier(found, correction, split, "error"),
            }
            for correction in settings.corrections for split in settings.splits
        ]  # fmt: skip
        job.progress.step(number, run.rounds)
    job.write_csv("barrier.csv", HEADER, rows)
    job.metrics(status=status, rounds=run.rounds)
