"""The one training loop: dense, fine-tuning and sparse runs.

A mask is an argument; ``pipeline.training.step`` is what happens in a step.

Every epoch draws from its own random sub-stream, so the state of a run is (epoch, step, weights,
momentum, totals): a run that was killed goes on with the same bits.
"""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from pipeline.artifacts.store import read_info, read_tensors, write_tensors
from pipeline.artifacts.unfinished import RESUME
from pipeline.data import DataSet
from pipeline.errors import Interrupted, UserError
from pipeline.evaluation import Evaluation
from pipeline.machine.team import ALONE, Team
from pipeline.study.settings import TrainSettings
from pipeline.study.shares import shares
from pipeline.training import group_batch_norm as batch_norm
from pipeline.training.batches import Streams, feed
from pipeline.training.cuda_graph import step_of
from pipeline.training.step import Step

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.data.photographs import Photographs

Row = dict[str, float | int | None]
AtEpoch = Callable[[int, nn.Module, dict[str, Tensor]], None]
Report = Callable[[Row], None]

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

    def lr(self, settings: TrainSettings, epoch: int) -> float:
        """Learning rate of an epoch (counted from 0); it changes between epochs alone."""
        warmup = settings.warmup_epochs
        if epoch < warmup:
            return settings.lr * (epoch + 1) / (warmup + 1)
        if settings.schedule == "constant":
            return settings.lr
        if settings.schedule == "steps":
            return settings.lr * 0.1 ** sum(epoch >= passed for passed in settings.milestones)
        done = (epoch - warmup) / max(1, self.horizon - warmup)
        return 0.5 * settings.lr * (1 + math.cos(math.pi * done))


@dataclass
class Place:
    """Where a run goes on: ``step`` of ``epoch``, both counted from 0, and the epochs before."""

    epoch: int
    step: int = 0
    history: list[Row] = field(default_factory=list)
    resumed: bool = False


@dataclass
class Outcome:
    """What a training run leaves behind; ``momentum`` is keyed by parameter name."""

    status: str
    momentum: dict[str, Tensor]
    history: list[Row]
    final: Evaluation | None
    seconds: float
    epochs_executed: float


@dataclass
class Keeper:
    """Resume state of a run in its own folder: saved at intervals and on SIGTERM, checked on load.

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


_stop_requested = False


@contextmanager
def graceful() -> Iterator[None]:
    """Inside, SIGTERM asks the loop to save and to raise ``Interrupted`` after the current step."""
    global _stop_requested
    _stop_requested = False

    def request(signum: int, frame: object) -> None:
        global _stop_requested
        del signum, frame
        _stop_requested = True

    before = signal.signal(signal.SIGTERM, request)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        _stop_requested = False


class Trainer:
    """Trains networks on one data set with one set of training settings.

    In a ``team`` of processes each builds one, and calls ``train`` with the same arguments.

    Raises:
        UserError: a batch cannot be dealt to the processes.
    """

    def __init__(
        self,
        data: DataSet | Photographs,
        settings: TrainSettings,
        device: torch.device,
        team: Team = ALONE,
    ) -> None:
        self.settings, self.device, self.team = settings, device, team
        self._shares = shares(settings, team.size)
        self._feed = feed(data, self._shares, team, device)
        self._group = team.groups_of(self._shares.parts)
        self.data = data

    def evaluate(self, model: nn.Module, *, logits: bool = False) -> Evaluation:
        """Evaluation on the test set, top-1 and top-5; logits in process 0 alone."""
        return self._feed.evaluate(model, self.settings.precision, logits)

    def train(
        self,
        model: nn.Module,
        schedule: Schedule,
        streams: Streams,
        *,
        mask: Mapping[str, Tensor] | None = None,
        momentum: Mapping[str, Tensor] | None = None,
        keeper: Keeper | None = None,
        at_epoch: AtEpoch | None = None,
        report: Report | None = None,
        keep_logits: bool = False,
    ) -> Outcome:
        """Train ``model`` in place from epoch ``schedule.first`` to ``schedule.last``.

        ``streams(purpose, epoch)`` gives the generators "order" and "augmentation".
        ``at_epoch(epochs trained, model, momentum)`` is called at the start and after each epoch,
        it and ``report`` in process 0 alone. A loss that is not finite ends the run with status
        "diverged".

        Raises:
            Interrupted: SIGTERM inside ``graceful``; the state was saved.
        """
        model.to(self.device)
        with batch_norm.shared(model, self._group):
            return self._train(
                model, schedule, streams, mask=mask, momentum=momentum or {}, keeper=keeper,
                at_epoch=at_epoch, report=report, keep_logits=keep_logits,
            )  # fmt: skip

    def _train(
        self, model: nn.Module, schedule: Schedule, streams: Streams, *,
        mask: Mapping[str, Tensor] | None, momentum: Mapping[str, Tensor], keeper: Keeper | None,
        at_epoch: AtEpoch | None, report: Report | None, keep_logits: bool,
    ) -> Outcome:  # fmt: skip
        started = time.monotonic()
        team, feed = self.team, self._feed
        step = step_of(self.device, self._shares.count)(
            model, self.settings, feed.mean, feed.std, self.device, mask, self._shares.count, team
        )
        step.set_momentum(momentum)
        place = Place(schedule.first)
        saved = keeper.load() if keeper and team.leads else None
        if saved:
            step.set_state(saved[0])
            place = Place(*(saved[1][key] for key in ("epoch", "step", "history")))
        place = _joined(team, step, place, saved[0]["totals"] if saved else None)
        history = place.history
        executed = 0.0
        if at_epoch and not place.resumed and team.leads:
            at_epoch(place.epoch, model, step.momentum())

        def stops(keeper: Keeper, place: Place) -> bool:
            """Save where it is time to; whether SIGTERM came, to whichever process."""
            stop, due = team.any(_stop_requested, team.leads and keeper.due())
            if stop or due:
                _save(keeper, step, place, team)
            return stop

        model.train()
        final: Evaluation | None = None
        images = feed.steps * self.settings.batch_size
        for epoch in range(place.epoch, schedule.last):
            step.lr = schedule.lr(self.settings, epoch)
            first = place.step if epoch == place.epoch else 0
            for number, batches in enumerate(feed.epoch(streams, epoch, first), start=first + 1):
                step(batches)
                executed += 1 / feed.steps
                if keeper and number < feed.steps and stops(keeper, Place(epoch, number, history)):
                    raise Interrupted
            team.add_up(step.totals)
            loss, correct = (step.totals / images).tolist()
            step.totals.zero_()
            finite = math.isfinite(loss)
            row: Row = {
                "epoch": epoch + 1,
                "learning_rate": step.lr,
                "train_loss": loss if finite else None,
                "train_accuracy": 100 * correct if finite else None,
                "test_loss": None,
                "test_accuracy": None,
                "sparsity": step.sparsity,
            }
            last = epoch + 1 == schedule.last
            if finite and (last or (epoch + 1) % self.settings.evaluate_every == 0):
                final = self.evaluate(model, logits=keep_logits and last)
                finite = final.finite
                row |= {"test_loss": final.loss, "test_accuracy": final.accuracy} if finite else {}
            history.append(row)
            if report and team.leads:
                report(row)
            if not finite:
                return Outcome(
                    "diverged", step.momentum(), history, None,
                    time.monotonic() - started, executed,
                )  # fmt: skip
            if at_epoch and team.leads:
                at_epoch(epoch + 1, model, step.momentum())
            if keeper and not last and stops(keeper, Place(epoch + 1, 0, history)):
                raise Interrupted
        if final is None:  # no epoch was left to train
            final = self.evaluate(model, logits=keep_logits)
        return Outcome(
            "ok" if final.finite else "diverged", step.momentum(), history,
            final if final.finite else None, time.monotonic() - started, executed,
        )  # fmt: skip


def _joined(team: Team, step: Step, place: Place, totals: Tensor | None) -> Place:
    """Give all processes the state of process 0; where to go on.

    ``totals``: those saved, [2] of one process, or a row of each.
    """
    rows = 0 if totals is None else totals.reshape(-1, 2).shape[0]
    told = team.tell(
        [place.epoch, place.step, place.history, rows, bool(step.momentum()), totals is not None]
    )
    place = Place(told[0], told[1], told[2], told[5])
    if told[4] and not step.momentum():
        step.set_momentum({name: torch.zeros_like(p) for name, p in step.parameters.items()})
    team.copy(step.state().values())
    if told[3]:
        saved = step.totals.new_zeros(told[3], 2)
        if totals is not None:
            saved.copy_(totals.reshape(-1, 2))
        team.copy([saved])
        if len(saved) == team.size:
            step.totals.copy_(saved[team.rank])
        elif team.leads:
            step.totals.copy_(saved.sum(0))
    return place


def _save(keeper: Keeper, step: Step, place: Place, team: Team) -> None:
    """Save a run at ``place``; process 0 writes."""
    totals = team.collect(step.totals[None])
    if totals is not None:
        keeper.save(
            step.state() | {"totals": torch.cat(totals) if len(totals) > 1 else totals[0][0]},
            {"epoch": place.epoch, "step": place.step, "history": place.history},
        )


def history_rows(history: Iterable[Mapping[str, object]]) -> list[list[object]]:
    """Rows for ``history.csv`` in the order of ``HISTORY``; nothing where nothing was measured."""
    return [["" if row[key] is None else row[key] for key in HISTORY] for row in history]
