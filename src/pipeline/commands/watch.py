"""Show what runs now, here or on a cluster that shares the results folder."""

from __future__ import annotations

import argparse
import time

from pipeline.progress import running
from pipeline.study.config import Config
from pipeline.study.graph import Graph
from pipeline.study.state import States
from pipeline.watch import describe

EXAMPLE = "watch --every 10"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--every", type=float, default=10.0, help="seconds between looks (default 10)"
    )
    parser.add_argument("--once", action="store_true", help="look once and end")


def run(config: Config, arguments: argparse.Namespace) -> int:
    """Print runs done and running, until interrupted."""
    graph = Graph(config)
    every = graph.closure(graph.outputs(config.outputs))
    while True:
        states = States(graph)
        done = sum(states.state(run) == "done" for run in every)
        now = running(config.results)
        print(
            f"[{time.strftime('%H:%M:%S')}] {done}/{len(every)} runs done, {len(now)} running",
            flush=True,
        )
        for record in now:
            print(f"  {describe(record)}", flush=True)
        if arguments.once or done == len(every):
            return 0
        try:
            time.sleep(max(1.0, arguments.every))
        except KeyboardInterrupt:
            return 0
