"""Execute one run: ``run.py STAGE KEY --digest D``, in as many processes as config.yaml says."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.cli import main
from pipeline.machine import warm
from pipeline.machine.process import process

if TYPE_CHECKING:
    from pipeline.machine.host import Work


def job(words: Sequence[str]) -> None:
    import argparse

    from pipeline.runs import parse

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage")
    parser.add_argument("key")
    parser.add_argument("--digest", help="digest of the settings at submission")
    arguments = parser.parse_args(words[1:])
    from pipeline import stages
    from pipeline.machine import launch
    from pipeline.study.config import load
    from pipeline.study.graph import Graph

    config = load(Path.cwd())
    count = Graph(config).processes(parse(arguments.stage, arguments.key))
    if count > 1 and not warm.several(os.environ):
        gpus = config.main.device != "cpu"
        sys.exit(launch.launch(words, count, config.main.nodes, gpus=gpus))
    stages.run(config, arguments.stage, arguments.key, arguments.digest)


def execute(words: Sequence[str]) -> None:
    """Execute the run of a call; ends as a script does."""
    main(partial(job, words))


def prepare() -> Work | None:
    """Import what every job imports, and read the study of the workflow; what jobs of it share."""
    from pipeline import stages
    from pipeline.stages import together

    config = stages.prepare()
    return together.work(config, execute) if config else None


if sys.argv[1:2] == [warm.SERVE]:
    warm.serve(prepare)
    if Path(sys.argv[0]).name == "write.py":  # in a fork for the script beside this one
        import runpy

        process(partial(main, runpy.run_path(sys.argv[0])["job"]))
else:
    if warm.several(os.environ):
        from pipeline.machine.launch import end_with_parent

        end_with_parent()
    if (status := warm.ask()) is not None:
        os._exit(status)
process(partial(execute, sys.argv))
