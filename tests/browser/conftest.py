"""The study whose report the tests open, with the runs behind it and all that is made of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from micro import Checkout

from pipeline import stages
from pipeline.stages.data import write_facts
from pipeline.study.config import read
from pipeline.study.graph import Graph

STUDY = {
    "title": "A study of a minute & its report",
    "experiments": {
        "one": {
            "dataset": "digits", "width": 0.25, "dense": "dense-micro", "imp": "imp-micro",
            "sparse": "sparse-micro", "connectivity": "line-micro", "sparsities": [0.3],
            "rewind_epochs": [1], "pairs": [[0, 1]],
        },
    },
    "outputs": {
        "table_5": {
            "kind": "rewind-grid", "title": "A grid", "experiments": ["one"], "published": "5",
            "note": "A note below.",
        },
        "table_12": {"kind": "hyperparameters", "title": "Recipes", "experiments": ["one"]},
        "table_differences": {
            "kind": "paired-difference", "title": "Differences", "experiments": ["one"],
        },
        "figure_3": {"kind": "interpolation", "title": "A line", "experiments": ["one"]},
        "figure_training": {
            "kind": "training-curves", "title": "Training", "experiments": ["one"],
            "sparsity": 0.3, "rewind_epoch": 1,
        },
        "figure_masks": {"kind": "mask-sparsity", "title": "The same", "experiments": ["one"]},
        "figure_matching": {
            "kind": "matching-quality", "title": "The same", "experiments": ["one"],
        },
        "figure_wide": {
            "kind": "accuracy-vs-rewind", "title": "Not asked for", "experiments": ["one"],
            "optional": True,
        },
        "claims": {"kind": "claims", "title": "Claims", "outputs": ["table_5", "figure_3"]},
    },
}  # fmt: skip


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout with the runs of the study above, and all that Snakemake makes of them."""
    own = Checkout(tmp_path_factory.mktemp("report") / "checkout")
    recipes = yaml.safe_load((own.folder / "config/recipes.yaml").read_text())
    recipes["connectivity"]["line-micro"] = {"points": 3, "images": 256}
    own.write("config/recipes.yaml", recipes)
    own.study(STUDY)
    # Trained here and not by Snakemake, which starts a process for every run.
    torch.set_num_threads(1)
    results = str(own.folder / "results")
    config = read(own.folder, {"study": "micro", "results": results, "device": "cpu"})
    graph = Graph(config)
    write_facts(config, "digits")
    for run in graph.closure(graph.outputs(config.outputs)):
        stages.run(config, run.stage, run.key)
    own.steps = own.run("report")
    return own


@pytest.fixture(scope="session")
def results(checkout: Checkout) -> Path:
    return checkout.folder / "results/micro"
