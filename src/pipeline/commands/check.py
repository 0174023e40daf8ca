"""Check study, data and device, and with --results every artifact; one line per problem, status 1."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from pipeline.artifacts.store import PROVENANCE, file_digest, read_json
from pipeline.data import catalog
from pipeline.errors import UserError
from pipeline.study.config import Config
from pipeline.study.graph import Graph

EXAMPLE = "check --study paper --results"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--results", action="store_true", help="verify every artifact against its digest"
    )


def problems(config: Config, results: bool) -> Iterator[str]:
    """One line per problem; reading the study itself has raised for its own mistakes before."""
    graph = Graph(config)
    regular = [name for name, output in config.outputs.items() if not output.optional]
    wanted = {graph.dataset(run) for run in graph.closure(graph.outputs(regular))}
    for name in sorted(wanted):
        info = config.datasets[name]
        generated = any(path.startswith(str(config.results.resolve())) for path, _, _ in info.files)
        problem = None if generated else catalog.status(info, config.data_root)
        if problem:
            yield problem
    if config.main.device == "cuda":
        import torch

        if not torch.cuda.is_available():
            yield "config.yaml: device: cuda, but no GPU can be used here"
    if results:
        yield from damaged(config.results)


def damaged(results: Path) -> Iterator[str]:
    """Artifacts that differ from what was recorded when they were written, or from their parents'."""
    for record in sorted(results.rglob(PROVENANCE)):
        folder = record.parent
        try:
            found = read_json(record)
            files, parents = dict(found["files"]), dict(found["parents"])
        except (UserError, KeyError, TypeError, ValueError):
            yield f"{record}: damaged; delete the folder and ask for the run again"
            continue
        for name, digest in files.items():
            path = folder / name
            if not path.exists():
                yield f"{path}: missing"
            elif file_digest(path) != digest:
                yield f"{path}: content changed since it was written"
        for name, digest in parents.items():
            source = results / name
            known = source.parent / PROVENANCE
            if known.exists() and read_json(known)["files"].get(source.name) != digest:
                yield f"{folder}: was made from another version of {source}"


def run(config: Config, arguments: argparse.Namespace) -> int:
    """Print the problems, or that there are none."""
    found = 0
    for problem in problems(config, arguments.results):
        print(problem, file=sys.stderr)
        found += 1
    if found:
        return 1
    names = f"{len(config.experiments)} experiments, {len(config.outputs)} outputs"
    print(
        f"study {config.main.study}, protocol {config.main.protocol}: {names}, data and device are fine"
    )
    return 0
