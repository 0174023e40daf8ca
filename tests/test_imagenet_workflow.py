"""The jobs of ImageNet, end to end and for real: ResNet50 on drawn pictures, two gloo processes."""

from __future__ import annotations

import csv
import json
import subprocess
from pathlib import Path
from typing import Any

import forks
import pytest
import yaml
from micro import copy_workflow, environment
from pictures import folder

pytestmark = pytest.mark.workflow

ENTRY = {
    "kind": "image_folder", "path": "pictures", "classes": 6, "size": 32, "train_images": 48,
    "test_images": 18, "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "flip": True,
}  # fmt: skip
BATCH = {"lr": 0.02, "batch_size": 16, "micro_batch": 8}
RECIPES: dict[str, dict[str, Any]] = {
    "dense": {"drawn": {**BATCH, "epochs": 2, "trunk": [0, 1]}},
    "imp": {"drawn": {**BATCH, "epochs": 1, "rounds_per_block": 1}},
    "match": {"drawn": {"images": 32, "batch_size": 16}},
    "sparse": {"drawn": BATCH},
    "connectivity": {"drawn": {"points": 3, "images": 32, "batch_size": 16}},
}
STUDY = {
    "experiments": {
        "drawn": {
            "dataset": "pictures", "model": "resnet50", "width": 0.125, "sparsities": [0.3],
            "rewind_epochs": [1], "pairs": [[0, 1]], "methods": ["permuted"],
            **dict.fromkeys(RECIPES, "drawn"),
        }
    },
    "outputs": {
        "table_drawn": {
            "kind": "rewind-grid", "experiments": ["drawn"], "metrics": ["top1", "top5"],
        },
        "figure_line": {"kind": "interpolation", "experiments": ["drawn"]},
        "figure_top5": {
            "kind": "accuracy-vs-rewind", "experiments": ["drawn"], "metrics": ["top5"],
        },
    },
}  # fmt: skip


def workflow(place: Path, *words: str, processes: int = 2) -> subprocess.CompletedProcess[str]:
    """Run snakemake as a user would, with the pictures below DATA_ROOT."""
    options = ("study=drawn", f"processes={processes}", "device=cpu")
    return forks.called(
        "snakemake", *words, "-c2", "--config", *options, folder=place,
        environment=environment(DATA_ROOT=str(place / "photographs")),
    )  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("imagenet")
    copy_workflow(place)
    folder(place / "photographs" / "pictures", classes=6, train=8, test=3)
    recipes = yaml.safe_load((place / "config/recipes.yaml").read_text())
    for kind, entries in RECIPES.items():
        recipes[kind] |= entries
    for name, content in (
        ("recipes", recipes), ("datasets", {"pictures": ENTRY}), ("studies/drawn", STUDY),
    ):  # fmt: skip
        (place / f"config/{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    done = workflow(place, "tables", "figures")
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return place


def metrics(place: Path, stage: str) -> list[dict[str, Any]]:
    return [
        json.loads(path.read_text())
        for path in sorted((place / "results" / stage).rglob("metrics.json"))
    ]


def test_every_stage_has_run(place: Path) -> None:
    counts = {s: len(metrics(place, s)) for s in ("dense", "imp", "match", "sparse", "curve")}
    assert counts == {"dense": 2, "imp": 1, "match": 1, "sparse": 1, "curve": 1}
    for stage in counts:
        assert all(found["status"] == "ok" for found in metrics(place, stage)), stage


def test_the_data_are_named_by_their_files(place: Path) -> None:
    facts = json.loads((place / "results/data/pictures/facts.json").read_text())
    assert facts["kind"] == "image_folder" and facts["test_images"] == 18
    assert set(facts["sha256"]) == {"train_files", "train_labels", "test_files", "test_labels"}


def test_matching_has_seen_its_subset_and_every_group(place: Path) -> None:
    (match,) = metrics(place, "match")
    assert match["images"] == 32 and len(match["groups"]) == 37


def test_table_and_figures_hold_what_was_measured(place: Path) -> None:
    with (place / "results/drawn/tables/table_drawn.csv").open() as file:
        rows = list(csv.DictReader(file))
    for metric, key in (("top1", "test_accuracy"), ("top5", "test_top5")):
        cells = {row["method"]: float(row["mean"]) for row in rows if row["metric"] == metric}
        assert set(cells) == {"dense", "permuted"}
        (measured,) = (found[key] for found in metrics(place, "sparse"))
        assert cells["permuted"] == pytest.approx(measured)
    for name in ("figure_line", "figure_top5"):
        for end in ("png", "pdf", "csv"):
            assert (place / f"results/drawn/figures/{name}.{end}").stat().st_size > 100


def test_a_second_run_has_nothing_to_do(place: Path) -> None:
    """Another number of processes is a matter of execution."""
    done = workflow(place, "tables", "figures", "-n", processes=1)
    assert "Nothing to be done" in done.stdout + done.stderr
