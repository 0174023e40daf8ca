"""Kinds of tables and figures: each is one class and one builder, and no list names them."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import pandas as pd
import pytest
from matplotlib.figure import Figure

from pipeline.report import figures, tables
from pipeline.report.build import builder
from pipeline.report.shown import Shown
from pipeline.report.tables import Table
from pipeline.results import Results
from pipeline.study import outputs
from pipeline.study.outputs import KINDS, Output


def kinds(of: type[Output]) -> Iterator[str]:
    """The kinds of all classes below one, whatever the registry says."""
    for one in of.__subclasses__():
        yield from [one.kind] if "kind" in vars(one) else []
        yield from kinds(one)


BUILT = [name for name, kind in KINDS.items() if kind.what != "group"]


@pytest.mark.parametrize("name", BUILT)
def test_a_kind_has_a_builder_that_is_typed_by_its_class(name: str) -> None:
    kind, module = KINDS[name], builder(KINDS[name])
    read, build = (typing.get_type_hints(function) for function in (module.read, module.build))
    assert issubclass(kind, build["output"]) and issubclass(kind, read["output"])
    assert build["output"].__module__ == kind.__module__
    assert list(inspect.signature(module.read).parameters) == ["output", "results"]
    assert list(inspect.signature(module.build).parameters)[:2] == ["output", "shown"]
    assert (read["results"], build["shown"]) == (Results, Shown)
    assert build["return"] == (tuple[Figure, pd.DataFrame] if kind.what == "figure" else Table)


def test_no_builder_is_without_its_kind() -> None:
    found = {
        f"{package.__name__}.{module.name}"
        for package in (figures, tables)
        for module in iter_modules(package.__path__)
        if hasattr(import_module(f"{package.__name__}.{module.name}"), "build")
    }
    assert found == {builder(KINDS[name]).__name__ for name in BUILT}


def test_a_file_of_the_package_is_enough_for_a_kind() -> None:
    """Every module beside ``base`` has a kind, and every kind stands in such a module."""
    names = {path.stem for path in Path(outputs.__path__[0]).glob("*.py")} - {"__init__", "base"}
    assert sorted(kinds(Output)) == sorted(KINDS)  # none twice
    assert {kind.__module__.rpartition(".")[2] for kind in KINDS.values()} == names
