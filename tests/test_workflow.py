"""The workflow itself, run for real on a study of a minute: what runs, and above all what does not."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import forks
import pytest
import yaml
from micro import CELL, STUDY, Checkout, environment

from pipeline.artifacts.store import temporary

pytestmark = pytest.mark.workflow


def without(steps: dict[str, int]) -> dict[str, int]:
    """Training and science only: no tables."""
    return {rule: n for rule, n in steps.items() if rule not in ("table", "comparison", "figure")}


def edited(**changes: object) -> dict:
    """The study with changes to experiment ``one``."""
    study = json.loads(json.dumps(STUDY))
    study["experiments"]["one"] |= changes
    return study


@pytest.fixture
def checkout(micro: Checkout, tmp_path: Path) -> Checkout:
    """A checkout in which one cell, then everything, was run."""
    return micro.copy(tmp_path / "checkout")


def test_one_cell_runs_itself_and_its_ancestors_only(micro: Checkout) -> None:
    assert micro.ran()[0] == {"data": 1, "dense": 2, "imp": 1, "mask": 1, "match": 1, "sparse": 1}
    metrics = json.loads((micro.folder / "results" / CELL / "metrics.json").read_text())
    assert metrics["status"] == "ok" and metrics["epochs"] == 2


def test_the_rest_runs_only_what_was_missing(micro: Checkout) -> None:
    # LTH and naive of experiment one, naive of experiment two, which shares everything else
    assert micro.ran()[1] == {"sparse": 3, "table": 2}


def test_a_second_run_does_nothing_and_says_so(checkout: Checkout) -> None:
    done = checkout.snakemake("tables")
    assert done.returncode == 0 and "Nothing to be done" in done.stdout + done.stderr


def test_comments_formats_touched_scripts_and_code_run_nothing_again(checkout: Checkout) -> None:
    recipes = checkout.folder / "config/recipes.yaml"
    recipes.write_text("# a comment\n" + recipes.read_text().replace("0.02", "0.020"))
    study = checkout.folder / "config/studies/micro.yaml"
    study.write_text("# another\n" + json.dumps(STUDY, indent=3))
    for script in (checkout.folder / "workflow").rglob("*.*"):
        os.utime(script)
    rule = checkout.folder / "workflow/rules/sparse.smk"
    rule.write_text(rule.read_text() + "\n# a comment\n")
    os.utime(checkout.folder / "Snakefile")
    assert checkout.plan("tables") == {}


def test_a_fresh_checkout_with_the_same_results_runs_nothing(
    checkout: Checkout, tmp_path: Path
) -> None:
    fresh = Checkout(tmp_path / "fresh")
    shutil.move(checkout.folder / "results", fresh.folder / "results")
    shutil.copytree(checkout.folder / ".snakemake", fresh.folder / ".snakemake")
    assert fresh.plan("tables") == {}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"sparsities": [0.3, 0.2]}, {"mask": 1, "sparse": 3}),
        ({"rewind_epochs": [1, 0]}, {"sparse": 3}),
        ({"rewind_epochs": [1, 2]}, {"snapshot": 2, "sparse": 3}),
        (
            {"pairs": [[0, 1], [2, 3]]},
            {"dense": 2, "imp": 1, "mask": 1, "match": 1, "sparse": 3},
        ),
        (
            {"methods": ["lth", "naive", "permuted", "random-permutation"]},
            {"match": 1, "sparse": 1},
        ),
    ],
    ids=["sparsity", "rewind-trunk", "rewind-between", "pair", "method"],
)  # fmt: skip
def test_an_addition_runs_what_is_new_and_nothing_else(
    checkout: Checkout, change: dict, expected: dict[str, int]
) -> None:
    checkout.study(edited(**change))
    found = checkout.plan("tables")
    assert without(found) == expected
    assert found["table"] == 1  # the table that grew, not the other


def test_an_added_sparsity_is_really_run_without_touching_what_exists(checkout: Checkout) -> None:
    results = checkout.folder / "results"
    before = {p: p.stat().st_mtime_ns for p in results.rglob("*.safetensors")}
    checkout.study(edited(sparsities=[0.3, 0.2]))
    assert without(checkout.run("tables")) == {"mask": 1, "sparse": 3}
    assert all(p.stat().st_mtime_ns == time for p, time in before.items())


def test_a_deleted_cell_runs_again_with_the_tables_that_hold_it(checkout: Checkout) -> None:
    path = checkout.folder / "results" / CELL / "metrics.json"
    before = path.read_bytes()
    path.unlink()
    assert checkout.run("tables") == {"sparse": 1, "table": 1}
    assert path.read_bytes() == before  # the same bits


def test_a_data_check_that_was_killed_at_its_end_hides_no_job(checkout: Checkout) -> None:
    """Snakemake, marking it unfinished, would run it again and skip everything after it."""
    name = base64.urlsafe_b64encode(b"results/data/digits/facts.json").decode()
    (checkout.folder / ".snakemake" / "incomplete" / name).write_text('{"external_jobid": null}')
    path = checkout.folder / "results" / CELL / "metrics.json"
    path.rename(path.with_suffix(".kept"))
    assert checkout.plan("tables") == {"sparse": 1, "table": 1}


def test_half_written_files_of_a_killed_workflow_are_cleared_by_the_next_start(
    checkout: Checkout,
) -> None:
    results = checkout.folder / "results"
    kept = results / "dense" / "digits" / ".resume.safetensors"  # not what a writer was at
    kept.write_text("x")
    left = [
        temporary(results / "micro" / "report.html", ".html"),
        temporary(results / "micro" / "tables" / "table_one.csv"),
        temporary((results / CELL) / "metrics.json"),
        temporary(results / ".progress" / "1.json"),
    ]
    for path in left:
        path.parent.mkdir(exist_ok=True)
        path.write_text("half")
    (results / "micro" / "tables" / "table_two.csv").unlink()
    assert checkout.run("tables") == {"table": 1}
    assert not any(path.exists() for path in left) and kept.exists()


def test_settings_of_one_experiment_run_nothing_of_another(checkout: Checkout) -> None:
    checkout.study(edited(sparse={"recipe": "sparse-micro", "lr": 0.05}))
    assert checkout.plan("table_two") == {}
    assert without(checkout.plan("tables")) == {"sparse": 3}


def test_two_swapped_values_are_noticed(checkout: Checkout) -> None:
    recipes = yaml.safe_load((checkout.folder / "config/recipes.yaml").read_text())
    recipes["sparse"]["sparse-other"] = {"lr": 0.5, "momentum": 0.03}
    checkout.write("config/recipes.yaml", recipes)
    assert checkout.plan("tables") == {"sparse": 1, "table": 1}


def planned(checkout: Checkout, *targets: str) -> dict[str, int]:
    """The jobs that ``pipeline plan`` counts, by rule."""
    found = json.loads(checkout.pipeline("plan", *targets, "--study", "micro", "--json").stdout)
    kinds = {kind.replace("-", "_"): part["jobs"] for kind, part in found["missing"].items()}
    return kinds | found["others"]


@pytest.mark.parametrize("change", [{}, {"sparsities": [0.3, 0.2], "rewind_epochs": [1, 2]}])
def test_plan_agrees_with_the_dry_run(checkout: Checkout, change: dict) -> None:
    checkout.study(edited(**change))
    assert planned(checkout, "tables") == checkout.plan("tables")


def dense(checkout: Checkout) -> Path:
    """The folder of dense run 0."""
    return next((checkout.folder / "results/dense").rglob("seed0"))


def touch(checkout: Checkout) -> None:
    """As if all that is large had just been written."""
    for path in (checkout.folder / "results").rglob("*.safetensors"):
        os.utime(path)


def copy_without_times(checkout: Checkout) -> None:
    """In the order of a copy, which is none: what was made first is the newest."""
    files = sorted(path for path in (checkout.folder / "results").rglob("*") if path.is_file())
    for moment, path in enumerate(sorted(files, key=lambda path: -path.stat().st_mtime_ns)):
        os.utime(path, ns=((moment + 1) * 10**9,) * 2)


def lose_logs_and_notes(checkout: Checkout) -> None:
    copy_without_times(checkout)
    shutil.rmtree(checkout.folder / "results/logs")
    (checkout.folder / ".snakemake/incomplete").mkdir(exist_ok=True)


def lose(name: str) -> Callable[[Checkout], None]:
    return lambda checkout: (dense(checkout) / name).unlink()


def caption(checkout: Checkout) -> None:
    study = edited()
    study["outputs"]["table_one"]["note"] = "Another caption."
    checkout.study(study)


def add_method(checkout: Checkout) -> None:
    recipes = yaml.safe_load((checkout.folder / "config/recipes.yaml").read_text())
    recipes["methods"]["another"] = {"init": "b", "label": "Another"}
    recipes["sparse"]["another"] = {"lr": 0.5}
    checkout.write("config/recipes.yaml", recipes)


EVERY = {"dense": 1, "imp": 1, "mask": 1, "match": 1, "sparse": 4, "table": 2}


@pytest.mark.parametrize(
    ("accident", "expected"),
    [
        (touch, {}),
        (copy_without_times, {}),
        (lose_logs_and_notes, {}),
        (lose("provenance.json"), EVERY),
        (lose("metrics.json"), EVERY),
        (caption, {"table": 1}),
        (add_method, {}),
    ],
)
def test_after_an_accident_plan_counts_what_runs_and_equal_content_does_not(
    checkout: Checkout, accident: Callable[[Checkout], None], expected: dict[str, int]
) -> None:
    accident(checkout)
    if expected:  # what `plan` counts is read off such a dry run
        assert planned(checkout, "tables") == expected
    assert checkout.plan("tables") == expected


def test_what_rests_on_a_run_that_is_made_again_the_same_does_not_train_again(
    checkout: Checkout,
) -> None:
    lose("metrics.json")(checkout)
    before = {p: p.read_bytes() for p in (checkout.folder / "results").rglob("provenance.json")}
    assert checkout.run("tables") == EVERY
    changed = {p.parent for p, content in before.items() if p.read_bytes() != content}
    assert changed == {dense(checkout)}
    assert checkout.plan("tables") == {}


def test_what_is_forced_trains_again(checkout: Checkout) -> None:
    path = f"results/{CELL}/metrics.json"
    record = checkout.folder / "results" / CELL / "provenance.json"
    before = record.read_bytes()
    assert checkout.run(path, "-f") == {"sparse": 1}
    assert record.read_bytes() != before


@pytest.mark.parametrize(
    ("study", "words"),
    [
        (edited(sparsities=[1.5]), ("experiments: one", "1.5", "(0, 1)")),
        (edited(sparsitys=[0.5]), ("unknown key 'sparsitys'", "sparsities")),
        (edited(rewind_epochs=[3]), ("rewind_epochs", "T = 3")),
        (edited(dataset="cifar11"), ("unknown data set 'cifar11'", "cifar10")),
    ],
    ids=["sparsity", "key", "epoch", "dataset"],
)
def test_bad_input_is_one_line_before_any_job(
    checkout: Checkout, study: dict, words: tuple
) -> None:
    checkout.study(study)
    done = checkout.snakemake("tables")
    text = done.stdout + done.stderr
    assert done.returncode == 1 and "Traceback" not in text
    lines = [line for line in text.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and all(word in lines[0] for word in words), text
    assert "Job stats" not in text


def test_missing_data_is_one_line_before_any_job(checkout: Checkout, tmp_path: Path) -> None:
    entry = {
        "kind": "npz", "path": str(tmp_path / "nothing.npz"), "classes": 10, "channels": 1, "size": 8,
        "train_images": 100, "test_images": 10, "mean": [0.5], "std": [0.5], "flip": False, "pad": 0,
    }  # fmt: skip
    checkout.write("config/datasets.yaml", {"mine": entry})
    checkout.study(edited(dataset="mine"))
    done = checkout.snakemake("tables")
    text = done.stdout + done.stderr
    assert done.returncode == 1 and "Traceback" not in text and "Job stats" not in text
    lines = [line for line in text.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "nothing.npz" in lines[0]


def test_a_failing_job_says_why_in_one_line_and_shows_its_log(checkout: Checkout) -> None:
    weights = next((checkout.folder / "results/dense").rglob("seed0/trunk.safetensors"))
    content = weights.read_bytes()
    stamp = weights.stat()
    metrics = (
        checkout.folder
        / "results"
        / CELL.replace("permuted.activations", "lth").replace("a0-b1", "a0")
    )
    (metrics / "metrics.json").unlink()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(weights, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    done = checkout.snakemake("table_one")
    text = done.stdout + done.stderr
    assert done.returncode == 1 and "Traceback" not in text
    assert "error: results/dense" in text and "content changed" in text
    told = [line for line in text.splitlines() if "] failed: " in line]
    assert told and all("; log: results/logs/" in line for line in told)
    weights.write_bytes(content)
    os.utime(weights, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    checkout.run("tables")  # the same command goes on


def test_touching_tries_and_trains_nothing(tmp_path: Path) -> None:
    """Snakemake's own ``--touch``, which takes what is there as new, where nothing is there."""
    checkout = Checkout(tmp_path / "checkout")
    done = checkout.snakemake("--touch", "tables")
    assert done.returncode == 0 and "Traceback" not in done.stderr
    assert "Output files not touched because they don't exist" in done.stderr
    assert {path.name for path in (checkout.folder / "results").iterdir()} <= {"logs", "benchmarks"}


def test_in_another_folder_it_says_how_it_is_called(micro: Checkout, tmp_path: Path) -> None:
    def call(*words: str) -> subprocess.CompletedProcess[str]:
        words = ("-n", "-c1", "-s", f"{micro.folder}/Snakefile", *words, "--config", "study=micro")
        return forks.called("snakemake", *words, folder=tmp_path, environment=environment())

    refused = call()
    error = refused.stderr.splitlines()[-1]
    assert refused.returncode == 1 and error.startswith(f"error: {tmp_path}: the workflow runs")
    assert not list(tmp_path.glob("results*"))
    (advice,) = re.findall(r"add (--directory) (\S+),", error)
    assert call(*advice).returncode == 0
