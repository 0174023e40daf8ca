"""What each Snakemake job does: read its inputs, call the science, write its artifacts.

One module per stage with ``execute(job)``, of the name of its module in `pipeline.runs`.
"""

from __future__ import annotations

import importlib

from pipeline.artifacts import finished
from pipeline.errors import UserError
from pipeline.kernels.build import compiled
from pipeline.machine.team import team
from pipeline.progress.trackers import write_events
from pipeline.runs import STAGES, Run, parse
from pipeline.stages.job import Job
from pipeline.study.config import Config, frozen


def run(config: Config, stage: str, key: str, digest: str | None = None) -> None:
    """Execute one run, shared with the other processes that torchrun has started.

    Raises:
        UserError: unknown path, processes that cannot share the run, or settings that differ from
            those of submission (``digest``).
    """
    wanted, shared = parse(stage, key), team()
    if not (shared.alone or wanted.trains):
        raise UserError(f"{stage}: only trainings can be shared by processes")
    with Job(config, wanted, digest, shared) as job:
        if job.team.any(job.leads and _there(job))[0]:
            return
        job.check_inputs()
        importlib.import_module(f"pipeline.stages.{_module(type(wanted))}").execute(job)
        job.finish()
        if config.main.tensorboard and job.leads:
            try:
                write_events(config.results, wanted)
            except OSError as error:  # for people only: the run is done all the same
                print(f"no events for tensorboard: {error.strerror}", flush=True)


def prepare() -> Config | None:
    """Import what the jobs of this machine import, and load compiled kernels; the study they are of.

    For a process whose forks are jobs: nothing is computed, no thread is started, and CUDA is not.
    """
    for kind in STAGES.values():
        importlib.import_module(f"pipeline.stages.{_module(kind)}")
    compiled()
    config = frozen()
    if config:
        used = {config.datasets[each.dataset].kind for each in config.experiments.values()}
        if "image_folder" in used:
            importlib.import_module("torchvision.io")  # a second; no other data need it
    return config


def _module(kind: type[Run]) -> str:
    return kind.__module__.rpartition(".")[2]


def _there(job: Job) -> bool:
    """Whether the run is there by now, and nothing is left to do."""
    if job.waited and job.complete():
        print("another process has finished this run")
        return True
    if finished.take_back(job.config.results, job.run.folder, job.run.files, job.digest):
        print("this run had finished, and what it was made from is the same: its files are back")
        job.clear_up()
        return True
    return False
