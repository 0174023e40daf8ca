"""Accuracies by level of pruning: of the rounds themselves, and of networks trained under masks."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from pipeline.results import COLUMNS, MATCHERS, Results
from pipeline.study.experiment import Experiment

#: What every row says beside the columns of `pipeline.results.COLUMNS`.
LABELS = ["arm", "matcher", "rewound", "level"]
#: Arm of the unpruned networks, and of the rounds of pruning.
UNPRUNED, PRUNED = "unpruned", "imp"


def accuracies(results: Results, experiments: Iterable[Experiment]) -> pd.DataFrame:
    """Dense runs, rounds and sparse runs of experiments with levels, a row each.

    ``arm``: ``unpruned`` (level 0), ``imp`` (the round that ends at the level), or how a sparse run
    came to its mask: as it is of the other network (``none``), under π of the dense networks
    (``dense``) or of those pruned to the level (``sparse``), or of one prune (``one-shot``); of
    another method its name.
    ``matcher``: what π looks at, "" without π. ``rewound``: ``weights``, or ``rate`` where the
    learning rate alone was.
    """
    frames = [pd.DataFrame(columns=[*COLUMNS, *LABELS])]
    for experiment in experiments:
        frame = results.runs([experiment])
        ways = experiment.ways
        arms = {name: way.arm or name for name, way in ways.items()} | {
            "dense": UNPRUNED,
            "imp": PRUNED,
        }
        matchers = {
            name: _matcher(results, way.match or experiment.match) if way.permute else ""
            for name, way in ways.items()
        }
        levels = dict(zip(experiment.sparsities, experiment.levels, strict=True))
        frames.append(
            frame.assign(
                arm=frame["method"].map(arms),
                matcher=frame["method"].map(matchers).fillna(""),
                rewound="rate" if experiment.training == "full" else "weights",
                level=frame["sparsity"].map(levels).fillna(0).astype(int),
            )
        )
    return pd.concat(frames[1:] or frames, ignore_index=True)


def _matcher(results: Results, recipe: str) -> str:
    similarity: str = results.config.recipes.resolve("match", recipe).similarity
    return MATCHERS.get(similarity, similarity)
