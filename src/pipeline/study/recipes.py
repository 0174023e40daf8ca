"""Recipes by name, shared by all studies, and labels that name a recipe with its changes.

A label is ``name`` or ``name+key=value+key=value`` (sorted, only values that differ from the
recipe's own). It stands in artifact paths, so that two settings never share a path and equal
settings are shared whatever study or protocol asks for them.
"""

from __future__ import annotations

import json
import re
from dataclasses import fields, replace
from functools import cache
from typing import Any

from pipeline.errors import UserError
from pipeline.study.schema import mapping, parse, suggest
from pipeline.study.settings import RECIPES, Method, Protocol, StageSettings

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_WORD = re.compile(r"[A-Za-z0-9_.-]+")


def check_name(name: str, where: str) -> str:
    """``name`` if it can stand in a path, or one line that says what is allowed."""
    if not NAME.fullmatch(name):
        raise UserError(f"{where}: name {name!r} is not allowed; use letters, digits, '-' and '_'")
    return name


def _text(value: object) -> str:
    if value is None or isinstance(value, bool | int | float):
        return json.dumps(value).replace("e+", "e")
    return str(value)


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


class Library:
    """Recipes, methods and protocols of ``config/recipes.yaml``."""

    def __init__(self, raw: object, where: str) -> None:
        data = mapping(raw, where)
        sections = [*RECIPES, "methods", "protocols"]
        for key in data:
            if key not in sections:
                raise UserError(f"{where}: unknown key {key!r}; {suggest(key, sections)}")
        self.where = where
        self._recipes: dict[str, dict[str, StageSettings]] = {}
        for kind in RECIPES:
            entries = mapping(data.get(kind), f"{where}: {kind}")
            self._recipes[kind] = {
                check_name(name, f"{where}: {kind}"): self._extended(kind, name, entries, ())
                for name in entries
            }
        self.methods: dict[str, Method] = {}
        for name, entry in mapping(data.get("methods"), f"{where}: methods").items():
            place = f"{where}: methods: {check_name(name, f'{where}: methods')}"
            self.methods[name] = parse(Method, entry, place)
            self.methods[name].check(place)
            if self.methods[name].match:
                self.resolve("match", str(self.methods[name].match), f"{place}: match")
        self.protocols: dict[str, Protocol] = {}
        for name, entry in mapping(data.get("protocols"), f"{where}: protocols").items():
            place = f"{where}: protocols: {check_name(name, f'{where}: protocols')}"
            self.protocols[name] = parse(Protocol, entry, place)
            for kind in RECIPES:
                changes = getattr(self.protocols[name], kind)
                if changes:
                    parse(RECIPES[kind], changes, f"{place}: {kind}")
        self.resolve = cache(self.resolve)  # type: ignore[method-assign]

    def _extended(
        self, kind: str, name: str, entries: dict[str, Any], below: tuple[str, ...]
    ) -> StageSettings:
        place = f"{self.where}: {kind}: {name}"
        raw = self._flat(kind, name, entries, below)
        settings: StageSettings = parse(RECIPES[kind], raw, place)
        settings.check(place)
        return settings

    def _flat(
        self, kind: str, name: str, entries: dict[str, Any], below: tuple[str, ...]
    ) -> dict[str, Any]:
        place = f"{self.where}: {kind}: {name}"
        raw = dict(mapping(entries[name], place))
        parent = raw.pop("extends", None)
        if parent is None:
            return raw
        if not isinstance(parent, str) or parent not in entries:
            raise UserError(
                f"{place}: extends: unknown recipe; {suggest(str(parent), sorted(entries))}"
            )
        if parent == name or parent in below:
            raise UserError(f"{place}: extends: {parent!r} leads back to itself")
        return self._flat(kind, parent, entries, (*below, name)) | raw

    def names(self, kind: str) -> list[str]:
        return sorted(self._recipes[kind])

    def resolve(self, kind: str, label: str, where: str = "") -> Any:
        """Settings of a label such as ``imp-ft+momentum=0``.

        Raises:
            UserError: unknown recipe or key, value not allowed.
        """
        place = where or f"{kind} recipe {label!r}"
        name, *changes = label.split("+")
        if name not in self._recipes[kind]:
            raise UserError(
                f"{place}: unknown {kind} recipe {name!r}; {suggest(name, self.names(kind))}"
            )
        settings = self._recipes[kind][name]
        if not changes:
            return settings
        raw = {}
        for change in changes:
            key, equals, text = change.partition("=")
            if not equals:
                raise UserError(f"{place}: expected key=value after '+', got {change!r}")
            raw[key] = _value(text)
        parsed = parse(type(settings), raw, place)
        settings = replace(settings, **{key: getattr(parsed, key) for key in raw})
        settings.check(place)
        return settings

    def label(self, kind: str, reference: object, protocol: Protocol, where: str) -> str:
        """Label of a recipe reference under a protocol.

        ``reference`` is a recipe's name, or a mapping with ``recipe`` and changed settings; the
        protocol's switches hold for every recipe of the kind, an experiment's own changes come last.
        """
        if isinstance(reference, str):
            name, own = reference, {}
        else:
            own = dict(mapping(reference, where))
            name = own.pop("recipe", None)
            if not isinstance(name, str):
                raise UserError(f"{where}: expected the name of a recipe under 'recipe'")
        base = self.resolve(kind, name, where)
        changes = dict(getattr(protocol, kind) or {}) | own
        if not changes:
            return str(name)
        parsed = parse(type(base), changes, where)
        known = {f.name for f in fields(base)}
        parts = []
        for key in sorted(changes):
            value = getattr(parsed, key)
            if key in known and value != getattr(base, key):
                if isinstance(value, tuple | dict) or not _WORD.fullmatch(_text(value)):
                    raise UserError(
                        f"{where}: {key}: a list cannot be changed in place; "
                        f"add a recipe with 'extends: {name}' to {self.where}"
                    )
                parts.append(f"{key}={_text(value)}")
        label = "+".join([name, *parts])
        self.resolve(kind, label, where)
        return label
