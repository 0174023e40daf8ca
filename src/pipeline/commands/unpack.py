"""Check an archive of runs and lay it into a folder of its own, for the workflow's slices to take over."""

from __future__ import annotations

import argparse
from pathlib import Path

from pipeline.artifacts import archive
from pipeline.study.config import Config

EXAMPLE = "unpack sent.tar pulled/sent"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("archive", type=Path, help="what pack has written")
    parser.add_argument("folder", type=Path, help="where to; no such folder may be there yet")


def run(config: Config, arguments: argparse.Namespace) -> None:
    del config  # an archive is whole or not, whatever study asks
    held = archive.unpack(arguments.archive, arguments.folder)
    print(f"{arguments.folder}: {held} runs, each file as it was recorded")
