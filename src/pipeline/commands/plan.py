"""What a target would run: jobs by kind, epochs, device hours and disk, before anything starts."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pipeline.errors import UserError
from pipeline.progress.job import clock
from pipeline.runs import STAGES, parse
from pipeline.snakemake_internals import JOBS, SNAKEMAKE
from pipeline.study import jobs
from pipeline.study.config import FROZEN, Config
from pipeline.study.cost import Costs
from pipeline.study.graph import Graph
from pipeline.study.state import States, resolve

EXAMPLE = "plan table_5 --study paper"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "targets", nargs="*", default=["all"], help="as given to snakemake (default: all)"
    )
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), help="estimate for this kind of device"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def plan(
    config: Config, jobs: Sequence[Mapping[str, str]], targets: list[str], device: str
) -> dict[str, Any]:
    """The runs among the jobs that ``asked`` gives for ``targets``, by kind: epochs, seconds, bytes.

    The jobs that are no runs are counted by rule.
    """
    graph = Graph(config)
    states, costs = States(graph), Costs(graph, device)
    every = resolve(config, targets).closure(graph)
    named = [job for job in jobs if job.get("stage") in STAGES]
    asked = {parse(job["stage"], job["key"]) for job in named}
    needed = sorted(asked, key=lambda run: (list(STAGES).index(run.stage), run.key))
    costs.measured(run for run in every if states.state(run) == "done")
    kinds: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(int))
    for run in needed:
        kind = kinds[run.stage]
        kind["jobs"] += 1
        kind["epochs"] += run.trained_epochs(graph)
        kind["seconds"] += costs.seconds(run)
    bases = Counter(costs.rate(run).basis.split(" on ")[0] for run in needed)
    others = Counter(job["rule"] for job in jobs if job not in named)
    return {
        "study": config.main.study,
        "protocol": config.main.protocol,
        "targets": targets,
        "device": device,
        "missing": kinds,
        "jobs": len(needed),
        "others": dict(sorted(others.items())),
        "present": len(set(every) - asked),
        "epochs": int(sum(kind["epochs"] for kind in kinds.values())),
        "device_hours": sum(kind["seconds"] for kind in kinds.values()) / 3600,
        "basis": dict(bases),
        "disk_bytes": sum(costs.disk(run) for run in needed),
    }


def asked(config: Config, targets: list[str]) -> list[dict[str, str]]:
    """The jobs that Snakemake would run for targets, by its own dry run: rule and wildcards of each.

    Raises:
        UserError: Snakemake refuses; its own line.
    """
    resolve(config, targets)
    keys = dict.fromkeys(("study", "protocol", "results", *config.given))
    settings = [f"{key}={config.raw['main'][key]}" for key in keys if key in config.raw["main"]]
    command = [sys.executable, "-c", SNAKEMAKE, "-n", "-c1", *targets, "--config", *settings]
    with TemporaryDirectory() as folder:
        file = Path(folder, "jobs")
        environment = {k: v for k, v in os.environ.items() if k != FROZEN} | {JOBS: str(file)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"Snakemake ended with {done.returncode}"]
            told = [line for line in lines if line.startswith("error: ")] or lines[-1:]
            raise UserError(told[0].removeprefix("error: "))
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return [json.loads(line) for line in lines]


def run(config: Config, arguments: argparse.Namespace) -> None:
    device = arguments.device or ("cpu" if config.main.device == "cpu" else jobs.device())
    found = plan(config, asked(config, arguments.targets), arguments.targets, device)
    if arguments.json:
        print(json.dumps(found, indent=1, sort_keys=True))
        return
    print(f"study {found['study']}, protocol {found['protocol']}: {' '.join(arguments.targets)}")
    print(f"{'kind':<12}{'jobs':>8}{'epochs':>10}{'device hours':>14}")
    for stage, kind in found["missing"].items():
        hours = kind["seconds"] / 3600
        print(f"{stage:<12}{kind['jobs']:>8}{int(kind['epochs']):>10,}{hours:>14,.2f}")
    print(f"{'total':<12}{found['jobs']:>8}{found['epochs']:>10,}{found['device_hours']:>14,.2f}")
    if found["others"]:
        counted = ", ".join(f"{count} {rule}" for rule, count in found["others"].items())
        print(f"other jobs of Snakemake: {counted}")
    if found["jobs"] and found["device_hours"] < 1:
        print(f"in all about {clock(3600 * found['device_hours'])} of device time")
    print(f"already there: {found['present']} runs; new files: about {size(found['disk_bytes'])}")
    if found["jobs"]:
        words = {
            "assumed": "assumed rates: nothing was measured here yet",
            "measured": "measured rates",
            "unknown": "too low a rate: config/models.yaml gives no forward_flops of the network",
        }
        basis = "; ".join(
            f"{count} jobs by {words[key]}" for key, count in sorted(found["basis"].items())
        )
        print(f"basis of the hours ({device}): {basis}")


def size(count: float) -> str:
    """Bytes for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
