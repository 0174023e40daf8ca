"""Write Snakemake's report of the study: ``report.py PATH``."""

import sys
from pathlib import Path

from pipeline.cli import main


def job() -> None:
    from pipeline.report.page import write_report
    from pipeline.study.config import load

    write_report(load(Path.cwd()), Path(sys.argv[1]))


main(job)
