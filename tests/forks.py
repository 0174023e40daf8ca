"""Calls of what is slow to start, each a fork of a process that has imported it.

Snakemake and the commands, as a user calls them: a fork has the arguments, folder, environment and
files of its call, and goes on as a process of its own does after its imports, which would cost the
tests more than all that they call. What is sent signals, or is about processes, is started as a
user starts it.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import select
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any, NoReturn

from pipeline.machine.process import process

#: What a dry run imports, beside all that looking for plugins does.
IMPORTED = (
    "snakemake.cli", "snakemake.dag", "snakemake.scheduling.greedy", "snakemake.executors.local",
    "smart_open", "pipeline.commands", "pipeline.commands.plan", "pipeline.machine.memory",
    "pipeline.study.call", "pipeline.study.jobs", "pipeline.study.targets",
)  # fmt: skip
#: Seconds within which a call has ended.
LIMIT = 600


class Server:
    """A process that runs a script that calls `serve`; it ends with the one that started it."""

    def __init__(self, script: str | Path, environment: dict[str, str]) -> None:
        self._command, self._environment = [sys.executable, str(script)], environment
        self._start()

    def _start(self) -> None:
        self._process = subprocess.Popen(
            self._command, env=self._environment, text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )  # fmt: skip

    def call(self, *arguments: Any) -> subprocess.CompletedProcess[str]:
        """How a fork with these arguments, plain as in JSON, ends, and what it says."""
        asked, told = self._process.stdin, self._process.stdout
        assert asked is not None and told is not None
        with tempfile.TemporaryDirectory() as place:
            files = [str(Path(place) / name) for name in ("out", "err")]
            print(json.dumps([files, arguments]), file=asked, flush=True)
            if not select.select([told], [], [], LIMIT)[0]:
                self._process.kill()
                self._start()
                raise TimeoutError(f"{arguments}: not at its end after {LIMIT} s")
            status = int(told.readline())
            out, err = (Path(file).read_text("utf-8", errors="replace") for file in files)
        return subprocess.CompletedProcess(arguments, status, out, err)


def serve(work: Callable[..., object]) -> NoReturn:
    """Do ``work`` with the arguments of each call, in a fork for it with its files."""
    gc.collect()
    gc.freeze()  # a fork that went through all this would copy it
    while line := sys.stdin.readline():
        child = os.fork()
        if child == 0:
            files, arguments = json.loads(line)
            for number, name in enumerate([os.devnull, *files]):
                file = os.open(name, os.O_RDWR | os.O_CREAT | os.O_APPEND)
                os.dup2(file, number)
                os.close(file)
            process(partial(work, *arguments))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    sys.exit()


@cache
def _programs() -> Server:
    return Server(__file__, os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})


def called(
    *words: str, folder: Path, environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """What ``snakemake ...``, or ``pipeline ...`` for ``python -m pipeline ...``, does in a folder."""
    return _programs().call(words, str(folder), environment)


def _become(words: list[str], folder: str, environment: dict[str, str]) -> None:
    """Be the process that a call of a program would be, to its end."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None
    program, *rest = words
    binaries = Path(sys.executable).parent
    sys.path[0] = folder if program == "pipeline" else str(binaries)
    sys.argv[:] = [str(binaries / program), *rest]
    if program == "pipeline":
        runpy.run_module("pipeline", run_name="__main__", alter_sys=True)
    else:
        importlib.import_module("snakemake.cli").main()


if __name__ == "__main__":
    for name in IMPORTED:
        importlib.import_module(name)
    importlib.import_module("snakemake.cli").get_argument_parser()  # looks for plugins
    serve(_become)
