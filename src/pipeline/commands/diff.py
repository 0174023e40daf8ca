"""Compare two runs: their settings, their ancestors, their numbers, and where they were made."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.artifacts.record import facts_of, record_of
from pipeline.artifacts.store import read_json
from pipeline.commands.show import refuse_damaged
from pipeline.runs import Run
from pipeline.study.config import Config
from pipeline.study.graph import Graph
from pipeline.study.state import States, differences, run_of

EXAMPLE = (
    "diff results/dense/digits/resnet20-w0.5/dense-digits/seed0 "
    "results/dense/digits/resnet20-w0.5/dense-digits/seed1"
)
#: What says where and with what a run was made.
FACTS = ("code", "device", "finished", "host", "python", "seconds", "train_seconds", "versions")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("first", help="the path of a run's folder or of a file in it")
    parser.add_argument("second", help="that of another")


def run(config: Config, arguments: argparse.Namespace) -> None:
    graph = Graph(config)
    states = States(graph)
    pair = [run_of(config, path) for path in (arguments.first, arguments.second)]
    for each in pair:
        refuse_damaged(config, each)
    for name, each in zip("ab", pair, strict=True):
        print(f"{name} {config.results}/{each.folder}: {states.why(each)}")
    for title, lines in (
        ("settings", _settings(graph, *pair)),
        ("ancestors", _ancestors(graph, *pair)),
        ("numbers", _numbers(*(_metrics(config, each) for each in pair))),
        ("made", _facts(*(facts_of(config.results / each.folder) for each in pair))),
    ):
        print(title)
        for line in list(lines) or ["the same"]:
            print(f"  {line}")


def _settings(graph: Graph, *pair: Run) -> Iterator[str]:
    """With which they were made; of one that is not there, with which it would be."""
    found: list[dict[str, Any]] = []
    for each in pair:
        record = record_of(graph.config.results / each.folder)
        settings = record.settings if record else graph.settings(each)
        found.append({k: v for k, v in settings.items() if k not in ("parents", "run")})
    first, second = found
    yield from differences(first, second, ("a", "b"))


def _ancestors(graph: Graph, *pair: Run) -> Iterator[str]:
    """Runs that only one of the two rests on."""
    first, second = (graph.closure([each])[:-1] for each in pair)
    yield from (f"a {each.folder}" for each in first if each not in set(second))
    yield from (f"b {each.folder}" for each in second if each not in set(first))


def _metrics(config: Config, run: Run) -> Mapping[str, Any]:
    path = config.results / run.path("metrics.json")
    found: dict[str, Any] = read_json(path) if path.exists() else {}
    return {key: value for key, value in found.items() if key not in ("settings", "digest")}


def _numbers(first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[str]:
    """A line per measured value that differs, numbers with their difference."""
    for key in sorted({*first, *second}):
        a, b = first.get(key), second.get(key)
        if a == b:
            continue
        text = f"{key}: a {_shown(a)}, b {_shown(b)}"
        if isinstance(a, int | float) and isinstance(b, int | float):
            text += f", b - a = {b - a:+.6g}"
        yield text


def _facts(first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[str]:
    parts = [{key: one.get(key) for key in FACTS} for one in (first, second)]
    for key in FACTS:
        a, b = (part[key] for part in parts)
        if a != b:
            yield f"{key}: a {_shown(a)}, b {_shown(b)}"


def _shown(value: Any) -> str:
    return "missing" if value is None else json.dumps(value)[:100]
