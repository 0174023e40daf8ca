"""A block of rounds of iterative magnitude pruning: prune, then fine-tune or rewind and train."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from pipeline import models, pruning
from pipeline.artifacts.store import read_info, read_tensors
from pipeline.errors import UserError
from pipeline.runs import Dense, ImpBlock
from pipeline.runs.imp import round_prefix
from pipeline.stages.job import Job
from pipeline.stages.outcome import finite
from pipeline.streams import generator
from pipeline.study.settings import ImpSettings, TrainSettings
from pipeline.training.loop import HISTORY, Outcome, Schedule, Trainer, graceful, history_rows
from pipeline.weights import dense_state, sparse_state, state_of


@dataclass
class Round:
    """How every round of a chain trains; ``rewind`` is the state it returns to, if it does."""

    trainer: Trainer
    schedule: Schedule
    seed: int
    rewind: dict[str, Tensor] | None

    def train(
        self, job: Job, model: nn.Module, state: Mapping[str, Tensor], mask: pruning.Mask,
        number: int, *, keep_logits: bool = False,
    ) -> Outcome:  # fmt: skip
        """Train round ``number`` under ``mask``, from ``state`` or the rewound weights.

        A chain that has diverged stays so: its mask says nothing, so it does not rewind any more.
        """
        start = self.rewind if self.rewind is not None and finite(state) else dict(state)
        model.load_state_dict(start)
        return self.trainer.train(
            model,
            self.schedule,
            lambda purpose, epoch: generator(self.seed, f"imp-{purpose}", number, epoch),
            mask=mask,
            keeper=job.keeper(number),
            report=job.progress.epochs(self.schedule.last, round=number),
            keep_logits=keep_logits,
        )


def round_of(job: Job, dense: Dense, settings: ImpSettings, model: nn.Module) -> Round:
    """The round of a chain: fine-tuning by its own settings, or rewinding by the dense recipe's."""
    if settings.style == "finetune":
        own: TrainSettings = settings
        return Round(
            job.trainer(own),
            Schedule(0, settings.epochs, settings.epochs),
            dense.seed,
            None,
        )
    recipe = job.graph.recipe(dense)
    schedule = Schedule(settings.rewind_epoch, recipe.epochs, recipe.epochs)
    return Round(
        job.trainer(recipe),
        schedule,
        dense.seed,
        job.state("rewind", model.state_dict()),
    )


def execute(job: Job) -> None:
    """Prune and train each round of the block; write the sparse weights of all of them."""
    run, settings = job.run, job.recipe
    assert isinstance(run, ImpBlock)
    model = job.model(run.dense)
    names = models.prunable_parameters(model, settings.prunable)
    shapes = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    file = job.graph.inputs(run)["start"]
    tensors = read_tensors(job.input("start"), file.prefix)
    if isinstance(file.run, ImpBlock):
        state, mask = dense_state(tensors, shapes)
    else:
        state, mask = tensors, pruning.full({name: tensors[name] for name in names})
    chain = round_of(job, run.dense, settings, model)

    kept: dict[str, Tensor] = {}
    rows: list[list[object]] = []
    measured: list[dict[str, object]] = []
    status = "ok"
    with graceful():
        for number in run.rounds(job.graph):
            weights = {name: state[name] for name in names}
            mask = pruning.prune_fraction(weights, mask, settings.fraction)
            part = job.folder / f".round{number:02d}.safetensors"
            done = _finished(part, job.digest) if job.leads else None
            if job.any(done is not None):
                done = done or _finished(part, job.digest)
                if done is None:
                    raise UserError(f"{part}: cannot be read by all processes of the run")
            else:
                outcome = chain.train(job, model, state, mask, number)
                job.spent(outcome)
                done = _store(job, part, model, mask, outcome)
            tensors, info = done
            state, mask = dense_state(tensors, shapes)
            kept |= {round_prefix(number) + name: tensor for name, tensor in tensors.items()}
            rows += [[number, *row] for row in info["history"]]
            status = info["status"] if status == "ok" else status
            zeros, entries = pruning.count(mask)
            measured.append({"round": number, "sparsity": zeros / entries, **info["measured"]})
    job.write_tensors("rounds.safetensors", kept)
    job.write_csv("history.csv", ("round", *HISTORY), rows)
    job.metrics(status=status, rounds=measured)
    job.finish("metrics.json", "rounds.safetensors", "history.csv")


def _store(
    job: Job, part: Path, model: nn.Module, mask: pruning.Mask, outcome: Outcome
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    final = outcome.final
    info = {
        "digest": job.digest,
        "status": outcome.status,
        "history": history_rows(outcome.history),
        "measured": {
            "status": outcome.status,
            "test_accuracy": final.accuracy if final else None,
            "test_loss": final.loss if final else None,
        },
    }
    state = state_of(model)
    tensors = sparse_state(pruning.apply(mask, state), mask)
    job.write_tensors(part.name, tensors, info)
    return tensors, info


def _finished(part: Path, digest: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """A round that an interrupted job had finished, if it is of these settings."""
    if not part.exists():
        return None
    try:
        info = read_info(part)
        return (read_tensors(part), info) if info["digest"] == digest else None
    except (UserError, KeyError, TypeError):
        return None
