"""The numbers that claims of Sharma et al. are judged on, from our own sweeps.

Frames are as `pipeline.results.Results` gives them. Errors and shares of units are in %, losses in
nats; barriers are of networks that are not corrected.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import pandas as pd

from pipeline.report.claims.numbers import AGREEMENT, CONNECTION, END
from pipeline.report.claims.values import Sampled, Values, sampled, units
from pipeline.report.tables import names
from pipeline.results import NETWORK

_NETWORK = [*NETWORK, "dense"]
_TRAJECTORY = [*_NETWORK, "matcher", "arm", "epoch", "split", "metric"]
#: Of a value of ``children`` the epoch of their start, where it is of their parents.
PARENTS = -1
_CHILD = [*_NETWORK, "matcher", "arm", "spawn", "epoch"]
_LEVEL = [*NETWORK, "rewound", "arm", "matcher", "level", "metric"]
_GROUP = [*_NETWORK, "matcher", "matching_epoch", "group"]
_NOTION = [*_NETWORK, "matcher", "notion"]
_METRICS = {"error_barrier": "error", "loss_barrier": "loss"}


def of_connections(
    connections: pd.DataFrame, alignments: pd.DataFrame | None = None
) -> Sampled | None:
    """Barriers by what was matched, and shares of units on which permutations agree.

    Of triples (arms direct and indirect) and layers (end and the kinds of mixture) at the end of
    training; of pruned copies (whole, magnitude and random, ``cut``: the fraction) at their epoch t.
    """
    over, then = connections["over"], pd.to_numeric(connections["matched_at"])
    whole = over.map({"layers": "end", "pruned": "whole"}).where(connections["arm"].eq("matched"))
    found = connections.assign(
        arm=whole.fillna(connections["arm"]),
        matching_epoch=then.mask(over == "triples", END),
        cut=pd.to_numeric(connections["level"]).fillna(0),
    )[over.isin(("triples", "layers", "pruned")) & connections["arm"].ne("none")]
    parts = [_long(found, CONNECTION)]
    if alignments is not None:
        parts.append(_agreement(alignments))
    return sampled(pd.concat(parts, ignore_index=True), CONNECTION)


def of_trajectories(connections: pd.DataFrame) -> Sampled | None:
    """Barriers and distances along training, of sweeps over epochs, by arm and epoch.

    Arms: none; own, π_t at t; along, π of the end at t before it; end, π_t at the end. ``distance``:
    Euclidean, in weight space; of no split, so of both.
    """
    lines = connections[connections["over"] == "epochs"]
    then, now = (pd.to_numeric(lines[key]) for key in ("matched_at", "evaluated_at"))
    last = now.groupby([lines[key] for key in (*_NETWORK, "sweep")]).transform("max")
    matched = lines["arm"].eq("matched")
    arms = {
        "none": (lines["arm"].eq("none"), now),
        "own": (matched & (then == now), now),
        "along": (matched & (then == last) & (now < last), now),
        "end": (matched & (now == last), then),
    }
    parts = [lines.assign(arm=arm, epoch=at)[where] for arm, (where, at) in arms.items()]
    found = pd.concat(parts, ignore_index=True)
    distance = found.rename(columns={"distance": "value"}).assign(metric="distance")
    keys = [*_TRAJECTORY, "a", "b", "value"]
    return sampled(pd.concat([_long(found, _TRAJECTORY), distance[keys]]), _TRAJECTORY)


def of_children(connections: pd.DataFrame) -> Values | None:
    """Error barriers on test images of our own sweeps over spawns, not corrected.

    Instability and barriers without a permutation have no matcher.
    """
    if "spawn" not in connections or not connections["spawn"].notna().any():
        return None
    rows = connections[connections["correction"].eq("none") & connections["split"].eq("test")]
    sweeps = [rows[key] for key in (*_NETWORK, "sweep")]
    rows = rows[rows["spawn"].notna().groupby(sweeps, dropna=False).transform("any")]
    epoch = pd.to_numeric(rows["evaluated_at"])
    last = epoch.groupby([rows[key] for key in _NETWORK]).transform("max")
    plain = rows["arm"].isin(("none", "instability"))
    pairs = rows["seeds"].str.extract(r"a(\d+)-b(\d+)").astype(int)
    found = rows.assign(
        a=pairs[0], b=pairs[1], matcher=rows["matcher"].mask(plain, ""),
        arm=rows["arm"].replace({"matched": "along"}),
        spawn=pd.to_numeric(rows["spawn"]).fillna(PARENTS),
        epoch=epoch.mask(epoch == last, END), value=pd.to_numeric(rows["error_barrier"]),
    )  # fmt: skip
    return sampled(found, _CHILD)


def of_groups(alignments: pd.DataFrame) -> Sampled | None:
    """Shares of units on which π_t and π of the end agree, group by group."""
    found = _settling(alignments)
    return sampled(found.assign(value=100 * found["alike"] / found["size"]), _GROUP)


def of_levels(connections: pd.DataFrame, accuracies: pd.DataFrame) -> Values | None:
    """Barriers of sweeps over rounds, not corrected, and accuracies of the same pairs, on test data.

    ``connections`` as `pipeline.results.Results.connections` gives them, ``accuracies`` as
    `pipeline.report.levels.accuracies`. Runs of one network alone count for the pairs with this b.
    """
    keys = [connections[key] for key in ("experiment", "sweep")]
    rounds = connections["arm"].eq("dense").groupby(keys).transform("any").astype(bool)
    lines = connections[
        rounds & connections["correction"].eq("none") & connections["split"].eq("test")
    ]
    barriers = lines.assign(
        rewound="weights", level=lines["evaluated_at"], metric="barrier", value=lines["error_barrier"],
        matcher=lines["matcher"].mask(lines["arm"].eq("none"), ""),
    )  # fmt: skip
    value = pd.to_numeric(accuracies["test_accuracy"]).where(accuracies["status"] == "ok")
    found = accuracies.assign(metric="accuracy", value=value)
    alone = found["b"].isna()
    pairs = pd.concat([found.loc[~alone, ["a", "b"]], lines[["a", "b"]]]).drop_duplicates()
    of_b = found[alone].drop(columns="b").rename(columns={"a": "b"}).merge(pairs, on="b")
    return sampled(pd.concat([barriers, found[~alone], of_b])[[*_LEVEL, "a", "b", "value"]], _LEVEL)


def of_notions(verdicts: pd.DataFrame | None) -> Sampled | None:
    """How far the largest barrier that is left lies below the threshold, in points, by notion.

    ``verdicts`` as `pipeline.report.tables.notions.judged`. All networks of a run are one sample.
    """
    if verdicts is None:
        return None
    seeds = verdicts["seeds"].astype(str).str.findall(r"\d+")
    below = (verdicts["threshold"] - verdicts["worst"]).replace(-math.inf, math.nan)
    found = verdicts.assign(
        a=seeds.str[0].astype(float), b=seeds.str[-1].astype(float), value=below
    )
    return sampled(found[found["value"].notna()], _NOTION)


def networks(
    values: Values | None, *, widths: bool = False, **chosen: object
) -> Iterator[tuple[str, Values]]:
    """The cells with these keys by network (or all its widths) and dense recipe, and their name."""
    if values is None:
        return
    by = [key for key in _NETWORK if not (widths and key == "width")]
    for key, cells in units(values.where(**chosen), by):
        recipe = key.pop("dense")
        yield names.place(**key) + (f" ({recipe})" if recipe else ""), cells


def _long(lines: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Error and loss barriers, a row each."""
    named = lines[lines["correction"] == "none"].rename(columns=_METRICS)
    places = [*(key for key in keys if key != "metric"), "a", "b"]
    return named.melt(places, [*_METRICS.values()], "metric")


def _settling(alignments: pd.DataFrame) -> pd.DataFrame:
    """Groups of the permutations of an epoch before the end, by that epoch."""
    at = alignments["point"].astype(str).str.extract(r"^t(\d+)$")[0].astype(float)
    ends = alignments["seeds"].astype(str).str.extract(r"^a(\d+)-b(\d+)$").astype(float)
    found = alignments.assign(matching_epoch=at, a=ends[0], b=ends[1])
    return found[found["matching_epoch"].notna() & found["a"].notna()]


def _agreement(alignments: pd.DataFrame) -> pd.DataFrame:
    """Shares of all units: of π_t with π of the end, and of indirect with direct permutations."""
    path = alignments["point"].astype(str).str.extract(r"^(\d+)-(\d+)\.\d+$").astype(float)
    indirect = alignments.assign(a=path[0], b=path[1], matching_epoch=END, arm="indirect")
    every = pd.concat([_settling(alignments).assign(arm="end"), indirect[path[0].notna()]])
    keys = [*_NETWORK, "matcher", "arm", "matching_epoch", "a", "b"]
    sums = every.groupby([*keys, "sweep", "point"])[["alike", "size"]].sum().reset_index()
    shares = 100 * sums["alike"].astype(float) / sums["size"].astype(float)
    found = sums.assign(value=shares, cut=0.0, split="", metric=AGREEMENT)
    return found[[*CONNECTION, "a", "b", "value"]]
