"""The Python of the how-to pages, run as it stands by a reader in a copy of the repository."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from how_to.run import edited
from micro import copy_workflow, environment, on_few_images
from small import REPOSITORY
from test_docs import blocks

from pipeline import stages
from pipeline.stages.data import write_facts
from pipeline.study.config import read
from pipeline.study.graph import Graph
from pipeline.study.state import run_of

HOW_TO = REPOSITORY / "docs/how-to"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    copy_workflow(tmp_path / "copy")
    return tmp_path / "copy"


def follow(copy: Path, *words: str, **variables: str) -> str:
    """What a command says in the copy, with these variables in its environment."""
    done = subprocess.run(
        [sys.executable, *words], cwd=copy, env=environment() | variables, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_arrays_of_the_page_on_data_sets_are_written_declared_and_read(copy: Path) -> None:
    """Below a DATA_ROOT that is not there yet; the entry has the mean and std that are printed."""
    page = (HOW_TO / "data-set.md").read_text()
    data = {"DATA_ROOT": str(copy.parent / "not" / "there")}
    printed = follow(copy, "-c", blocks(page, "python")[0], **data)
    entry = blocks(page, "yaml")[0]
    declared = copy / "config/datasets.yaml"
    declared.write_text(edited(declared.read_text(), "yaml", entry.partition("\n")[2]))
    for name, value in zip(("mean", "std"), printed.split(), strict=True):
        assert f"{name}: [{float(value):.4f}]" in entry
    told = follow(copy, "-m", "pipeline", "data", "digits-shuffled", **data)
    assert "digits-shuffled" in told


def test_the_python_of_the_page_on_results_runs_on_the_demo(copy: Path) -> None:
    """On the runs that it names, of few images; of the others the frame says that they are missing."""
    torch.set_num_threads(1)
    on_few_images(copy, 128, "dense-digits", "imp-ft-digits", "sparse-digits")
    config = read(copy, {"study": "demo", "results": str(copy / "results"), "device": "cpu"})
    graph = Graph(config)
    write_facts(config, "digits")
    base = "digits/resnet20-w0.5"
    cell = "imp-ft-digits/permuted.activations/S0.95/k1-e15/sparse-digits/a0-b1"
    assert cell in (HOW_TO / "results.md").read_text()
    for run in graph.closure([run_of(config, f"sparse/{base}/dense-digits/{cell}")]):
        stages.run(config, run.stage, run.key)
    for block in blocks((HOW_TO / "results.md").read_text(), "python"):
        follow(copy, "-c", block)
