"""The command line ``python -m pipeline COMMAND``; one module per command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline import cli
from pipeline.commands import (
    check,
    data,
    evidence,
    export,
    freeze,
    plan,
    reference,
    show,
    table,
    trace,
    watch,
)  # fmt: skip
from pipeline.study.config import Config, read

COMMANDS = {
    "plan": plan,
    "check": check,
    "table": table,
    "show": show,
    "trace": trace,
    "watch": watch,
    "export": export,
    "evidence": evidence,
    "data": data,
    "freeze": freeze,
    "reference": reference,
}


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    top = argparse.ArgumentParser(
        prog="python -m pipeline",
        description="Plan, check and look at a study. What runs it is snakemake.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="examples:\n"
        "  python -m pipeline plan table_5 --study paper\n"
        "  python -m pipeline check --study paper --results\n"
        "  python -m pipeline table table_5 --partial --study paper\n"
        "  python -m pipeline watch table_5 --study paper\n"
        "help on a command: python -m pipeline COMMAND --help",
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module in COMMANDS.items():
        summary = (module.__doc__ or "").splitlines()[0]
        own = commands.add_parser(
            name,
            help=summary,
            description=summary,
            epilog=f"example:\n  python -m pipeline {module.EXAMPLE}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        own.add_argument("--study", help="a file in config/studies (default: that of config.yaml)")
        own.add_argument("--protocol", help="a protocol of config/recipes.yaml")
        module.arguments(own)
    return top


def configured(arguments: argparse.Namespace) -> Config:
    """The study that the arguments name, read from the current folder."""
    given = {"study": arguments.study, "protocol": arguments.protocol}
    return read(Path.cwd(), {key: value for key, value in given.items() if value is not None})


def main(words: Sequence[str] | None = None) -> None:
    """Run one command; exit status 1 and one line for a user's mistake."""
    arguments = parser().parse_args(words)

    def job() -> None:
        status = COMMANDS[arguments.command].run(configured(arguments), arguments)
        if status:
            sys.exit(status)

    cli.main(job)
