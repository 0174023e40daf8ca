"""Runs side by side as threads of this process, as a host (`pipeline.machine.host`) has them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import torch

from pipeline.machine.baton import Baton, Seat


def side_by_side(*works: Callable[[], object]) -> None:
    """Do works as runs that share a baton; raises what the first of them raises."""
    row = Baton()

    def sit(work: Callable[[], object]) -> None:
        # As the device of a job sees to it.
        own = torch.cuda.stream(torch.cuda.Stream()) if torch.cuda.is_available() else nullcontext()
        with Seat(row, sys.stdout, sys.stderr).taken(), own:
            work()

    with ThreadPoolExecutor(len(works)) as pool:
        row.take()
        begun = [pool.submit(sit, work) for work in works]
        row.give()
    for each in begun:
        each.result()
