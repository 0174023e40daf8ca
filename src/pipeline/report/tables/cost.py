"""What a solution costs by each method, measured: paper Appendix D."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from pipeline.report.shown import Shown
from pipeline.report.tables.cells import by_seeds, select, sort, varying
from pipeline.report.tables.table import ABSENT, Legend, Table, row_labels
from pipeline.results import NETWORK, Results, place
from pipeline.study.outputs.cost import Cost

# The parts of one solution that are trained, in the order of the columns.
_PARTS = ["dense_a", "imp", "dense_b", "sparse"]
_LEGEND = Legend(
    "Epochs of training and device time of one solution", "epochs and seconds", spread="",
    of="finished sparse runs",
)  # fmt: skip
_DEFINITION = (
    "One solution made alone: dense run a, its IMP chain up to S, dense run b (k epochs for a "
    "rewind snapshot; up to the matching point where b is matched), matching, and the sparse run; "
    "means over rewind epochs and pairs."
)


def read(output: Cost, results: Results) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The runs of the output's experiments, and a row per permutation with its seconds."""
    experiments = results.chosen(output)
    matches = [
        place(experiment) | {
            "a": a, "b": b, "matching_epoch": epoch,
            "seconds": results.provenance(run).get("seconds") if results.metrics(run) else None,
        }
        for experiment in experiments
        for (a, b), epoch, run in experiment.matchings()
    ]  # fmt: skip
    columns = [*NETWORK, "a", "b", "matching_epoch", "seconds"]
    return results.runs(experiments), pd.DataFrame(matches, columns=columns)


def build(output: Cost, shown: Shown, data: tuple[pd.DataFrame, pd.DataFrame]) -> Table:
    """Rows S × method; epochs of every part, seconds of matching, device seconds in all.

    Epochs and seconds of an IMP row are those of the chain up to its sparsity. Only finished sparse
    runs count; a part that nothing was measured for shows as missing, and so does the total.
    """
    runs, matches = data
    chosen = select(runs, output, shown.end, ("dense", "imp", "sparse"))
    done = chosen[chosen["status"] == "ok"]
    permuted = [name for name, method in shown.methods.items() if method.permute]
    tidy = _average(_solutions(done, matches, permuted), chosen[chosen["kind"] == "sparse"])
    notes = [_DEFINITION, _totals(done, matches)]
    layout = _lay_out(tidy, shown.labels)
    runs_of = pd.DataFrame(
        [[own] * layout.shape[1] for own in tidy.pop("runs")], layout.index, layout.columns
    )
    return shown.table(output, tidy, layout, notes, legend=_LEGEND, runs=runs_of)


def _solutions(done: pd.DataFrame, matches: pd.DataFrame, permuted: list[str]) -> pd.DataFrame:
    """The finished sparse runs with epochs and seconds of every part; NaN for what is not known."""

    def spent(part: str, kind: str, *by: str) -> pd.DataFrame:
        groups = done[done["kind"] == kind].groupby([*NETWORK, *by])[["epochs", "seconds"]]
        return groups.mean().add_prefix(f"{part}_")

    own = {"epochs": "sparse_epochs", "seconds": "sparse_seconds"}
    runs = done[done["kind"] == "sparse"].rename(columns=own)
    runs = runs.join(spent("dense_a", "dense", "a"), [*NETWORK, "a"])
    runs = runs.join(spent("imp", "imp", "a", "sparsity"), [*NETWORK, "a", "sparsity"])
    runs = runs.join(spent("dense_b", "dense", "a"), [*NETWORK, "b"])
    by_matching, paired = runs["method"].isin(permuted), runs["b"].notna()
    # b is trained up to the snapshot, and for a matching up to where it is matched (NaN: its end)
    whole = runs["dense_b_epochs"]
    matched = runs["matching_epoch"].fillna(whole).where(by_matching)
    until = np.fmax(runs["rewind_epoch"], matched)
    runs["dense_b_epochs"] = until.where(paired, 0.0)
    runs["dense_b_seconds"] = (runs["dense_b_seconds"] * until / whole).where(paired, 0.0)
    keys = [*NETWORK, "a", "b", "matching_epoch"]
    known = matches.astype(dict.fromkeys(("width", "a", "b", "matching_epoch", "seconds"), float))
    seconds = known.groupby(keys, dropna=False)["seconds"].mean().rename("matching_seconds")
    runs = runs.merge(seconds.reset_index(), how="left", on=keys)
    runs.loc[~runs["method"].isin(permuted), "matching_seconds"] = 0.0
    return runs


def _average(solutions: pd.DataFrame, sparse: pd.DataFrame) -> pd.DataFrame:
    """Means over finished runs per method and sparsity, with counts of the declared runs."""
    keys = [*NETWORK, "sparsity", "method"]
    parts = [f"{part}_{unit}" for part in _PARTS for unit in ("epochs", "seconds")]
    # A part that one run lacks is unknown for the cell: mean() would skip it silently.
    means = solutions.groupby(keys)[[*parts, "matching_seconds"]].agg(
        lambda column: column.mean(skipna=False)
    )
    status = {f"n_{word}": sparse["status"] == word for word in ("ok", "diverged", "missing")}
    counted = sparse.assign(**status).groupby(keys)
    counts = counted.agg(**{name: (name, "sum") for name in status}, runs=("path", tuple))
    seconds = solutions.filter(regex="_seconds$").sum(axis=1, skipna=False)
    said = solutions.assign(values=by_seeds(solutions, seconds)).groupby(keys)["values"]
    counts = counts.rename(columns={"n_ok": "n"}).join(means)
    tidy = sort(counts.join(said.agg("; ".join)).reset_index(), keys)
    for unit in ("epochs", "seconds"):
        tidy[unit] = tidy.filter(regex=f"_{unit}$").sum(axis=1, skipna=False)
    return tidy


def _lay_out(tidy: pd.DataFrame, labels: Mapping[str, str]) -> pd.DataFrame:
    columns = {
        ("Epochs", "dense a"): "dense_a_epochs", ("Epochs", "IMP"): "imp_epochs",
        ("Epochs", "dense b"): "dense_b_epochs", ("Epochs", "sparse"): "sparse_epochs",
        ("Epochs", "all"): "epochs", ("Seconds", "matching"): "matching_seconds",
        ("Seconds", "all on the device"): "seconds",
    }  # fmt: skip
    keys = [*varying(tidy, NETWORK), "sparsity", "method"]
    digits = {column: int((tidy[column].dropna() % 1 != 0).any()) for column in columns.values()}
    return pd.DataFrame(
        [
            [_text(row, column, digits[column]) for column in columns.values()]
            for row in tidy.to_dict("records")
        ],
        index=row_labels(tidy[keys], labels),
        columns=pd.MultiIndex.from_tuples(list(columns)),
    )


def _text(row: Mapping[str, Any], column: str, decimals: int) -> str:
    value = row[column]
    if pd.isna(value):
        return "missing"
    if value == 0 and column in ("dense_b_epochs", "matching_seconds"):
        return ABSENT
    return f"{value:,.{decimals}f}"


def _totals(done: pd.DataFrame, matches: pd.DataFrame) -> str:
    """What the finished runs together took, shared parts counted once."""
    spent = done[["epochs", "seconds"]]
    of_chain = done["kind"] == "imp"  # a row is the chain up to its sparsity
    chains = spent[of_chain].groupby([done[key] for key in (*NETWORK, "a")]).max()
    epochs, seconds = spent[~of_chain].sum() + chains.sum()
    seconds += matches["seconds"].sum()
    devices = sorted(done["device"].dropna().unique())
    where = f" on {', '.join(devices)}" if devices else ""
    return (
        f"All finished runs together, shared parts once: {epochs:,.0f} epochs, "
        f"{seconds / 3600:,.2f} device hours{where}."
    )
