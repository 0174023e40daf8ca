"""List, with sizes, the runs that no study file under any protocol needs; with --delete, remove them."""

from __future__ import annotations

import argparse
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from pipeline.artifacts.record import PROVENANCE
from pipeline.artifacts.reservation import Reservation
from pipeline.artifacts.store import writing
from pipeline.commands.plan import size
from pipeline.errors import UserError
from pipeline.runs import STAGES, Run, parse
from pipeline.study.config import Config, read
from pipeline.study.graph import Graph

EXAMPLE = "gc"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--delete", action="store_true", help="remove what is listed")


def needed(root: Path) -> set[str]:
    """The folders of all runs behind every experiment and output of every study, any protocol.

    Raises:
        UserError: a study cannot be read: what it needs is not known.
    """
    found: set[str] = set()
    for path in sorted((root / "config" / "studies").glob("*.yaml")):
        protocols = list(read(root, {"study": path.stem, "protocol": "paper"}).recipes.protocols)
        for protocol in protocols:
            graph = Graph(read(root, {"study": path.stem, "protocol": protocol}))
            config = graph.config
            cells = [cell.run for one in config.experiments.values() for cell in one.cells()]
            runs: list[Run] = [*cells, *graph.outputs(config.outputs)]
            found |= {run.folder for run in graph.closure(runs)}
    return found


def there(results: Path) -> Iterator[str]:
    """The folders below the results that are a run's, finished or not."""
    for stage in STAGES:
        for path in sorted((results / stage).rglob("*")):
            folder = path.parent.relative_to(results).as_posix()
            own = path.name == PROVENANCE or path.name in STAGES[stage].files
            if own or re.fullmatch(r"\..*\.safetensors", path.name):
                try:
                    yield parse(stage, folder.partition("/")[2]).folder
                except UserError:
                    continue  # of nobody's: not ours to remove


def run(config: Config, arguments: argparse.Namespace) -> None:
    kept = needed(Path.cwd())
    folders = [folder for folder in dict.fromkeys(there(config.results)) if folder not in kept]
    total = 0
    for folder in folders:
        own = _bytes(config.results / folder)
        total += own
        print(f"{size(own):>8}  {config.results}/{folder}")
    text = f"{len(folders)} runs, {size(total)}, that no study needs"
    if not arguments.delete:
        print(f"{text}; remove them: --delete" if folders else text)
        return
    reservation = Reservation(config.results)
    with writing(config.results):
        names = {f"{f}/{name}" for f in folders for name in STAGES[f.partition("/")[0]].files}
        reservation.take(set(), names)
        try:
            for folder in folders:
                _remove(config.results, folder)
        finally:
            reservation.give_back()
    print(f"{text}: removed")


def _files(folder: Path) -> list[Path]:
    """The files of a run itself: a folder may hold those of other runs below it."""
    return [path for path in folder.iterdir() if path.is_file()]


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in _files(folder))


def _remove(results: Path, folder: str) -> None:
    """Remove a run, its log and its benchmark, and the folders that are then empty."""
    for path in _files(results / folder):
        path.unlink()
    beside = [results / "logs" / f"{folder}.log", results / "benchmarks" / f"{folder}.tsv"]
    for path in beside:
        path.unlink(missing_ok=True)
    shutil.rmtree(results / "tensorboard" / folder, ignore_errors=True)
    for place in (results / folder, *(path.parent for path in beside)):
        while place != results and place.is_dir() and not any(place.iterdir()):
            place.rmdir()
            place = place.parent
