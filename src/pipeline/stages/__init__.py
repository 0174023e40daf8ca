"""What each Snakemake job does: read its inputs, call the science, write its artifacts.

One module per stage with ``execute(job)``; ``run`` finds it by the stage's name.
"""

from __future__ import annotations

import importlib

from pipeline.artifacts import keys
from pipeline.stages.job import Job
from pipeline.study.config import Config

MODULES = {
    "dense": "dense",
    "snapshot": "snapshot",
    "imp": "imp",
    "mask": "mask",
    "solution": "solution",
    "match": "match",
    "sparse": "sparse",
    "curve": "curve",
    "imp-barrier": "imp_barrier",
    "plane": "plane",
}


def run(config: Config, stage: str, key: str, digest: str | None = None) -> None:
    """Execute one run.

    Raises:
        UserError: unknown path, or settings that differ from those of submission (``digest``).
    """
    with Job(config, keys.parse(stage, key), digest) as job:
        if job.waited and job.complete():
            print("another process has finished this run")
            return
        importlib.import_module(f"pipeline.stages.{MODULES[stage]}").execute(job)
