"""Print a table of the study; with --partial from the cells that exist, the others as missing."""

from __future__ import annotations

import argparse

from pipeline.errors import UserError
from pipeline.study.config import Config

EXAMPLE = "table table_5 --partial --study paper"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="a table of the study")
    parser.add_argument("--partial", action="store_true", help="show missing cells as missing")
    parser.add_argument(
        "--write", action="store_true", help="also write its files below the results"
    )


def run(config: Config, arguments: argparse.Namespace) -> None:
    from pipeline.report import build
    from pipeline.report.tables import to_markdown

    build.find(config, arguments.name, "table")
    if not arguments.partial and (missing := build.missing(config, arguments.name)):
        raise UserError(
            f"{arguments.name}: {missing} run{'s are' if missing > 1 else ' is'} missing; run "
            f"{'them' if missing > 1 else 'it'} ({config.command(arguments.name)}) "
            "or ask for --partial"
        )
    found = build.table(config, arguments.name)
    print(to_markdown(found))
    if arguments.write:
        for path in build.write_table(config, arguments.name):
            print(path)
