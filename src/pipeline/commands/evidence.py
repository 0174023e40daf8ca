"""Write a study's tables, figures and a page that joins them to a folder, to be kept or shown."""

from __future__ import annotations

import argparse
from pathlib import Path

from pipeline.study.config import Config

EXAMPLE = "evidence docs/evidence/cifar10-small --study cifar10-small"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder", type=Path, help="where to; its conclusion.md, if any, is put on the page"
    )
    parser.add_argument(
        "--from",
        dest="pack",
        type=Path,
        metavar="PACK",
        help="read the runs of a pack instead of the results: nothing is trained for it",
    )
    parser.add_argument("--partial", action="store_true", help="also while runs are missing")


def run(config: Config, arguments: argparse.Namespace) -> None:
    from pipeline.report import evidence

    given = {"pack": arguments.pack, "partial": arguments.partial}
    print(evidence.names(evidence.publish(config, arguments.folder, **given)))
