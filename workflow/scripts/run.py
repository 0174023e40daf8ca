"""Execute one run: ``run.py STAGE KEY --digest D``."""

import argparse
from pathlib import Path

from pipeline.cli import main


def job() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage")
    parser.add_argument("key")
    parser.add_argument("--digest", help="digest of the settings at submission")
    arguments = parser.parse_args()
    from pipeline import stages
    from pipeline.study.config import load

    stages.run(load(Path.cwd()), arguments.stage, arguments.key, arguments.digest)


main(job)
