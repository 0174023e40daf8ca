"""Which trainings run as threads of one process, where ``sharing: threads`` asks for it.

Those that leave nothing of the process changed between two steps: one compute thread, a network of
ours, no workers that decode photographs, no tracker that is one for a process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from pipeline.errors import UserError
from pipeline.machine import gpu_slots
from pipeline.machine.host import Work
from pipeline.runs import parse
from pipeline.study.config import Config
from pipeline.study.graph import Graph


def work(config: Config, run: Callable[[Sequence[str]], None]) -> Work | None:
    """The jobs of a study that share a process for each GPU; None where no process is shared.

    ``run(words)`` does the job of a call. With ``device: cpu`` they share one on the CPU.
    """
    main, graph = config.main, Graph(config)
    gpus = [""] if main.device == "cpu" else gpu_slots.visible()
    if main.sharing != "threads" or main.wandb or not gpus:
        return None

    def shares(words: Sequence[str]) -> bool:
        try:
            _, stage, key, *_ = words
            return alike(graph, stage, key)
        except (UserError, ValueError, LookupError):  # told by a process of the job's own
            return False

    return Work(gpus, shares, run, sound)


def alike(graph: Graph, stage: str, key: str) -> bool:
    """Whether a run is such a training.

    Raises:
        UserError: no run, or one of no recipe of the study.
    """
    run = parse(stage, key)
    return (
        run.trains
        and graph.info(run).kind != "image_folder"
        and getattr(graph.recipe(run), "threads", 1) == 1
        and all(graph.config.models[dense.model].tested for dense in run.networks)
    )


def sound() -> bool:
    """Whether this process can go on computing: an error of a kernel is one of all that follow."""
    try:
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.synchronize()
    except RuntimeError:
        return False
    return True
