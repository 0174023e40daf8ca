"""Put the finished runs behind targets into a folder or an archive, to be sent; or kept, without weights."""

from __future__ import annotations

import argparse
from pathlib import Path

from pipeline.artifacts import archive, slices
from pipeline.artifacts.store import existing
from pipeline.errors import UserError
from pipeline.study.config import Config
from pipeline.study.exchange import finished
from pipeline.study.graph import Graph
from pipeline.study.settled import wanted
from pipeline.study.state import resolve

EXAMPLE = "pack docs/evidence/cifar10-small/runs --light --study cifar10-small"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "place",
        type=Path,
        help=f"where to: a folder, the runs that it holds stay in it; or an archive, NAME{archive.SUFFIX}",
    )
    parser.add_argument(
        "targets", nargs="*", default=["all"], help="as given to snakemake (default: all)"
    )
    parser.add_argument(
        "--light",
        action="store_true",
        help="what was set and measured alone: enough for what needs no logits and evidence --from, "
        "nothing to go on from",
    )


def run(config: Config, arguments: argparse.Namespace) -> None:
    place, results = arguments.place, config.results
    if place.suffix == archive.SUFFIX:
        if arguments.light:
            raise UserError(f"{place}: an archive has its runs whole; --light is for a folder")
        held, asked = finished(config, arguments.targets)
        archive.write(place, results, held)
        print(f"{place}: it holds {len(held)} of {asked} runs")
        return
    graph = Graph(config)
    runs = wanted(graph, resolve(config, arguments.targets).closure(graph), light=arguments.light)
    taken = slices.take_over(place, [existing(results)], runs, lambda names: None)
    there = sum(slices.holds(place, run) for run in runs)
    print(f"{place}: {taken.whole} runs added; it holds {there} of {len(runs)}")
