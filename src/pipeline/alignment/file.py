"""What a file of an alignment says beside its permutation: the groups and how good it is, as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from pipeline import symmetry
from pipeline.errors import UserError, brief
from pipeline.symmetry.matching import GroupQuality, Match
from pipeline.symmetry.permutation import Group, Part, PermutationSpec
from pipeline.symmetry.weight_matching import WeightQuality

KIND = "alignment 1"


def described(spec: PermutationSpec, match: Match) -> dict[str, Any]:
    """Groups, quality, images and search as JSON values."""
    quality = {name: asdict(each) for name, each in match.quality.items()}
    found = {"quality": quality, "images": match.images, "search": dict(match.search)}
    return {"kind": KIND, "groups": asdict(spec), **found}


def restored(
    info: Any, permutation: dict[str, Tensor], path: Path
) -> tuple[PermutationSpec, Match]:
    """The inverse of `described`; raises `UserError` for what it did not make."""
    if not isinstance(info, dict) or info.get("kind") != KIND:
        raise UserError(f"{path}: not a file of an alignment")
    try:
        spec = _spec(info["groups"])
        quality = {name: _quality(each) for name, each in info["quality"].items()}
        match = Match(permutation, quality, info["images"], info["search"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: damaged: {brief(error)}") from None
    ordered = {name: permutation[name] for name in spec.sizes if name in permutation}
    try:
        symmetry.validate(permutation, spec)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return spec, Match(ordered, match.quality, match.images, match.search)


def _quality(known: Mapping[str, Any]) -> GroupQuality:
    return (WeightQuality if "bound" in known else GroupQuality)(**known)


def _spec(known: Mapping[str, Any]) -> PermutationSpec:
    return PermutationSpec(
        tuple(Group(**_tuples(each)) for each in known["groups"]),
        _tuples(known["axes"]),
        _tuples(known["positions"]),
        tuple(Part(**_tuples(each)) for each in known["parts"]),
    )


def _tuples(known: Mapping[str, Any]) -> dict[str, Any]:
    """JSON's lists, which were tuples."""
    return {name: _tuple(each) for name, each in known.items()}


def _tuple(value: Any) -> Any:
    return tuple(map(_tuple, value)) if isinstance(value, list) else value
