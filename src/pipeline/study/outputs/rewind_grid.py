"""Accuracy by sparsity, method and rewind epoch: the tables that most of the paper's numbers are in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipeline.catalog.schema import option
from pipeline.study.outputs.base import ACCURACIES, Cells


@dataclass(frozen=True)
class RewindGrid(Cells):
    """Accuracy by sparsity and method (rows) and rewind epoch (columns): Tables 5-14."""

    kind = "rewind-grid"
    numbers = ACCURACIES
    shows = (
        "Test accuracy in % by sparsity S, method and rewind epoch k, mean ± sample standard "
        "deviation over seeds. Where images are withheld from training, k is chosen on them and bold "
        "compares the methods there."
    )
    bold: Literal["cell", "block"] = option(
        "cell",
        "the methods from a new initialisation that bold compares: at each S and k, or over all k of "
        "an S as in the paper, whose best of several k is too good by their noise",
    )
