"""Execute one run: ``run.py STAGE KEY --digest D``, in as many processes as config.yaml says."""

import os
import sys

from pipeline.cli import main
from pipeline.machine import warm


def job() -> None:
    import argparse
    from pathlib import Path

    from pipeline.runs import parse

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage")
    parser.add_argument("key")
    parser.add_argument("--digest", help="digest of the settings at submission")
    arguments = parser.parse_args()
    from pipeline.machine import launch

    if launch.started():
        launch.end_with_parent()
    from pipeline import stages
    from pipeline.study.config import load
    from pipeline.study.graph import Graph

    config = load(Path.cwd())
    count = Graph(config).processes(parse(arguments.stage, arguments.key))
    if count > 1 and not launch.started():
        gpus = config.main.device != "cpu"
        sys.exit(launch.launch(sys.argv, count, config.main.nodes, gpus=gpus))
    stages.run(config, arguments.stage, arguments.key, arguments.digest)


def prepare() -> None:
    """Import what every job imports, and read the study of the workflow."""
    from pipeline import stages

    stages.prepare()


if sys.argv[1:2] == [warm.SERVE]:
    warm.serve(prepare)
elif (status := warm.ask()) is not None:
    os._exit(status)
main(job)
