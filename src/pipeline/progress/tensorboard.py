"""A run's history as TensorBoard events, beside the results and no part of any artifact."""

from __future__ import annotations

import csv
from pathlib import Path

from pipeline.runs import Run

FOLDER = "tensorboard"
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


def write_events(results: Path, run: Run) -> Path | None:
    """Write the history of a finished run for TensorBoard, in place of what was there.

    Steps are epochs, counted from 1 over all rounds of a pruning block. Losses in nats, accuracies
    in %. Needs the package tensorboard.

    Returns:
        the folder of the events, <results>/tensorboard/<stage>/<key>; None for a run without epochs.

    Raises:
        OSError: the folder cannot be written.
    """
    path = results / run.path("history.csv")
    if not path.exists():
        return None
    with path.open(newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    if not rows:
        return None
    from torch.utils.tensorboard import SummaryWriter

    folder = results / FOLDER / run.folder
    for old in folder.glob("events.out.tfevents.*"):  # of the same run, made before
        old.unlink()
    with SummaryWriter(str(folder)) as writer:
        for step, row in enumerate(rows, start=1):
            for column, name in CURVES.items():
                if row.get(column):  # nothing where nothing was measured
                    writer.add_scalar(name, float(row[column]), step)
    return folder
