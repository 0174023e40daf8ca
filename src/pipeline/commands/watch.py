"""Show what runs now and when it will end, here or on a cluster that shares the results folder."""

from __future__ import annotations

import argparse
import math
import time
from contextlib import suppress
from typing import Any

from pipeline.progress.job import clock, running, until
from pipeline.progress.workflow import describe, share
from pipeline.runs import STAGES, Run
from pipeline.study.config import Config
from pipeline.study.cost import Costs
from pipeline.study.graph import Graph
from pipeline.study.jobs import device
from pipeline.study.state import States, resolve

EXAMPLE = "watch table_5 --study paper --every 30"
#: Finished runs from which rates are taken: enough for a median, and few files to read.
SAMPLE = 200


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "targets", nargs="*", default=["all"], help="as given to snakemake (default: all)"
    )
    parser.add_argument(
        "--every", type=seconds, default=10.0, help="seconds between looks, at least 1 (default 10)"
    )
    parser.add_argument("--once", action="store_true", help="look once and end")


def seconds(text: str) -> float:
    """Seconds between looks, as they are typed."""
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 1 <= found < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number of seconds from 1 on, got {text!r}")
    return found


class Look:
    """The runs behind some targets, looked at again and again."""

    def __init__(self, config: Config, targets: list[str]) -> None:
        self.config, self._graph = config, Graph(config)
        target = resolve(config, targets)
        self._every = target.closure(self._graph)
        self._runs = {(run.stage, run.key) for run in self._every}
        self._around = {*target.outputs, *(run.home.dataset for run in self._every), ""}
        self._done: set[Run] = set()

    def lines(self) -> list[str]:
        """Runs done and the time left, then a line per job that runs now."""
        states = States(self._graph)
        # A run that was done is not looked at again: thousands of files on a file server.
        self._done |= {
            run for run in self._every if run not in self._done and states.state(run) == "done"
        }
        now = [one for one in running(self.config.results) if self._mine(one)]
        head = f"{len(self._done)}/{len(self._every)} runs done, {len(now)} running"
        left = self._left(now)
        if left is not None:
            head += f", about {clock(left)} left, until {until(left)}"
        return [head, *(f"  {describe(record, host=True)}" for record in now)]

    def _mine(self, record: dict[str, Any]) -> bool:
        """Whether a job is of these targets, or of what stands around them."""
        stage, key = record["stage"], record["key"]
        return (stage, key) in self._runs or (stage not in STAGES and key in self._around)

    @property
    def finished(self) -> bool:
        return len(self._done) == len(self._every)

    def _left(self, now: list[dict[str, Any]]) -> float | None:
        """Seconds until the last run ends if as many go on side by side as do now.

        None where no job of these targets runs.
        """
        costs = Costs(self._graph, self._device())
        costs.measured(self._sample())
        work = {run.folder: costs.wall(run) for run in self._every if run not in self._done}
        folders = [(f"{record['stage']}/{record['key']}", share(record)) for record in now]
        shares = [done * work[folder] for folder, done in folders if folder in work]
        return max(1.0, (sum(work.values()) - sum(shares)) / len(shares)) if shares else None

    def _sample(self) -> list[Run]:
        return [run for run in self._every if run in self._done][-SAMPLE:]

    def _device(self) -> str:
        """Kind of device of the finished runs: the host that watches may have another."""
        if self.config.main.device == "cpu":
            return "cpu"
        costs = Costs(self._graph, "cpu")
        for run in reversed(self._sample()):
            found = costs.provenance(run)
            if "device" in found and "epochs_executed" in found:
                return "cpu" if str(found["device"]).startswith("cpu") else "cuda"
        return device()


def run(config: Config, arguments: argparse.Namespace) -> None:
    """Print runs done and running until all are done, or until interrupted; plain lines only."""
    look = Look(config, arguments.targets)
    with suppress(KeyboardInterrupt):
        while True:
            first, *others = look.lines()
            print(f"[{time.strftime('%H:%M:%S')}] {first}", flush=True)
            for line in others:
                print(line, flush=True)
            if arguments.once or look.finished:
                break
            time.sleep(arguments.every)
