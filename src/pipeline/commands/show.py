"""Show one run: settings, ancestors, state and why, numbers; or where a table or figure is from."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator

from pipeline.artifacts.record import MISSING, PROVENANCE, Damaged, read
from pipeline.artifacts.store import mend, read_json
from pipeline.errors import UserError
from pipeline.progress.job import running
from pipeline.progress.workflow import describe
from pipeline.runs import Run
from pipeline.study.config import Config
from pipeline.study.graph import Graph
from pipeline.study.state import States, output_of, run_of
from pipeline.study.targets import Targets

EXAMPLE = "show results/dense/digits/resnet20-w0.5/dense-digits/seed0"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "path", help="the path of a run's folder or of a file in it, or a table or figure"
    )


def run(config: Config, arguments: argparse.Namespace) -> None:
    graph = Graph(config)
    states = States(graph)
    if name := output_of(config, arguments.path):
        for line in origin(states, name):
            print(line)
        return
    wanted = run_of(config, arguments.path)
    refuse_damaged(config, wanted)
    print(f"{config.results}/{wanted.folder}")
    print(f"run       {wanted.words}")
    print(f"state     {states.why(wanted)}")
    for line in states.changes(wanted):
        print(f"          {line}")
    for record in running(config.results):
        if (record["stage"], record["key"]) == (wanted.stage, wanted.key):
            print(f"now       {describe(record, host=True)}")
    log = config.results / "logs" / f"{wanted.folder}.log"
    if log.exists():
        print(f"log       {log}")
    print(f"epochs    {wanted.trained_epochs(graph)}")
    print("settings")
    for name, value in sorted(vars(graph.recipe(wanted)).items()):
        print(f"  {name} = {value}")
    print("ancestors")
    for parent in graph.closure([wanted])[:-1]:
        print(f"  {states.state(parent):<8} {config.results}/{parent.folder}")
    metrics = config.results / wanted.path("metrics.json")
    if metrics.exists():
        print("numbers")
        for name, value in sorted(read_json(metrics).items()):
            if name not in ("settings", "digest"):
                print(f"  {name} = {json.dumps(value)[:200]}")


def refuse_damaged(config: Config, run: Run) -> None:
    """Raise UserError, with the command that mends it, where a file of a run is not what it wrote."""
    folder = config.results / run.folder
    try:
        record = read(folder)
    except Damaged:
        path = folder / PROVENANCE
        raise UserError(f"{path}: damaged; {mend(path, run.files)}") from None
    if record:
        for name in sorted(record.files):
            fault = record.fault(folder / name)
            if fault not in (None, MISSING):
                raise UserError(f"{folder / name}: {fault}; {mend(folder / name, run.files)}")


def origin(states: States, name: str) -> Iterator[str]:
    """What a table or figure is, what asks for it, and the runs that it shows."""
    config, targets = states.config, Targets(states.graph)
    output = config.outputs[name]
    yield f"{output.what:<10}{name} of study {config.main.study}, protocol {config.main.protocol}"
    yield f"shows     {targets.caption(name)}"
    yield f"made by   {config.command(name)}"
    shown = states.graph.outputs([name])
    counts = Counter(states.state(run) for run in shown)
    yield f"runs      {', '.join(f'{n} {state}' for state, n in sorted(counts.items())) or 'none'}"
    for run in shown:
        yield f"  {states.state(run):<8} {config.results}/{run.folder}"
    if shown:
        yield "one cell, with code, machine and settings: python -m pipeline trace ... --cell KEY=VALUE"
