"""A block of rounds of iterative magnitude pruning: prune, then fine-tune or rewind and train."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from pipeline import models, pruning
from pipeline.artifacts.store import read_info, read_tensors, write_tensors
from pipeline.data.augment import normalise
from pipeline.errors import UserError
from pipeline.pruning.criteria import CRITERIA, Occasion
from pipeline.runs import ImpBlock
from pipeline.runs.imp import round_prefix
from pipeline.stages.job import Job
from pipeline.stages.outcome import emptied, finite
from pipeline.streams import generator
from pipeline.training.loop import HISTORY, Outcome, Schedule, Training, graceful
from pipeline.weights import dense_state, is_sparse, sparse_state, state_of


class Rounds:
    """How every round of a chain trains ``model``: fine-tuning by the recipe's own settings, or
    rewinding by the dense recipe's. ``first`` is the first round that the run trains.
    """

    def __init__(self, job: Job, model: nn.Module, first: int) -> None:
        self._job, self._model, self._first = job, model, first
        self._rewind: dict[str, Tensor] | None = None
        if job.recipe.style == "rewind":
            self._rewind = job.state("rewind", model.state_dict())
        epochs = job.run.training(job.graph).epochs
        self._schedule = Schedule(job.recipe.rewind_epoch, epochs, epochs)

    def train(
        self, number: int, state: Mapping[str, Tensor], mask: pruning.Mask, *,
        keep_logits: bool = False,
    ) -> Outcome:  # fmt: skip
        """Train round ``number`` under ``mask``, from ``state`` or the rewound weights.

        A chain that has diverged stays so: its mask says nothing, so it does not rewind any more.
        """
        rewound = self._rewind if finite(state) else None
        self._model.load_state_dict(rewound or state)
        stream = self._job.run.home.stream
        training = Training(
            self._schedule,
            lambda purpose, epoch: generator(stream, f"imp-{purpose}", number, epoch),
            mask=mask,
            keep_logits=keep_logits,
        )
        each = self._schedule.last - self._schedule.first
        return self._job.train(self._model, training, number, (number - self._first) * each)


def masked_state(
    job: Job, role: str, model: nn.Module, names: Iterable[str]
) -> tuple[dict[str, Tensor], pruning.Mask]:
    """The state that an input holds, and its mask; the dense solution's keeps all of ``names``."""
    tensors = read_tensors(job.input(role), job.graph.inputs(job.run)[role].prefix)
    if is_sparse(tensors):
        return dense_state(tensors, model.state_dict())
    return tensors, pruning.full({name: tensors[name] for name in names})


def scored(
    job: Job,
    model: nn.Module,
    names: Sequence[str],
    state: Mapping[str, Tensor],
    mask: pruning.Mask,
    number: int,
) -> Mapping[str, Tensor]:
    """Scores of the weights of ``state`` by the recipe's criterion, at prune ``number``.

    Gradients are taken on the CPU, in training mode, of the loss on plain training images.
    """
    seed, settings = job.run.home.stream, job.recipe

    def gradients() -> Mapping[str, Tensor]:
        drawn = job.data.subset(
            settings.score_images, batch_size=settings.score_images,
            order=generator(seed, "prune-images", number),
        )  # fmt: skip
        images, labels = next(iter(drawn))
        torch.set_num_threads(settings.threads)
        network = copy.deepcopy(model).cpu().train()
        network.load_state_dict(state)
        loss = cross_entropy(network(normalise(images, job.data.mean, job.data.std)), labels)
        weights = dict(network.named_parameters())
        found = torch.autograd.grad(loss, [weights[name] for name in names])
        return dict(zip(names, found, strict=True))

    return CRITERIA[settings.criterion](
        Occasion(
            {name: state[name] for name in names}, mask, gradients,
            lambda purpose: generator(seed, f"prune-{purpose}", number),
        )
    )  # fmt: skip


def execute(job: Job) -> None:
    """Prune and train each round of the block; write the sparse weights of all of them."""
    run = job.run
    assert isinstance(run, ImpBlock)
    model = job.model(run.dense)
    names = models.prunable_parameters(model, job.recipe.prunable)
    state, mask = masked_state(job, "start", model, names)
    rounds = Rounds(job, model, run.rounds(job.graph).start)

    kept: dict[str, Tensor] = {}
    rows: list[dict[str, object]] = []
    measured: list[dict[str, object]] = []
    status = "ok"
    with graceful():
        for number in run.rounds(job.graph):
            scores = scored(job, model, names, state, mask, number)
            mask = pruning.prune_fraction(scores, mask, job.recipe.fraction)
            part = job.folder / f".round{number:02d}.safetensors"
            done = _finished(part, job.digest) if job.leads else None
            if job.team.any(done is not None)[0]:
                done = done or _finished(part, job.digest)
                if done is None:
                    raise UserError(f"{part}: cannot be read by all processes of the run")
            else:
                done = _store(job, part, model, mask, rounds.train(number, state, mask))
            tensors, info = done
            state, mask = dense_state(tensors, model.state_dict())
            kept |= {round_prefix(number) + name: tensor for name, tensor in tensors.items()}
            for row in info["history"]:
                rows.append({"round": number, **dict(zip(HISTORY, row, strict=True))})
            status = info["status"] if status == "ok" else status
            measured.append(
                {"round": number, "sparsity": pruning.sparsity(mask)}
                | info["measured"]
                | emptied(mask)
            )
    job.write_tensors("rounds.safetensors", kept)
    job.write_csv("history.csv", ("round", *HISTORY), rows)
    job.metrics(status=status, rounds=measured)


def _store(
    job: Job, part: Path, model: nn.Module, mask: pruning.Mask, outcome: Outcome
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    final = outcome.final
    info = {
        "digest": job.digest,
        "status": outcome.status,
        "history": [[row[name] for name in HISTORY] for row in outcome.history],
        "measured": {
            "status": outcome.status,
            "test_accuracy": final.accuracy if final else None,
            "test_loss": final.loss if final else None,
        },
    }
    tensors = sparse_state(pruning.apply(mask, state_of(model)), mask)
    if job.leads:
        write_tensors(part, tensors, info)
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
