"""Write the files of a comparison: ``comparison.py NAME``."""

import sys
from pathlib import Path

from pipeline.cli import main


def job() -> None:
    from pipeline.report.build import write_comparison
    from pipeline.study.config import load

    write_comparison(load(Path.cwd()), sys.argv[1])


main(job)
