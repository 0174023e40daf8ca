"""Show one run: settings, ancestors, state (done, missing, stale and why) and numbers."""

from __future__ import annotations

import argparse
import json

from pipeline.artifacts import keys
from pipeline.artifacts.store import read_json
from pipeline.study.config import Config
from pipeline.study.cost import Costs
from pipeline.study.graph import Graph
from pipeline.study.state import States, run_of

EXAMPLE = "show results/dense/digits/resnet20-w0.5/dense-digits/seed0"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", help="the path of a run's folder or of a file in it")


def run(config: Config, arguments: argparse.Namespace) -> int:
    """Print what is known of the run."""
    graph = Graph(config)
    states = States(graph)
    wanted = run_of(config, arguments.path)
    print(f"{config.results}/{keys.folder(wanted)}")
    print(f"state     {states.why(wanted)}")
    print(f"epochs    {Costs(graph, 'cpu').epochs(wanted)}")
    print("settings")
    for name, value in sorted(vars(graph.recipe(wanted)).items()):
        print(f"  {name} = {value}")
    print("ancestors")
    for parent in graph.closure([wanted])[:-1]:
        print(f"  {states.why(parent):<10} {config.results}/{keys.folder(parent)}")
    metrics = config.results / keys.path(wanted, "metrics.json")
    if metrics.exists():
        print("numbers")
        for name, value in sorted(read_json(metrics).items()):
            if name not in ("settings", "digest"):
                print(f"  {name} = {json.dumps(value)[:200]}")
    return 0
