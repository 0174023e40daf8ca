"""The report of a study: one page to read, offline and on paper."""

from __future__ import annotations

import os
import re
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from itertools import groupby
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from pipeline.artifacts.record import PROVENANCE
from pipeline.artifacts.store import write_atomic
from pipeline.progress.job import clock
from pipeline.report import about, build, headline
from pipeline.report.tables import Table, groups, to_fragment
from pipeline.report.tables.render import STYLE, VERDICTS
from pipeline.runs import STAGES, Run
from pipeline.study.config import Config
from pipeline.study.graph import Graph
from pipeline.study.targets import Targets

#: Name of Snakemake's own report, which lies beside the page.
ARCHIVE = "archive.html"


@dataclass(frozen=True)
class Link:
    """A file, and what it is called."""

    text: str
    href: str


@dataclass(frozen=True)
class Listed:
    """A run as the page lists it: in words, with the files that say what it did."""

    words: str
    links: tuple[Link, ...]


@dataclass(frozen=True)
class Behind:
    """Runs under a heading: of the cells of a table that show just them, or of a kind.

    ``anchor``: where a cell's link leads; empty for a kind.
    """

    heading: str
    runs: tuple[Listed, ...]
    anchor: str = ""


@dataclass(frozen=True)
class Item:
    """A table, figure or comparison on the page.

    ``table`` is HTML, ``picture`` an address; one of them is empty. ``runs``: those behind it;
    empty where it stands on other outputs' runs or on none.
    """

    name: str
    label: str
    caption: str
    table: str
    picture: str
    files: tuple[Link, ...]
    runs: tuple[Behind, ...] = ()


class Page:
    """Puts together what the page shows; addresses are relative to the folder that it lies in."""

    def __init__(self, config: Config, path: Path) -> None:
        self.config, self.folder = config, path.parent
        self.graph = Graph(config)
        self.targets = Targets(self.graph)
        self.tables: dict[str, Table] = {}
        self.found: list[str] = []

    def render(self) -> str:
        """The page as HTML, with all it shows inside."""
        environment = Environment(
            autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        source = resources.files(__package__)
        template = environment.from_string(source.joinpath("page.html").read_text("utf-8"))
        provenance = about.provenance(self.config)
        parts = [(title, list(self._items(what))) for title, what in _PARTS.items()]
        self.found = headline.sentences(self.config, self.tables)
        return template.render(
            title=self.config.title,
            study=self.config.main.study,
            protocol=self.targets.protocol,
            style=STYLE + source.joinpath("page.css").read_text("utf-8"),
            archive=ARCHIVE,
            ran=_ran(provenance),
            found=self.found,
            verdicts=self._verdicts(),
            parts=[(title, items) for title, items in parts if items],
            about=[
                ("settings", "Settings", [about.experiments(self.config), about.settings(self.config)]),
                ("provenance", "Provenance", [provenance]),
            ],
            fragment=lambda table: to_fragment(table, caption=True),
        )  # fmt: skip

    def _items(self, what: str) -> Iterable[Item]:
        for name in sorted(self.targets.names(what), key=_natural):
            if self.config.outputs[name].optional:
                continue
            yield self._figure(name) if what == "figure" else self._table(name)
            if self.config.outputs[name].published and what == "table":
                yield self._beside(name)

    def _table(self, name: str) -> Item:
        self.tables[name] = build.table(self.config, name)
        return self._item(name, table=self._fragment(self.tables[name], name))

    def _beside(self, name: str) -> Item:
        table = self._fragment(build.comparison_of(self.config, name), name)
        label = f"{self._label(name)}: beside the published numbers"
        links = self._links(name, ".comparison.")
        return Item(f"{name}.comparison", label, _BESIDE, table, "", links)

    def _figure(self, name: str) -> Item:
        svg = self.config.results / self.config.scope / "figures" / f"{name}.svg"
        content = b64encode(svg.read_bytes()).decode()
        return self._item(name, picture=f"data:image/svg+xml;base64,{content}")

    def _item(self, name: str, table: str = "", picture: str = "") -> Item:
        label, caption = self._label(name), self.targets.caption(name)
        runs = tuple(self._behind(name))
        return Item(name, label, caption, table, picture, self._links(name), runs)

    def _label(self, name: str) -> str:
        """An output's number and title; the menu of Snakemake's report sorts by letters, a page does not."""
        return " ".join(self.targets.label(name).split())

    def _fragment(self, table: Table, name: str) -> str:
        return to_fragment(table, runs=f"runs-{name}" if self.graph.outputs([name]) else "")

    def _links(self, name: str, kind: str = ".") -> tuple[Link, ...]:
        """The files of an output whose names go on so behind its own."""
        results = self.config.main.results
        files = [Path(file).relative_to(results) for file in self.targets.files(name)]
        own = (file for file in files if file.name == f"{name}{kind}{file.suffix[1:]}")
        return tuple(Link(file.suffix[1:].upper(), self._address(file)) for file in own)

    def _behind(self, name: str) -> Iterable[Behind]:
        """The runs behind each cell of a table that knows them, each list once; then all others, by kind."""
        runs = self.graph.outputs([name])
        known = {run.path(): run for run in self.graph.closure(runs)}
        cells = groups(self.tables[name]) if name in self.tables else {}
        for number, (paths, named) in enumerate(cells.items()):
            listed = tuple(self._listed(known[path]) for path in paths if path in known)
            more = f"; {len(named) - _NAMED} more cells" if len(named) > _NAMED else ""
            yield Behind("; ".join(named[:_NAMED]) + more, listed, f"runs-{name}-{number}")
        order, shown = list(STAGES), {path for paths in cells for path in paths}
        others = [run for run in runs if run.path() not in shown]
        others.sort(key=lambda run: order.index(run.stage))
        for stage, of_stage in groupby(others, key=lambda run: run.stage):
            yield Behind(STAGES[stage].title, tuple(map(self._listed, of_stage)))

    def _listed(self, run: Run) -> Listed:
        files = {
            "metrics": run.path("metrics.json"),
            "provenance": run.path(PROVENANCE),
            "log": f"logs/{run.folder}.log",
        }
        return Listed(run.words, tuple(Link(text, self._address(f)) for text, f in files.items()))

    def _address(self, file: str | Path) -> str:
        """A file below the results folder, as the page finds it."""
        return Path(os.path.relpath(self.config.results / file, self.folder)).as_posix()

    def _verdicts(self) -> list[tuple[str, int]]:
        """How many claims have each verdict, over all tables of claims."""
        claims = [self.tables[name] for name in self.targets.names("claims") if name in self.tables]
        cells = [text for table in claims for text in table.layout.to_numpy().ravel()]
        return [(word, cells.count(word)) for word in VERDICTS if word in cells]


#: As many cells are named above the runs that they share.
_NAMED = 4
#: Sections of the page, and what they hold.
_PARTS = {"Claims": "claims", "Tables": "table", "Figures": "figure"}
_BESIDE = "Ours beside the published numbers, with the uncertainty of their difference."


def _natural(name: str) -> list[tuple[str, int]]:
    """Sort key by which table_5 stands before table_12."""
    parts = re.split(r"(\d+)", name)
    return [("", int(part)) if part.isdigit() else (part, 0) for part in parts]


def _ran(provenance: Table) -> str:
    """What was run, in a sentence."""
    rows = provenance.tidy
    runs = [f"{STAGES[row.stage].title}: {row.runs}" for row in rows.itertuples()]
    devices = dict.fromkeys(d for text in rows["devices"] for d in text.split(", ") if d != "–")
    text = (
        f"{'; '.join(runs)}. {rows['epochs'].sum():,.0f} epochs of training, "
        f"{clock(rows['seconds'].sum())} of device time on {', '.join(devices) or 'no device'}."
    )
    missing, diverged = int(rows["missing"].sum()), int(rows["diverged"].sum())
    text += f" {missing} runs are missing." if missing else ""
    return text + (f" {diverged} runs diverged." if diverged else "")


def write_report(config: Config, path: Path) -> None:
    """Write the page; its tables are made from the runs, its figures are those that lie there.

    What it says at its head, a sentence a line, stands in ``about/found.txt`` beside it, too.
    """
    page = Page(config, path)
    write_atomic(path, page.render().encode())
    found = path.with_name("about") / "found.txt"
    write_atomic(found, "".join(f"{sentence}\n" for sentence in page.found).encode())
