"""Write the files of one table, comparison or figure of a study."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from pipeline.catalog.schema import suggest
from pipeline.errors import UserError
from pipeline.report import claims, comparison, figures, tables
from pipeline.report.tables import Table
from pipeline.results import Results, spec_of
from pipeline.study.config import Config
from pipeline.study.outputs import (
    AccuracyVsRewind,
    AccuracyVsSparsity,
    Barriers,
    Claims,
    Cost,
    Diversity,
    EarlyMatching,
    Hyperparameters,
    ImpBarriers,
    Interpolation,
    LossPlane,
    MaskSparsity,
    MatchingQuality,
    Output,
    PairedDifference,
    RewindGrid,
    TrainingCurves,
)  # fmt: skip


def find(config: Config, name: str, what: str | None = None) -> Output:
    """An output of the study by name; UserError if there is none (of the kind ``what``)."""
    kinds = {None: ("table", "claims", "figure"), "table": ("table", "claims")}.get(what, (what,))
    known = [n for n, o in config.outputs.items() if o.what in kinds]
    if name not in known:
        raise UserError(
            f"{config.main.study}: unknown {what or 'output'} {name!r}; {suggest(name, known)}"
        )
    output: Output = config.outputs[name]
    return output


def spec_for(config: Config, output: Output) -> dict[str, Any]:
    """Settings of an output for its builder: labels and colours of methods, the protocol's choices."""
    methods = config.recipes.methods
    spec = spec_of(output, {name: method.label for name, method in methods.items()})
    horizons = {experiment.horizon for experiment in output.chosen(config.experiments)}
    if len(horizons) == 1:
        spec["end"] = horizons.pop()
    if isinstance(output, Cost):
        spec["matched"] = [name for name, method in methods.items() if method.permute]
    if isinstance(output, ImpBarriers):
        spec.setdefault("corrections", ["none", config.protocol.correction])
    return spec | {"colors": {n: m.color for n, m in methods.items() if m.color}}


def _data(config: Config, output: Output) -> tuple[Any, ...]:
    """The frames that an output's builder reads."""
    results = Results(config)
    experiments = output.chosen(config.experiments)
    match output:
        case Interpolation():
            return (results.curves(experiments),)
        case Barriers():
            return (results.barriers(experiments),)
        case ImpBarriers():
            return (results.imp_barriers(output),)
        case LossPlane():
            return results.planes(output)
        case TrainingCurves():
            return (results.histories(output),)
        case MaskSparsity():
            return (results.mask_layers(output),)
        case MatchingQuality():
            return (results.match_groups(output),)
        case Diversity():
            return (results.diversity(output),)
        case Hyperparameters():
            return (hyperparameters(config, output),)
        case (
            RewindGrid() | EarlyMatching() | PairedDifference() | Cost()
            | AccuracyVsRewind() | AccuracyVsSparsity()
        ):  # fmt: skip
            return (results.runs(experiments),)
        case _:
            raise UserError(f"kind {output.kind!r} has no builder")


def table(config: Config, name: str) -> Table:
    """A table from the cells that exist; the others are marked missing."""
    output = find(config, name, "table")
    options: dict[str, Any] = {"protocol": config.main.protocol}
    if isinstance(output, Claims):
        judged = judge(config, output)
        spec = spec_for(config, output)
        return claims.claims_table(name, spec, judged, beside=claims.on_published(), **options)
    if isinstance(output, Cost):
        options["matches"] = Results(config).matches(output.chosen(config.experiments))
    return tables.build(
        output.kind, name, spec_for(config, output), *_data(config, output), **options
    )


def missing(config: Config, name: str) -> int:
    """How many of the runs that a table or figure shows are not finished."""
    results = Results(config)
    return sum(not results.provenance(run) for run in results.graph.outputs([name]))


def write_table(config: Config, name: str) -> list[Path]:
    """Write a table as CSV (tidy), HTML, Markdown and LaTeX."""
    return tables.write(table(config, name), _stem(config, "tables", name))


def comparison_of(config: Config, name: str) -> Table:
    """A table beside the published numbers."""
    output = find(config, name, "table")
    if not output.published:
        raise UserError(f"{name}: has no 'published' table to be compared with")
    build: Callable[..., Table] = (
        comparison.compare_diversity if isinstance(output, Diversity) else comparison.compare
    )
    return build(
        name, spec_for(config, output), *_data(config, output), protocol=config.main.protocol
    )


def write_comparison(config: Config, name: str) -> list[Path]:
    """Write a table's comparison with the published numbers as CSV, HTML and Markdown."""
    found = comparison_of(config, name)
    return tables.write(found, _stem(config, "tables", f"{name}.comparison"), ("csv", "html", "md"))


def figure(config: Config, name: str) -> tuple[Figure, pd.DataFrame]:
    """A figure of what exists, and the data it shows."""
    output = find(config, name, "figure")
    return figures.build(output.kind, name, spec_for(config, output), *_data(config, output))


def write_figure(config: Config, name: str) -> list[Path]:
    """Write a figure as PDF, PNG and SVG, with the data it shows as CSV."""
    return figures.save(*figure(config, name), _stem(config, "figures", name))


def _stem(config: Config, folder: str, name: str) -> Path:
    return config.results / config.scope / folder / name


def judge(config: Config, output: Claims) -> list[claims.Claim]:
    """The claims on what exists of the outputs that an entry names."""
    results = Results(config)
    sources = [config.outputs[name] for name in output.outputs]
    cells = [o for o in sources if isinstance(o, RewindGrid | EarlyMatching | AccuracyVsRewind)]
    names = dict.fromkeys(name for o in cells for name in o.experiments)
    curves = dict.fromkeys(
        n for o in sources if isinstance(o, Interpolation) for n in o.experiments
    )
    chosen = config.experiments
    barriers = [results.imp_barriers(o) for o in sources if isinstance(o, ImpBarriers)]
    diverse = [results.diversity(o) for o in sources if isinstance(o, Diversity)]
    return claims.on_results(
        results.runs(chosen[name] for name in names),
        reuse=output.reuse,
        diversity=pd.concat(diverse, ignore_index=True) if diverse else None,
        curves=results.curves(chosen[name] for name in curves) if curves else None,
        imp_barriers=pd.concat(barriers, ignore_index=True) if barriers else None,
        headline=claims.Headline(
            config.protocol.correction, config.protocol.barrier_at, config.protocol.barrier_split
        ),
    )


#: Settings as the paper's Tables 2-4 name them; those that do not decide the numbers are left out.
_NAMES = {
    "lr": "Learning rate", "epochs": "Epochs", "momentum": "Momentum",
    "weight_decay": "Weight decay", "batch_size": "Batch size", "schedule": "Schedule",
    "warmup_epochs": "Warm-up epochs", "milestones": "A tenth after epochs",
    "micro_batch": "Micro-batch", "precision": "Precision", "style": "After each prune",
    "rewind_epoch": "Rewind epoch of IMP", "fraction": "Pruned a round (of the remaining)",
    "prunable": "Prunable weights", "similarity": "Similarity", "std": "Standard deviation",
    "epsilon": "Epsilon", "taps": "Observed at", "augment": "Augmented images", "images": "Images",
}  # fmt: skip
_STAGES = {"dense": "Dense", "imp": "Pruning", "match": "Matching", "sparse": "Sparse"}


def hyperparameters(config: Config, output: Hyperparameters) -> list[tuple[str, str, Any]]:
    """(group, name, value) rows: the settings of the very recipes that run."""
    rows: list[tuple[str, str, Any]] = []
    for experiment in output.chosen(config.experiments):
        rows.append((experiment.name, "Optimizer", "SGD"))
        for stage in output.stages:
            settings = vars(config.recipes.resolve(stage, getattr(experiment, stage)))
            if stage == "sparse":
                settings = {"epochs": f"{experiment.horizon} − k", **settings}
            for key, name in _NAMES.items():
                if settings.get(key, ()) != () and (key != "micro_batch" or settings[key]):
                    value = "all" if settings[key] is None else settings[key]
                    rows.append((experiment.name, f"{_STAGES[stage]}: {name}", value))
    return rows
