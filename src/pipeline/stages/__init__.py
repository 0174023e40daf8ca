"""What each Snakemake job does: read its inputs, call the science, write its artifacts.

One module per stage with ``execute(job)``; ``run`` finds it by the stage's name.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING

from pipeline.artifacts import finished, keys
from pipeline.errors import UserError
from pipeline.stages.job import Job
from pipeline.study.config import Config
from pipeline.study.processes import TRAINED

if TYPE_CHECKING:
    from pipeline.machine.team import Team

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
    with Job(config, keys.parse(stage, key), digest, _team(stage)) as job:
        if job.any(job.leads and _there(job)):
            return
        importlib.import_module(f"pipeline.stages.{MODULES[stage]}").execute(job)
        if config.main.tensorboard and job.leads:
            _write_events(config, job.run)


def _team(stage: str) -> Team | None:
    """The processes that share this run, if torchrun has started this one."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return None
    from pipeline.machine import team as distributed

    if stage not in TRAINED:
        raise UserError(f"{stage}: only trainings can be shared by processes")
    return distributed.team()


def _there(job: Job) -> bool:
    """Whether the run is there by now, and nothing is left to do."""
    if job.waited and job.complete():
        print("another process has finished this run")
        return True
    outputs = keys.OUTPUTS[job.run.stage]
    if finished.take_back(job.config.results, keys.folder(job.run), outputs, job.digest):
        print("this run had finished when the workflow was killed: its files are back")
        job.clear_up()
        return True
    return False


def _write_events(config: Config, run: keys.Run) -> None:
    """For people only: a run that is done does not fail for want of them."""
    from pipeline.progress.tensorboard import write_events

    try:
        write_events(config.results, run)
    except OSError as error:
        print(f"no TensorBoard events: {error.strerror}", flush=True)
