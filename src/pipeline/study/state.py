"""What is there and what is missing: the state of runs, and what a target would execute."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Literal

from pipeline.artifacts.record import PROVENANCE, record_of
from pipeline.catalog.schema import suggest
from pipeline.errors import UserError
from pipeline.runs import STAGES, Run, parse
from pipeline.study.config import Config
from pipeline.study.graph import Graph

State = Literal["done", "missing", "stale"]
ALL = ("all", "report", "tables", "figures")


@dataclass(frozen=True)
class Target:
    """What was asked for: outputs by name, and single runs by path."""

    outputs: tuple[str, ...]
    runs: tuple[Run, ...]


class States:
    """Reads the state of runs from their folders, each once."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.config = graph, graph.config
        self.state = cache(self._state)

    def _state(self, run: Run) -> State:
        folder = self.config.results / run.folder
        found = record_of(folder)
        if found is None or not found.there(folder, run.files):
            return "missing"
        return "done" if found.digest == self.graph.digest(run) else "stale"

    def why(self, run: Run) -> str:
        """The state in words, with the reason where a run is stale."""
        state = self.state(run)
        if state == "missing":
            folder = self.config.results / run.folder
            absent = [n for n in (*run.files, PROVENANCE) if not (folder / n).exists()]
            if len(absent) > len(run.files):
                return "missing"
            return f"missing: {', '.join(absent) or f'{PROVENANCE} is damaged'}"
        if state == "stale":
            return "stale: its settings, or those of a run before it, were changed"
        return "done"


def resolve(config: Config, words: Iterable[str]) -> Target:
    """Outputs and runs that words on a command line name, as Snakemake's targets do.

    Raises:
        UserError: neither a table, a figure, a group of them, nor the path of a run.
    """
    outputs: list[str] = []
    runs: list[Run] = []
    for word in words:
        if word in ALL:
            what = {"tables": "table", "figures": "figure"}.get(word)
            outputs += [
                n for n, o in config.outputs.items() if what in (None, o.what) and not o.optional
            ]
        elif word in config.outputs:
            outputs.append(word)
        else:
            runs.append(run_of(config, word))
    return Target(tuple(dict.fromkeys(outputs)), tuple(dict.fromkeys(runs)))


def run_of(config: Config, word: str) -> Run:
    """The run of a path: a file or folder of it, with or without the results folder before it."""
    text = word.removeprefix(f"{config.main.results}/").rstrip("/")
    stage, _, rest = text.partition("/")
    names = [*config.outputs, *ALL]
    if stage not in STAGES or not rest:
        raise UserError(
            f"{word!r}: neither a table or figure of study {config.main.study!r} nor the path of a run; "
            f"{suggest(word, sorted(names))}"
        )
    known = {*STAGES[stage].files, PROVENANCE, "logits.safetensors", "weights.safetensors"}
    head, _, last = rest.rpartition("/")
    return parse(stage, head if last in known else rest)
