"""Write what the report says about itself: ``about.py settings`` or ``about.py provenance``."""

import sys
from pathlib import Path

from pipeline.cli import main


def job() -> None:
    from pipeline.report import about
    from pipeline.study.config import load

    write = {"settings": about.write_settings, "provenance": about.write_provenance}[sys.argv[1]]
    write(load(Path.cwd()))


main(job)
