"""Cost of a sweep beside single matchings: ``python benchmarks/sweep.py [--repeat N]``.

Trains a pair of study sharma-tiny in a temporary folder, then matches its end alone, and every epoch
of a sweep in one job, in turns and in this process, by processor time: a job's start is not counted,
and a sweep pays it once. Prints the share of n single matchings that a sweep of n epochs takes, by
activations and by weights, and ends with status 1 where that is more than 1.2.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch

from pipeline import stages
from pipeline.runs import Match, Run
from pipeline.study.config import Config, read
from pipeline.study.graph import Graph

ROOT = Path(__file__).resolve().parents[1]
MOST = 1.2


def seconds(config: Config, run: Run) -> float:
    """Processor seconds of a run in this process."""
    with contextlib.redirect_stdout(io.StringIO()):
        before = time.process_time()
        stages.run(config, run.stage, run.key)
        return time.process_time() - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=3, help="times that each is measured")
    repeat = parser.parse_args().repeat
    torch.set_num_threads(1)
    worst = 0.0
    with tempfile.TemporaryDirectory() as results:
        config = read(ROOT, {"study": "sharma-tiny", "results": results, "device": "cpu"})
        graph = Graph(config)
        for align in config.experiments["digits-vgg"].aligned():
            single, points = Match(*align.members, align.recipe), align.matchings(graph)
            for run in graph.closure([single])[:-1]:
                if not (config.results / run.path()).exists():
                    seconds(config, run)
            seconds(config, single)  # what is loaded at the first use is loaded
            # a state of the end takes a weight matching more sweeps, or fewer, than an earlier one
            pairs = [(seconds(config, align), seconds(config, single)) for _ in range(repeat)]
            whole, one = (statistics.median(each) for each in zip(*pairs, strict=True))
            share = whole / (len(points) * one)
            worst = max(worst, share)
            print(
                f"{align.recipe}: {len(points)} epochs in {whole:.2f} s, one in {one:.2f} s: "
                f"{share:.2f} of as many single matchings"
            )
    sys.exit(worst > MOST)


main()
