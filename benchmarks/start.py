"""Processor time from the start of a job to its first step, with a warm server and without; and of
the end of a job, as Python ends a process and as ours end.

``python benchmarks/start.py`` prints them, of the first dense run of study nano: medians of ``--times``.
"""

from __future__ import annotations

import gc
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from pipeline.machine import warm
from pipeline.machine.process import process

SCRIPT = Path(__file__).resolve()


def prepare() -> None:
    from pipeline import stages

    stages.prepare()


def job() -> None:
    """Begin the run whose results folder is given; print the seconds of processor time at its first step."""
    from pipeline import stages
    from pipeline.study.config import load
    from pipeline.study.graph import Graph
    from pipeline.training.step import Step

    def first(*_: object) -> None:
        print(time.process_time(), flush=True)
        os._exit(0)

    Step.__call__ = first  # type: ignore[method-assign, assignment]
    config = load(Path.cwd())
    graph = Graph(config)
    run = next(r for r in graph.closure(graph.outputs(config.outputs)) if r.stage == "dense")
    stages.run(config, run.stage, run.key, graph.digest(run))


def measure() -> float:
    """Seconds of processor time of a job: of the process that was called, and of a fork."""
    child = subprocess.Popen(["python", str(SCRIPT), "job"], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    until_first_step = float(child.stdout.read())
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = status
    own = used.ru_utime + used.ru_stime
    # Without a server it is one process, which has counted all; with one, the client adds its own.
    return until_first_step + (own if warm.PLACE in os.environ else 0.0)


def end(by: Callable[[], object]) -> float:
    """Seconds of processor time that a fork of this process takes to end."""
    child = os.fork()
    if child == 0:
        by()
    used = os.wait4(child, 0)[2]
    return used.ru_utime + used.ru_stime


def main() -> None:
    from pipeline.machine import memory
    from pipeline.study.config import freeze, read

    times = int(sys.argv[sys.argv.index("--times") + 1]) if "--times" in sys.argv else 7
    memory.tune()
    os.environ |= warm.ONE_THREAD
    with tempfile.TemporaryDirectory() as folder:
        freeze(
            read(Path.cwd(), {"study": "nano", "device": "cpu", "results": folder}), Path(folder)
        )
        alone = [measure() for _ in range(times)]
        server = warm.start(SCRIPT)
        assert server is not None
        measure()  # waits until it is ready
        served = [measure() for _ in range(times)]
        server.stop()
        prepare()
        gc.freeze()
        python, ours = ([end(by) for _ in range(times)] for by in (sys.exit, partial(process, int)))
    for name, found in (
        ("a process of its own", alone), ("a fork of the warm server", served),
        ("its end, by Python", python), ("its end, by pipeline.machine.process", ours),
    ):  # fmt: skip
        spread = f"({min(found):.3f}-{max(found):.3f})"
        print(f"{name}: {statistics.median(found):.3f} s {spread}")


if __name__ == "__main__":
    if sys.argv[1:2] == [warm.SERVE]:
        warm.serve(prepare)
    elif sys.argv[1:2] == ["job"] and (status := warm.ask()) is not None:
        os._exit(status)
    job() if sys.argv[1:2] == ["job"] else main()
