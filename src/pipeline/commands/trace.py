"""Follow a number back to its runs, settings, seeds, code and machine, or a run forward to its uses."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.artifacts.record import record_of
from pipeline.catalog.schema import suggest
from pipeline.errors import UserError
from pipeline.runs import Run
from pipeline.study.config import Config
from pipeline.study.graph import Graph
from pipeline.study.state import States, run_of

EXAMPLE = "trace results/demo/tables/table_digits_half.csv --cell sparsity=0.97 method=naive"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", help="a table's file, or the path of a run")
    parser.add_argument(
        "--cell", nargs="+", default=[], metavar="KEY=VALUE", help="columns of the table's CSV"
    )
    parser.add_argument(
        "--forward", action="store_true", help="what uses a run, not where it is from"
    )


def run(config: Config, arguments: argparse.Namespace) -> None:
    name = Path(arguments.what).name.split(".")[0]
    if name in config.outputs:
        lines = backward(config, name, chosen(arguments.cell))
    else:
        wanted = run_of(config, arguments.what)
        lines = forward(config, wanted) if arguments.forward else ancestors(config, wanted, "")
    for line in lines:
        print(line)


def chosen(words: list[str]) -> dict[str, str]:
    """``key=value`` words as a mapping."""
    found = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise UserError(f"--cell: expected KEY=VALUE, got {word!r}")
        found[key] = value
    return found


def backward(config: Config, name: str, cell: dict[str, str]) -> Iterator[str]:
    """The runs behind the cells of a table that match ``cell``, each with its record."""
    from pipeline.results import Results

    output = config.outputs[name]
    frame = Results(config).runs(output.chosen(config.experiments))
    frame = frame[frame["kind"] == "sparse"]
    for key, value in cell.items():
        if key not in frame:
            raise UserError(f"--cell: {key!r} is no column; {suggest(key, list(frame.columns))}")
        values = sorted({str(found) for found in frame[key]})
        frame = frame[[_same(found, value) for found in frame[key]]]
        if frame.empty:
            raise UserError(f"--cell: no run of {name} has {key}={value}; {suggest(value, values)}")
    if frame.empty:
        raise UserError(f"{name}: shows no sparse runs")
    for row in frame.to_dict("records"):
        accuracy = row["test_accuracy"]
        number = row["status"] if accuracy is None or accuracy != accuracy else f"{accuracy:.2f} %"
        yield f"{number}  {config.results}/{row['path']}"
        yield from ancestors(config, run_of(config, row["path"]), "  ")


def _same(found: Any, wanted: str) -> bool:
    try:
        return abs(float(found) - float(wanted)) < 1e-9
    except (TypeError, ValueError):
        return str(found) == wanted


def ancestors(config: Config, wanted: Run, indent: str) -> Iterator[str]:
    """A run and its ancestors: state, settings' digest, code, machine, time."""
    graph = Graph(config)
    states = States(graph)
    for found in reversed(graph.closure([wanted])):
        yield f"{indent}{found.folder}: {states.why(found)}"
        if record := record_of(config.results / found.folder):
            keys = [key for key in ("code", "host", "device", "finished") if key in record.facts]
            facts = ", ".join(f"{key} {record.facts[key]}" for key in keys)
            recipe = ", ".join(f"{k}={v}" for k, v in record.settings.get("recipe", {}).items())
            yield f"{indent}  digest {record.digest}, {facts}"
            yield f"{indent}  settings other than the defaults: {recipe or 'none'}"


def forward(config: Config, wanted: Run) -> Iterator[str]:
    """The tables, figures and runs of the study that use a run."""
    graph = Graph(config)
    for name in config.outputs:
        shown = graph.outputs([name])
        closure = graph.closure(shown)
        if wanted not in set(closure):
            continue
        how = "shows it" if wanted in set(shown) else "rests on it"
        yield f"{name} {how}"
        users: set[Run] = {wanted}
        for found in closure:
            if users & set(graph.parents(found)):
                users.add(found)
        for found in closure:
            if found in users and found != wanted:
                yield f"  {config.results}/{found.folder}"
