"""Recipes by name, shared by all studies, and labels that name a recipe with its changes.

A label is ``name`` or ``name+key=value+key=value`` (sorted, only values that differ from the
recipe's own, numbers in their shortest form). It stands in artifact paths, so that two settings
never share a path and equal settings are shared whatever study or protocol asks for them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, fields, replace
from functools import cache
from typing import Any

from pipeline.catalog.schema import Checked, choose, extended, mapping, named, parse, quote
from pipeline.errors import UserError
from pipeline.runs.form import PARTS
from pipeline.runs.sweeps import Sweep, parse_sweep
from pipeline.study.settings import RECIPES, Method, Protocol

#: Labels are parts of paths, and up to two of them stand in one file name of 255 bytes.
LONGEST = 100


def _text(value: object) -> str:
    """A setting in a label; ``_value`` is the inverse."""
    if isinstance(value, float):
        return repr(value).removesuffix(".0").replace("e+", "e")
    if value is None or isinstance(value, bool | int):
        return json.dumps(value)
    return str(value)


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


class Library:
    """Recipes, methods and protocols of ``config/recipes.yaml``."""

    def __init__(self, raw: object, where: str) -> None:
        data = mapping(raw, where)
        kinds = (*RECIPES, "sweep")
        for key in data:
            choose(key, [*kinds, "methods", "protocols"], where, "key")
        self.where = where
        self._recipes: dict[str, dict[str, Checked]] = {}
        for kind in kinds:
            place = f"{where}: {kind}"
            entries = named(data.get(kind), place)
            raw_of = {name: extended(name, entries, place, "recipe") for name in entries}
            self._recipes[kind] = {
                name: parse_sweep(raw, f"{place}: {name}")
                if kind == "sweep"
                else _checked(RECIPES[kind], raw, place, name)
                for name, raw in raw_of.items()
            }
        self.resolve = cache(self._resolve)
        self._check_sweeps()
        self.methods = self._entries(Method, data, "methods")
        for name, method in self.methods.items():
            if method.match is not None:
                self.resolve("match", method.match, f"{where}: methods: {name}: match")
        self.protocols = self._entries(Protocol, data, "protocols")
        for name, protocol in self.protocols.items():
            for kind in RECIPES:
                changes = getattr(protocol, kind)
                parse(RECIPES[kind], changes, f"{where}: protocols: {name}: {kind}")
            for old, new in (protocol.recipes or {}).items():
                place = f"{where}: protocols: {name}: recipes"
                own = [kind for kind in kinds if old in self._recipes[kind]]
                same = {other for kind in own for other in self._recipes[kind]}
                choose(old, {n for kind in kinds for n in self._recipes[kind]}, place, "recipe")
                choose(new, same, f"{place}: {old}", f"{' or '.join(own)} recipe")

    def _check_sweeps(self) -> None:
        """Raise UserError where a sweep names a recipe that is none, or its own name means another."""
        for name, sweep in self._recipes["sweep"].items():
            place = f"{self.where}: sweep: {name}"
            assert isinstance(sweep, Sweep)
            for kind, label in sweep.recipes().items():
                choose(label, self._recipes[kind], f"{place}: {kind}", f"{kind} recipe")
            if name == PARTS["mask"]:
                raise UserError(f"{place}: the name stands for a mask in paths; choose another")

    def _entries(self, kind: type[Any], data: Mapping[str, Any], section: str) -> dict[str, Any]:
        place = f"{self.where}: {section}"
        entries = named(data.get(section), place)
        return {name: _checked(kind, entry, place, name) for name, entry in entries.items()}

    def names(self, kind: str) -> list[str]:
        return sorted(self._recipes[kind])

    def _resolve(self, kind: str, label: str, where: str = "") -> Any:
        """Settings of a label such as ``imp-ft+momentum=0``; called as ``resolve``.

        Raises:
            UserError: unknown recipe or key, value not allowed, or another spelling of the label.
        """
        place = where or f"{kind} recipe {quote(label)}"
        name, *changes = label.split("+")
        base = self._recipes[kind][choose(name, self._recipes[kind], place, f"{kind} recipe")]
        if not changes:
            return base
        raw: dict[str, object] = {}
        named, last = base.recipes() if isinstance(base, Sweep) else (), ""
        for change in changes:
            key, equals, text = change.partition("=")
            if not equals:
                raise UserError(f"{place}: expected key=value after '+', got {quote(change)}")
            if last in named and not hasattr(base, key):  # of the recipe that the sweep names
                raw[last] = f"{raw[last]}+{change}"
            else:
                raw[key], last = _value(text), key
        settings = _changed(base, raw, place)
        written = self._label(name, base, settings, place)
        if written != label:
            raise UserError(f"{place}: write it as {written!r}")
        for kind, own in settings.recipes().items() if isinstance(settings, Sweep) else ():
            self.resolve(kind, own, f"{place}: {kind}")
        return settings

    def label(self, kind: str, reference: object, protocol: Protocol, where: str) -> str:
        """Label of a recipe reference under a protocol; so are those that a sweep names.

        ``reference`` is a recipe's name, or a mapping with ``recipe`` and changed settings; the
        protocol's switches hold for every recipe of the kind but those it puts in the place of
        others; an experiment's own changes come last.

        Raises:
            UserError: unknown recipe or key, value not allowed, or a change that fits no path.
        """
        own = {"recipe": reference} if isinstance(reference, str) else mapping(reference, where)
        if "recipe" not in own:
            raise UserError(f"{where}: expected the name of a recipe under 'recipe'")
        name = choose(own["recipe"], self._recipes[kind], where, f"{kind} recipe")
        instead = (protocol.recipes or {}).get(name)
        if instead in self._recipes[kind]:
            name, changes = instead, dict(own)
        else:
            changes = (getattr(protocol, kind, None) or {}) | own
        base = self._recipes[kind][name]
        del changes["recipe"]
        settings = _changed(base, changes, where)
        if isinstance(settings, Sweep):
            named = settings.recipes().items()
            labels = {key: self.label(key, own, protocol, f"{where}: {key}") for key, own in named}
            settings = replace(settings, **labels)
        return self._label(name, base, settings, where)

    def _label(self, name: str, base: Checked, settings: Checked, where: str) -> str:
        every = sorted(vars(settings).items())
        changed = {key: value for key, value in every if value != getattr(base, key)}
        label = "+".join([name, *(f"{key}={_text(value)}" for key, value in changed.items())])
        lists = [key for key, value in changed.items() if isinstance(value, tuple)]
        problem = "too many changes for a path" if len(label) > LONGEST else ""
        if lists:
            problem = f"{lists[0]}: a list cannot be changed in place"
        if problem:
            advice = f"add a recipe with 'extends: {name}' to {self.where}"
            raise UserError(f"{where}: {problem}; {advice}")
        return label


def _checked(kind: type[Any], raw: object, section: str, name: str) -> Any:
    place = f"{section}: {name}"
    settings = parse(kind, raw, place)
    settings.check(place)
    return settings


def _changed(base: Checked, changes: Mapping[str, Any], where: str) -> Any:
    """``base`` with some settings replaced, checked."""
    given = {
        item.name: getattr(base, item.name) for item in fields(base) if item.default is MISSING
    }
    parsed = parse(type(base), {**given, **changes}, where)
    settings = replace(base, **{key: getattr(parsed, key) for key in changes})
    settings.check(where)
    return settings
