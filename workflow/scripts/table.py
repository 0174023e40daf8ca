"""Write the files of a table: ``table.py NAME``."""

import sys
from pathlib import Path

from pipeline.cli import main


def job() -> None:
    from pipeline.report.build import write_table
    from pipeline.study.config import load

    write_table(load(Path.cwd()), sys.argv[1])


main(job)
