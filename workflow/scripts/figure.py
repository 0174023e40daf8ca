"""Write the files of a figure: ``figure.py NAME``."""

import sys
from pathlib import Path

from pipeline.cli import main


def job() -> None:
    from pipeline.report.build import write_figure
    from pipeline.study.config import load

    write_figure(load(Path.cwd()), sys.argv[1])


main(job)
