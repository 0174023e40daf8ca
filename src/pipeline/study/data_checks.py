"""The check of a data set: the job that comes before all others, and what it needs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from pipeline import snakemake_internals
from pipeline.catalog import datasets
from pipeline.errors import UserError
from pipeline.runs import Run
from pipeline.study.config import Config
from pipeline.study.graph import Graph


def facts(graph: Graph, run: Run) -> str:
    """The file that says that a run's data set was checked.

    Raises:
        UserError: the run, asked for by its path, cannot be made.
    """
    graph.check(run)
    return f"{graph.config.main.results}/data/{run.home.dataset}/facts.json"


def files(config: Config, dataset: str, dry: bool) -> list[str]:
    """Make sure that a data set can be read before any job starts.

    What torchvision can download is downloaded here. Nothing is looked at in a dry run, or once
    the data set was checked. Returns what a rule has to make first.

    Raises:
        UserError: missing or damaged; one line with where, what and how.
    """
    info = config.datasets.get(dataset)
    if info is None:
        raise UserError(f"unknown data set {dataset!r}")
    turned = f"{config.main.results}/data/digits-turned.npz"
    made = [turned for path, _, _ in info.files if Path(path) == Path(turned).resolve()]
    if dry or made or Path(f"{config.main.results}/data/{dataset}/facts.json").exists():
        return made
    problem = datasets.status(info, config.data_root)
    if problem and info.kind == "torchvision":
        command = [sys.executable, "-m", "pipeline", "data", dataset]
        subprocess.run(command, check=False, stdout=sys.stderr)
        problem = datasets.status(info, config.data_root)
    if problem:
        raise UserError(problem)
    return []


def settle(results: str) -> None:
    """Take Snakemake's mark of an unfinished job from checks that are there.

    A check is written in one piece, so what is there is whole. Snakemake would run the marked job
    again and, since nothing depends on its time, none of the jobs after it.
    """
    there = [
        f"{results}/data/{f.parent.name}/facts.json"
        for f in Path(results).glob("data/*/facts.json")
    ]
    snakemake_internals.forget(there, "incomplete")
