"""A study's file, with what it takes from other studies in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.catalog.schema import choose, extended, mapping
from pipeline.errors import UserError
from pipeline.study.outputs.base import KINDS, Members
from pipeline.study.strict_yaml import read_yaml

_SECTIONS = ("experiments", "outputs")


def whole(folder: Path, name: str, seen: tuple[str, ...] = ()) -> dict[str, Any]:
    """A study as if all of it stood in its own file.

    With ``extends`` it is laid over another study: experiments, tables and figures of one name are
    joined key by key, and one that is null is dropped. With ``uses`` the other's experiments are
    its own, too, and an entry of its tables and figures can extend one of the other's.

    Raises:
        UserError: ``extends`` or ``uses`` names no study, or leads back; or no mapping stands where
            one is expected.
    """
    where = f"config/studies/{name}.yaml"
    own = dict(mapping(read_yaml(folder / f"{name}.yaml"), where))

    def other(key: str) -> dict[str, Any]:
        study = own.pop(key, None)
        if study is None:
            return {}
        choose(study, [path.stem for path in folder.glob("*.yaml")], f"{where}: {key}", "study")
        if study in (name, *seen):
            raise UserError(f"{where}: {key}: {study!r} leads back to itself")
        return whole(folder, study, (name, *seen))

    below, used = other("extends"), other("uses")
    found = below | own
    for section in _SECTIONS:
        if below.get(section):
            found[section] = _joined(below[section], own.get(section), f"{where}: {section}")
    if used:
        experiments = mapping(found.get("experiments"), f"{where}: experiments")
        found["experiments"] = {**used["experiments"], **experiments}
    outputs = mapping(found.get("outputs"), f"{where}: outputs")
    known = {**mapping(used.get("outputs"), where), **outputs}
    if outputs:
        found["outputs"] = {
            key: extended(key, known, f"{where}: outputs", "table or figure")
            if isinstance(entry, Mapping)
            else entry
            for key, entry in outputs.items()
        }
    return found


def moved(study: Mapping[str, Any], offset: int) -> dict[str, Any]:
    """A study with ``offset`` added to all its seeds: the same questions of other networks."""

    def of(value: object) -> object:
        """What is no seed is left, for the checks that follow."""
        if isinstance(value, list | tuple):
            return [of(each) for each in value]
        return value + offset if type(value) is int else value

    found = dict(study)
    for section, key in (("experiments", "pairs"), ("outputs", "imp_seeds")):
        entries = found.get(section)
        if not isinstance(entries, Mapping):
            continue
        found[section] = {
            name: {**entry, key: of(seeds)}
            if isinstance(entry, Mapping) and (seeds := _seeds(entry, key)) is not None
            else entry
            for name, entry in entries.items()
        }
    return found


def _seeds(entry: Mapping[str, Any], key: str) -> object:
    """The seeds that an entry names, or takes by default."""
    kind = KINDS.get(str(entry.get("kind")))
    if key == "imp_seeds" and kind is not None and issubclass(kind, Members):
        return entry.get(key, kind.imp_seeds)
    return entry.get(key)


def _joined(below: Mapping[str, Any], above: object, where: str) -> dict[str, Any]:
    """Entries laid over others of the same names."""
    entries = dict(below)
    for name, entry in mapping(above, where).items():
        under = mapping(entries.get(name), where)
        entries[name] = entry if entry is None else {**under, **mapping(entry, f"{where}: {name}")}
    return {name: entry for name, entry in entries.items() if entry is not None}
