"""Studies as plain mappings, for the tests of what is declared; nothing is read but the recipes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import UserError
from pipeline.study.config import Config
from pipeline.study.graph import Graph
from pipeline.study.strict_yaml import read_yaml

ROOT = Path(__file__).parents[1]

#: An experiment on CIFAR-10 in the shape of the paper's, small.
BASE: dict[str, Any] = {
    "dataset": "cifar10",
    "width": 1,
    "sparsities": [0.8, 0.95],
    "rewind_epochs": [0, 10],
    "pairs": [[0, 1], [2, 3]],
}
STUDY: dict[str, Any] = {
    "title": "A study",
    "experiments": {"one": BASE},
    "outputs": {"table_one": {"kind": "rewind-grid", "experiments": ["one"]}},
}


@cache
def _recipes() -> dict[str, Any]:
    found: dict[str, Any] = read_yaml(ROOT / "config" / "recipes.yaml")
    return found


def recipes() -> dict[str, Any]:
    """The recipes of the repository, as a mapping of one's own."""
    found: dict[str, Any] = plain(_recipes())
    return found


def plain(value: Any) -> Any:
    """A copy of mappings and lists, in a fifth of the time that ``deepcopy`` takes."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, list) else value


def raw(**parts: Any) -> dict[str, Any]:
    """All that a configuration is made of; ``parts`` go before the small study and its like."""
    whole = {"main": {"study": "mine"}, "datasets": {}, "study": STUDY, "recipes": recipes()}
    found: dict[str, Any] = plain(whole | parts)
    return found


def config(
    experiments: Mapping[str, Any] | None = None,
    outputs: Mapping[str, Any] | None = None,
    protocol: str = "paper",
    **parts: Any,
) -> Config:
    """A checked configuration; tables and figures are checked too."""
    if experiments is not None:
        parts["study"] = {"experiments": experiments, "outputs": outputs or {}}
    parts.setdefault("main", {"study": "mine", "protocol": protocol})
    found = Config(raw(**parts))
    assert found.outputs is not None
    return found


def graph(*arguments: Any, **parts: Any) -> Graph:
    return Graph(config(*arguments, **parts))


def digests(graph: Graph) -> dict[str, str]:
    """Digest of every run behind the study's cells and outputs, by path."""
    runs = [cell.run for one in graph.config.experiments.values() for cell in one.cells()]
    runs = graph.closure([*runs, *graph.outputs(graph.config.outputs)])
    return {f"{run.stage}/{run.key}": graph.digest(run) for run in runs}


def refused(call: Callable[[], object], *words: str) -> str:
    """The message of the mistake that ``call`` must find: one line that holds all ``words``."""
    with pytest.raises(UserError) as caught:
        call()
    message = str(caught.value)
    assert one_line(message), message
    for word in words:
        assert word in message, message
    return message


def one_line(message: str) -> bool:
    """Whether a message is a single, printable, bounded line."""
    return bool(message) and message.isprintable() and len(message) < 2000
