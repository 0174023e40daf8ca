"""The settings of recipes as a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipeline.catalog.schema import option
from pipeline.study.outputs.base import Output


@dataclass(frozen=True)
class Hyperparameters(Output):
    """The settings of the very recipes that run: Tables 2-4."""

    kind = "hyperparameters"
    shows = "The settings of the recipes that run."

    stages: tuple[Literal["dense", "imp", "match", "sparse"], ...] = option(
        ("dense", "sparse"), "stages whose settings are listed", unique=True
    )
