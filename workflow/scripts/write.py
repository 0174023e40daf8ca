"""Write what a rule makes that is no run: ``write.py KIND [NAME or PATH]``."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.cli import main
from pipeline.machine import warm
from pipeline.machine.process import process

if TYPE_CHECKING:
    from pipeline.study.config import Config

#: What computes with torch, which a warm server has imported.
COMPUTED = {"data", "digits_turned", "trials"}


def job() -> None:
    from pipeline.progress.job import Task, Writer
    from pipeline.study.config import load

    config = load(Path.cwd())
    kind, *names = [*sys.argv[1:], ""]
    paths = kind in ("digits_turned", "report")
    task = Task("render_report" if kind == "report" else kind, "" if paths else names[0])
    progress = Writer(config.results, task)
    try:
        write(config)
    finally:
        progress.close()


def write(config: Config) -> None:
    match sys.argv[1:]:
        case ["data", name]:
            from pipeline.stages.data import write_facts

            write_facts(config, name)
        case ["trials", *keys]:
            from pipeline.runs import parse
            from pipeline.stages.trial import hold

            for key in keys:
                hold(config, parse("dense", key).home)
        case ["digits_turned", path]:
            from pipeline.data.npz import write_digits_turned

            write_digits_turned(Path(path))
        case ["table" | "comparison" | "figure" as kind, name]:
            from pipeline.report import build

            write = {
                "table": build.write_table,
                "comparison": build.write_comparison,
                "figure": build.write_figure,
            }
            write[kind](config, name)
        case ["settings"]:
            from pipeline.report.about import write_settings

            write_settings(config)
        case ["provenance"]:
            from pipeline.report.about import write_provenance

            write_provenance(config)
        case ["report", path]:
            from pipeline.report.page import write_report

            write_report(config, Path(path))
        case ["archive", path]:
            from pipeline.report.archive import write_archive

            write_archive(config, Path(path))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    if COMPUTED & {*sys.argv[1:2]} and (status := warm.ask()) is not None:
        os._exit(status)
    process(partial(main, job))
