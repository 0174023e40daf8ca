"""The command line ``python -m pipeline COMMAND``; one module per command."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from pipeline import cli
from pipeline.catalog.schema import quote
from pipeline.errors import UserError
from pipeline.study.config import read
from pipeline.study.strict_yaml import parse_yaml

#: Every command by its name, in the order of the help.
COMMANDS = {
    name: import_module(f"{__name__}.{name.replace('-', '_')}")
    for name in (
        "list", "new-study", "plan", "check", "table", "show", "diff", "stale", "trace", "watch",
        "export", "align", "pack", "unpack", "evidence", "gc", "data", "freeze", "reference",
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
        own.add_argument(
            "--config", nargs="+", default=[], metavar="KEY=VALUE",
            help="keys of config.yaml, as given to snakemake (study, protocol, results, ...)",
        )  # fmt: skip
        module.arguments(own)
    return top


def settings(words: Sequence[str], where: str = "--config") -> dict[str, Any]:
    """``KEY=VALUE`` words as Snakemake reads those behind ``--config``; a value is a YAML scalar.

    Raises:
        UserError: a word without "=", or a value that is no YAML.
    """
    found = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise UserError(f"{where}: expected KEY=VALUE, got {quote(word)}")
        found[key] = parse_yaml(value, f"{where}: {key}")
    return found


def main(words: Sequence[str] | None = None) -> None:
    """Run one command; exit status 1 and one line for a user's mistake."""
    cli.show_anything()  # the help, too
    arguments = parser().parse_args(words)
    own = {"study": arguments.study, "protocol": arguments.protocol}

    def job() -> None:
        given = settings(arguments.config) | {k: v for k, v in own.items() if v is not None}
        COMMANDS[arguments.command].run(read(Path.cwd(), given), arguments)

    cli.main(job)
