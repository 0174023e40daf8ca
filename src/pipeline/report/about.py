"""What a report says about itself: experiments, settings of all recipes in use, provenance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from typing import Any

import pandas as pd

from pipeline.progress.job import clock
from pipeline.report import tables
from pipeline.report.tables import Table
from pipeline.report.tables import names as written
from pipeline.report.tables.cells import varying
from pipeline.report.tables.table import ABSENT, setting_text
from pipeline.results import Results
from pipeline.runs import STAGES, Dense, Run
from pipeline.study.config import Config
from pipeline.study.experiment import Experiment
from pipeline.study.settings import RECIPES

FORMATS = ("csv", "html", "md")
_RECIPES = {
    "dense": "Dense training", "imp": "Pruning", "match": "Matching", "sparse": "Sparse training",
    "sweep": "Sweeps", "connectivity": "Connectivity",
}  # fmt: skip
#: What a data set's entry says that decides numbers.
_DATA = ("train_images", "test_images", "classes", "size", "mean", "std", "flip", "pad")


def write_settings(config: Config) -> None:
    """Write ``experiments`` and ``settings`` as CSV, HTML and Markdown."""
    _write(config, experiments(config), settings(config))


def write_provenance(config: Config) -> None:
    """Write ``provenance`` as CSV, HTML and Markdown."""
    _write(config, provenance(config))


def _write(config: Config, *found: Table) -> None:
    for one in found:
        tables.write(one, config.results / config.scope / "about" / one.name, FORMATS)


def experiments(config: Config) -> Table:
    """A row per experiment: network, data, recipes, methods, sparsities, rewind epochs, seeds."""
    rows = []
    for experiment in config.experiments.values():
        foreign = experiment.mask_dataset != experiment.dataset
        rows.append(
            {
                "Experiment": experiment.name,
                "Network": written.network(experiment.model, experiment.width),
                "Data set": written.data(experiment.dataset)
                + (f" (masks: {written.data(experiment.mask_dataset)})" if foreign else ""),
                "Recipes": ", ".join(_recipes(experiment)),
                "Methods": _listed(experiment.methods),
                "Sparsities": _listed(written.percent(s) for s in experiment.sparsities),
                "Rewind epochs": _listed(experiment.rewind_epochs),
                "Pairs of seeds": _listed(f"{a}–{b}" for a, b in experiment.pairs),
                "Matching epochs": _listed(experiment.matching_epochs) or "end",
                "Replicates": str(experiment.replicates),
            }
        )
    tidy = pd.DataFrame(rows)
    at_times = ["Matching epochs", "Replicates"]
    shown = [c for c in tidy if c not in at_times or c in varying(tidy, at_times)]
    layout = tidy[shown].replace("", ABSENT).set_index("Experiment")
    title = f"Experiments of the study: {config.title}"
    notes = [
        "A pair a–b: the mask comes from seed a, the initialisation of naive and permuted runs from b."
    ]
    return Table("experiments", title, tidy, layout, notes, config.main.protocol)


def _recipes(experiment: Experiment) -> Iterator[str]:
    """Labels of an experiment's recipes; with a sweep that, and its matchings."""
    for kind in RECIPES:
        yield from (
            experiment.matchers.values()
            if kind == "match" and experiment.sweep
            else [getattr(experiment, kind)]
        )
    yield from [experiment.sweep] if experiment.sweep else []


def settings(config: Config) -> Table:
    """A row per setting of the protocol, the data sets and every recipe in use, resolved."""
    entries = list(config.experiments.values())
    rows: list[tuple[str, ...]] = []
    for kind, group in _RECIPES.items():
        for label in sorted(config.labels[kind]):
            rows += _settings(group, label, config.recipes.resolve(kind, label))
    for name in sorted({dataset for e in entries for dataset in (e.dataset, e.mask_dataset)}):
        info = config.datasets[name]
        for setting in _DATA:
            value = setting_text(getattr(info, setting))
            rows.append(("Data sets", name, setting, value, "false", ""))
    protocol = _settings("Protocol", config.main.protocol, config.protocol)
    rows += [row for row in protocol if row[2] != "title"]
    columns = ["group", "name", "setting", "value", "changed", "help"]
    tidy = pd.DataFrame(rows, columns=columns)
    index = pd.MultiIndex.from_frame(tidy[["group", "name", "setting"]])
    layout = tidy[["value", "help"]].set_axis(["Value", "Meaning"], axis=1)
    layout = layout.set_index(index.set_names(["", "Recipe", "Setting"]))
    bold = layout.assign(Value=(tidy["changed"] == "true").to_numpy(), Meaning=False)
    notes = ["Bold: differs from the default of the setting."]
    title = "Settings of all recipes in use"
    return Table("settings", title, tidy, layout, notes, config.main.protocol, bold)


def _settings(group: str, name: str, recipe: Any) -> Iterator[tuple[str, ...]]:
    """Group, name, setting, value, whether it differs from the default, and what it means."""
    for item in fields(recipe):
        value = getattr(recipe, item.name)
        changed = str(value != item.default).lower()
        help = item.metadata.get("help", "")
        yield group, name, item.name, setting_text(value), changed, help


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
            "Missing": tidy["missing"].map(str).replace("0", ABSENT),
            "Diverged": tidy["diverged"].map(str).replace("0", ABSENT),
            "Seeds": tidy["seeds"],
            "Epochs trained": tidy["epochs"].map("{:,.0f}".format).replace("0", ABSENT),
            "Training time": tidy["train_seconds"].map(lambda s: clock(s) if s else ABSENT),
            "Device time": tidy["seconds"].map(clock),
            "Device": tidy["devices"],
        }
    )
    layout.index = pd.Index([STAGES[stage].title for stage in tidy["stage"]], name="Stage")
    known = [record for found in records.values() for _, record in found if record]
    born = sum(isinstance(run, Dense) and run.parent is not None for run, _ in records["dense"])
    notes = [
        "Device time: from the start of a run's job to its end, loading included; summed over runs.",
        *([f"Dense runs that start from a state of another one: {born}."] if born else []),
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


def _listed(values: Iterable[object]) -> str:
    return ", ".join(str(value) for value in values)
