"""The one training loop: dense, fine-tuning and sparse runs.

A mask is an argument. SGD with momentum on all parameters; after each step the masked weights are
set to zero, which gives the unmasked weights exactly the values of the usual re-parametrisation
``weight * mask`` (the update of a weight depends on no other weight once its gradient is known).

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
from torch.nn import functional

from pipeline.artifacts.store import read_info, read_tensors, write_tensors
from pipeline.data import DataSet
from pipeline.data.augment import Augmenter, normalise
from pipeline.errors import UserError
from pipeline.evaluation import Evaluation, autocast, evaluate
from pipeline.study.settings import TrainSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Epoch -> generator of that epoch's data order and of its augmentation.
Streams = Callable[[str, int], torch.Generator]

RESUME = ".resume.safetensors"
HISTORY = (
    "epoch", "learning_rate", "train_loss", "train_accuracy", "test_loss", "test_accuracy",
    "sparsity",
)  # fmt: skip


class Interrupted(Exception):
    """SIGTERM came: the state is on disk, and the same command goes on from it."""


@dataclass
class Schedule:
    """Epochs ``first`` to ``last`` of a schedule that is ``horizon`` epochs long."""

    first: int
    last: int
    horizon: int

    def lr(self, settings: TrainSettings, epoch: int) -> float:
        """Learning rate of an epoch (counted from 0): per epoch, cosine to 0 over the horizon."""
        warmup = settings.warmup_epochs
        if epoch < warmup:
            return settings.lr * (epoch + 1) / (warmup + 1)
        if settings.schedule == "constant":
            return settings.lr
        done = (epoch - warmup) / max(1, self.horizon - warmup)
        return 0.5 * settings.lr * (1 + math.cos(math.pi * done))


@dataclass
class Outcome:
    """What a training run leaves behind; ``momentum`` is keyed by parameter name."""

    status: str
    momentum: dict[str, Tensor]
    history: list[dict[str, float | int | None]]
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
    """Trains networks on one data set with one set of training settings."""

    def __init__(self, data: DataSet, settings: TrainSettings, device: torch.device) -> None:
        self.data = data.to(device)
        self.settings = settings
        self.device = device
        self._augmenter = Augmenter(self.data.train, flip=data.flip, pad=data.pad)

    def evaluate(self, model: nn.Module, *, logits: bool = False) -> Evaluation:
        """Evaluation on the test set, top-1 and top-5."""
        test = self.data.test
        return evaluate(
            model, test.images, test.labels, self.data.mean, self.data.std,
            precision=self.settings.precision, logits=logits, top=(1, 5),
        )  # fmt: skip

    def train(
        self,
        model: nn.Module,
        schedule: Schedule,
        streams: Streams,
        *,
        mask: Mapping[str, Tensor] | None = None,
        momentum: Mapping[str, Tensor] | None = None,
        keeper: Keeper | None = None,
        at_epoch: Callable[[int, nn.Module, dict[str, Tensor]], None] | None = None,
        report: Callable[[dict[str, float | int | None]], None] | None = None,
        keep_logits: bool = False,
    ) -> Outcome:
        """Train ``model`` in place from epoch ``schedule.first`` to ``schedule.last``.

        ``streams(purpose, epoch)`` gives the generators "order" and "augmentation".
        ``at_epoch(epochs trained, model, momentum)`` is called at the start and after each epoch.
        A loss that is not finite ends the run with status "diverged".

        Raises:
            Interrupted: SIGTERM inside ``graceful``; the state was saved.
        """
        started = time.monotonic()
        model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        parameters = dict(model.named_parameters())
        optimiser = torch.optim.SGD(
            parameters.values(), lr=self.settings.lr, momentum=self.settings.momentum,
            weight_decay=self.settings.weight_decay, fused=True,
        )  # fmt: skip
        masked = [parameters[name] for name in mask or ()]
        masks = [
            m.to(self.device, p.dtype) for p, m in zip(masked, (mask or {}).values(), strict=True)
        ]
        masks = [m.contiguous(memory_format=_format(m)) for m in masks]
        zeros = sum(int((m == 0).sum()) for m in masks)
        sparsity = zeros / sum(m.numel() for m in masks) if masks else 0.0
        with torch.no_grad():
            _multiply(masked, masks)
        _set_momentum(optimiser, parameters, momentum or {})
        history: list[dict[str, float | int | None]] = []
        totals = torch.zeros(2, dtype=torch.float64, device=self.device)
        start, done = schedule.first, 0
        saved = keeper.load() if keeper else None
        if saved:
            start, done, history = self._restore(model, optimiser, parameters, totals, *saved)
        executed = 0.0
        if at_epoch and not saved:
            at_epoch(start, model, _momentum(optimiser, parameters))

        model.train()
        final: Evaluation | None = None
        for epoch in range(start, schedule.last):
            lr = schedule.lr(self.settings, epoch)
            for group in optimiser.param_groups:
                group["lr"] = lr
            images, labels = self._augmenter.epoch(
                batch_size=self.settings.batch_size,
                order=streams("order", epoch),
                augmentation=streams("augmentation", epoch),
            )
            steps = len(labels) // self.settings.batch_size
            for step in range(done, steps):
                self._step(model, optimiser, images, labels, step, totals)
                if masks:
                    with torch.no_grad():
                        _multiply(masked, masks)
                executed += 1 / steps
                if keeper and (_stop_requested or keeper.due()) and step + 1 < steps:
                    self._save(
                        keeper, model, optimiser, parameters, totals, epoch, step + 1, history
                    )
                    if _stop_requested:
                        raise Interrupted
            done = 0
            loss, correct = (totals / len(labels)).tolist()
            totals.zero_()
            finite = math.isfinite(loss)
            row: dict[str, float | int | None] = {
                "epoch": epoch + 1,
                "learning_rate": lr,
                "train_loss": loss if finite else None,
                "train_accuracy": 100 * correct if finite else None,
                "test_loss": None,
                "test_accuracy": None,
                "sparsity": sparsity,
            }
            last = epoch + 1 == schedule.last
            if finite and (last or (epoch + 1) % self.settings.evaluate_every == 0):
                final = self.evaluate(model, logits=keep_logits and last)
                finite = final.finite
                row |= {"test_loss": final.loss, "test_accuracy": final.accuracy} if finite else {}
            history.append(row)
            if report:
                report(row)
            if not finite:
                return Outcome(
                    "diverged", _momentum(optimiser, parameters), history, None,
                    time.monotonic() - started, executed,
                )  # fmt: skip
            if at_epoch:
                at_epoch(epoch + 1, model, _momentum(optimiser, parameters))
            if keeper and not last and (_stop_requested or keeper.due()):
                self._save(keeper, model, optimiser, parameters, totals, epoch + 1, 0, history)
                if _stop_requested:
                    raise Interrupted
        if final is None:  # no epoch was left to train
            final = self.evaluate(model, logits=keep_logits)
        return Outcome(
            "ok" if final.finite else "diverged", _momentum(optimiser, parameters), history,
            final if final.finite else None, time.monotonic() - started, executed,
        )  # fmt: skip

    def _step(
        self, model: nn.Module, optimiser: torch.optim.Optimizer, images: Tensor, labels: Tensor,
        step: int, totals: Tensor,
    ) -> None:  # fmt: skip
        """One optimisation step; totals += (sum of losses, correct predictions). No host sync."""
        batch = slice(step * self.settings.batch_size, (step + 1) * self.settings.batch_size)
        inputs = normalise(images[batch], self.data.mean, self.data.std)
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        with autocast(self.device, self.settings.precision):
            logits = model(inputs)
        loss = functional.cross_entropy(logits.float(), labels[batch])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        totals[0] += loss.detach() * len(labels[batch])
        totals[1] += (logits.detach().argmax(dim=1) == labels[batch]).sum()

    def _save(
        self, keeper: Keeper, model: nn.Module, optimiser: torch.optim.Optimizer,
        parameters: Mapping[str, nn.Parameter], totals: Tensor, epoch: int, step: int,
        history: list[dict[str, float | int | None]],
    ) -> None:  # fmt: skip
        tensors = {f"weights/{name}": tensor for name, tensor in model.state_dict().items()}
        tensors |= {f"momentum/{name}": t for name, t in _momentum(optimiser, parameters).items()}
        tensors["totals"] = totals
        keeper.save(tensors, {"epoch": epoch, "step": step, "history": history})

    def _restore(
        self, model: nn.Module, optimiser: torch.optim.Optimizer,
        parameters: Mapping[str, nn.Parameter], totals: Tensor,
        tensors: Mapping[str, Tensor], info: Mapping[str, Any],
    ) -> tuple[int, int, list[dict[str, float | int | None]]]:  # fmt: skip
        model.load_state_dict(_under("weights/", tensors))
        _set_momentum(optimiser, parameters, _under("momentum/", tensors))
        totals.copy_(tensors["totals"])
        return info["epoch"], info["step"], list(info["history"])


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def _format(tensor: Tensor) -> torch.memory_format:
    return torch.channels_last if tensor.dim() == 4 else torch.contiguous_format


def _multiply(weights: list[nn.Parameter], masks: list[Tensor]) -> None:
    if masks:
        torch._foreach_mul_(tuple(weights), tuple(masks))


def _momentum(
    optimiser: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]
) -> dict[str, Tensor]:
    """Momentum buffers by parameter name; none before the first step, or without momentum."""
    buffers = {name: optimiser.state[p].get("momentum_buffer") for name, p in parameters.items()}
    return {name: buffer for name, buffer in buffers.items() if buffer is not None}


def _set_momentum(
    optimiser: torch.optim.Optimizer,
    parameters: Mapping[str, nn.Parameter],
    momentum: Mapping[str, Tensor],
) -> None:
    for name, buffer in momentum.items():
        like = parameters[name]
        optimiser.state[like]["momentum_buffer"] = torch.empty_like(like).copy_(buffer)


def history_rows(history: Iterable[Mapping[str, object]]) -> list[list[object]]:
    """Rows for ``history.csv`` in the order of ``HISTORY``; nothing where nothing was measured."""
    return [["" if row[key] is None else row[key] for key in HISTORY] for row in history]
