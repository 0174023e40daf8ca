"""Tables and figures by their names: their files, the runs behind them, what the report says."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict
from operator import itemgetter
from typing import Any

from pipeline.artifacts.store import digest
from pipeline.runs import Run
from pipeline.study.graph import Graph
from pipeline.study.outputs import Linked, Output
from pipeline.study.outputs.group import Group
from pipeline.study.settings import ALGORITHM

TABLE = (".csv", ".html", ".md", ".tex")
COMPARISON = (".comparison.csv", ".comparison.html", ".comparison.md")
FIGURE = (".pdf", ".png", ".svg", ".csv")


class Targets:
    """What the rules of tables, figures and the report read, write and say in a study."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.config = graph.config
        self.results = graph.config.main.results
        self.outputs = graph.config.outputs

    def names(self, what: str) -> list[str]:
        """Names of the study's tables, figures, claims or groups."""
        return [name for name, output in self.outputs.items() if output.what == what]

    def _regular(self, whats: Iterable[str]) -> list[str]:
        """Names of those that belong to ``tables``, ``figures`` and the report."""
        named = [name for what in whats for name in self.names(what)]
        return [name for name in named if not self.outputs[name].optional]

    def files(self, name: str) -> list[str]:
        """The files of a table or figure."""
        output = self.outputs[name]
        if isinstance(output, Group):
            return [file for part in output.outputs for file in self.files(part)]
        stem = f"{self.results}/{self.config.scope}"
        if output.what == "figure":
            return [f"{stem}/figures/{name}{end}" for end in FIGURE]
        ends = TABLE + (COMPARISON if output.published else ())
        return [f"{stem}/tables/{name}{end}" for end in ends]

    def shown(self, *whats: str) -> list[str]:
        """The files of all tables, figures or both."""
        return [file for name in self._regular(whats) for file in self.files(name)]

    def facts(self, run: Run) -> str:
        """The file that says that a run's data set was checked.

        Raises:
            UserError: the run, asked for by its path, cannot be made.
        """
        self.graph.check(run)
        return f"{self.results}/data/{run.home.dataset}/facts.json"

    def runs_of(self, name: str) -> list[str]:
        """The files that stand for the runs an output shows."""
        return self._paths(self.graph.outputs([name]))

    def ancestors(self, *whats: str) -> list[str]:
        """The files that stand for every run behind tables, figures or both."""
        return self._paths(self.graph.closure(self.graph.outputs(self._regular(whats))))

    def ancestors_of(self, name: str) -> list[str]:
        """The files that stand for every run behind one output."""
        return self._paths(self.graph.closure(self.graph.outputs([name])))

    def _paths(self, runs: Iterable[Run]) -> list[str]:
        return [f"{self.results}/{run.path()}" for run in runs]

    def spec(self, name: str) -> dict[str, Any]:
        """What decides an output: its entry, its runs and their settings, and a further work's numbers."""
        output = self.outputs[name]
        runs = {run.key: self.graph.digest(run) for run in self.graph.outputs([name])}
        experiments = self.config.experiments
        chosen = [one for part in self._parts(output) for one in part.chosen(experiments)]
        methods = sorted({item for one in chosen for item in one.ways.items()}, key=itemgetter(0))
        cited = self.config.works.rows(output.cited)
        return {
            **({"cited": digest(cited)} if cited else {}),
            "algorithm": ALGORITHM["figure" if output.what == "figure" else "table"],
            "labels": {name: [method.label, method.color] for name, method in methods},
            "output": output.declared(),
            "protocol": self.config.main.protocol,
            "runs": digest(runs),
        }

    def declared(self) -> str:
        """Digest of the study and of all that it uses: what the report lists."""
        config = self.config
        recipes = {
            kind: {label: asdict(config.recipes.resolve(kind, label)) for label in sorted(labels)}
            for kind, labels in config.labels.items()
        }
        entries = config.experiments.values()
        names = sorted({name for one in entries for name in (one.dataset, one.mask_dataset)})
        facts = [[self.graph.facts(name), config.datasets[name].test_images] for name in names]
        protocol = [config.main.protocol, asdict(config.protocol)]
        return digest([config.raw["study"], recipes, facts, protocol])

    def label(self, name: str) -> str:
        """What the report's menu calls an output: its number, if its name has one, and title.

        Outputs of one title in one category are told apart by their names.
        """
        what, title = self.outputs[name].what, self.outputs[name].title or name
        numbered = re.fullmatch(
            r"(?:[a-z]+_)?(table|figure)_(\d+)((?:_\d+)*[a-z]?)((?:_[a-z]{2,})*)", name
        )
        if numbered:
            kind, number, rest, part = numbered.groups()
            # A figure space before single digits: the menu sorts by letters.
            number = number.rjust(2, chr(0x2007)) + rest.replace("_", ".") + part.replace("_", " ")
            return f"{kind.capitalize()} {number}: {title}"
        same = [n for n, o in self.outputs.items() if (o.title, o.what) == (title, what)]
        return title if same in ([], [name]) else f"{title} ({name})"

    def category(self, name: str) -> str:
        """Where the report shows a table."""
        return "Claims" if self.outputs[name].what == "claims" else "Tables"

    def caption(self, name: str) -> str:
        """What an output shows, under which protocol, with which seeds."""
        output = self.outputs[name]
        parts = [output.title, output.shows, output.note, f"Protocol: {self.protocol}"]
        return " ".join(part.rstrip(".") + "." for part in [*parts, self._seeds(output)] if part)

    @property
    def protocol(self) -> str:
        """The protocol as captions name it."""
        return self.config.protocol.title or self.config.main.protocol

    def _parts(self, output: Output) -> list[Output]:
        """The outputs that one stands for: itself, or those that it links."""
        return [self.outputs[n] for n in output.outputs] if isinstance(output, Linked) else [output]

    def _seeds(self, output: Output) -> str:
        """The seeds behind an output; empty for one that shows no runs."""
        experiments = self.config.experiments
        pairs = {
            part.pairs(experiment)
            for part in self._parts(output)
            if any(part.needs(experiments))
            for experiment in part.chosen(experiments)
        }
        if not pairs:
            return ""
        fewest, most = min(map(len, pairs)), max(map(len, pairs))
        number = f"{fewest}" if fewest == most else f"{fewest} to {most}"
        listed = ""
        if len(pairs) == 1:
            listed = ": " + ", ".join(f"{a}–{b}" for a, b in pairs.pop())
        return f"Seeds: {number} pair{'' if most == 1 else 's'} (a–b){listed}"
