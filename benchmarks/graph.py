"""Time and memory of building the job graph: ``python benchmarks/graph.py [--warm] [FACTOR...]``.

Dry-runs every table and figure of the studies paper and thesis, the optional ones included, in a
temporary copy of the workflow, with 1, 2 and 4 times the seeds of the studies. With ``--warm`` also
with all results there: made once by Snakemake itself, with empty files in place of computations.
Prints a line per study.
"""

from __future__ import annotations

import argparse
import itertools
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from pipeline.catalog import datasets as catalog

ROOT = Path(__file__).resolve().parents[1]
COPIED = ("Snakefile", "config.yaml", "environment.yml", "config", "workflow", "profiles")
STUDIES = ("paper", "thesis")
#: Stands in for Python in the jobs: makes what a job would make, without computing.
STAND_IN = """\
#!/bin/bash
stage=$2 key=$3
case "$1" in
*/run.py) cd "results/$stage/$key" && : > metrics.json && case $stage in
    dense) : > weights.safetensors; : > trunk.safetensors; : > history.csv;;
    snapshot) : > weights.safetensors;;
    imp) : > rounds.safetensors; : > history.csv;;
    mask) : > mask.safetensors;;
    solution) : > history.csv; : > weights.safetensors; : > logits.safetensors;;
    match) : > permutation.safetensors;;
    sparse) : > history.csv;;
    curve) : > curve.csv;;
    imp-barrier) : > barrier.csv;;
    plane) : > plane.csv;;
    esac;;
*/table.py) for end in csv md tex html; do : > "results/$STUDY/tables/$2.$end"; done;;
*/comparison.py) for end in csv md html; do : > "results/$STUDY/tables/$2.comparison.$end"; done;;
*/figure.py) for end in pdf png svg csv; do : > "results/$STUDY/figures/$2.$end"; done;;
*/digits_turned.py) : > "$2";;
*) exit 1;;
esac
"""


def scaled(study: dict[str, Any], factor: int) -> dict[str, Any]:
    """The study with ``factor`` times the pairs of seeds in every experiment."""
    for experiment in study["experiments"].values():
        if "pairs" in experiment:
            pairs = experiment["pairs"]
            experiment["pairs"] = [
                [a + 1000 * n, b + 1000 * n] for n in range(factor) for a, b in pairs
            ]
    return study


def measured(folder: Path, words: list[str]) -> dict[str, Any]:
    """Jobs, seconds, processor seconds and peak memory of a dry run."""
    environment = {k: v for k, v in os.environ.items() if k != "PIPELINE_CONFIG"}
    program = (
        "import resource, subprocess, sys, time; t = time.monotonic();"
        "d = subprocess.run(sys.argv[1:], capture_output=True, text=True);"
        "u = resource.getrusage(resource.RUSAGE_CHILDREN);"
        "print(d.stdout[-4000:], d.stderr[-4000:]);"
        "print('MEASURED', time.monotonic() - t, u.ru_utime + u.ru_stime, u.ru_maxrss, d.returncode)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, sys.executable, "-m", "snakemake", "-n", *words],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=900, check=True,
    )  # fmt: skip
    found = re.search(r"MEASURED (\S+) (\S+) (\S+) (\S+)", done.stdout)
    assert found is not None
    if found[4] != "0":
        sys.exit(done.stdout)
    total = re.search(r"^total +(\d+)", done.stdout, re.MULTILINE)
    return {
        "jobs": int(total[1]) if total else 0,
        "seconds": round(float(found[1]), 1),
        "processor_seconds": round(float(found[2]), 1),
        "megabytes": round(int(found[3]) / 1024),
    }


def fill(folder: Path, study: str, words: list[str]) -> None:
    """Make every run with empty files, and with Snakemake's own records of settings."""
    place = folder / "bin"
    place.mkdir(exist_ok=True)
    (place / "python").write_text(STAND_IN)
    (place / "python").chmod(0o755)
    own = yaml.safe_load((folder / "config" / "datasets.yaml").read_text()) or {}
    for dataset in [
        *catalog.INFO,
        *own,
    ]:  # checked already, as far as Snakemake sees
        facts = folder / "results" / "data" / dataset / "facts.json"
        facts.parent.mkdir(parents=True, exist_ok=True)
        facts.touch()
    environment = os.environ | {"PATH": f"{place}:{os.environ['PATH']}", "STUDY": study}
    environment.pop("PIPELINE_CONFIG", None)
    command = [sys.executable, "-m", "snakemake", "-c2", *words, "--quiet", "all"]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(done.stderr[-2000:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("factors", nargs="*", type=int, default=[1, 2, 4])
    parser.add_argument("--warm", action="store_true", help="also with all results there (minutes)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        for factor, study in itertools.product(given.factors, STUDIES):
            folder = Path(name) / f"{study}{factor}"
            words = prepare(folder, study, factor)
            report({"study": study, "seeds": factor, "results": "none"} | measured(folder, words))
            if given.warm:
                fill(folder, study, words)
                row = {"study": study, "seeds": factor, "results": "all"} | measured(folder, words)
                report(row)
                if row["jobs"]:
                    sys.exit("all results are there, and yet jobs would run")


def prepare(folder: Path, study: str, factor: int) -> list[str]:
    """A copy of the workflow with a scaled study; what to ask Snakemake there."""
    folder.mkdir()
    for item in COPIED:
        source = ROOT / item
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, folder / item)
    path = folder / "config" / "studies" / f"{study}.yaml"
    raw = scaled(yaml.safe_load(path.read_text()), factor)
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    outputs = [n for n, o in raw["outputs"].items() if o["kind"] not in ("claims", "group")]
    return [*outputs, "--config", f"study={study}"]


def report(row: dict[str, Any]) -> None:
    print(
        "{study:>7} {seeds}x seeds, results there: {results:<4} {jobs:>6} jobs {seconds:>6.1f} s wall "
        "{processor_seconds:>6.1f} s processor {megabytes:>5} MB".format(**row),
        flush=True,
    )


if __name__ == "__main__":
    main()
