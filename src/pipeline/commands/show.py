"""Show one run: settings, ancestors, state (done, missing, stale and why) and numbers."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import Any

from pipeline.artifacts.record import record_of
from pipeline.artifacts.store import read_json
from pipeline.progress.job import running
from pipeline.progress.workflow import describe
from pipeline.runs import Run
from pipeline.study.config import Config
from pipeline.study.graph import Graph
from pipeline.study.state import States, run_of

EXAMPLE = "show results/dense/digits/resnet20-w0.5/dense-digits/seed0"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", help="the path of a run's folder or of a file in it")


def run(config: Config, arguments: argparse.Namespace) -> None:
    graph = Graph(config)
    states = States(graph)
    wanted = run_of(config, arguments.path)
    print(f"{config.results}/{wanted.folder}")
    print(f"run       {wanted.words}")
    print(f"state     {states.why(wanted)}")
    for line in changes(graph, states, wanted):
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


def changes(graph: Graph, states: States, run: Run) -> Iterator[str]:
    """A line per setting of a stale run that was another when it was made, and per changed parent."""
    record = record_of(graph.config.results / run.folder)
    if states.state(run) != "stale" or record is None:
        return
    before, after = {**record.settings, "parents": None}, graph.settings(run) | {"parents": None}
    yield from _changed("", before, after)
    was = record.settings.get("parents")
    for role, now in graph.settings(run).get("parents", {}).items():
        if not isinstance(was, dict) or was.get(role) != now:
            file = graph.inputs(run)[role]
            yield f"{role}: from another {file.run.folder}"


def _changed(name: str, before: Any, after: Any) -> Iterator[str]:
    """A line per value in which two nested mappings differ."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted({*before, *after}):
            yield from _changed(f"{name}.{key}".lstrip("."), before.get(key), after.get(key))
    elif before != after:
        yield f"{name}: made with {_value(before)}, now {_value(after)}"


def _value(value: Any) -> str:
    return "the default" if value is None else json.dumps(value)[:200]
