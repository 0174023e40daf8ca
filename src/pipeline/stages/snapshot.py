"""Snapshot of a dense run between two trunk states: continued from the last one before it."""

from __future__ import annotations

from pipeline.artifacts.store import read_tensors
from pipeline.runs import Snapshot
from pipeline.runs.dense import epoch_prefix
from pipeline.stages.job import Job
from pipeline.streams import generator
from pipeline.training.loop import Schedule, Training, graceful


def execute(job: Job) -> None:
    """Continue the dense run's own schedule and streams to the epoch, and write the weights."""
    run, settings = job.run, job.recipe
    assert isinstance(run, Snapshot)
    first = run.begin(job.graph)[1]
    model = job.model(run.dense)
    training = Training(
        Schedule(first, run.epoch, settings.epochs),
        lambda purpose, epoch: generator(run.dense.stream, purpose, epoch),
        state=read_tensors(job.input("trunk"), epoch_prefix(first)),
    )
    with graceful():
        job.train(model, training)
    job.write_tensors("weights.safetensors", model.state_dict())
