"""Dense run: T epochs from the seed's initialisation, trunk states on the way."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from pipeline.artifacts.store import read_info, read_tensors
from pipeline.errors import UserError
from pipeline.runs import Dense
from pipeline.runs.dense import epoch_prefix
from pipeline.stages.job import Job
from pipeline.stages.outcome import final_metrics
from pipeline.streams import generator
from pipeline.training.loop import HISTORY, Schedule, graceful, history_rows


def execute(job: Job) -> None:
    """Train, and write weights, trunk states, history and metrics."""
    run, settings = job.run, job.recipe
    assert isinstance(run, Dense)
    model = job.model(run, generator(run.seed, "init"))

    def part(epoch: int) -> str:
        return f".trunk{epoch:04d}.safetensors"

    def keep(epoch: int, model: nn.Module, momentum: dict[str, Tensor]) -> None:
        if epoch in settings.trunk:
            tensors = {f"weights/{name}": t for name, t in model.state_dict().items()}
            tensors |= {f"momentum/{name}": t for name, t in momentum.items()}
            job.write_tensors(part(epoch), tensors, job.digest)

    keeper = job.keeper()
    saved = keeper.load() if job.leads else None
    if saved and not all(
        _written(job.folder / part(epoch), job.digest)
        for epoch in settings.trunk
        if epoch <= saved[1]["epoch"]
    ):
        keeper.clear()  # a trunk state that lies behind it is gone: begin again

    with graceful():
        outcome = job.trainer(settings).train(
            model,
            Schedule(0, settings.epochs, settings.epochs),
            lambda purpose, epoch: generator(run.seed, purpose, epoch),
            keeper=keeper,
            at_epoch=keep,
            report=job.progress.epochs(settings.epochs),
            keep_logits=True,
        )
    if not job.leads:
        return
    reached = [epoch for epoch in settings.trunk if _written(job.folder / part(epoch), job.digest)]
    trunk: dict[str, Tensor] = {}
    for epoch in settings.trunk:
        # A run that diverged never reached its later trunk states: the last one stands for them,
        # with the weights as they ended, so that runs from there end as diverged, too.
        if epoch in reached:
            tensors = read_tensors(job.folder / part(epoch))
        else:
            tensors = {f"weights/{name}": t for name, t in model.state_dict().items()}
        trunk |= {epoch_prefix(epoch) + name: tensor for name, tensor in tensors.items()}
    job.write_tensors("trunk.safetensors", trunk)
    job.write_tensors("weights.safetensors", model.state_dict())
    job.write_csv("history.csv", HISTORY, history_rows(outcome.history))
    job.metrics(**final_metrics(outcome), sparsity=0.0)
    job.spent(outcome)
    names = ["metrics.json", "weights.safetensors", "trunk.safetensors", "history.csv"]
    if outcome.final and outcome.final.logits is not None:
        job.write_tensors("logits.safetensors", {"logits": outcome.final.logits})
        names.append("logits.safetensors")
    job.finish(*names)


def _written(path: Path, digest: str) -> bool:
    """Whether a trunk state was written, and by a run of these settings."""
    try:
        return path.exists() and read_info(path) == digest
    except UserError:
        return False
