"""Dense run: to T from the seed's initialisation or a parent's state, states kept on the way."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from pipeline.artifacts.store import read_info, read_tensors, write_tensors
from pipeline.errors import UserError
from pipeline.runs import Dense
from pipeline.runs.dense import epoch_prefix
from pipeline.stages.job import Job
from pipeline.stages.outcome import leave
from pipeline.stages.trial import hold
from pipeline.streams import generator
from pipeline.study import trials
from pipeline.training.loop import Schedule, Training, graceful


def execute(job: Job) -> None:
    """Train, and write weights, trunk states, series, history and metrics."""
    run, settings = job.run, job.recipe
    assert isinstance(run, Dense)
    start = run.spawn or 0
    if run.parent is None:
        _try(job, run)
    model = job.model(run, generator(run.seed, "init"))
    parts = {e: job.folder / f".trunk{e:04d}.safetensors" for e in settings.kept[:-1]}

    def keep(epoch: int, state: dict[str, Tensor]) -> None:
        if epoch in settings.series:
            state = {name: t for name, t in state.items() if name.startswith("weights/")}
        if epoch in parts:
            write_tensors(parts[epoch], state, job.digest)

    keeper = job.keeper()
    saved = keeper.load() if job.leads else None
    if saved and not all(
        _written(path, job.digest) for epoch, path in parts.items() if epoch <= saved[1]["epoch"]
    ):
        keeper.clear()  # a state that was kept before it is gone: begin again

    training = Training(
        Schedule(start, settings.epochs, settings.epochs),
        lambda purpose, epoch: generator(run.stream, purpose, epoch),
        state=read_tensors(job.input("trunk"), epoch_prefix(start)) if run.parent else None,
        at_epoch=keep,
        keep_logits=True,
    )
    with graceful():
        outcome = job.train(model, training)
    if not job.leads:
        return
    trunk: dict[str, Tensor] = {}
    for epoch, path in parts.items():
        # A run that diverged never reached its later epochs: the weights as they ended stand for
        # them, so that runs from there end as diverged, too.
        if _written(path, job.digest):
            tensors = read_tensors(path)
        else:
            tensors = {f"weights/{name}": t for name, t in model.state_dict().items()}
        trunk |= {epoch_prefix(epoch) + name: tensor for name, tensor in tensors.items()}
    job.write_tensors("trunk.safetensors", trunk)
    job.write_tensors("weights.safetensors", model.state_dict())
    leave(job, outcome, sparsity=0.0)


def _try(job: Job, run: Dense) -> None:
    """Try a network of the user's own, unless the start of the workflow has done so.

    Raises:
        UserError: it cannot be trained, or not be used as the study's other runs will use it.
    """
    if job.config.models[run.model].tested or not job.leads:
        return
    hold(job.config, run)
    concerned = [
        other
        for other in trials.declared(job.graph)
        if any(each.network == run.network for each in other.networks)
    ]
    for line in trials.obstacles(job.graph, concerned):
        raise UserError(line)


def _written(path: Path, digest: str) -> bool:
    """Whether a state was written, and by a run of these settings."""
    try:
        return path.exists() and read_info(path) == digest
    except UserError:
        return False
