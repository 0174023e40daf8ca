"""Synthetic frames in the shape of what builders read, and tables and figures made of them.

Runs are made from published cells: three seeds at mean − std, mean, mean + std, whose mean and
sample standard deviation are the published ones again.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pipeline.catalog.layers import KINDS
from pipeline.report import build, published
from pipeline.report.shown import Shown
from pipeline.report.tables import Table
from pipeline.results import COLUMNS
from pipeline.study.outputs import Output

SEEDS = (1, 2, 3)


def table(output: Output, data: Any, name: str = "name", **shown: Any) -> Table:
    """The table of an output from the data that its builder reads; ``shown``: fields of `Shown`."""
    made: Table = build.builder(type(output)).build(output, Shown(name, **shown), data)
    return made


def figure(output: Output, data: Any, **shown: Any) -> tuple[Figure, pd.DataFrame]:
    """The figure of an output, as `table`."""
    return build.draw(output, Shown("name", **shown), data)


def runs_of(*labels: str) -> pd.DataFrame:
    """Three finished sparse runs per published cell, and dense runs, as ``table_<label>``."""
    rows = []
    for label in labels:
        cells = published.table(label)
        top5 = cells[cells["metric"] == "top5"]
        keys = ["dataset", "width", "sparsity", "method", "rewind_epoch"]
        fifth = dict(zip(top5[keys].itertuples(index=False, name=None), top5["mean"], strict=True))
        for cell in cells[cells["metric"] == "top1"].to_dict("records"):
            spread = 0.0 if np.isnan(cell["std"]) else cell["std"]
            seeds = SEEDS if spread else SEEDS[:1]
            for shift, seed in zip((0.0,) if not spread else (-1.0, 0.0, 1.0), seeds, strict=True):
                early = cell["matching_epoch"]
                at = "" if np.isnan(early) else f"@t{early:g}"
                name = f"{cell['method']}/{cell['sparsity']}/{cell['rewind_epoch']:g}{at}/{seed}"
                rows.append(
                    {
                        **_shared(cell, f"table_{label.replace('.', '_')}"),
                        "kind": "sparse",
                        "method": cell["method"],
                        "sparsity": cell["sparsity"],
                        "rewind_epoch": cell["rewind_epoch"],
                        "matching_epoch": early,
                        "a": seed,
                        "b": np.nan if cell["method"] == "lth" else seed + 10,
                        "test_accuracy": cell["mean"] + shift * spread,
                        "test_top5": fifth.get(tuple(cell[key] for key in keys), np.nan),
                        "epochs": 200 - cell["rewind_epoch"],
                        "seconds": 2 * (200 - cell["rewind_epoch"]),
                        "path": f"{cell['dataset']}/w{cell['width']:g}/{name}",
                    }
                )
        for network, best in cells[cells["metric"] == "top1"].groupby(
            ["dataset", "model", "width"]
        )["mean"]:
            cell = dict(zip(["dataset", "model", "width"], network, strict=True))
            for seed in (*SEEDS, *(seed + 10 for seed in SEEDS)):
                rows.append(
                    {
                        **_shared(cell, f"table_{label.replace('.', '_')}"),
                        "kind": "dense",
                        "method": "dense",
                        "a": seed,
                        "test_accuracy": best.max() + 0.5 + 0.05 * (seed % 10),
                        "epochs": 200,
                        "seconds": 400.0,
                        "path": f"{cell['dataset']}/w{cell['width']:g}/dense/{seed}",
                    }
                )
    return pd.DataFrame(rows, columns=COLUMNS)


def imp_runs(runs: pd.DataFrame) -> pd.DataFrame:
    """An IMP row per network, seed a and sparsity of the sparse runs: the chain up to there."""
    sparse = runs[runs["kind"] == "sparse"]
    places = sparse[["experiment", "dataset", "model", "width", "a", "sparsity"]].drop_duplicates()
    rounds = {0.80: 8, 0.90: 11, 0.95: 14, 0.97: 16}
    rows = [
        {
            **_shared(place, place["experiment"]),
            "kind": "imp",
            "method": "imp",
            "sparsity": place["sparsity"],
            "a": place["a"],
            "epochs": 50 * rounds[place["sparsity"]],
            "seconds": 100.0 * rounds[place["sparsity"]],
            "path": f"{place['dataset']}/w{place['width']:g}/imp/{place['a']}/{place['sparsity']}",
        }
        for place in places.to_dict("records")
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def break_runs(runs: pd.DataFrame, **where: object) -> pd.Series:
    """Which sparse runs have these values."""
    chosen = runs["kind"] == "sparse"
    for column, value in where.items():
        chosen &= runs[column] == value
    return chosen


def with_status(runs: pd.DataFrame, status: str, chosen: pd.Series) -> pd.DataFrame:
    """The runs with some of them missing or diverged, as `pipeline.results` gives such rows."""
    changed = runs.copy()
    changed.loc[chosen, "status"] = status
    changed.loc[chosen, ["test_accuracy", "test_top5", "seconds"]] = np.nan
    return changed


def curves(networks: tuple[tuple[str, tuple[float, ...]], ...] = (
    ("cifar10", (1.0, 4.0, 8.0, 16.0)), ("cifar100", (1.0, 4.0, 8.0, 16.0)),
)) -> pd.DataFrame:  # fmt: skip
    """Interpolation curves whose barrier falls with width and with REPAIR."""
    rows = []
    alphas = np.linspace(0, 1, 25)
    size = {"none": 2.4, "reset": 1.0, "repair": 0.7}
    for dataset, widths in networks:
        end = 0.35 if dataset == "cifar10" else 1.1
        for width in widths:
            for pair in (1, 2, 3):
                for correction, height in size.items():
                    for matched in (True, False):
                        peak = height * (1 + 0.1 * pair) / np.sqrt(width)
                        peak = peak if matched else 3.0
                        loss = end + peak * 4 * alphas * (1 - alphas)
                        rows += [
                            {
                                "experiment": f"figure_3_{dataset}",
                                "dataset": dataset,
                                "model": "resnet20",
                                "width": width,
                                "a": pair,
                                "b": pair + 10,
                                "alpha": alpha,
                                "correction": correction,
                                "split": split,
                                "loss": value if split == "train" else value + 0.1,
                                "error": 100 * (1 - np.exp(-value)),
                                "loss_at_init": (2.4 if dataset == "cifar10" else 4.7)
                                + 0.02 * width,
                                "matched": matched,
                            }
                            for alpha, value in zip(alphas, loss, strict=True)
                            for split in ("train", "test")
                        ]
    return pd.DataFrame(rows)


def imp_barriers() -> pd.DataFrame:
    """Error barriers of 11 IMP rounds, small with REPAIR."""
    rows = []
    for style in ("rewind", "finetune"):
        for a in SEEDS:
            for iteration in range(1, 12):
                for correction, scale in (("none", 5.0), ("repair", 0.4)):
                    for split in ("train", "test"):
                        rows.append(
                            {
                                "experiment": f"figure_4a_{style}",
                                "style": style,
                                "a": a,
                                "iteration": iteration,
                                "sparsity": 1 - 0.8**iteration,
                                "correction": correction,
                                "split": split,
                                "loss_barrier": 0.02 * scale * iteration,
                                "error_barrier": scale * iteration * (0.9 + 0.05 * a),
                            }
                        )
    return pd.DataFrame(rows)


def plane(side: int = 21) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A basin that holds three networks, and the networks' places."""
    x, y = np.meshgrid(np.linspace(-12, 52, side), np.linspace(-10, 42, side))
    far = np.hypot((x - 20) / 26, (y - 12) / 20)
    error = 8 + 80 / (1 + np.exp(-6 * (far - 1.1)))
    planes = pd.DataFrame(
        {
            "experiment": "figure_4b",
            "dataset": "cifar10",
            "model": "resnet20",
            "width": 4.0,
            "x": x.ravel(),
            "y": y.ravel(),
            "split": "test",
            "error": error.ravel(),
            "loss": error.ravel() / 30,
        }
    )
    points = pd.DataFrame(
        {"experiment": "figure_4b", "name": ["dense", "lth", "permuted"],
         "x": [0.0, 40.0, 18.0], "y": [0.0, 0.0, 30.0]}
    )  # fmt: skip
    return planes, points


def histories(epochs: int = 20, k: int = 5) -> pd.DataFrame:
    """Losses that fall and accuracies that rise: dense runs, and three methods from epoch k."""
    rows = []
    heights = {"dense": 0.2, "lth": 0.3, "naive": 0.8, "permuted": 0.5}
    for width in (1.0, 4.0):
        for a in SEEDS:
            for method, height in heights.items():
                start = 0 if method == "dense" else k
                for epoch in range(start + 1, epochs + 1):
                    loss = height + 2 * np.exp(-(epoch - start) / 4) + 0.02 * a
                    at_test = epoch % 10 == 0 or epoch == epochs
                    rows.append(
                        {
                            "experiment": f"curves_{width:g}", "dataset": "cifar10",
                            "model": "resnet20", "width": width, "method": method,
                            "sparsity": None if method == "dense" else 0.9,
                            "rewind_epoch": None if method == "dense" else k,
                            "matching_epoch": None, "a": a, "b": None, "replicate": 0,
                            "status": "ok", "epoch": epoch, "learning_rate": 0.1,
                            "train_loss": loss, "train_accuracy": 100 - 30 * loss,
                            "test_loss": loss if at_test else None,
                            "test_accuracy": 99 - 30 * loss if at_test else None,
                            "path": f"{width}/{method}/{a}",
                        }
                    )  # fmt: skip
    return pd.DataFrame(rows)


def mask_layers() -> pd.DataFrame:
    """Masks of three seeds and two sparsities over eleven layers, later ones sparser."""
    layers = [f"conv{number}.weight" for number in range(1, 11)] + ["classifier.weight"]
    return pd.DataFrame(
        [
            {
                "experiment": "masks", "dataset": "cifar10", "model": "vgg11", "width": 1.0,
                "sparsity": sparsity, "a": a, "status": "ok", "position": position, "layer": layer,
                "pruned": sparsity - 0.3 + 0.03 * position + 0.01 * a, "whole": sparsity,
            }
            for sparsity in (0.8, 0.9) for a in SEEDS for position, layer in enumerate(layers)
        ]
    )  # fmt: skip


def match_groups(epochs: tuple[int | None, ...] = (None,)) -> pd.DataFrame:
    """Matchings of three pairs, of eleven groups each, in the order in which JSON keeps them."""
    groups = sorted(f"conv{number}" for number in range(1, 12))
    return pd.DataFrame(
        [
            {
                "experiment": "matchings", "dataset": "cifar10", "model": "vgg11", "width": 1.0,
                "similarity": "correlation", "a": a, "b": a + 10, "matching_epoch": epoch,
                "status": "ok", "group": group, "size": 64, "dead_a": 0, "dead_b": 0,
                "matched": 0.4 + 0.02 * a, "identity": 0.01 * a, "random": 0.0,
            }
            for epoch in epochs for a in SEEDS for group in groups
        ]
    )  # fmt: skip


def alignment(seeds: tuple[int, ...] = (0, 1, 2)) -> pd.DataFrame:
    """Three pairs, five permutations of each; two points of accuracy for a nat of barrier less."""
    methods = (("naive", None, 2.4, 0.0), ("permuted-weights", None, 2.0, 0.05),
               ("permuted", 3.0, 1.4, 0.2), ("permuted", None, 1.0, 0.3))  # fmt: skip
    return pd.DataFrame(
        [
            {
                "experiment": "aligned", "dataset": "cifar10", "model": "resnet20", "width": 1.0,
                "sparsity": 0.95, "rewind_epoch": 3, "method": method, "matching_epoch": epoch,
                "a": a, "b": a + 10, "replicate": 0, "status": "ok", "path": f"{method}/{a}",
                "accuracy": 75.0 + a - 2.0 * barrier, "barrier": barrier + 0.1 * a,
                "similarity": similarity, "quality": f"quality/{method}/{a}",
            }
            for a in seeds for method, epoch, barrier, similarity in methods
        ]
    )  # fmt: skip


def ensembles(most: int = 3) -> pd.DataFrame:
    """Ensembles of up to ``most`` networks by four methods; a network of the permuted is missing."""
    rows = []
    for place, method in enumerate(("dense", "imp", "lth", "permuted")):
        for size in range(1, most + 1):
            gone = method == "permuted" and size == most
            spread = 0.3 if size == 1 else np.nan
            rows.append({
                "experiment": "diverse", "dataset": "cifar10", "model": "resnet20", "width": 1.0,
                "sparsity": 0.9, "rewind_epoch": 20, "method": method, "networks": size,
                "accuracy": np.nan if gone else 90 - place + size / 2,
                "nll": np.nan if gone else 0.3 + 0.02 * place - 0.01 * size,
                "ece": np.nan if gone else 4.0 - size,
                "accuracy_std": spread, "nll_std": spread / 100, "ece_std": spread / 3,
                "weights": np.nan if gone else size * (1.0 if method == "dense" else 0.1),
                "hours": np.nan if gone else 0.5 * size + (0 if method == "dense" else 2.0),
                "n": most - (method == "permuted"), "n_missing": int(method == "permuted"),
                "values": "0: 89.5; 1: 90.5; 2: 90" if size == 1 else np.nan,
                "paths": tuple(f"{method}/{seed}/metrics.json" for seed in range(most)),
            })  # fmt: skip
    return pd.DataFrame(rows)


def horizons(*epochs: int) -> pd.DataFrame:
    """Table 5's cell at S = 95 %, k = 20, as if of studies of so many epochs."""
    cell = runs_of("5").query("sparsity == 0.95 and rewind_epoch == 20 and kind == 'sparse'")
    return pd.concat([cell.assign(horizon=each) for each in epochs or (10, 20)], ignore_index=True)


def _shared(cell: dict, experiment: str) -> dict:
    return {
        "experiment": experiment,
        "protocol": "paper",
        "dataset": cell["dataset"],
        "model": cell["model"],
        "width": float(cell["width"]),
        "sparsity": np.nan,
        "rewind_epoch": np.nan,
        "matching_epoch": np.nan,
        "b": np.nan,
        "replicate": 0,
        "status": "ok",
        "device": "cpu",
    }


def barriers(values: dict[tuple[str, bool], list[float]]) -> pd.DataFrame:
    """Supremum on training data of the loss, by correction and matching, a value per pair."""
    return pd.DataFrame(
        [
            {"experiment": "one", "dataset": "cifar10", "model": "resnet20", "width": 1.0,
             "a": 2 * pair, "b": 2 * pair + 1, "path": f"curve/{pair}", "split": "train", "at": "sup",
             "correction": correction, "metric": metric, "matched": matched,
             "value": number if metric == "loss" else 10 * number}
            for (correction, matched), numbers in values.items()
            for pair, number in enumerate(numbers)
            for metric in ("loss", "error")
        ]
    )  # fmt: skip


def connections(times: tuple[int, ...] = (1, 5, 20, 160), pairs: int = 3) -> pd.DataFrame:
    """Lines of a sweep over epochs on two networks: a barrier that says which line it is.

    Without a permutation 50 points; under that of epoch t measured at s: t + s/1000, and 0.1 a pair
    more or less.
    """
    rows = []
    for model, matcher, pair, now in product(
        ("vgg16_ln", "resnet20_ln"), ("weights", "activations"), range(pairs), times
    ):
        where = {
            "experiment": model, "dataset": "cifar10", "model": model, "width": 1.0,
            "match": matcher, "matcher": matcher, "sweep": "sweep", "seeds": f"a{2 * pair}-b{2 * pair + 1}",
            "status": "ok", "a": 2 * pair, "b": 2 * pair + 1, "evaluated_at": now, "distance": 1.0,
            "correction": "none", "dense": "t", "over": "epochs", "level": np.nan,
        }  # fmt: skip
        lines: list[tuple[str, Any, Any, float]] = [("none", np.nan, np.nan, 50.0)]
        lines += [
            ("matched", "end" if then == times[-1] else f"t{then:04d}", then, then + now / 1000)
            for then in times
        ]
        for (arm, point, then, value), split in product(lines, ("train", "test")):
            value += 0.1 * (pair - (pairs - 1) / 2)
            rows.append(
                where
                | {"arm": arm, "point": point, "matched_at": then, "split": split,
                   "error_barrier": value, "loss_barrier": value / 10}
            )  # fmt: skip
    return pd.DataFrame(rows)


def triples(widths: tuple[float, ...] = (0.5, 1.0, 2.0)) -> pd.DataFrame:
    """Lines of a sweep over three seeds by width: direct 10/w, indirect 30/w, without 60 points."""
    rows = []
    for model, matcher, width, (a, b) in product(
        ("vgg16_ln", "resnet20_ln"), ("weights", "activations"), widths, ((0, 1), (0, 2), (1, 2))
    ):
        for (arm, value), split in product(
            (("none", 60.0), ("direct", 10 / width), ("indirect", 30 / width)), ("train", "test")
        ):
            rows.append(
                {"experiment": f"{model}-{width}", "dataset": "cifar10", "model": model,
                 "width": width, "match": matcher, "matcher": matcher, "sweep": "triples",
                 "seeds": "seeds0-1-2", "status": "ok", "arm": arm,
                 "point": None if arm == "none" else f"{a}-{b}" + ".9" * (arm == "indirect"),
                 "a": a, "b": b, "matched_at": np.nan, "evaluated_at": 160, "distance": 1.0,
                 "correction": "none", "split": split, "error_barrier": value + a,
                 "loss_barrier": value / 10}
            )  # fmt: skip
    return pd.DataFrame(rows)


def children(
    instability: Mapping[int, float],
    under: float = 6.0,
    *,
    dense: str = "u",
    along: Mapping[int, float] | None = None,
    none: float = 60.0,
    matchers: tuple[str, ...] = ("weights", "activations"),
    pairs: int = 3,
) -> pd.DataFrame:
    """Lines of a sweep over spawns, measured at epochs 20 and 160, half of each barrier at 20.

    Children of epoch t: ``instability[t]`` points between those of one network, ``under`` between
    those of a and b; ``along``: of their parents by epoch, under π. 0.1 a pair more or less, 0.2 of
    children of a and b.
    """
    along = along or {20: 5.0, 160: 5.0}
    rows = []
    for matcher, pair, now in product(matchers, range(pairs), (20, 160)):
        a, b = 2 * pair, 2 * pair + 1
        where = {
            "experiment": dense, "dataset": "cifar10", "model": "vgg16_ln", "width": 1.0,
            "dense": dense, "match": matcher, "matcher": matcher, "sweep": "spawns",
            "seeds": f"a{a}-b{b}", "status": "ok", "evaluated_at": now, "distance": 1.0,
            "correction": "none", "over": "spawns", "level": np.nan,
        }  # fmt: skip
        part = 0.5 if now == 20 else 1.0
        lines: list[tuple[str, Any, Any, Any, float]] = [
            ("none", a, b, np.nan, part * none), ("matched", a, b, np.nan, along[now])
        ]  # fmt: skip
        for t, apart in instability.items():
            lines += [
                ("instability", f"{of}t{t}n1", f"{of}t{t}n2", t, part * apart + side)
                for of, side in ((a, -1e-3), (b, 1e-3))
            ]
            lines += [
                ("children", f"{a}t{t}n{n}", f"{b}t{t}n{n}", t, part * under + n - 1.5)
                for n in (1, 2)
            ]
        for (arm, left, right, spawn, value), split in product(lines, ("train", "test")):
            value += (0.2 if arm == "children" else 0.1) * (pair - (pairs - 1) / 2)
            rows.append(
                where
                | {"arm": arm, "point": "end" if arm in ("matched", "children") else np.nan,
                   "a": left, "b": right, "spawn": spawn, "matched_at": 160, "split": split,
                   "error_barrier": value, "loss_barrier": value / 10}
            )  # fmt: skip
    return pd.DataFrame(rows)


def partial(over: str = "layers", pairs: int = 3) -> pd.DataFrame:
    """Lines of a sweep over layers (of epochs 1, 20 and the end, 160) or over pruned copies, of two
    networks: a barrier that says which line it is.

    Under the permutation of t: 100 - t/2 points, mixed at k of t: 10k + t/100; copies pruned by f at
    t: 10f + t/100, at random 20 more; and 0.1 a pair more or less.
    """
    rows = []
    for model, pair in product(("vgg16_ln", "resnet20_ln"), range(pairs)):
        where = {
            "experiment": model, "dataset": "cifar10", "model": model, "width": 1.0, "over": over,
            "match": "weights", "matcher": "weights", "sweep": over, "seeds": f"a{2 * pair}-b{2 * pair + 1}",
            "status": "ok", "a": 2 * pair, "b": 2 * pair + 1, "distance": 1.0, "correction": "none",
        }  # fmt: skip
        lines: list[tuple[str, Any, Any, int, Any, float]] = []
        for t, point in ((1, "t0001"), (20, "t0020"), (160, "end")):
            now = 160 if over == "layers" else t
            lines += [("none", np.nan, np.nan, now, np.nan, 99.0)] if now == t else []
            lines += [("matched", point, t, now, np.nan, 100 - t / 2)]
            if over == "layers" and t < 160:
                lines += [
                    (kind, f"{kind}.{k}.{point}", t, now, k, 10 * k + t / 100)
                    for kind in KINDS for k in (2, 4, 8)
                ]  # fmt: skip
            if over == "pruned":
                lines += [
                    (how, f"{how}.{f}.{point}", t, now, f, 10 * f + t / 100 + 20 * (how == "random"))
                    for how in ("magnitude", "random") for f in (0.4, 0.8)
                ]  # fmt: skip
        for (arm, point, then, now, level, value), split in product(lines, ("train", "test")):
            value += 0.1 * (pair - (pairs - 1) / 2)
            rows.append(
                where
                | {"arm": arm, "point": point, "matched_at": then, "evaluated_at": now,
                   "level": level, "split": split, "error_barrier": value, "loss_barrier": value / 10}
            )  # fmt: skip
    return pd.DataFrame(rows)


def alignments(widths: tuple[float, ...] = (0.5, 1.0)) -> pd.DataFrame:
    """Indirect permutations of two groups, of 4 and 2 units: 2 and 0 are as in the direct one."""
    return pd.DataFrame(
        [
            {"experiment": f"{matcher}-{width}", "dataset": "cifar10", "model": "vgg16_ln",
             "width": width, "match": matcher, "matcher": matcher, "sweep": "triples",
             "seeds": "seeds0-1-2", "status": "ok", "point": point, "group": group, "size": size,
             "fixed_points": 0, "reference": point.partition(".")[0] if "." in point else np.nan,
             "level": np.nan,
             "alike": alike if "." in point else np.nan}
            for matcher in ("weights", "activations") for width in widths
            for point in ("0-1", "0-1.2", "0-2.1") for group, size, alike in (("x", 4, 2), ("y", 2, 0))
        ]
    )  # fmt: skip


def landscape() -> tuple[pd.DataFrame, pd.DataFrame]:
    """A bowl around b on a grid of each of two planes at two epochs, and straight trajectories."""
    grid, paths = [], []
    corners = {
        "permutations": {"b": (0.0, 0.0), "π_T(a)": (30.0, 0.0), "π(a)": (12.0, 25.0)},
        "start": {"b": (0.0, 0.0), "π(a)": (12.0, 25.0)},
    }
    for plane, point in product(corners, ("t0001", "t0020")):
        place = {"plane": plane, "point": point}
        network_here = {"dataset": "cifar10", "model": "vgg16_ln", "width": 1.0}
        for y, x in product(np.linspace(-8, 32, 9), np.linspace(-8, 38, 9)):
            error = 90 * (1 - np.exp(-(x**2 + y**2) / 400))
            grid.append(
                place | network_here | {"correction": "none", "x": x, "y": y, "split": "test", "error": error,
                         "loss": error / 40}
            )  # fmt: skip
        for network, (x, y) in corners[plane].items():
            for epoch in range(0, 11, 2):
                left = 1 - epoch / 10
                paths.append(
                    place | {"network": network, "epoch": epoch, "x": x * (1 - left) + 5 * left,
                             "y": y * (1 - left), "distance": 20 * left}
                )  # fmt: skip
    return pd.DataFrame(grid), pd.DataFrame(paths)


def two_parameters() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Straight paths of the two-parameter network, and failures of ten pairs."""
    paths, failures = [], []
    for activation in ("relu", "tanh"):
        for place, run in enumerate(("dense a", "dense b", "lth", "naive", "permuted")):
            for step, share in ((-1, 1.0), (0, 1.0), (20, 0.5), (1000, 0.0)):
                axis = share if place < 2 or step < 0 else 0.0
                paths.append(
                    {"activation": activation, "run": run, "step": step, "w0": 2 - share,
                     "w1": axis, "loss": share}
                )  # fmt: skip
        for of, pairs in (("all pairs", 10), ("dense networks learn", 6)):
            for failed, run in enumerate(("lth", "naive", "permuted")):
                failures.append(
                    {"activation": activation, "of": of, "run": run, "pairs": pairs,
                     "failed": failed}
                )  # fmt: skip
    return pd.DataFrame(paths), pd.DataFrame(failures)
