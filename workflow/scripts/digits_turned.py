"""Write the turned and inverted digits: ``digits_turned.py PATH``."""

import sys
from pathlib import Path

from pipeline.cli import main


def job() -> None:
    from pipeline.data.npz import write_digits_turned

    write_digits_turned(Path(sys.argv[1]))


main(job)
