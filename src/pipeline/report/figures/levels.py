"""Accuracy by level of pruning: Figures 2 (right) and 13 of Sharma et al."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pipeline.report import levels
from pipeline.report.figures import roles, style
from pipeline.report.shown import Shown
from pipeline.report.tables import names
from pipeline.report.tables.cells import METRICS, filters, spread
from pipeline.results import NETWORK, Results
from pipeline.study.outputs.accuracy import Accuracy

_CELL = [*NETWORK, "rewound", "method", "arm", "matcher", "level", "sparsity"]
_COLUMNS = {"weights": "Weights rewound", "rate": "Learning rate rewound"}
_ARMS = [levels.UNPRUNED, levels.PRUNED, "dense", "sparse", "none", "one-shot"]
_WORDS = {levels.UNPRUNED: "dense", levels.PRUNED: "IMP", "one-shot": "pruned at once"}


def read(output: Accuracy, results: Results) -> pd.DataFrame:
    """The runs of the output's experiments, labelled."""
    return levels.accuracies(results, results.chosen(output))


def draw(
    output: Accuracy, shown: Shown, runs: pd.DataFrame, label: str
) -> tuple[Figure, pd.DataFrame]:
    """A row per network and matcher; columns: what is rewound before each retraining.

    The frame holds the cells: mean and spread of the accuracy over runs, in %. ``label``: what the
    accuracy is.
    """
    cells = _cells(output, runs)
    matchers = sorted({*cells["matcher"]} - {""}, key=roles.rank) or [""]
    networks = [*cells[NETWORK].drop_duplicates().itertuples(index=False, name=None)]
    columns = [name for name in _COLUMNS if name in {*cells["rewound"]}]
    rows = list(product(networks, matchers))
    handles = _handles(cells, shown)
    size = (2.6, 1.8) if len(columns) > 1 else (3.2, 2.1)
    figure, axes = style.grid(len(rows), len(columns), panel=size, sharex=False)
    for panels, (network, matcher) in zip(axes, rows, strict=False):
        here = cells[(cells[NETWORK] == list(network)).all(axis=1)]
        here = here[here["matcher"].isin(("", matcher))]
        for panel, rewound in zip(panels, columns, strict=True):
            _draw(panel, here[here["rewound"].eq(rewound)], handles)
            style.few_y_ticks(panel)
            if panels is axes[0]:
                panel.set_title(_COLUMNS[rewound])
            if panels is axes[-1]:
                panel.set_xlabel("Weights left (%)")
        told = f"{roles.of_network(network)}\n"
        told += f"{roles.MATCHERS.get(matcher, (matcher,))[0]}\n" if len(matchers) > 1 else ""
        panels[0].set_ylabel(f"{told}{label}")
    shown_cells = cells[cells["level"] > 0]
    note = style.missing_note(
        len(shown_cells),
        int(shown_cells["mean"].isna().sum()),
        int((shown_cells["failed"] > 0).sum()),
    )
    style.legend(figure, [line for _, line in handles.values()], note)
    return figure, cells


def _cells(output: Accuracy, runs: pd.DataFrame) -> pd.DataFrame:
    """Mean and spread of the accuracy over the finished runs of a cell, each run once."""
    kept = runs
    for column, wanted in filters(output).items():
        kept = kept[kept[column].isin(wanted) | kept["kind"].ne("sparse")]
    kept = kept.drop_duplicates([*_CELL, "path"]).assign(sparsity=kept["sparsity"].fillna(0.0))
    value = pd.to_numeric(kept[METRICS[output.metric]], errors="coerce")
    kept = kept.assign(
        value=value.where(kept["status"] == "ok"), failed=kept["status"].eq("diverged").astype(int)
    )
    return spread(kept, _CELL, failed=("failed", "sum"))


def _handles(cells: pd.DataFrame, shown: Shown) -> dict[str, tuple[style.Look, Line2D]]:
    """The look of each method, and its entry in the legend.

    It is that of the same question in figures of barriers, with marks where a line has none there;
    where another method of the same question has it, or there is none, the method's own.
    """
    drawn = cells[["method", "arm", "matcher"]].drop_duplicates()
    known = [*_ARMS]
    ordered = sorted(
        drawn.itertuples(index=False, name=None),
        key=lambda row: (
            known.index(row[1]) if row[1] in known else len(known),
            roles.rank(row[2]),
        ),
    )
    found: dict[str, tuple[style.Look, Line2D]] = {}
    taken: set[tuple[str, str]] = set()
    for method, arm, matcher in ordered:
        if arm in (levels.UNPRUNED, levels.PRUNED):
            look, words = style.METHODS[method], _WORDS[arm]
        elif arm not in known or (arm, matcher) in taken:
            look = style.method_style(method, shown.colors)
            words = names.whole_method(method, shown.labels)
        else:
            look = roles.look_of(arm, matcher)
            look = look | {"marker": look["marker"] or "s"}
            words = _WORDS.get(arm) or roles.words_of(arm, matcher)
        taken.add((arm, matcher))
        found[method] = look, style.handle(look, words)
    return found


def _draw(
    panel: Axes, cells: pd.DataFrame, handles: Mapping[str, tuple[style.Look, Line2D]]
) -> None:
    at = roles.density(cells["sparsity"])
    for (method, arm), line in cells.assign(x=at).groupby(["method", "arm"], sort=False):
        line = line.sort_values("x")
        if arm == levels.UNPRUNED and line["mean"].notna().all():
            style.reference(panel, line["mean"].iloc[0], line["std"].iloc[0])
        elif arm != levels.UNPRUNED:
            look = handles[method][0] | {"markevery": max(1, len(line) // 9)}
            style.band_line(panel, line["x"], line["mean"], line["std"], look)
    roles.density_axis(panel, at[cells["level"] > 0])
