"""Ensembles and functional diversity of five runs per method: paper Table 1."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from pipeline.report.tables import names
from pipeline.report.tables.table import ABSENT, Table, mean_text, spec_notes

# The paper's order of rows and the methods it leaves out when it marks the best.
_ORDER = ["dense", "imp", "lth", "permuted", "naive"]
_UNMARKED = ("dense", "imp")
_LABELS = {"dense": "none (dense)", "permuted": "permuted"}
COLUMNS = {
    "test_accuracy_mean": ("Test Accuracy (%)", 2),
    "ensemble_accuracy": ("Ensemble Acc. (%)", 2),
    "disagreement": ("Disagreement", 3),
    "kl": ("KL", 3),
    "js": ("JS", 3),
}


def build(
    name: str, spec: Mapping[str, Any], diversity: pd.DataFrame, *, protocol: str = "paper"
) -> Table:
    """One block per network and data set; rows dense, IMP, LTH, permuted, naive.

    ``diversity`` has a row per (dataset, model, width, method) with test_accuracy_mean,
    test_accuracy_std, ensemble_accuracy (all %), disagreement (a share), kl, js (nats) and runs.
    Settings: title, note, runs (how many a complete row has), methods (rows to show even when
    nothing is there yet). Bold: the highest value of a column among the methods other than dense
    and IMP, equal as printed, all; a dense row may lack everything but its accuracy.
    """
    frame = _complete(diversity, spec)
    best = {column: _best(frame, column, digits) for column, (_, digits) in COLUMNS.items()}
    text, bold, labels, tidy = [], [], [], []
    for position, row in enumerate(frame.to_dict("records")):
        marks = [bool(best[column].iat[position]) for column in COLUMNS]
        text.append([_text(row, column, digits) for column, (_, digits) in COLUMNS.items()])
        bold.append(marks)
        block = f"{names.network(row['model'], row['width'])} / {names.dataset(row['dataset'])}"
        labels.append((block, _LABELS.get(row["method"], names.method(row["method"]))))
        tidy += _tidy(row, marks, spec)
    index = pd.MultiIndex.from_tuples(labels, names=["Network", "Mask"])
    header = [label for label, _ in COLUMNS.values()]
    notes = [*spec_notes(spec), *_run_notes(frame, spec)]
    return Table(
        name,
        spec.get("title", name),
        pd.DataFrame(tidy),
        pd.DataFrame(text, index=index, columns=header),
        notes,
        protocol,
        pd.DataFrame(bold, index=index, columns=header),
    )


def _complete(diversity: pd.DataFrame, spec: Mapping[str, Any]) -> pd.DataFrame:
    """Rows in the paper's order, with an empty row for every method that the study declares."""
    keys = ["dataset", "model", "width"]
    blocks = list(dict.fromkeys(diversity[keys].itertuples(index=False, name=None)))
    rows = []
    for block in blocks:
        inside = diversity[(diversity[keys] == list(block)).all(axis=1)]
        by_method = {row["method"]: row for row in inside.to_dict("records")}
        wanted = {*by_method, *spec.get("methods", [])}
        for method in sorted(wanted, key=_position):
            empty = {**dict(zip(keys, block, strict=True)), "method": method, "runs": 0}
            rows.append(by_method.get(method, empty))
    columns = [*keys, "method", *COLUMNS, "test_accuracy_std", "runs"]
    return pd.DataFrame(rows).reindex(columns=columns)


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


def _tidy(
    row: Mapping[str, Any], marks: list[bool], spec: Mapping[str, Any]
) -> list[dict[str, Any]]:
    runs = int(row["runs"]) if pd.notna(row["runs"]) else 0
    lines = []
    for column, best in zip(COLUMNS, marks, strict=True):
        accuracy = column == "test_accuracy_mean"
        lines.append(
            {
                **{key: row[key] for key in ("dataset", "model", "width", "method")},
                "metric": "test_accuracy" if accuracy else column,
                "mean": row[column],
                "std": row["test_accuracy_std"] if accuracy else float("nan"),
                "n": runs,
                "n_diverged": 0,
                "n_missing": max(0, int(spec.get("runs", runs)) - runs),
                "best": best,
            }
        )
    return lines


def _run_notes(frame: pd.DataFrame, spec: Mapping[str, Any]) -> list[str]:
    if "runs" not in spec:
        return []
    short = frame[frame["runs"].fillna(0) < spec["runs"]]
    return [
        f"{names.network(row['model'], row['width'])} / {names.dataset(row['dataset'])}, "
        f"{names.method(row['method'])}: {int(row['runs'] or 0)} of {spec['runs']} runs."
        for row in short.to_dict("records")
    ]
