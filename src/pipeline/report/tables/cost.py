"""What a solution costs by each method, measured: paper Appendix D."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import pandas as pd

from pipeline.report.shown import Shown
from pipeline.report.tables import names
from pipeline.report.tables.cells import select, varying
from pipeline.report.tables.table import ABSENT, Table, row_labels
from pipeline.results import NETWORK, Results, place
from pipeline.study.outputs.cost import Cost

# The parts of one solution, in the order of the columns.
PARTS = ["dense_a", "imp", "dense_b", "sparse"]
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
    dense, imp = done[done["kind"] == "dense"], done[done["kind"] == "imp"]
    sparse = chosen[chosen["kind"] == "sparse"]
    permuted = {name for name, method in shown.methods.items() if method.permute}
    lines = []
    for run in sparse.to_dict("records"):
        if run["status"] == "ok":
            parts = _parts(run, dense, imp, run["method"] in permuted)
            lines.append({**_keys(run), **parts, **_matching(run, matches, permuted)})
    keys = [*NETWORK, "sparsity", "method"]
    tidy = _average(pd.DataFrame(lines), sparse, keys)
    tidy = tidy.sort_values(keys, key=_order).reset_index(drop=True)
    notes = [_DEFINITION, _totals(done, matches)]
    return shown.table(output, tidy, _lay_out(tidy, shown.labels), notes)


def _order(column: pd.Series) -> pd.Series:
    if column.name != "method":
        return column
    ranked = sorted(column.unique(), key=names.method_key)
    return column.map({method: position for position, method in enumerate(ranked)})


def _keys(run: Mapping[str, Any]) -> dict[str, Any]:
    return {key: run[key] for key in (*NETWORK, "sparsity", "method")}


def _same(frame: pd.DataFrame, run: Mapping[str, Any]) -> pd.DataFrame:
    return frame[(frame[NETWORK] == [run[key] for key in NETWORK]).all(axis=1)]


def _parts(
    run: Mapping[str, Any], dense: pd.DataFrame, imp: pd.DataFrame, matched: bool
) -> dict[str, float]:
    """Epochs and seconds of the trained parts of one solution; NaN where nothing was measured."""
    of_a = _same(dense, run)
    of_a = of_a[of_a["a"] == run["a"]]
    chain = _same(imp, run)
    chain = chain[chain["a"] == run["a"]]
    exact = chain[(chain["sparsity"] - run["sparsity"]).abs() < 1e-6]
    chain = exact if len(exact) else chain[chain["sparsity"].isna()]
    found = {
        "dense_a": (of_a["epochs"].mean(), of_a["seconds"].mean()),
        "imp": (chain["epochs"].mean(), chain["seconds"].mean()),
        "dense_b": (0.0, 0.0),
        "sparse": (run["epochs"], run["seconds"]),
    }
    if pd.notna(run["b"]):
        of_b = _same(dense, run)
        of_b = of_b[of_b["a"] == run["b"]]
        complete, seconds = of_b["epochs"].mean(), of_b["seconds"].mean()
        epochs = run["rewind_epoch"]
        if matched:
            match = run["matching_epoch"]
            epochs = max(epochs, complete if pd.isna(match) else match)
        found["dense_b"] = (epochs, seconds * epochs / complete)
    return {
        f"{part}_{unit}": float(value)
        for part, values in found.items()
        for unit, value in zip(("epochs", "seconds"), values, strict=True)
    }


def _matching(
    run: Mapping[str, Any], matches: pd.DataFrame, permuted: Collection[str]
) -> dict[str, float]:
    if run["method"] not in permuted:
        return {"matching_seconds": 0.0}
    found = _same(matches, run)
    found = found[(found["a"] == run["a"]) & (found["b"] == run["b"])]
    epoch = run["matching_epoch"]
    at = found["matching_epoch"]
    found = found[at.isna() if pd.isna(epoch) else at == epoch]
    return {"matching_seconds": float(found["seconds"].mean())}


def _average(lines: pd.DataFrame, sparse: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Means over finished runs per method and sparsity, with counts of the declared runs."""
    values = [f"{part}_{unit}" for part in PARTS for unit in ("epochs", "seconds")]
    values.append("matching_seconds")
    if lines.empty:
        lines = pd.DataFrame(columns=[*keys, *values], dtype=float)
    # A part that one run lacks is unknown for the cell: mean() would skip it silently.
    means = lines.groupby(keys)[values].agg(lambda column: column.mean(skipna=False))
    counts = sparse.groupby(keys)["status"].agg(
        n=lambda status: int((status == "ok").sum()),
        n_diverged=lambda status: int((status == "diverged").sum()),
        n_missing=lambda status: int((status == "missing").sum()),
    )
    tidy = counts.join(means).reset_index()
    tidy["epochs"] = tidy[[f"{part}_epochs" for part in PARTS]].sum(axis=1, skipna=False)
    seconds = [*(f"{part}_seconds" for part in PARTS), "matching_seconds"]
    tidy["seconds"] = tidy[seconds].sum(axis=1, skipna=False)
    return tidy


def _lay_out(tidy: pd.DataFrame, labels: Mapping[str, str]) -> pd.DataFrame:
    columns = {
        ("Epochs", "dense a"): "dense_a_epochs",
        ("Epochs", "IMP"): "imp_epochs",
        ("Epochs", "dense b"): "dense_b_epochs",
        ("Epochs", "sparse"): "sparse_epochs",
        ("Epochs", "all"): "epochs",
        ("Seconds", "matching"): "matching_seconds",
        ("Seconds", "all on the device"): "seconds",
    }
    keys = [*varying(tidy, NETWORK), "sparsity", "method"]
    return pd.DataFrame(
        [[_text(row, column) for column in columns.values()] for row in tidy.to_dict("records")],
        index=row_labels(keys, tidy[keys].itertuples(index=False, name=None), labels),
        columns=pd.MultiIndex.from_tuples(list(columns)),
    )


def _text(row: Mapping[str, Any], column: str) -> str:
    value = row[column]
    if pd.isna(value):
        return "missing"
    if value == 0 and column in ("dense_b_epochs", "matching_seconds"):
        return ABSENT
    return f"{value:,.1f}".removesuffix(".0")


def _totals(done: pd.DataFrame, matches: pd.DataFrame) -> str:
    """What the finished runs together took, shared parts counted once."""
    dense, sparse = done[done["kind"] == "dense"], done[done["kind"] == "sparse"]
    chains = done[done["kind"] == "imp"].groupby([*NETWORK, "a"])[["epochs", "seconds"]].max()
    epochs = dense["epochs"].sum() + chains["epochs"].sum() + sparse["epochs"].sum()
    seconds = dense["seconds"].sum() + chains["seconds"].sum() + sparse["seconds"].sum()
    seconds += matches["seconds"].sum()
    devices = sorted(done["device"].dropna().unique())
    where = f" on {', '.join(devices)}" if devices else ""
    return (
        f"All finished runs together, shared parts once: {epochs:,.0f} epochs, "
        f"{seconds / 3600:,.2f} device hours{where}."
    )
