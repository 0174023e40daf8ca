"""List what is stale or incomplete behind some targets, and why: changed settings, changed parents."""

from __future__ import annotations

import argparse

from pipeline.artifacts.record import Records
from pipeline.study.config import Config
from pipeline.study.graph import Graph
from pipeline.study.state import States, resolve

EXAMPLE = "stale table_5 --study paper"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "targets", nargs="*", default=["all"], help="as given to snakemake (default: all)"
    )


def run(config: Config, arguments: argparse.Namespace) -> None:
    graph, records = Graph(config), Records(config.results)
    states, every = States(graph), resolve(config, arguments.targets).closure(graph)
    found = 0
    for each in every:
        why = states.why(each)
        record = records.record_of(each.folder)
        others = record.other_parents(records.recorded) if record and why == "done" else []
        if why == "missing" or (why == "done" and not others):
            continue
        found += 1
        print(f"{config.results}/{each.folder}: {why if why != 'done' else 'stale'}")
        for line in states.changes(each):
            print(f"  {line}")
        for name in others:
            print(f"  made from another version of {name}")
    print(f"{found} of {len(every)} runs are stale or incomplete")
    if found:
        print(f"what they would cost: python -m pipeline plan; to make them: {config.command()}")
