"""Several outputs under one name."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.study.outputs.base import Linked


@dataclass(frozen=True)
class Group(Linked):
    """A target that stands for several outputs, such as Figure 4 for its panels."""

    kind = "group"
    what = "group"
