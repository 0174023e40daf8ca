"""Put the finished runs behind targets into a folder, to be sent, or kept without their weights."""

from __future__ import annotations

import argparse
from pathlib import Path

from pipeline.artifacts import slices
from pipeline.artifacts.store import existing
from pipeline.study.config import Config
from pipeline.study.graph import Graph
from pipeline.study.settled import wanted
from pipeline.study.state import resolve

EXAMPLE = "pack docs/evidence/cifar10-small/runs --light --study cifar10-small"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="where to; the runs that it holds stay in it")
    parser.add_argument(
        "targets", nargs="*", default=["all"], help="as given to snakemake (default: all)"
    )
    parser.add_argument(
        "--light",
        action="store_true",
        help="what was set and measured alone: enough for tables, figures and evidence --from, "
        "nothing to go on from",
    )


def run(config: Config, arguments: argparse.Namespace) -> None:
    graph, folder = Graph(config), arguments.folder
    runs = resolve(config, arguments.targets).closure(graph)
    asked = wanted(graph, runs, light=arguments.light)
    taken = slices.take_over(folder, [existing(config.results)], asked, lambda names: None)
    held = sum(slices.holds(folder, run) for run in asked)
    print(f"{folder}: {taken.whole} runs added; it holds {held} of {len(asked)}")
