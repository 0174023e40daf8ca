"""Typed, frozen settings from YAML: one line per mistake, saying where and what is allowed.

Standard library only: every cluster job parses the study.
"""

from __future__ import annotations

import difflib
import math
import types
import typing
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, Literal, TypeVar, Union

from pipeline.errors import UserError

Settings = TypeVar("Settings")


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


def option(
    default: Any = MISSING, help: str = "", bounds: Bounds | None = None, unique: bool = False
) -> Any:
    """A dataclass field with its help text and allowed interval (of each item, for lists)."""
    metadata = {"help": help, "bounds": bounds, "unique": unique}
    if default is MISSING:
        return field(metadata=metadata)
    return field(default=default, metadata=metadata)


def suggest(word: str, allowed: list[str]) -> str:
    """``allowed: …`` with the nearest spelling first where there is one."""
    near = difflib.get_close_matches(str(word), allowed, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}allowed: {', '.join(allowed) if allowed else 'nothing'}"


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


def describe(value: object) -> str:
    """A value for an error line: its text, shortened, and its YAML type."""
    names = {dict: "a mapping", list: "a list", str: "text", bool: "true/false"}
    names |= {int: "a whole number", float: "a number", type(None): "nothing"}
    text = repr(value)
    text = text if len(text) <= 60 else text[:57] + "..."
    return f"{text} ({names.get(type(value), type(value).__name__)})"


def parse(kind: type[Settings], raw: object, where: str) -> Settings:
    """Build the settings dataclass ``kind`` from a YAML mapping.

    Raises:
        UserError: unknown or missing key, wrong type, value outside its interval or choices.
    """
    values = mapping(raw, where)
    hints = typing.get_type_hints(kind)
    known: dict[str, Field[Any]] = {f.name: f for f in fields(kind) if f.init}  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            raise UserError(f"{where}: unknown key {key!r}; {suggest(key, sorted(known))}")
    built: dict[str, Any] = {}
    for name, item in known.items():
        if name in values:
            built[name] = _value(hints[name], values[name], f"{where}: {name}", item)
        elif item.default is MISSING and item.default_factory is MISSING:
            raise UserError(f"{where}: key {name!r} is missing")
    return kind(**built)


def _value(hint: Any, raw: object, where: str, item: Field[Any]) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        if raw is None and type(None) in arguments:
            return None
        inner = [a for a in arguments if a is not type(None)]
        return _value(inner[0], raw, where, item)
    if origin is Literal:
        if isinstance(raw, bool) or raw not in arguments:
            raise UserError(
                f"{where}: unknown value {describe(raw)}; {suggest(str(raw), [str(a) for a in arguments])}"
            )
        return raw
    if origin is tuple:
        if not isinstance(raw, list | tuple):
            raise UserError(f"{where}: expected a list, got {describe(raw)}")
        inner = arguments[0]
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            values = tuple(_value(inner, v, f"{where}[{i}]", item) for i, v in enumerate(raw))
            if item.metadata.get("unique") and len(set(values)) != len(values):
                raise UserError(f"{where}: every value may stand once, got {describe(list(raw))}")
            return values
        if len(raw) != len(arguments):
            raise UserError(f"{where}: expected {len(arguments)} values, got {describe(raw)}")
        pairs = enumerate(zip(arguments, raw, strict=True))
        return tuple(_value(a, v, f"{where}[{i}]", item) for i, (a, v) in pairs)
    if origin is dict:
        return {
            k: _value(arguments[1], v, f"{where}: {k}", item)
            for k, v in mapping(raw, where).items()
        }
    if hint is Any:
        return raw
    return _scalar(hint, raw, where, item)


def _scalar(hint: type, raw: object, where: str, item: Field[Any]) -> Any:
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    right = {
        bool: isinstance(raw, bool),
        int: isinstance(raw, int) and not isinstance(raw, bool),
        float: isinstance(raw, int | float) and not isinstance(raw, bool),
        str: isinstance(raw, str),
    }[hint]
    if not right:
        raise UserError(f"{where}: expected {names[hint]}, got {describe(raw)}")
    try:
        value = hint(raw)
    except OverflowError:
        raise UserError(f"{where}: {describe(raw)} is too large") from None
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


__all__ = [
    "Bounds",
    "Settings",
    "describe",
    "mapping",
    "option",
    "parse",
    "suggest",
    "without_defaults",
]
