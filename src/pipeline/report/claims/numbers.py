"""The numbers that claims are judged on, ours and the published ones alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pipeline.connectivity.barrier import barrier
from pipeline.report.claims.values import Values, printed, read_off, sampled
from pipeline.report.tables.cells import KEYS, METRICS, select
from pipeline.results import NETWORK

#: The matching epoch of a matching at the end of training.
END = math.inf
MEASURES = ["test_accuracy", "ensemble_accuracy", "disagreement", "kl", "js"]
_CURVE = [*NETWORK, "a", "b", "correction", "split", "matched"]
#: Of a value of ``connections``: the share of units on which two permutations agree.
AGREEMENT = "fixed-points"
CONNECTION = [*NETWORK, "dense", "matcher", "arm", "matching_epoch", "cut", "split", "metric"]
# Pairs of networks, and paths through a third one, behind a point (Sharma et al., Appendix D).
_REPLICATES = 5
_CHAIN = ["experiment", "style", "split", "iteration", "correction"]


@dataclass(frozen=True)
class Headline:
    """Which barrier a protocol means: correction, alpha (None: the supremum) and data."""

    correction: str = "repair"
    at: float | None = None
    split: str | None = None


@dataclass(frozen=True)
class Numbers:
    """One set of numbers, None where there are none.

    cells, top5: accuracies in % by `KEYS`. reuse: those of sparse runs whose mask comes from another
    data set. diverged: 1 for a sparse run that diverged, else 0. diversity: by network, method and
    measure. barriers: of the line between π(a) and b in nats, by network, split, correction and
    quantity (barrier, highest loss, loss at initialisation). chains: error barriers in % between
    dense and IMP solutions. planes: error barriers in % between LTH and permuted solutions. seconds:
    by network and part (matching, a dense training). Of sweeps, as `pipeline.report.claims.sweeps`
    has them: connections, barriers and shares of units by network, its dense recipe, matcher, arm,
    epoch t of the matching, cut between layers (or fraction pruned), split and metric; children,
    barriers between those of one epoch and network, or of two; trajectories, barriers and distances
    along training; groups, shares of units of each group; levels, error barriers and accuracies in %
    by level of pruning; notions, points below the threshold by definition.
    """

    cells: Values | None = None
    top5: Values | None = None
    reuse: Values | None = None
    diverged: Values | None = None
    diversity: Values | None = None
    barriers: Values | None = None
    chains: Values | None = None
    planes: Values | None = None
    seconds: Values | None = None
    connections: Values | None = None
    children: Values | None = None
    trajectories: Values | None = None
    groups: Values | None = None
    notions: Values | None = None
    levels: Values | None = None
    headline: Headline = Headline()


def of_published(cells: pd.DataFrame, metric: str = "top1") -> Values | None:
    """The cells of a published frame, each once; Table 15 repeats some of Table 5."""
    chosen = cells[cells["metric"] == metric].drop_duplicates(KEYS)
    return printed(chosen.fillna({"matching_epoch": END}), KEYS)


def of_runs(runs: pd.DataFrame, metric: str = "top1") -> Values | None:
    """Accuracies of sparse runs; cells with diverged runs are left out, since means hide these."""
    sparse = _sparse(runs)
    value = pd.to_numeric(sparse[METRICS[metric]], errors="coerce").where(sparse["status"] == "ok")
    diverged = sparse["status"].eq("diverged").groupby([sparse[key] for key in KEYS])
    return sampled(sparse.assign(value=value)[~diverged.transform("any")], KEYS)


def of_failures(runs: pd.DataFrame) -> Values | None:
    """1 for a sparse run that diverged and 0 for one that is finished."""
    sparse = _sparse(runs)
    failed = sparse["status"].map({"diverged": 1.0, "ok": 0.0})
    return sampled(sparse.assign(value=failed), KEYS)


def _sparse(runs: pd.DataFrame) -> pd.DataFrame:
    return select(runs).fillna({"matching_epoch": END})


def of_diversity(frame: pd.DataFrame | None) -> Values | None:
    """Table 1's numbers; one ensemble for each method, so nothing is known of their spread."""
    if frame is None:
        return None
    last = frame.drop_duplicates([*NETWORK, "method"], keep="last")
    long = last.rename(columns={"test_accuracy_mean": "test_accuracy"}).melt(
        [*NETWORK, "method"], MEASURES, "measure", "mean"
    )
    return printed(
        long.dropna(subset="mean").assign(std=math.nan, n=1), [*NETWORK, "method", "measure"]
    )


def of_curves(curves: pd.DataFrame | None, headline: Headline) -> Values | None:
    """Barriers between π(a) and b on the headline's data."""
    found = barriers(curves, headline.at)
    found = found[found["matched"].astype(bool)]
    if headline.split is not None:
        found = found[found["split"] == headline.split]
    keys = [*NETWORK, "split", "correction"]
    long = found.melt([*keys, "a", "b"], ["barrier", "highest", "start"], "quantity", "value")
    return sampled(long, [*keys, "quantity"])


def of_chains(imp_barriers: pd.DataFrame | None) -> Values | None:
    """Error barriers along pruning, a seed each."""
    if imp_barriers is None:
        return None
    return sampled(imp_barriers.assign(b=math.nan, value=imp_barriers["error_barrier"]), _CHAIN)


def of_planes(planes: Sequence[tuple[pd.DataFrame, pd.DataFrame]]) -> Values | None:
    """Error barriers on the line between LTH and permuted solution, read off the grid of a plane."""
    rows = []
    for number, (grid, points) in enumerate(planes):
        for name, own in grid.groupby("experiment"):
            places = points[points["experiment"] == name].set_index("name")[["x", "y"]]
            if {"LTH", "permuted"} <= set(places.index):
                value = _on_plane(own, places)
                rows.append({"experiment": name, "a": number, "b": math.nan, "value": value})
    return sampled(pd.DataFrame(rows), ["experiment"])


def _on_plane(grid: pd.DataFrame, points: pd.DataFrame) -> float:
    """Barrier of eq. 3 in the error (%) between two points of a plane, linear between grid points."""
    from scipy.interpolate import RegularGridInterpolator  # slow to start

    errors = grid.pivot(index="x", columns="y", values="error").sort_index().sort_index(axis=1)
    alphas = np.linspace(0, 1, 101)[:, None]
    line = (1 - alphas) * points.loc["LTH"].to_numpy() + alphas * points.loc["permuted"].to_numpy()
    axes = (errors.index.to_numpy(float), errors.columns.to_numpy(float))
    heights = RegularGridInterpolator(axes, errors.to_numpy(float), bounds_error=False)(line)
    rows = [
        {"alpha": float(alpha), "correction": "", "split": "", "error": float(height)}
        for alpha, height in zip(alphas[:, 0], heights, strict=True)
    ]
    return barrier(rows, "", "", "error")


def of_costs(costs: Sequence[tuple[pd.DataFrame, pd.DataFrame]]) -> Values | None:
    """Seconds of a matching at the end, and of the dense training of a."""
    parts = []
    for runs, matches in costs:
        dense = runs[(runs["kind"] == "dense") & (runs["status"] == "ok")]
        at_end = matches[matches["matching_epoch"].isna()]
        parts += [dense.assign(part="training", b=math.nan), at_end.assign(part="matching")]
    columns = [*NETWORK, "a", "b", "part", "seconds"]
    if not parts:
        return None
    long = pd.concat([part[columns].astype({"b": float}) for part in parts]).drop_duplicates()
    long["value"] = pd.to_numeric(long["seconds"], errors="coerce")
    return sampled(long, [*NETWORK, "part"])


def of_points(points: pd.DataFrame) -> Values | None:
    """Points of curves of Sharma et al. (`pipeline.report.published.sharma`), those along training
    left out."""
    rows = points[points["arm"] != "along"]
    scale = np.where(rows["metric"] == "loss", 1.0, 100.0)
    found = rows.fillna({"matching_epoch": END, "cut": 0, "split": ""}).assign(
        dense="", value=rows["value"] * scale, reading_error=rows["reading_error"] * scale
    )
    return read_off(found, CONNECTION, _REPLICATES)


def barriers(curves: pd.DataFrame | None, at: float | None = None) -> pd.DataFrame:
    """Barrier in the loss of every curve that has its ends and, with ``at``, that alpha.

    ``curves`` as in `pipeline.results`; ``at`` as in `pipeline.connectivity.barrier`. Returns a row
    per (dataset, model, width, a, b, correction, split, matched) with barrier, highest (the largest
    loss) and start (the loss at initialisation), all in nats.
    """
    rows = []
    for key, group in [] if curves is None else curves.groupby(_CURVE):
        named = dict(zip(_CURVE, key, strict=True))
        curve = group.drop_duplicates("alpha").sort_values("alpha")  # experiments may share a curve
        alphas, losses = set(curve["alpha"]), curve["loss"]
        wanted = {0.0, 1.0} if at is None else {0.0, 1.0, at}
        if len(alphas) < 3 or not wanted <= alphas or not np.isfinite(losses).all():
            continue
        lines = curve.to_dict("records")
        height = barrier(lines, named["correction"], named["split"], "loss", at)
        start = curve["loss_at_init"].iloc[0]
        rows.append({**named, "barrier": height, "highest": losses.max(), "start": start})
    return pd.DataFrame(rows, columns=[*_CURVE, "barrier", "highest", "start"])
