"""The settings of the recipes that run: paper Tables 2, 3 and 4."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd

from pipeline.report.shown import Shown
from pipeline.report.tables.table import ABSENT, Table, setting_text
from pipeline.results import Results
from pipeline.study.outputs.hyperparameters import Hyperparameters
from pipeline.study.settings import TrainSettings

#: Settings as the paper's Tables 2-4 name them; those that do not decide the numbers are left out.
_NAMES = {
    "lr": "Learning rate", "epochs": "Epochs", "momentum": "Momentum",
    "weight_decay": "Weight decay", "batch_size": "Batch size", "schedule": "Schedule",
    "warmup_epochs": "Warm-up epochs", "lr_changes": "Rate changes with each",
    "milestones": "A tenth after epochs",
    "micro_batch": "Micro-batch", "precision": "Precision", "style": "After each prune",
    "rewind_epoch": "Rewind epoch of IMP", "fraction": "Pruned a round (of the remaining)",
    "prunable": "Prunable weights", "similarity": "Similarity", "std": "Standard deviation",
    "epsilon": "Epsilon", "taps": "Observed at", "augment": "Augmented images", "images": "Images",
}  # fmt: skip
#: Of a training, shown where they are not as usual.
_UNUSUAL = ("micro_batch", "lr_changes", "augment", "images")
_STAGES = {"dense": "Dense", "imp": "Pruning", "match": "Matching", "sparse": "Sparse"}

Rows = Iterable[tuple[str, str, Any]]


def read(output: Hyperparameters, results: Results) -> Rows:
    """(group, name, value) in the order to print: the settings of the very recipes that run."""
    for experiment in results.chosen(output):
        yield experiment.name, "Optimizer", "SGD"
        for stage in output.stages:
            recipe = results.config.recipes.resolve(stage, getattr(experiment, stage))
            settings = vars(recipe)
            if stage == "sparse":
                settings = {"epochs": f"{experiment.horizon} − k", **settings}
            usual = {}
            if isinstance(recipe, TrainSettings):
                usual = {key: vars(TrainSettings())[key] for key in _UNUSUAL}
            for key, name in _NAMES.items():
                value = settings.get(key, ())
                if value != () and (key not in usual or value != usual[key]):
                    value = "all" if value is None else value
                    yield experiment.name, f"{_STAGES[stage]}: {name}", value


def build(output: Hyperparameters, shown: Shown, settings: Rows) -> Table:
    """A row per hyperparameter, a column per group (Table 4 has two); one group: ``Value``.

    A name that a group lacks shows –.
    """
    tidy = pd.DataFrame(
        [(group, key, setting_text(value)) for group, key, value in settings],
        columns=["group", "name", "value"],
    )
    groups, keys = tidy["group"].unique(), tidy["name"].unique()
    layout = tidy.pivot(index="name", columns="group", values="value").fillna(ABSENT)
    layout = layout.loc[keys, groups].rename_axis(index="Hyperparameter")
    layout.columns = ["Value"] if len(groups) == 1 else groups
    return shown.table(output, tidy, layout, [])
