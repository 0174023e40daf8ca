"""Check study, data and device, and with --results every artifact; one line per problem, status 1."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from pipeline.artifacts import keys
from pipeline.artifacts.keys import Run
from pipeline.artifacts.store import PROVENANCE, digest, file_digest, mend, read_json
from pipeline.catalog import datasets as catalog
from pipeline.errors import UserError
from pipeline.stages.job import LOCK
from pipeline.study.config import Config
from pipeline.study.graph import Graph

EXAMPLE = "check --study paper --results"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--results",
        action="store_true",
        help="verify every artifact against its digest and parents, and tables against their runs",
    )


def problems(config: Config, results: bool) -> Iterator[str]:
    """One line per problem; reading the study itself has raised for its own mistakes before."""
    graph = Graph(config)
    regular = [name for name, output in config.outputs.items() if not output.optional]
    wanted = {run.home.dataset for run in graph.closure(graph.outputs(regular))}
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
        yield from wrong_tables(config)


def damaged(results: Path) -> Iterator[str]:
    """Artifacts that differ from what was recorded when they were written, or from their parents'.

    One line each: the file, what is wrong, and the command that mends it.
    """
    recorded = set()
    for record in sorted(results.rglob(PROVENANCE)):
        folder = record.parent
        recorded.add(folder)
        run = _run_of(folder.relative_to(results))
        try:
            found = read_json(record)
            files, parents = dict(found["files"]), dict(found["parents"])
            settings = found["settings"]
            named = settings["stage"], settings["run"]
            true_to_itself = digest(settings) == found["digest"]
            rest = {key: value for key, value in found.items() if key != "record"}
            if found.get("record", digest(rest)) != digest(rest):  # older records have none
                raise ValueError
        except (UserError, KeyError, TypeError, ValueError):
            yield f"{record}: damaged; {mend(record)}"
            continue
        if run is not None and not (named == (run.stage, run.key) and true_to_itself):
            yield f"{record}: of another run, {'/'.join(map(str, named))}; {mend(record)}"
            continue
        known = keys.OUTPUTS[run.stage] if run else ()
        for name in sorted({*files, *known}):
            path = folder / name
            if not path.exists():
                if (folder / LOCK).exists():
                    continue  # a job is making it again
                yield f"{path}: missing; {mend(path)}"
            elif name not in files:
                yield f"{path}: not recorded in {PROVENANCE}; {mend(path)}"
            elif file_digest(path) != files[name]:
                yield f"{path}: content changed since it was written; {mend(path)}"
        for name, written in parents.items():
            source = results / name
            if _recorded(source) not in (None, written):
                yield f"{folder}: was made from another version of {source}; {mend(record)}"
    for stage, names in keys.OUTPUTS.items():
        for path in sorted((results / stage).rglob(names[0])):
            folder = path.parent
            unfinished = (folder / LOCK).exists()
            if folder in recorded or unfinished or _run_of(folder.relative_to(results)) is None:
                continue
            yield f"{path}: has no {PROVENANCE} beside it; {mend(path)}"


def wrong_tables(config: Config) -> Iterator[str]:
    """Tables of the study that are there and are not what their runs give."""
    from pipeline.report import build as show
    from pipeline.report import tables

    formats = {
        "csv": tables.to_csv, "html": tables.to_html, "md": tables.to_markdown,
        "tex": tables.to_latex,
    }  # fmt: skip
    for name, output in config.outputs.items():
        stem = config.results / config.scope / "tables" / name
        paths = {suffix: stem.with_name(f"{name}.{suffix}") for suffix in formats}
        there = {suffix: path for suffix, path in paths.items() if path.exists()}
        if output.what == "figure" or not there:
            continue
        try:
            table = show.table(config, name)
        except UserError as error:
            yield f"{stem}: cannot be made of its runs: {error}"
            continue
        asked = f"snakemake -c1 {name} --config study={config.main.study} protocol={config.main.protocol}"
        for suffix, path in there.items():
            if path.read_bytes() != formats[suffix](table).encode():
                yield f"{path}: not what its runs give; make it again: rm '{path}' && {asked}"


def _run_of(folder: Path) -> Run | None:
    """The run of a folder below the results, if it is one's."""
    stage, _, key = folder.as_posix().partition("/")
    try:
        return keys.parse(stage, key)
    except UserError:
        return None


def _recorded(path: Path) -> str | None:
    """Digest that a file's folder has on record; None where nothing is."""
    try:
        files = read_json(path.parent / PROVENANCE)["files"]
        return files.get(path.name) if isinstance(files, dict) else None
    except (UserError, KeyError, TypeError):
        return None


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
