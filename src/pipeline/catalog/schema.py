"""Typed, frozen settings from YAML: one line per mistake, saying where and what is allowed.

Standard library only: every cluster job parses the study.
"""

from __future__ import annotations

import difflib
import math
import re
import reprlib
import types
import typing
from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from functools import cache, partial
from typing import Any, Literal, TypeVar, Union

from pipeline.errors import UserError

Settings = TypeVar("Settings")

#: Whole numbers lie below this: they stand in paths and in JSON.
LARGEST = 10**15
#: Names of entries, which stand in paths.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")


@dataclass(frozen=True)
class Bounds:
    """Allowed interval of a number; ``open_low``/``open_high`` exclude the end point."""

    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def holds(self, value: float) -> bool:
        above = value > self.low if self.open_low else value >= self.low
        below = value < self.high if self.open_high else value <= self.high
        return above and below and math.isfinite(value)

    def __str__(self) -> str:
        left, right = "(" if self.open_low else "[", ")" if self.open_high else "]"
        if math.isinf(self.high):
            return f"a number {'above' if self.open_low else 'of at least'} {self.low:g}"
        return f"a number in {left}{self.low:g}, {self.high:g}{right}"


POSITIVE = Bounds(0, open_low=True)
NOT_NEGATIVE = Bounds(0)
AT_LEAST_ONE = Bounds(1)
FRACTION = Bounds(0, 1, open_low=True, open_high=True)


@dataclass(frozen=True)
class Checked:
    """Settings whose values must fit together as well."""

    def check(self, where: str) -> None:
        """Raise UserError where they do not."""


def option(
    default: Any = MISSING, help: str = "", bounds: Bounds | None = None, unique: bool = False
) -> Any:
    """A dataclass field with its help text and allowed interval (of each item, for lists)."""
    return field(default=default, metadata={"help": help, "bounds": bounds, "unique": unique})


class _Short(reprlib.Repr):
    """``repr`` of bounded size and time, whatever was read: no YAML bomb unfolds in a message."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxlong, self.maxother = 3, 60, 40, 60

    def repr_int(self, x: int, level: int) -> str:
        if x.bit_length() > 1000:  # Python refuses to print numbers of thousands of digits
            return f"a number of {x.bit_length()} bits"
        return super().repr_int(x, level)


def quote(value: object) -> str:
    """A value as it stands in an error line: short, and on one line."""
    text = _Short().repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def describe(value: object) -> str:
    """A value for an error line: its text, shortened, and its YAML type."""
    names = {dict: "a mapping", list: "a list", str: "text", bool: "true/false"}
    names |= {int: "a whole number", float: "a number", type(None): "nothing"}
    return f"{quote(value)} ({names.get(type(value), type(value).__name__)})"


def suggest(word: str, allowed: Collection[str]) -> str:
    """``allowed: …`` with the nearest spelling first where there is one."""
    near = difflib.get_close_matches(str(word)[:60], allowed, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}allowed: {', '.join(allowed) if allowed else 'nothing'}"


def choose(word: object, allowed: Collection[str], where: str, what: str) -> str:
    """``word`` if it is one of ``allowed``, or one line that says that this ``what`` is unknown."""
    if isinstance(word, str) and word in allowed:
        return word
    hint = suggest(word if isinstance(word, str) else "", sorted(allowed))
    raise UserError(f"{where}: unknown {what} {quote(word)}; {hint}")


def mapping(raw: object, where: str) -> dict[str, Any]:
    """``raw`` as a mapping with text keys, or one line that says it is none."""
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        raise UserError(f"{where}: expected a mapping of names to values, got {describe(raw)}")
    for key in raw:
        if not isinstance(key, str):
            raise UserError(f"{where}: expected text as key, got {describe(key)}")
    return raw


def check_name(name: str, where: str) -> str:
    """``name`` if it can stand in a path, or one line that says what is allowed."""
    if not _NAME.fullmatch(name):
        raise UserError(
            f"{where}: name {quote(name)} is not allowed; "
            "use up to 40 letters, digits, '-' and '_', not '-' or '_' first"
        )
    return name


def named(raw: object, where: str) -> dict[str, Any]:
    """``raw`` as a mapping of names that can stand in paths."""
    return {check_name(name, where): value for name, value in mapping(raw, where).items()}


def extended(name: str, entries: Mapping[str, Any], where: str, what: str) -> dict[str, Any]:
    """The entry ``name`` laid over the one that its key ``extends`` names, and so on.

    Raises:
        UserError: an entry is no mapping, or ``extends`` names none or leads back.
    """
    chain = [name]
    raw: dict[str, Any] = {}
    while True:
        place = f"{where}: {chain[-1]}"
        raw = {**mapping(entries[chain[-1]], place), **raw}
        parent = raw.pop("extends", None)
        if parent is None:
            return raw
        chain.append(choose(parent, entries, f"{place}: extends", what))
        if chain[-1] in chain[:-1]:
            raise UserError(f"{place}: extends: {chain[-1]!r} leads back to itself")


@cache
def _keys(kind: Any) -> dict[str, tuple[Any, Field[Any]]]:
    """Type and field of each key of a settings dataclass."""
    hints = typing.get_type_hints(kind)
    return {item.name: (hints[item.name], item) for item in fields(kind)}


def parse(kind: type[Settings], raw: object, where: str) -> Settings:
    """Build the settings dataclass ``kind`` from a YAML mapping.

    Raises:
        UserError: unknown or missing key, wrong type, value outside its interval or choices.
    """
    values = mapping(raw, where)
    known = _keys(kind)  # type: ignore[arg-type]
    for key in values:
        choose(key, known, where, "key")
    built: dict[str, Any] = {}
    for name, (hint, item) in known.items():
        if name in values:
            built[name] = _reader(hint)(values[name], f"{where}: {name}", item)
        elif item.default is MISSING:
            raise UserError(f"{where}: key {name!r} is missing")
    return kind(**built)


@cache
def _reader(hint: Any) -> Callable[[Any, str, Field[Any]], Any]:
    """What reads a value of a type, given the value, its place and the field that it is of."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        inner = _reader(next(a for a in arguments if a is not type(None)))
        if type(None) not in arguments:
            return inner
        return lambda raw, where, item: None if raw is None else inner(raw, where, item)
    if origin is Literal:
        return lambda raw, where, item: choose(raw, arguments, where, "value")
    if origin is tuple:
        return partial(_list, arguments)
    if origin is dict:
        return partial(_dictionary, *arguments)
    if hint is Any:
        return lambda raw, where, item: raw
    return partial(_scalar, hint)


def _list(arguments: tuple[Any, ...], raw: object, where: str, item: Field[Any]) -> tuple[Any, ...]:
    if not isinstance(raw, list | tuple):
        raise UserError(f"{where}: expected a list, got {describe(raw)}")
    of_any_length = arguments[-1] is Ellipsis
    if of_any_length:
        arguments = arguments[:1] * len(raw)
    if len(raw) != len(arguments):
        raise UserError(f"{where}: expected {len(arguments)} values, got {describe(raw)}")
    pairs = enumerate(zip(arguments, raw, strict=True))
    values = tuple(_reader(a)(v, f"{where}[{i}]", item) for i, (a, v) in pairs)
    if of_any_length and item.metadata.get("unique") and len(set(values)) != len(values):
        raise UserError(f"{where}: every value may stand once, got {describe(list(raw))}")
    return values


def _dictionary(of: Any, to: Any, raw: object, where: str, item: Field[Any]) -> dict[str, Any]:
    entries = mapping(raw, where)
    if typing.get_origin(of) is Literal:
        for key in entries:
            choose(key, typing.get_args(of), where, "key")
    read = _reader(to)
    return {key: read(value, f"{where}: {quote(key)}", item) for key, value in entries.items()}


#: What a value may be, and how that is called.
_SCALARS: dict[type, tuple[Any, str]] = {
    int: (int, "a whole number"), float: ((int, float), "a number"), str: (str, "text"),
    bool: (bool, "true or false"),
}  # fmt: skip


def _scalar(hint: type, raw: object, where: str, item: Field[Any]) -> Any:
    allowed, name = _SCALARS[hint]
    if not isinstance(raw, allowed) or (isinstance(raw, bool) and hint is not bool):
        raise UserError(f"{where}: expected {name}, got {describe(raw)}")
    if isinstance(raw, int) and abs(raw) >= LARGEST:
        raise UserError(f"{where}: {quote(raw)} is too large; allowed: up to 15 digits")
    value: Any = hint(raw)
    if hint is float:
        value += 0.0  # -0.0 and 0.0 are one setting
    bounds: Bounds | None = item.metadata.get("bounds")
    if bounds is not None and hint in (int, float) and not bounds.holds(value):
        raise UserError(f"{where}: {value!r} is not allowed; expected {bounds}")
    if hint is float and not math.isfinite(value):
        raise UserError(f"{where}: {value!r} is not allowed; expected a finite number")
    return value


def without_defaults(settings: Any) -> dict[str, Any]:
    """Settings as a sorted mapping, values equal to the default dropped.

    A key that is added to the schema later, with a default that keeps the old meaning, then
    changes no digest and re-runs nothing.
    """
    kept: dict[str, Any] = {}
    for item in sorted(fields(settings), key=lambda f: f.name):
        value = getattr(settings, item.name)
        if value != item.default:
            kept[item.name] = list(value) if isinstance(value, tuple) else value
    return kept
