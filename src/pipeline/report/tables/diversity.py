"""Ensembles and functional diversity of five runs per method: paper Table 1."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import torch

from pipeline.data import load
from pipeline.diversity import diversity
from pipeline.report.shown import Shown
from pipeline.report.tables import names
from pipeline.report.tables.table import ABSENT, Table, mean_text
from pipeline.results import NETWORK, PLACE, Results, place
from pipeline.study.outputs.diversity import Diversity

# The paper's order of rows and the methods it leaves out when it marks the best.
_ORDER = ["dense", "imp", "lth", "permuted", "naive"]
_UNMARKED = ("dense", "imp")
COLUMNS = {
    "test_accuracy_mean": ("Test Accuracy (%)", 2),
    "ensemble_accuracy": ("Ensemble Acc. (%)", 2),
    "disagreement": ("Disagreement", 3),
    "kl": ("KL", 3),
    "js": ("JS", 3),
}


def read(output: Diversity, results: Results) -> pd.DataFrame:
    """Accuracy, ensembles and functional diversity per method of each block.

    runs: how many are there, of those that are ``declared``.
    """
    rows = []
    for experiment in results.chosen(output):
        sparsity, k = output.at(experiment)
        labels = None
        for method, members in output.members(experiment).items():
            logits = [found for run in members if (found := results.logits(run)) is not None]
            row: dict[str, Any] = place(experiment) | {
                "method": method, "sparsity": sparsity, "rewind_epoch": k,
                "runs": len(logits), "declared": len(members),
            }  # fmt: skip
            if len(logits) >= 2:
                if labels is None:
                    info = results.config.datasets[experiment.dataset]
                    labels = load(info, results.config.data_root, download=False).test.labels
                stacked = torch.stack(logits)
                row |= vars(diversity(stacked, labels, ensemble=output.ensemble, kl=output.kl))
            rows.append(row)
    columns = [*PLACE, "method", "sparsity", "rewind_epoch", "test_accuracy_mean",
               "test_accuracy_std", "ensemble_accuracy", "disagreement", "kl", "js", "runs",
               "declared"]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def build(output: Diversity, shown: Shown, diversity: pd.DataFrame) -> Table:
    """One block per network and data set; rows dense, IMP, LTH, permuted, naive.

    ``diversity`` has a row per (dataset, model, width, method) with test_accuracy_mean,
    test_accuracy_std, ensemble_accuracy (all %), disagreement (a share), kl, js (nats), runs and
    declared. Bold: the highest value of a column among the methods other than dense and IMP, equal
    as printed, all; a dense row may lack everything but its accuracy.
    """
    frame = _in_order(diversity)
    best = {column: _best(frame, column, digits) for column, (_, digits) in COLUMNS.items()}
    text, bold, labels, tidy = [], [], [], []
    for position, row in enumerate(frame.to_dict("records")):
        marks = [bool(best[column].iat[position]) for column in COLUMNS]
        text.append([_text(row, column, digits) for column, (_, digits) in COLUMNS.items()])
        bold.append(marks)
        labels.append((names.place(*(row[key] for key in NETWORK)), _mask(row["method"])))
        tidy += _tidy(row, marks)
    index = pd.MultiIndex.from_tuples(labels, names=["Network", "Mask"])
    header = [label for label, _ in COLUMNS.values()]
    return shown.table(
        output,
        pd.DataFrame(tidy),
        pd.DataFrame(text, index=index, columns=header),
        _run_notes(frame),
        pd.DataFrame(bold, index=index, columns=header),
    )


def _mask(method: str) -> str:
    return "none (dense)" if method == "dense" else names.whole_method(method)


def _in_order(diversity: pd.DataFrame) -> pd.DataFrame:
    """The rows of each block in the paper's order."""
    rank = diversity["method"].map(_position)
    block = diversity.groupby(NETWORK, sort=False).ngroup()
    keys = pd.DataFrame({"block": block, "rank": rank}).sort_values(["block", "rank"])
    return diversity.loc[keys.index].reset_index(drop=True)


def _position(method: str) -> tuple[int, str]:
    return (_ORDER.index(method) if method in _ORDER else len(_ORDER), method)


def _best(frame: pd.DataFrame, column: str, digits: int) -> pd.Series:
    printed = frame[column].astype(float).round(digits)
    printed = printed.where(~frame["method"].isin(_UNMARKED))
    highest = printed.groupby([frame["dataset"], frame["model"], frame["width"]]).transform("max")
    return (printed == highest) & printed.notna()


def _text(row: Mapping[str, Any], column: str, digits: int) -> str:
    if pd.isna(row[column]):
        # Table 1 gives the accuracy alone for dense networks.
        dense_extra = row["method"] == "dense" and column != "test_accuracy_mean"
        return ABSENT if dense_extra else "missing"
    if column == "test_accuracy_mean":
        return mean_text(row[column], row["test_accuracy_std"], std_decimals=3)
    return f"{row[column]:.{digits}f}"


def _tidy(row: Mapping[str, Any], marks: list[bool]) -> list[dict[str, Any]]:
    lines = []
    for column, best in zip(COLUMNS, marks, strict=True):
        accuracy = column == "test_accuracy_mean"
        lines.append(
            {
                **{key: row[key] for key in (*NETWORK, "method")},
                "metric": "test_accuracy" if accuracy else column,
                "mean": row[column],
                "std": row["test_accuracy_std"] if accuracy else float("nan"),
                "n": row["runs"],
                "n_diverged": 0,
                "n_missing": row["declared"] - row["runs"],
                "best": best,
            }
        )
    return lines


def _run_notes(frame: pd.DataFrame) -> list[str]:
    short = frame[frame["runs"] < frame["declared"]]
    return [
        f"{names.place(row['dataset'], row['model'], row['width'])}, "
        f"{names.method(row['method'])}: {row['runs']} of {row['declared']} runs."
        for row in short.to_dict("records")
    ]
