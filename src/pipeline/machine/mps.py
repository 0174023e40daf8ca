"""NVIDIA MPS: the runs that share a GPU compute side by side on it, in place of by turns.

A recorded step keeps its GPU busy; processes without MPS only take turns on it. The daemon is
started with a workflow that runs jobs on this machine, and ends with it, after a kill too.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence

from pipeline.errors import brief
from pipeline.machine.gpu_slots import VISIBLE, visible

CONTROL = "nvidia-cuda-mps-control"
PIPE, LOG = "CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY"
#: Reads until the workflow closes its end or is gone; the daemon then lets its last clients finish.
GUARD = f'cat > /dev/null; echo quit | {CONTROL} > /dev/null 2>&1; rm -rf "$0"'
_SECONDS = 60


class Mps:
    """A daemon that serves the visible GPUs, and this process and those it starts as its clients."""

    def __init__(self, folder: str, gpus: Sequence[str]) -> None:
        self._before = {name: os.environ.get(name) for name in (PIPE, LOG, VISIBLE)}
        os.environ.update({PIPE: folder, LOG: folder, VISIBLE: ",".join(gpus)})
        self._guard = subprocess.Popen(
            ["sh", "-c", GUARD, folder], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip

    def stop(self) -> None:
        """End the daemon; the environment is as it was."""
        for name, value in self._before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        try:
            self._guard.wait(_SECONDS)
        except subprocess.TimeoutExpired:
            print("NVIDIA MPS has clients left, and ends after them", file=sys.stderr)


def start() -> Mps | None:
    """Start MPS where there are GPUs; None without, and where the user has started it already.

    GPUs are named by UUID from then on: a client counts those that its daemon was given from 0, and
    would not find "2,3". Where MPS cannot be had, one line says so, and runs take turns.
    """
    gpus = visible()
    if not gpus or PIPE in os.environ:
        return None
    folder = tempfile.mkdtemp(prefix="pipeline-mps-")
    try:
        if shutil.which(CONTROL) is None:
            raise OSError(f"{CONTROL} is not installed")
        named = by_uuid(gpus)
        facts = os.environ | {PIPE: folder, LOG: folder, VISIBLE: ",".join(named)}
        done = _output([CONTROL, "-d"], facts)
    except (OSError, subprocess.SubprocessError) as error:
        problem = brief(error)
    else:
        if done.returncode == 0:
            return Mps(folder, named)
        problem = (done.stdout + done.stderr).strip().partition("\n")[0] or "it does not start"
    shutil.rmtree(folder, ignore_errors=True)
    print(f"runs take turns on a GPU, without NVIDIA MPS: {problem}", file=sys.stderr, flush=True)
    return None


def by_uuid(gpus: Sequence[str]) -> list[str]:
    """Names of GPUs that are the same for every process, of names as CUDA_VISIBLE_DEVICES has them.

    Raises:
        OSError: nvidia-smi does not tell.
    """
    done = _output(["nvidia-smi", "--query-gpu=index,uuid", "--format=csv,noheader"], os.environ)
    rows = (line.partition(",") for line in done.stdout.splitlines())
    known = {index.strip(): uuid.strip() for index, _, uuid in rows}
    unknown = [name for name in gpus if name.isdigit() and name not in known]
    if unknown:
        raise OSError(f"nvidia-smi knows no GPU {', '.join(unknown)}")
    return [known.get(name, name) for name in gpus]


def _output(command: list[str], facts: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=facts, capture_output=True, text=True, timeout=_SECONDS, check=False
    )
