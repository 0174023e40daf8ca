"""The files of tables and figures, and of the runs behind them, by their names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pipeline.artifacts.store import digest
from pipeline.runs import Run
from pipeline.study.graph import Graph
from pipeline.study.outputs.group import Group
from pipeline.study.settings import ALGORITHM

TABLE = (".csv", ".html", ".md", ".tex")
COMPARISON = (".comparison.csv", ".comparison.html", ".comparison.md")
FIGURE = (".pdf", ".png", ".svg", ".csv")


class Targets:
    """What the rules of tables, figures and the report read and write in a study."""

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
        """What decides an output: its entry, its runs and their settings."""
        output = self.outputs[name]
        runs = {run.key: self.graph.digest(run) for run in self.graph.outputs([name])}
        methods = sorted(self.config.recipes.methods.items())
        return {
            "algorithm": ALGORITHM["figure" if output.what == "figure" else "table"],
            "labels": {name: [method.label, method.color] for name, method in methods},
            "output": output.declared(),
            "protocol": self.config.main.protocol,
            "runs": digest(runs),
        }

    def declared(self) -> str:
        """Digest of all that study, recipes and data sets declare: what the report lists."""
        raw = self.config.raw
        return digest([raw["study"], raw["recipes"], raw["datasets"], self.config.main.protocol])
