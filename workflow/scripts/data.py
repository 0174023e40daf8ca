"""Check a data set and write down its facts: ``data.py NAME``."""

import sys
from pathlib import Path

from pipeline.cli import main


def job() -> None:
    from pipeline.stages.data import write_facts
    from pipeline.study.config import load

    write_facts(load(Path.cwd()), sys.argv[1])


main(job)
