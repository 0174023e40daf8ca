"""Accuracies that further works have published, as data: files in ``config/published``, a work each.

A file is a CSV with a row per cell and the columns of ``PublishedCell``. Its name is the work's, and
a table of it is called by both: ``published: "<work> <table>"``.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, Self

from pipeline.catalog.schema import (
    AT_LEAST_ONE,
    FRACTION,
    NOT_NEGATIVE,
    POSITIVE,
    Bounds,
    choose,
    mapping,
    option,
    parse,
)
from pipeline.errors import UserError, brief

FOLDER = "published"
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")  # also that of the module of its claims
_WHOLE = ("rewind_epoch", "matching_epoch", "n")
_NUMBERS = ("width", "sparsity", "mean", "std")


@dataclass(frozen=True)
class PublishedCell:
    """A row: an accuracy as a work prints it; an empty field is not given."""

    work: str = option(help="the work as it is cited")
    table: str = option(help="number of its table")
    dataset: str = option()
    model: str = option()
    width: float = option(bounds=POSITIVE)
    sparsity: float = option(help="share of weights pruned", bounds=FRACTION)
    method: str = option(help="a method of config/recipes.yaml")
    rewind_epoch: int = option(bounds=NOT_NEGATIVE)
    metric: Literal["top1", "top5"] = option()
    mean: float = option(help="test accuracy in %", bounds=Bounds(0, 100))
    n: int = option(help="runs behind the mean", bounds=AT_LEAST_ONE)
    matching_epoch: int | None = option(None, "empty: the end of training", NOT_NEGATIVE)
    std: float | None = option(None, "sample standard deviation in %; empty: unknown", NOT_NEGATIVE)


COLUMNS = tuple(item.name for item in fields(PublishedCell))


@dataclass(frozen=True)
class Works:
    """What further works have published, a tuple of cells for each work by its name."""

    cells: Mapping[str, tuple[PublishedCell, ...]]

    @classmethod
    def read(cls, raw: object, *known: Collection[str]) -> Self:
        """From the texts of the files, by name.

        ``known``: the names that may stand in the columns dataset, model and method, each.

        Raises:
            UserError: a row that is no cell, or a cell that stands twice; one line with its number.
        """
        texts = mapping(raw, f"config/{FOLDER}")
        allowed = dict(zip(("dataset", "model", "method"), known, strict=True))
        return cls({name: tuple(_cells(name, text, allowed)) for name, text in texts.items()})

    @property
    def labels(self) -> list[str]:
        """The tables of all works: ``<work> <table>``."""
        found = [f"{name} {cell.table}" for name, own in self.cells.items() for cell in own]
        return sorted(set(found))

    def rows(self, word: str) -> list[dict[str, Any]]:
        """The cells of a work, or of one of its tables, a mapping each; none: no such work."""
        name, _, table = word.partition(" ")
        return [asdict(cell) for cell in self.cells.get(name, ()) if table in ("", cell.table)]


NONE = Works({})


def texts(folder: Path) -> dict[str, str]:
    """The files of a folder of published cells, by name; there may be no such folder.

    Raises:
        UserError: one cannot be read.
    """
    found = {}
    for path in sorted(folder.glob("*.csv")):
        try:
            found[path.stem] = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeError) as error:
            raise UserError(
                f"config/{FOLDER}/{path.name}: cannot be read: {brief(error)}"
            ) from None
    return found


def _cells(
    name: str, text: object, known: Mapping[str, Collection[str]]
) -> Iterator[PublishedCell]:
    place = f"config/{FOLDER}/{name}.csv"
    if not _NAME.fullmatch(name):
        raise UserError(f"{place}: a work's name has small letters, digits and '_', no digit first")
    if not isinstance(text, str):
        raise UserError(f"{place}: no text")
    seen: dict[tuple[object, ...], int] = {}
    lines = csv.reader(text.splitlines(), strict=True)
    try:
        head = next(lines, [])
        if sorted(head) != sorted(COLUMNS):
            raise UserError(f"{place}: columns: expected {','.join(COLUMNS)}, got {','.join(head)}")
        for fields_of_row in lines:
            where = f"{place}: line {lines.line_num}"
            if len(fields_of_row) != len(head):
                raise UserError(f"{where}: {len(fields_of_row)} fields, not {len(head)}")
            cell = _cell(dict(zip(head, fields_of_row, strict=True)), where, known)
            key = tuple(v for k, v in asdict(cell).items() if k not in ("work", "mean", "std", "n"))
            if key in seen:
                raise UserError(f"{where}: the cell of line {seen[key]} again")
            seen[key] = lines.line_num
            yield cell
    except csv.Error as error:
        raise UserError(f"{place}: line {lines.line_num}: {brief(error)}") from None


def _cell(
    row: Mapping[str, str], where: str, known: Mapping[str, Collection[str]]
) -> PublishedCell:
    values: dict[str, Any] = {name: text for name, text in row.items() if text}
    for names, number in ((_WHOLE, int), (_NUMBERS, float)):
        for name in names:
            if name in values:
                values[name] = _number(values[name], number)
    cell = parse(PublishedCell, values, where)
    for name, allowed in known.items():
        choose(getattr(cell, name), allowed, f"{where}: {name}", name)
    if cell.std is not None and cell.n < 2:
        raise UserError(f"{where}: std: one run has no spread, got n = {cell.n}")
    return cell


def _number(text: str, kind: Callable[[str], object]) -> object:
    """The number that a text says; else the text, which then is told as no number."""
    try:
        return kind(text)
    except ValueError:
        return text
