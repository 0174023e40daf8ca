"""The one training loop: dense, fine-tuning and sparse runs.

A mask is an argument; ``pipeline.training.step`` is what happens in a step.

Every epoch draws from its own random sub-stream, so the state of a run is (epoch, step, weights,
momentum, totals): a run that was killed goes on with the same bits.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from pipeline.artifacts.store import read_info, read_tensors, write_tensors
from pipeline.artifacts.unfinished import RESUME
from pipeline.cli import ENDS
from pipeline.data import DataSet
from pipeline.errors import Interrupted, UserError
from pipeline.evaluation import Evaluation
from pipeline.machine import baton
from pipeline.machine.team import ALONE, Team
from pipeline.study.settings import TrainSettings
from pipeline.study.shares import shares
from pipeline.training import group_batch_norm as batch_norm
from pipeline.training.batches import Streams, feed
from pipeline.training.cuda_graph import step_of
from pipeline.training.step import Step

if TYPE_CHECKING:
    from pipeline.data.photographs import Photographs

Row = dict[str, float | int | None]

#: What a row of a training's history says, in this order.
HISTORY = (
    "epoch", "learning_rate", "train_loss", "train_accuracy", "test_loss", "test_accuracy",
    "sparsity",
)  # fmt: skip


@dataclass
class Schedule:
    """Epochs ``first`` to ``last`` of a schedule that is ``horizon`` epochs long."""

    first: int
    last: int
    horizon: int

    def lr(self, settings: TrainSettings, epoch: int, step: int = 0, steps: int = 1) -> float:
        """Learning rate of a step of an epoch of so many, both counted from 0.

        With ``lr_changes: epoch`` it is the same for all steps of an epoch. With ``step``, step
        ``i`` of the run has ``lr * i / W`` in a warm-up of ``W`` steps, so that the first has 0,
        and a cosine that runs over the steps behind it.
        """
        warmup = settings.warmup_epochs
        moving = settings.lr_changes == "step"
        passed = epoch + step / steps if moving else epoch
        if epoch < warmup:
            return settings.lr * (passed / warmup if moving else (epoch + 1) / (warmup + 1))
        if settings.schedule == "constant":
            return settings.lr
        if settings.schedule == "steps":
            return settings.lr * 0.1 ** sum(epoch >= milestone for milestone in settings.milestones)
        done = (passed - warmup) / max(1, self.horizon - warmup)
        return 0.5 * settings.lr * (1 + math.cos(math.pi * done))


@dataclass
class Place:
    """Where a run goes on: ``step`` of ``epoch``, both counted from 0, and the epochs before."""

    epoch: int
    step: int = 0
    history: list[Row] = field(default_factory=list)


@dataclass
class Outcome:
    """What a training run leaves behind; ``momentum`` is keyed by parameter name.

    final: on the test set, at the end. validation: on images that the data set withholds, if any.
    """

    status: str
    momentum: dict[str, Tensor]
    history: list[Row]
    final: Evaluation | None
    seconds: float
    epochs_executed: float
    validation: Evaluation | None = None


@dataclass
class Keeper:
    """Resume state of a run in its own folder: saved at intervals and when asked to end, checked on load.

    ``digest`` names the settings; a state of other settings is not used. ``slot`` tells apart the
    trainings of one run (the rounds of an IMP block).
    """

    folder: Path
    digest: str
    slot: int = 0
    interval: float = field(
        default_factory=lambda: float(os.environ.get("PIPELINE_SAVE_SECONDS", "120"))
    )
    _last: float = field(default_factory=time.monotonic)

    @property
    def path(self) -> Path:
        return self.folder / RESUME

    def due(self) -> bool:
        return time.monotonic() - self._last >= self.interval

    def save(self, tensors: Mapping[str, Tensor], info: Mapping[str, Any]) -> None:
        write_tensors(self.path, tensors, {**info, "digest": self.digest, "slot": self.slot})
        self._last = time.monotonic()

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The saved state, if it is of these settings and this slot."""
        if not self.path.exists():
            return None
        try:
            info = read_info(self.path)
            if info.get("digest") != self.digest or info.get("slot") != self.slot:
                return None
            return read_tensors(self.path), info
        except UserError:
            return None

    def clear(self) -> None:
        self.path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Training:
    """How a network is trained, beside the data set and the settings of the `Trainer`.

    ``streams(purpose, epoch)`` gives the generators "order" and "augmentation". ``mask``: bool by
    parameter name, false where pruned. ``state`` is one that `Step.state` gave, to go on from; by
    default training begins with the network's own weights and no momentum.
    ``at_epoch(epochs trained, state)`` is called at the start and after each epoch,
    ``report(row of the history)`` after each, ``step(epochs trained, steps of the next one taken,
    steps of an epoch)`` after each step, all in process 0 alone. ``keep_logits``: of the last
    evaluation.
    """

    schedule: Schedule
    streams: Streams
    mask: Mapping[str, Tensor] | None = None
    state: Mapping[str, Tensor] | None = None
    keeper: Keeper | None = None
    at_epoch: Callable[[int, dict[str, Tensor]], None] | None = None
    report: Callable[[Row], None] | None = None
    step: Callable[[int, int, int], None] | None = None
    keep_logits: bool = False


class _Stop(threading.local):
    """Whether the run of this thread is asked to stop: what a signal's handler sets."""

    asked: list[bool] | None = None


_stop = _Stop()


@contextmanager
def graceful() -> Iterator[None]:
    """Inside, a signal of ``ENDS`` asks the loop to save and raise ``Interrupted`` after this step."""
    asked = _stop.asked = [False]

    def request(signum: int, frame: object) -> None:
        del signum, frame
        asked[0] = True

    try:
        with ExitStack() as stack:
            for number in ENDS:
                stack.enter_context(baton.handling(number, request))
            yield
    finally:
        _stop.asked = None


def _stop_requested() -> bool:
    return _stop.asked == [True]


class Trainer:
    """Trains networks on one data set with one set of training settings.

    In a ``team`` of processes each builds one, and calls ``train`` with the same arguments.
    ``recorded``: on a GPU, a step is recorded once and replayed, where it can be.

    Raises:
        UserError: a batch cannot be dealt to the processes.
    """

    def __init__(
        self,
        data: DataSet | Photographs,
        settings: TrainSettings,
        device: torch.device,
        team: Team = ALONE,
        recorded: bool = True,
    ) -> None:
        self.settings, self.device, self.team = settings, device, team
        self._recorded = recorded
        self._shares = shares(settings, team.size)
        self._feed = feed(data, settings, self._shares, team, device)
        self._group = team.groups_of(self._shares.parts)

    def train(self, model: nn.Module, training: Training) -> Outcome:
        """Train ``model`` in place; a loss that is not finite ends the run as "diverged".

        Raises:
            Interrupted: a signal inside ``graceful``; the state was saved.
        """
        model.to(self.device)
        with batch_norm.shared(model, self._group):
            step = step_of(self.device, self._shares.count, self._recorded)(
                model, self.settings, self._feed.mean, self._feed.std, self.device, training.mask,
                self._shares.count, self.team,
            )  # fmt: skip
            if training.state:
                step.set_state(training.state)
            return self._train(model, step, training)

    def _train(self, model: nn.Module, step: Step, training: Training) -> Outcome:
        started = time.monotonic()
        team, feed, schedule, keeper = self.team, self._feed, training.schedule, training.keeper
        place = Place(schedule.first)
        if not _resume(step, place, keeper, team) and training.at_epoch and team.leads:
            training.at_epoch(place.epoch, step.state())
        model.train()
        taken, finite = 0, True
        final: Evaluation | None = None
        while finite and place.epoch < schedule.last:
            for batches in feed.epoch(training.streams, place.epoch, place.step):
                rate = schedule.lr(self.settings, place.epoch, place.step, feed.steps)
                if step.lr != rate:
                    step.lr = rate
                step(batches)
                baton.hand_on()
                taken += 1
                place.step += 1
                if training.step and team.leads:
                    training.step(place.epoch, place.step, feed.steps)
                if place.step < feed.steps:
                    _pause(step, place, keeper, team)
            row = self._row(step, place.epoch)
            place.epoch, place.step = place.epoch + 1, 0
            place.history.append(row)
            finite = row["train_loss"] is not None
            last = place.epoch == schedule.last
            if finite and (last or place.epoch % self.settings.evaluate_every == 0):
                final = self._evaluate(model, training.keep_logits and last)
                finite = final.finite
                if finite:
                    row |= {"test_loss": final.loss, "test_accuracy": final.accuracy}
            if training.report and team.leads:
                training.report(row)
            if finite and training.at_epoch and team.leads:
                training.at_epoch(place.epoch, step.state())
            if finite and not last:
                _pause(step, place, keeper, team)
        if finite and final is None:  # no epoch was left to train
            final = self._evaluate(model, training.keep_logits)
            finite = final.finite
        validation = None
        if finite and feed.withholds:
            validation = feed.evaluate(model, self.settings.precision, split="validation")
        return Outcome(
            "ok" if finite else "diverged", step.momentum(), place.history,
            final if finite else None, time.monotonic() - started, taken / feed.steps, validation,
        )  # fmt: skip

    def _evaluate(self, model: nn.Module, logits: bool) -> Evaluation:
        return self._feed.evaluate(model, self.settings.precision, logits)

    def _row(self, step: Step, epoch: int) -> Row:
        """What the steps of an epoch measured, those of all processes; the totals begin anew."""
        self.team.add_up(step.totals)
        images = self._feed.steps * self.settings.batch_size
        loss, correct = (step.totals / images).tolist()
        step.totals.zero_()
        finite = math.isfinite(loss)
        return {
            "epoch": epoch + 1,
            "learning_rate": step.lr,
            "train_loss": loss if finite else None,
            "train_accuracy": 100 * correct if finite else None,
            "test_loss": None,
            "test_accuracy": None,
            "sparsity": step.sparsity,
        }


def _resume(step: Step, place: Place, keeper: Keeper | None, team: Team) -> bool:
    """Go on where process 0 finds the run saved, if it does; all processes get its state."""
    totals = step.totals.new_zeros(0, 2)
    saved = keeper.load() if keeper and team.leads else None
    if saved:
        state, info = saved
        step.set_state(state)
        place.epoch, place.step, place.history = (info[k] for k in ("epoch", "step", "history"))
        totals = state["totals"].reshape(-1, 2).to(totals)  # of one process, or a row of each
    place.epoch, place.step, place.history, rows, momentum = team.tell(
        [place.epoch, place.step, place.history, len(totals), bool(step.momentum())]
    )
    if momentum and not step.momentum():
        step.set_momentum({name: torch.zeros_like(p) for name, p in step.parameters.items()})
    team.copy(step.state().values())
    if not rows:
        return False
    if not team.leads:
        totals = totals.new_zeros(rows, 2)
    team.copy([totals])
    if rows == team.size:
        step.totals.copy_(totals[team.rank])
    elif team.leads:
        step.totals.copy_(totals.sum(0))
    return True


def _pause(step: Step, place: Place, keeper: Keeper | None, team: Team) -> None:
    """Save a run at ``place`` where it is time to; process 0 writes.

    Raises:
        Interrupted: a signal came, to whichever process.
    """
    if keeper is None:
        return
    stop, due = team.any(_stop_requested(), team.leads and keeper.due())
    if stop or due:
        totals = team.collect(step.totals[None])
        if totals is not None:
            sums = torch.cat(totals) if len(totals) > 1 else totals[0][0]
            keeper.save(step.state() | {"totals": sums}, vars(place))
    if stop:
        raise Interrupted
