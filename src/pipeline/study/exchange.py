"""What workflow/exchange.smk is asked for: finished runs, sent to object storage and fetched from it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Self

from pipeline.artifacts import slices
from pipeline.artifacts.archive import SUFFIX
from pipeline.catalog.schema import describe
from pipeline.errors import UserError
from pipeline.study.config import COMMAND, Config
from pipeline.study.graph import Graph
from pipeline.study.settled import wanted
from pipeline.study.state import resolve

PLUGIN = "snakemake_storage_plugin_s3"
_WORD = r"[A-Za-z0-9_+=@-][A-Za-z0-9_.+=@-]*"
_PACK = re.compile(rf"s3://([a-z0-9][a-z0-9.-]+(?:/{_WORD})+){re.escape(SUFFIX)}")
_FOLDER = re.compile(r"[\w./@%+=:,-]+")


@dataclass(frozen=True)
class Exchange:
    """An archive in object storage, and the folder of slices that gets what is in it."""

    pack: str
    folder: str

    @classmethod
    def asked(cls, given: dict[str, Any]) -> Self:
        """Taken out of what stands behind ``--config``; the rest is of the study.

        Raises:
            UserError: no archive is named, or a name is not allowed; the plugin is not installed.
        """
        pack, into = given.pop("pack", None), given.pop("into", "pulled")
        found = _PACK.fullmatch(pack) if isinstance(pack, str) else None
        if found is None:
            raise UserError(
                f"{COMMAND}: pack: expected s3://BUCKET/NAME{SUFFIX}, got {describe(pack)}"
            )
        if not (isinstance(into, str) and _FOLDER.fullmatch(into)):
            raise UserError(f"{COMMAND}: into: expected a folder's name, got {describe(into)}")
        if find_spec(PLUGIN) is None:
            raise UserError(
                "object storage needs a package that is not installed: "
                f"pip install {PLUGIN.replace('_', '-')}"
            )
        return cls(found[0], f"{into}/{found[1].replace('/', '-')}")


def finished(config: Config, targets: Iterable[str] = ("all",)) -> tuple[list[str], int]:
    """The folders of the finished runs behind targets, and how many runs there are in all.

    Raises:
        UserError: none is finished.
    """
    graph, results = Graph(config), config.results
    asked = wanted(graph, resolve(config, targets).closure(graph))
    held = [run.folder for run in asked if slices.holds(results, run)]
    if not held:
        raise UserError(f"{results}: none of the {len(asked)} runs of this study is finished")
    return held, len(asked)
