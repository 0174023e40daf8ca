"""The command line ``python -m pipeline COMMAND``; one module per command."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from pipeline import cli
from pipeline.study.config import read

#: Every command by its name, in the order of the help.
COMMANDS = {
    name: import_module(f"{__name__}.{name}")
    for name in (
        "plan", "check", "table", "show", "trace", "watch", "export", "pack", "evidence", "data", "freeze",
        "reference",
    )
}  # fmt: skip


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


def main(words: Sequence[str] | None = None) -> None:
    """Run one command; exit status 1 and one line for a user's mistake."""
    cli.show_anything()  # the help, too
    arguments = parser().parse_args(words)
    given = {"study": arguments.study, "protocol": arguments.protocol}

    def job() -> None:
        config = read(Path.cwd(), {k: value for k, value in given.items() if value is not None})
        COMMANDS[arguments.command].run(config, arguments)

    cli.main(job)
