"""YAML read safely and strictly: no tags, no duplicate keys, 5e-4 is a number."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from yaml.composer import Composer
from yaml.constructor import ConstructorError

from pipeline.catalog.schema import quote
from pipeline.errors import UserError, brief


class _Strict:
    """Refuses tags."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[attr-defined]
        tag = getattr(event, "tag", None)
        if tag not in (None, "!"):
            problem = f"tag {quote(tag)} is not allowed"
            raise ConstructorError(None, None, problem, event.start_mark)
        return super().compose_node(parent, index)  # type: ignore[misc]


class _Fast(_Strict, Composer, yaml.CSafeLoader):
    """Events from libyaml, in a fifth of the time."""

    def __init__(self, stream: str) -> None:
        yaml.CSafeLoader.__init__(self, stream)
        Composer.__init__(self)


class _Telling(_Strict, yaml.SafeLoader):
    """Events from Python, which says better what is wrong."""


_FLOAT = re.compile(
    r"^[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|\.[0-9_]+(?:[eE][-+]?[0-9]+)?"
    r"|[0-9][0-9_]*[eE][-+]?[0-9]+|\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
)
_MERGE = "tag:yaml.org,2002:merge"


def _mapping(loader: Any, node: yaml.MappingNode) -> dict[str, Any]:
    """A mapping laid over those that ``<<`` names; the first of several goes before the others."""
    own: dict[str, Any] = {}
    merged: dict[str, Any] = {}
    for key_node, value_node in node.value:
        value = loader.construct_object(value_node, deep=True)
        mark = key_node.start_mark
        if key_node.tag == _MERGE:
            for source in value if isinstance(value, list) else [value]:
                if not isinstance(source, dict):
                    raise ConstructorError(None, None, "'<<' merges mappings only", mark)
                merged = source | merged
            continue
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str):
            raise ConstructorError(None, None, f"key {quote(key)} is not text", mark)
        if key in own:
            raise ConstructorError(None, None, f"key {quote(key)} stands twice", mark)
        own[key] = value
    return merged | own


for _loader in (_Fast, _Telling):
    _loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:float"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    _loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))
    _loader.add_constructor("tag:yaml.org,2002:map", _mapping)


def read_yaml(path: Path) -> Any:
    """Content of a YAML file.

    Raises:
        UserError: the file is missing, unreadable, not text, or not valid YAML; one line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text in UTF-8"
        raise UserError(f"{path}: cannot be read: {reason}") from None
    return parse_yaml(text, str(path))


def parse_yaml(text: str, where: str) -> Any:
    """Content of YAML ``text``; ``where`` names it in error lines."""
    with suppress(yaml.YAMLError, ValueError, RecursionError):
        return yaml.load(text, Loader=_Fast)  # noqa: S506 (as safe as SafeLoader)
    try:
        return yaml.load(text, Loader=_Telling)  # noqa: S506
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        problem = error.problem or error.context
        raise UserError(f"{where}{line}: not valid YAML: {brief(problem)}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{where}: not valid YAML: {brief(error)}") from None
