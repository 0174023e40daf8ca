"""A run's history for TensorBoard or Weights & Biases, while it trains; no part of any artifact.

Steps are epochs, counted from 1 over all rounds of a pruning block. Losses in nats, accuracies in %.
Nothing here is loaded unless a setting asks for it.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

from pipeline.runs import Run

TENSORBOARD, WANDB = "tensorboard", "wandb"
#: Column of ``history.csv`` -> name of the curve; TensorBoard draws a chart per word before "/".
CURVES = {
    "train_loss": "loss/train",
    "test_loss": "loss/test",
    "train_accuracy": "accuracy/train",
    "test_accuracy": "accuracy/test",
    "learning_rate": "learning_rate",
    "sparsity": "sparsity",
    "round": "round",
}


class Tracker(Protocol):
    """Takes the rows of a run's history as they come."""

    def row(self, step: int, values: Mapping[str, float]) -> None:
        """The curves' values after ``step`` epochs."""

    def close(self) -> None:
        """No further row comes."""


class TensorBoard:
    """Events below <results>/tensorboard, under the run's own path; needs the package tensorboard."""

    def __init__(self, results: Path, run: Run, settings: Mapping[str, Any], anew: bool) -> None:
        del settings
        from torch.utils.tensorboard import SummaryWriter

        folder = results / TENSORBOARD / run.folder
        if anew:
            for old in folder.glob("events.out.tfevents.*"):  # of the same run, made before
                old.unlink()
        self._writer = SummaryWriter(str(folder))

    def row(self, step: int, values: Mapping[str, float]) -> None:
        """See ``Tracker``; on disk at once."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        """See ``Tracker``."""
        self._writer.close()


class WeightsAndBiases:
    """An offline run below <results>/wandb; needs the package wandb. Nothing leaves the machine."""

    def __init__(self, results: Path, run: Run, settings: Mapping[str, Any], anew: bool) -> None:
        import wandb

        number = sha256(run.folder.encode()).hexdigest()[:16]
        if anew:
            for old in (results / WANDB).glob(f"offline-run-*-{number}"):
                shutil.rmtree(old)
        results.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            project="sparse-symmetry", id=number, name=run.folder, group=run.stage,
            config=dict(settings), mode="offline", dir=str(results),
            settings=wandb.Settings(silent=True, console="off", x_disable_stats=True),
        )  # fmt: skip

    def row(self, step: int, values: Mapping[str, float]) -> None:
        """See ``Tracker``."""
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        """See ``Tracker``."""
        self._run.finish()


#: Every tracker by the setting that asks for it, which is also its package.
TRACKERS: dict[str, Callable[[Path, Run, Mapping[str, Any], bool], Tracker]] = {
    TENSORBOARD: TensorBoard,
    WANDB: WeightsAndBiases,
}


def curves(row: Mapping[str, object]) -> dict[str, float]:
    """The curves' values in a row of a history; nothing where nothing was measured."""
    given = {name: row.get(column) for column, name in CURVES.items()}
    return {name: float(str(value)) for name, value in given.items() if value not in (None, "")}


def write_events(results: Path, run: Run) -> None:
    """Write the whole history of a finished run for TensorBoard, in place of what was there.

    Raises:
        OSError: the folder cannot be written.
    """
    path = results / run.path("history.csv")
    if path.exists():
        with path.open(newline="", encoding="utf-8") as handle:
            rows = list(csv.DictReader(handle))
        tracker = TensorBoard(results, run, {}, anew=True)
        for step, row in enumerate(rows, start=1):
            tracker.row(step, curves(row))
        tracker.close()
