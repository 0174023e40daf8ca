"""Write the files of one table, comparison or figure of a study."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from pipeline.catalog.schema import suggest
from pipeline.errors import UserError
from pipeline.report import tables
from pipeline.report.shown import Shown
from pipeline.report.tables import Table
from pipeline.results import Results
from pipeline.study.config import Config
from pipeline.study.graph import Graph
from pipeline.study.outputs import Output
from pipeline.study.state import States

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def find(config: Config, name: str, what: str) -> Output:
    """A table or figure (``what``) of the study by name; UserError if there is none."""
    kinds = ("table", "claims") if what == "table" else (what,)
    known = [n for n, o in config.outputs.items() if o.what in kinds]
    if name not in known:
        raise UserError(f"{config.main.study}: unknown {what} {name!r}; {suggest(name, known)}")
    output: Output = config.outputs[name]
    return output


def builder(kind: type[Output]) -> Any:
    """The module that makes outputs of a kind: it has the name of the module that declares them.

    ``read(output, results)`` gives the data, ``build(output, shown, data)`` the table, or the
    figure and the frame that it shows.
    """
    folder = "figures" if kind.what == "figure" else "tables"
    return import_module(f"pipeline.report.{folder}.{kind.__module__.rpartition('.')[2]}")


def draw(output: Output, shown: Shown, data: Any) -> tuple[Figure, pd.DataFrame]:
    """The figure of an output and the frame that it shows, in the look of all figures."""
    import matplotlib  # slow to start: a table does without

    from pipeline.report.figures import style

    with matplotlib.rc_context(style.RC):
        figure, frame = builder(type(output)).build(output, shown, data)
        style.titled(figure, output.title)
    return figure, frame


def _asked(config: Config, name: str, what: str) -> tuple[Output, Shown, Any]:
    """A table or figure of the study with what its builder makes it of."""
    output = find(config, name, what)
    experiments = output.chosen(config.experiments)
    horizons = {one.horizon for one in experiments}
    end = horizons.pop() if len(horizons) == 1 else None
    methods, correction = config.recipes.methods, config.protocol.correction
    pruned = {(one.model, s): one.pruned(s) for one in experiments for s in one.sparsities}
    pruned = {at: share for at, share in pruned.items() if abs(share - at[1]) > 5e-5}
    shown = Shown(name, config.main.protocol, correction, methods, end, pruned, config.works)
    return output, shown, builder(type(output)).read(output, Results(config, name))


def table(config: Config, name: str) -> Table:
    """A table from the cells that exist; the others are marked missing."""
    output, shown, data = _asked(config, name, "table")
    found: Table = builder(type(output)).build(output, shown, data)
    return found


def missing(config: Config, name: str) -> int:
    """How many of the runs that a table or figure shows are not finished, or not whole."""
    states = States(Graph(config))
    return sum(states.state(run) == "missing" for run in states.graph.outputs([name]))


def write_table(config: Config, name: str) -> list[Path]:
    """Write a table as CSV (tidy), HTML, Markdown and LaTeX."""
    return tables.write(table(config, name), _stem(config, "tables", name))


def comparison_of(config: Config, name: str) -> Table:
    """A table beside the published numbers."""
    if not find(config, name, "table").published:
        raise UserError(f"{name}: has no 'published' table to be compared with")
    from pipeline.report import comparison

    return comparison.build(*_asked(config, name, "table"))


def write_comparison(config: Config, name: str) -> list[Path]:
    """Write a table's comparison with the published numbers as CSV, HTML and Markdown."""
    found = comparison_of(config, name)
    return tables.write(found, _stem(config, "tables", f"{name}.comparison"), ("csv", "html", "md"))


def figure(config: Config, name: str) -> tuple[Figure, pd.DataFrame]:
    """A figure of what exists, and the data it shows."""
    return draw(*_asked(config, name, "figure"))


def write_figure(config: Config, name: str) -> list[Path]:
    """Write a figure as PDF, PNG and SVG, with the data it shows as CSV."""
    from pipeline.report import figures

    return figures.save(*figure(config, name), _stem(config, "figures", name))


def _stem(config: Config, folder: str, name: str) -> Path:
    return config.results / config.scope / folder / name
