"""Loss surface, training and failures of a network of two weights: paper Figures 1 and 12."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline import two_parameters
from pipeline.report.figures import style
from pipeline.report.shown import Shown
from pipeline.report.tables import names
from pipeline.results import Results
from pipeline.study.outputs.two_parameters import TwoParameters
from pipeline.two_parameters import ACTIVATIONS, METHODS, RUNS, Trained

_NAMES = {"relu": "ReLU", "tanh": "tanh"}
#: The runs of each panel, and what stands above it.
_PANELS = {
    "dense": (("dense a",), "dense training of a"),
    "lth": (("lth",), "a's mask, a's start"),
    "transfer": (("naive", "permuted"), "a's mask, b's start"),
}
_OF = ("all pairs", "dense networks learn")
#: Steps that are drawn: all of the first, then fewer.
_STEPS = (*range(20), *range(20, 1001, 20))
# Shares of the greatest loss shown, crowded near the minima.
_LEVELS = np.linspace(0, 1, 13) ** 2

Frames = tuple[pd.DataFrame, pd.DataFrame]


def read(output: TwoParameters, results: Results) -> Frames:
    """Train; the paths of the pair that is drawn, and the failures of all.

    paths: activation, run, step (-1: the initialisation before its mask), w0, w1, loss. failures:
    activation, of, run, pairs, failed.
    """
    del results
    found = {
        name: two_parameters.train(name, output.random_pairs, output.seed) for name in ACTIVATIONS
    }
    pair = example(found["relu"])
    rows = [row for name, trained in found.items() for row in _path_rows(name, trained, pair)]
    counts = []
    for name, trained in found.items():
        everyone = torch.ones_like(trained.sound)
        for of, chosen in zip(_OF, (everyone, trained.sound), strict=True):
            counts += [
                {"activation": name, "of": of, "run": run, "pairs": int(chosen.sum()),
                 "failed": int((trained.failed[run] & chosen).sum())}
                for run in METHODS
            ]  # fmt: skip
    return pd.DataFrame(rows), pd.DataFrame(counts)


def example(trained: Trained) -> int:
    """The first pair whose dense networks learn and in which naive alone fails; 0 without one."""
    failed = trained.failed
    wanted = trained.sound & failed["naive"] & ~failed["lth"] & ~failed["permuted"]
    return int(wanted.nonzero()[0]) if wanted.any() else 0


def _path_rows(activation: str, trained: Trained, pair: int) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for run in RUNS:
        path = trained.paths[run][:, pair]
        losses = two_parameters.loss(activation, path)
        start = trained.starts[run][pair]
        steps = [(step, path[step], losses[step]) for step in _STEPS]
        for step, weights, loss in [
            (-1, start, two_parameters.loss(activation, start)), *steps,
        ]:  # fmt: skip
            w0, w1 = weights.tolist()
            rows.append(
                {"activation": activation, "run": run, "step": step, "w0": w0, "w1": w1,
                 "loss": float(loss)}
            )  # fmt: skip
    return rows


def build(output: TwoParameters, shown: Shown, data: Frames) -> tuple[Figure, pd.DataFrame]:
    """A row per activation: the surfaces that are asked for, and bars of failures in %."""
    paths, failures = data
    kinds = list(dict.fromkeys(paths["activation"]))
    columns = len(output.panels) + 1
    figure, axes = style.grid(len(kinds), columns, panel=(2.3, 2.1), sharex=False, sharey=False)
    reach = 0.4 + float(paths[["w0", "w1"]].abs().to_numpy().max())
    for row, activation in zip(axes, kinds, strict=True):
        own = paths[paths["activation"] == activation]
        for panel, name in zip(row[:-1], output.panels, strict=True):
            runs, title = _PANELS[name]
            _surface(panel, activation, reach)
            for run in runs:
                _path(panel, own[own["run"] == run], _look(run, shown))
            if name == "dense":
                _pruned(panel, own[own["run"] == "dense a"], shown)
            panel.set_title(f"{_NAMES[activation]}: {title}")
            panel.set_xlabel("w₀")
        row[0].set_ylabel("w₁")
        _bars(row[-1], failures[failures["activation"] == activation], shown)
    methods = [run for name in output.panels for run in _PANELS[name][0]]
    handles = [
        style.handle(_look(run, shown), names.whole_method(run.split()[0], shown.labels))
        for run in methods
    ]
    style.legend(figure, handles)
    return figure, pd.concat([paths, failures], ignore_index=True)


def _look(run: str, shown: Shown) -> style.Look:
    found = style.method_style(run.split()[0], shown.colors)
    return style.look(str(found["color"]))


def _surface(panel: Axes, activation: str, reach: float) -> None:
    at = torch.linspace(-reach, reach, 121, dtype=torch.float64)
    grid = torch.stack(torch.meshgrid(at, at, indexing="xy"), dim=-1)
    z = two_parameters.loss(activation, grid).numpy()
    levels = float(z.max()) * _LEVELS
    panel.contourf(at.numpy(), at.numpy(), z, levels=levels, cmap="Greys", alpha=0.55)
    for axis in (panel.axhline, panel.axvline):
        axis(0, color="white", linewidth=0.8)
    panel.grid(visible=False)
    panel.set_aspect("equal")


def _path(panel: Axes, path: pd.DataFrame, look: Mapping[str, object]) -> None:
    """From the initialisation (ring), dotted to where its mask puts it, and down to the end (dot)."""
    color = str(look["color"])
    ordered = path.sort_values("step")
    before, after = ordered[ordered["step"] <= 0], ordered[ordered["step"] >= 0]
    panel.plot(before["w0"], before["w1"], color=color, linestyle=":", linewidth=1.0)
    panel.plot(after["w0"], after["w1"], color=color, linewidth=1.5)
    for point, face in ((ordered.iloc[0], "white"), (ordered.iloc[-1], color)):
        panel.plot(
            point["w0"], point["w1"], "o", markersize=5, markeredgecolor=color,
            markerfacecolor=face, zorder=4,
        )  # fmt: skip


def _pruned(panel: Axes, path: pd.DataFrame, shown: Shown) -> None:
    """The dense solution without its smaller weight."""
    end = path.sort_values("step").iloc[-1]
    w0, w1 = end["w0"], end["w1"]
    kept = (w0, 0.0) if abs(w0) >= abs(w1) else (0.0, w1)
    panel.plot(*zip((w0, w1), kept, strict=True), color=style.GREY, linestyle="--", linewidth=1.0)
    panel.plot(*kept, "x", markersize=6, color=str(_look("imp", shown)["color"]), zorder=5)


def _bars(panel: Axes, failures: pd.DataFrame, shown: Shown) -> None:
    for number, of in enumerate(_OF):
        own = failures[failures["of"] == of].set_index("run").reindex(METHODS)
        share = own["failed"] / own["pairs"]
        at = np.arange(len(METHODS)) + 0.4 * (number - 0.5)
        for place, row in zip(at, own.itertuples(), strict=True):
            height = 100 * row.failed / max(1, row.pairs) + 5
            panel.text(place, height, f"{row.failed}/{row.pairs}", ha="center", fontsize=5)
        panel.bar(
            at,
            100 * share,
            0.36,
            yerr=100 * np.sqrt(share * (1 - share) / own["pairs"]),
            color=[str(_look(run, shown)["color"]) for run in METHODS],
            alpha=(0.9, 0.4)[number],
            error_kw={"elinewidth": 0.8},
        )
    labels = [names.whole_method(run, shown.labels) for run in METHODS]
    panel.set_xticks(range(len(METHODS)), labels)
    panel.set_ylim(0, 100)
    panel.set_ylabel("runs that fail (%)")
    panel.set_title(f"dark: {_OF[0]}, light: {_OF[1]}", fontsize=6.5)
