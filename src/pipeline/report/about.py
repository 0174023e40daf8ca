"""What a report says about itself: experiments, settings of all recipes in use, provenance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.catalog.datasets import DataInfo
from pipeline.progress.job import clock
from pipeline.report import tables
from pipeline.report.tables import Table
from pipeline.report.tables import names as written
from pipeline.report.tables.table import ABSENT
from pipeline.results import Results
from pipeline.runs import STAGES, Run
from pipeline.study.config import Config
from pipeline.study.settings import RECIPES, Protocol

FORMATS = ("csv", "html", "md")
_RECIPES = {
    "dense": "Dense training", "imp": "Pruning", "match": "Matching", "sparse": "Sparse training",
    "connectivity": "Connectivity",
}  # fmt: skip


def folder(config: Config) -> Path:
    """Where these tables lie: beside the study's tables and figures."""
    return config.results / config.scope / "about"


def write_settings(config: Config) -> None:
    """Write ``experiments`` and ``settings`` as CSV, HTML and Markdown."""
    for found in (experiments(config), settings(config)):
        tables.write(found, folder(config) / found.name, FORMATS)


def write_provenance(config: Config) -> None:
    """Write ``provenance`` as CSV, HTML and Markdown."""
    found = provenance(config)
    tables.write(found, folder(config) / found.name, FORMATS)


def experiments(config: Config) -> Table:
    """A row per experiment: network, data, recipes, methods, sparsities, rewind epochs, seeds."""
    rows = []
    for experiment in config.experiments.values():
        foreign = experiment.mask_dataset != experiment.dataset
        rows.append(
            {
                "Experiment": experiment.name,
                "Network": written.network(experiment.model, experiment.width),
                "Data set": written.dataset(experiment.dataset)
                + (f" (masks: {written.dataset(experiment.mask_dataset)})" if foreign else ""),
                "Recipes": ", ".join(getattr(experiment, kind) for kind in RECIPES),
                "Methods": _listed(experiment.methods),
                "Sparsities": _listed(written.percent(s) for s in experiment.sparsities),
                "Rewind epochs": _listed(experiment.rewind_epochs),
                "Pairs of seeds": _listed(f"{a}–{b}" for a, b in experiment.pairs),
                "Matching epochs": _listed(experiment.matching_epochs) or "end",
                "Replicates": str(experiment.replicates),
            }
        )
    tidy = pd.DataFrame(rows)
    varying = [c for c in tidy if c not in ("Matching epochs", "Replicates")]
    varying += [c for c in ("Matching epochs", "Replicates") if tidy[c].nunique() > 1]
    layout = tidy[varying].replace("", ABSENT).set_index("Experiment")
    title = f"Experiments of the study: {config.title}"
    notes = [
        "A pair a–b: the mask comes from seed a, the initialisation of naive and permuted runs from b."
    ]
    return Table("experiments", title, tidy, layout, notes, config.main.protocol)


def settings(config: Config) -> Table:
    """A row per setting of the protocol, the data sets and every recipe in use, resolved."""
    rows: list[dict[str, str]] = []

    def add(group: str, name: str, setting: str, value: object, default: object, help: str) -> None:
        rows.append(
            {
                "group": group, "name": name, "setting": setting, "value": _text(value),
                "changed": str(value != default).lower(), "help": help,
            }
        )  # fmt: skip

    for kind, group in _RECIPES.items():
        labels = [getattr(experiment, kind) for experiment in config.experiments.values()]
        if kind == "dense":
            labels += [experiment.mask_dense for experiment in config.experiments.values()]
        if kind == "match":
            labels += [
                m.match for e in config.experiments.values() for m in e.ways.values() if m.match
            ]
        for label in sorted(set(labels)):
            recipe = config.recipes.resolve(kind, label)
            for item in fields(recipe):
                value = getattr(recipe, item.name)
                add(group, label, item.name, value, item.default, item.metadata.get("help", ""))
    used = {e.dataset for e in config.experiments.values()}
    used |= {e.mask_dataset for e in config.experiments.values()}
    for name in sorted(used):
        for setting, value in _data(config.datasets[name]).items():
            add("Data sets", name, setting, value, value, "")
    for item in fields(Protocol):
        value = getattr(config.protocol, item.name)
        if item.name != "title":
            help = item.metadata.get("help", "")
            add("Protocol", config.main.protocol, item.name, value, item.default, help)
    tidy = pd.DataFrame(rows)
    index = pd.MultiIndex.from_frame(tidy[["group", "name", "setting"]])
    layout = pd.DataFrame(
        {"Value": tidy["value"].to_numpy(), "Meaning": tidy["help"].to_numpy()},
        index=index.set_names(["", "Recipe", "Setting"]),
    )
    bold = pd.DataFrame(False, index=index, columns=layout.columns)
    bold["Value"] = (tidy["changed"] == "true").to_numpy()
    notes = ["Bold: differs from the default of the setting."]
    return Table(
        "settings",
        "Settings of all recipes in use",
        tidy,
        layout,
        notes,
        config.main.protocol,
        bold,
    )


def provenance(config: Config) -> Table:
    """A row per stage: runs, seeds, epochs, time and device of what the report stands on.

    The runs are those behind the study's tables, claims and figures that are not optional.
    """
    results = Results(config)
    shown = [name for name, output in config.outputs.items() if not output.optional]
    records: dict[str, list[tuple[Run, dict[str, Any]]]] = {stage: [] for stage in STAGES}
    for run in results.graph.closure(results.graph.outputs(shown)):
        records[run.stage].append((run, results.provenance(run)))
    rows = [_stage(results, stage, found) for stage, found in records.items() if found]
    tidy = pd.DataFrame(rows)
    layout = pd.DataFrame(
        {
            "Runs": tidy["runs"].map(str),
            "Missing": tidy["missing"].map(lambda n: str(n) if n else ABSENT),
            "Diverged": tidy["diverged"].map(lambda n: str(n) if n else ABSENT),
            "Seeds": tidy["seeds"],
            "Epochs trained": tidy["epochs"].map(lambda n: f"{n:,.0f}" if n else ABSENT),
            "Training time": tidy["train_seconds"].map(lambda s: clock(s) if s else ABSENT),
            "Device time": tidy["seconds"].map(clock),
            "Device": tidy["devices"],
        }
    )
    layout.index = pd.Index([STAGES[stage].title for stage in tidy["stage"]], name="Stage")
    known = [record for found in records.values() for _, record in found if record]
    notes = [
        "Device time: from the start of a run's job to its end, loading included; summed over runs.",
        *_notes(known),
    ]
    return Table("provenance", "Provenance of the runs", tidy, layout, notes, config.main.protocol)


def _stage(
    results: Results, stage: str, found: Iterable[tuple[Run, dict[str, Any]]]
) -> dict[str, Any]:
    """Counts and sums over the runs of one stage."""
    runs = [run for run, _ in found]
    known = [record for _, record in found if record]
    status = Counter((results.metrics(run) or {}).get("status", "missing") for run in runs)
    seeds = {network.seed for run in runs for network in run.networks}
    return {
        "stage": stage,
        "runs": len(runs),
        "missing": len(runs) - len(known),
        "diverged": status["diverged"],
        "seeds": _listed(sorted(seeds)),
        "epochs": sum(record.get("epochs_executed", 0) for record in known),
        "train_seconds": sum(record.get("train_seconds", 0) for record in known),
        "seconds": sum(record.get("seconds", 0) for record in known),
        "devices": _listed(sorted({str(r["device"]) for r in known if r.get("device")})) or ABSENT,
    }


def _notes(known: list[dict[str, Any]]) -> list[str]:
    """Code, software and machines of all runs, and when the last was finished."""
    if not known:
        return ["No run is there yet."]
    versions = Counter(
        f"{name} {version}" for r in known for name, version in r.get("versions", {}).items()
    )
    python = Counter(f"Python {r['python']}" for r in known if r.get("python"))
    finished = sorted(r["finished"] for r in known if r.get("finished"))
    hosts = {r["host"] for r in known if r.get("host")}
    jobs = {r["job"] for r in known if r.get("job")}
    return [
        f"Code: {_counted(Counter(r.get('code', 'unknown') for r in known), len(known))}.",
        f"Software: {_counted(python | versions, len(known))}.",
        f"Machines: {len(hosts)} ({_listed(sorted({str(r.get('machine')) for r in known}))})"
        + (f", {len(jobs)} jobs of Slurm" if jobs else "")
        + ".",
        f"Finished: {finished[0]} to {finished[-1]}." if finished else "",
    ]


def _counted(counts: Mapping[str, int], total: int) -> str:
    """Values with the number of runs that have them, where it is not all."""
    ordered = sorted(counts.items())
    return ", ".join(name if n == total else f"{name} ({n} runs)" for name, n in ordered)


def _data(info: DataInfo) -> dict[str, object]:
    """What a data set's entry says that decides numbers."""
    return {
        "train_images": info.train_images, "test_images": info.test_images,
        "classes": info.classes, "size": info.size, "mean": info.mean, "std": info.std,
        "flip": info.flip, "pad": info.pad,
    }  # fmt: skip


def _listed(values: Iterable[object]) -> str:
    return ", ".join(str(value) for value in values)


def _text(value: object) -> str:
    """A setting for people."""
    if value is None or value == ():
        return ABSENT
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, dict):
        return _listed(f"{key}: {_text(item)}" for key, item in value.items())
    if isinstance(value, tuple):
        return _listed(_text(item) for item in value)
    return str(value)
