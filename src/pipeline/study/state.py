"""What is there and what is missing: the state of runs, and what a target would execute."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pipeline.artifacts.record import PROVENANCE, record_of
from pipeline.catalog.schema import choose, suggest
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

    def closure(self, graph: Graph) -> list[Run]:
        """All runs behind it, ancestors first."""
        return graph.closure([*graph.outputs(self.outputs), *self.runs])


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

    def changes(self, run: Run) -> Iterator[str]:
        """A line per setting of a stale run that was another when it was made, and per changed parent."""
        record = record_of(self.config.results / run.folder)
        if self.state(run) != "stale" or record is None:
            return
        now = self.graph.settings(run)
        yield from differences({**record.settings, "parents": None}, now | {"parents": None})
        was = record.settings.get("parents")
        for role, parent in now.get("parents", {}).items():
            if not isinstance(was, dict) or was.get(role) != parent:
                file = self.graph.inputs(run)[role]
                yield f"{role}: from another {file.run.folder}"


def differences(
    before: Any, after: Any, words: tuple[str, str] = ("made with", "now"), name: str = ""
) -> Iterator[str]:
    """A line per value in which two nested mappings differ; ``words`` stand before the two."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted({*before, *after}):
            inner = f"{name}.{key}".lstrip(".")
            yield from differences(before.get(key), after.get(key), words, inner)
    elif before != after:
        yield f"{name}: {words[0]} {_value(before)}, {words[1]} {_value(after)}"


def _value(value: Any) -> str:
    return "the default" if value is None else json.dumps(value)[:200]


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


def output_of(config: Config, word: str) -> str | None:
    """The table or figure of which a path is a file; None: of none.

    Raises:
        UserError: it is of another study or protocol, or of an output that is no more.
    """
    parts = Path(word.removeprefix(f"{config.main.results}/")).parts
    if len(parts) < 3 or parts[0] in STAGES or parts[-2] not in ("tables", "figures"):
        return None
    scope, name = "/".join(parts[:-2]), parts[-1].partition(".")[0]
    if scope != config.scope:
        study, _, protocol = scope.partition("/")
        asked = f"--study {study}" + (f" --protocol {protocol}" if protocol else "")
        raise UserError(f"{word!r}: of another study than {config.scope}; ask with {asked}")
    return choose(name, config.outputs, config.where, "table or figure")


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
