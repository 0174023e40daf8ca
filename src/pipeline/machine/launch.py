"""Start the processes that share a run: torchrun's own launcher, with one line for what fails.

``torchrun --standalone --nproc-per-node=2 workflow/scripts/run.py dense KEY`` does the same by hand.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence

from pipeline.cli import ENDS, TERMINATED, heeded
from pipeline.errors import UserError
from pipeline.machine import warm
from pipeline.machine.gpu_slots import take_slots
from pipeline.machine.handing import end_with

#: ``host:port`` at which the machines of a run meet; set for the launcher on each of them.
RENDEZVOUS = "PIPELINE_RENDEZVOUS"


def end_with_parent() -> None:
    """Be asked to stop, as by SIGTERM, when torchrun, which started this process, ends or is killed.

    Its processes are in sessions of their own, and would otherwise outlive it.
    """
    end_with(int(os.environ.get(warm.LAUNCHER, os.getppid())), signal.SIGTERM)


def launch(command: Sequence[str], processes: int, nodes: int = 1, *, gpus: bool = False) -> int:
    """Run ``python COMMAND`` in so many processes on this machine, or on the nodes of a Slurm job.

    A signal of ``ENDS`` is passed on to all of them as SIGTERM; they get 30 seconds to save and end.

    Returns:
        the status to exit with: 0, 143 if they were stopped, else 1, with a line per failure.

    Raises:
        UserError: several nodes outside of a Slurm job.
    """
    if nodes > 1 and RENDEZVOUS not in os.environ:
        return _on_nodes(command, nodes)
    if gpus:
        take_slots(processes // nodes)
    return _here(command, processes // nodes, nodes)


def _on_nodes(command: Sequence[str], nodes: int) -> int:
    """One launcher on each node of the allocation; they meet on the first."""
    job = os.environ.get("SLURM_JOB_ID")
    if job is None or shutil.which("srun") is None:
        raise UserError(
            f"config.yaml: nodes: {nodes} needs a Slurm job; set nodes: 1, or run with "
            "--profile slurm"
        )
    line = srun(command, nodes, len(os.sched_getaffinity(0)))
    port = 20000 + int(job) % 20000  # of this job alone, where jobs share a node
    host = os.environ.get("SLURMD_NODENAME") or os.uname().nodename
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "SRUN_"))}
    environment |= {"SLURM_JOB_ID": job, RENDEZVOUS: f"{host}:{port}"}
    os.execvpe(line[0], line, environment)


def srun(command: Sequence[str], nodes: int, processors: int) -> list[str]:
    """The line that starts a launcher on each node, beside the step that it is called from.

    Each gets as many processors as the first has, and the GPUs of the job on its node.
    """
    return [
        "srun", "--overlap", f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1",
        f"--cpus-per-task={processors}", "--cpu-bind=none", "--kill-on-bad-exit=1",
        sys.executable, *command,
    ]  # fmt: skip


def _here(command: Sequence[str], processes: int, nodes: int) -> int:
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    os.environ |= warm.ONE_THREAD | {warm.LAUNCHER: str(os.getpid())}
    logging.disable()  # torchrun is wordy; what fails is said below
    with tempfile.TemporaryDirectory(prefix="pipeline-") as folder:
        config = LaunchConfig(
            min_nodes=nodes, max_nodes=nodes, nproc_per_node=processes, max_restarts=0,
            run_id=os.environ.get("SLURM_JOB_ID", "run"), rdzv_backend="c10d",
            rdzv_endpoint=os.environ.get(RENDEZVOUS, "localhost:0"),
            logs_specs=DefaultLogsSpecs(log_dir=folder),
            signals_to_handle=",".join(number.name for number in heeded(ENDS)),
        )  # fmt: skip
        try:
            elastic_launch(config, sys.executable)(*command)
        except ChildFailedError as error:
            failures = {rank: failure.exitcode for rank, failure in error.failures.items()}
            if set(failures.values()) <= {TERMINATED, -15}:
                return TERMINATED
            for rank, status in sorted(failures.items()):
                how = f"status {status}" if status >= 0 else f"signal {-status}"
                print(
                    f"error: process {rank} of {processes * nodes} ended with {how}",
                    file=sys.stderr, flush=True,
                )  # fmt: skip
            return 1
        except SignalException:
            return TERMINATED
    return 0
