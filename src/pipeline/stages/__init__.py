"""What each Snakemake job does: read its inputs, call the science, write its artifacts.

One module per stage with ``execute(job)``, of the name of its module in `pipeline.runs`.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING

from pipeline.artifacts import finished
from pipeline.errors import UserError
from pipeline.runs import Run, parse
from pipeline.stages.job import Job
from pipeline.study.config import Config

if TYPE_CHECKING:
    from pipeline.machine.team import Team


def run(config: Config, stage: str, key: str, digest: str | None = None) -> None:
    """Execute one run.

    Raises:
        UserError: unknown path, or settings that differ from those of submission (``digest``).
    """
    wanted = parse(stage, key)
    with Job(config, wanted, digest, _team(wanted)) as job:
        if job.any(job.leads and _there(job)):
            return
        module = type(wanted).__module__.rpartition(".")[2]
        importlib.import_module(f"pipeline.stages.{module}").execute(job)
        if config.main.tensorboard and job.leads:
            _write_events(config, job.run)


def _team(run: Run) -> Team | None:
    """The processes that share this run, if torchrun has started this one."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return None
    from pipeline.machine import team as distributed

    if not run.trains:
        raise UserError(f"{run.stage}: only trainings can be shared by processes")
    return distributed.team()


def _there(job: Job) -> bool:
    """Whether the run is there by now, and nothing is left to do."""
    if job.waited and job.complete():
        print("another process has finished this run")
        return True
    if finished.take_back(job.config.results, job.run.folder, job.run.files, job.digest):
        print("this run had finished when the workflow was killed: its files are back")
        job.clear_up()
        return True
    return False


def _write_events(config: Config, run: Run) -> None:
    """For people only: a run that is done does not fail for want of them."""
    from pipeline.progress.tensorboard import write_events

    try:
        write_events(config.results, run)
    except OSError as error:
        print(f"no TensorBoard events: {error.strerror}", flush=True)
