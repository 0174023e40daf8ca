"""Snapshot of a dense run between two trunk states: continued from the last one before it."""

from __future__ import annotations

from pipeline.artifacts.store import read_tensors
from pipeline.runs import Snapshot
from pipeline.runs.dense import epoch_prefix
from pipeline.stages.job import Job
from pipeline.streams import generator
from pipeline.training.loop import Schedule, graceful


def execute(job: Job) -> None:
    """Continue the dense run's own schedule and streams to the epoch, and write the weights."""
    run, settings = job.run, job.recipe
    assert isinstance(run, Snapshot)
    first = max(epoch for epoch in settings.trunk if epoch <= run.epoch)
    tensors = read_tensors(job.input("trunk"), epoch_prefix(first))
    model = job.model(run.dense)
    model.load_state_dict(
        {n.removeprefix("weights/"): t for n, t in tensors.items() if n.startswith("weights/")}
    )
    momentum = {
        n.removeprefix("momentum/"): t for n, t in tensors.items() if n.startswith("momentum/")
    }
    with graceful():
        outcome = job.trainer(settings).train(
            model,
            Schedule(first, run.epoch, settings.epochs),
            lambda purpose, epoch: generator(run.dense.seed, purpose, epoch),
            momentum=momentum,
            keeper=job.keeper(),
            report=job.progress.epochs(run.epoch),
        )
    job.write_tensors("weights.safetensors", model.state_dict())
    job.spent(outcome)
    job.finish("weights.safetensors")
