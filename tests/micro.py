"""The workflow on a study of a minute, as a user runs it, and its results to be copied."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import chdir
from functools import cache
from pathlib import Path
from typing import Any, Self

import forks
import pytest
import yaml
from small import REPOSITORY

from pipeline.machine import warm
from pipeline.study.call import SCRIPT

PARTS = ("Snakefile", "config.yaml", "config", "workflow", "profiles", "environment.yml")
STUDY: dict[str, Any] = {
    "experiments": {
        "one": {
            "dataset": "digits", "width": 0.25, "dense": "dense-micro", "imp": "imp-micro",
            "sparse": "sparse-micro", "sparsities": [0.3], "rewind_epochs": [1], "pairs": [[0, 1]],
        },
        "two": {
            "dataset": "digits", "width": 0.25, "dense": "dense-micro", "imp": "imp-micro",
            "sparse": "sparse-other", "sparsities": [0.3], "rewind_epochs": [1], "pairs": [[0, 1]],
            "methods": ["naive"],
        },
    },
    "outputs": {
        "table_one": {"kind": "rewind-grid", "experiments": ["one"]},
        "table_two": {"kind": "rewind-grid", "experiments": ["two"]},
    },
}  # fmt: skip
RECIPES: dict[str, dict[str, Any]] = {
    "dense": {"dense-micro": {"epochs": 3, "trunk": [0, 1]}},
    "imp": {"imp-micro": {"epochs": 1, "rounds_per_block": 4}},
    "sparse": {"sparse-micro": {"lr": 0.02}, "sparse-other": {"lr": 0.03, "momentum": 0.5}},
}
CELL = (
    "sparse/digits/resnet20-w0.25/dense-micro/imp-micro/permuted.activations/S0.30/k1-e2/"
    "sparse-micro/a0-b1"
)
#: Where a shared checkout says which jobs ran.
_JOBS = "jobs.json"


def copy_workflow(folder: Path) -> None:
    """Put what a user runs the workflow from into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        source = REPOSITORY / part
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, folder / part)


def on_few_images(folder: Path, images: int, *names: str) -> None:
    """Let the trainings of these recipes see so many images only, in a copy of the workflow."""
    path = folder / "config/recipes.yaml"
    recipes = yaml.safe_load(path.read_text())
    for kind in ("dense", "imp", "sparse"):
        for name in recipes[kind].keys() & set(names):
            recipes[kind][name]["images"] = images
    path.write_text(yaml.safe_dump(recipes, sort_keys=False))


def environment(**more: str) -> dict[str, str]:
    """Variables of a user's shell in which the environment of these tests is active."""
    ours = ("PIPELINE_", "SNAKEMAKE", "PYTEST_")
    found = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    found["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{found['PATH']}"
    return found | more


@cache
def served() -> dict[str, str]:
    """The same, with a warm server for all workflows of these tests, in place of one for each."""
    asked = ("AWS_REQUEST_CHECKSUM_CALCULATION", "AWS_RESPONSE_CHECKSUM_VALIDATION")
    # As Snakemake has it for its jobs: UTF-8, and what its plugin for S3 sets.
    variables = environment(PYTHONUTF8="1", **dict.fromkeys(asked, "when_required"))
    with pytest.MonkeyPatch.context() as patch, chdir(REPOSITORY):
        for name in os.environ.keys() - variables.keys():
            patch.delenv(name)
        for name, value in variables.items():
            patch.setenv(name, value)
        _kept.append(warm.Server(SCRIPT))
        return dict(os.environ)


_kept: list[warm.Server] = []


class Checkout:
    """A copy of the workflow with a study of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        copy_workflow(folder)
        recipes = yaml.safe_load((folder / "config/recipes.yaml").read_text())
        for kind, entries in RECIPES.items():
            recipes[kind] |= entries
        self.write("config/recipes.yaml", recipes)
        self.study(STUDY)

    @classmethod
    def at(cls, folder: Path) -> Self:
        """The checkout that is in a folder."""
        found = cls.__new__(cls)
        found.folder = folder
        return found

    def copy(self, folder: Path) -> Self:
        """The same with its results, times and all that Snakemake remembers, in another folder."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return self.at(folder)

    def tried(self, other: Checkout) -> Self:
        """The same, its networks being those that another one has tried."""
        shutil.copytree(other.folder / "results/trials", self.folder / "results/trials")
        return self

    def write(self, name: str, content: object) -> None:
        (self.folder / name).write_text(yaml.safe_dump(content, sort_keys=False))

    def study(self, content: object) -> None:
        self.write("config/studies/micro.yaml", content)

    def snakemake(
        self, *words: str, study: str = "micro", alone: bool = False
    ) -> subprocess.CompletedProcess[str]:
        """Run snakemake as a user would; output as text. ``alone``: with a server of its own."""
        return forks.called(
            "snakemake", *words, "-c2", "--config", f"study={study}", folder=self.folder,
            environment=environment() if alone else served(),
        )  # fmt: skip

    def pipeline(self, *words: str) -> subprocess.CompletedProcess[str]:
        """What ``python -m pipeline`` says to a user, and how it ends."""
        return forks.called("pipeline", *words, folder=self.folder, environment=environment())

    def run(self, *targets: str, alone: bool = False) -> dict[str, int]:
        """Run targets; the jobs that ran, by rule."""
        done = self.snakemake(*targets, alone=alone)
        assert done.returncode == 0, done.stdout + done.stderr
        logs = (self.folder / ".snakemake" / "log").glob("*.snakemake.log")
        return jobs(max(logs, key=lambda path: path.stat().st_mtime_ns).read_text())

    def plan(self, *targets: str) -> dict[str, int]:
        """What would run, by rule, as a dry run says."""
        done = self.snakemake("-n", *targets)
        assert done.returncode == 0, done.stdout + done.stderr
        return jobs(done.stdout + done.stderr)

    def finish(self) -> None:
        """Run one cell, then everything, and note the jobs of both."""
        ran = [self.run(f"results/{CELL}/metrics.json", alone=True), self.run("tables")]
        (self.folder / _JOBS).write_text(json.dumps(ran))

    def ran(self) -> list[dict[str, int]]:
        """The jobs of the one cell, and those of everything else."""
        found: list[dict[str, int]] = json.loads((self.folder / _JOBS).read_text())
        return found


def jobs(text: str) -> dict[str, int]:
    """Snakemake's own job statistics, without targets; empty where there is nothing to be done."""
    if "Nothing to be done" in text:
        return {}
    table = text[text.index("Job stats:") :]
    found = {rule: int(n) for rule, n in re.findall(r"^(\w+) +(\d+)$", table, re.MULTILINE)}
    found.pop("total")
    return {
        rule: n for rule, n in found.items() if not rule.startswith("table_") and rule != "tables"
    }
