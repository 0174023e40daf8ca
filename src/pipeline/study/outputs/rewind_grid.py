"""Accuracy by sparsity, method and rewind epoch: the tables that most of the paper's numbers are in."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.study.outputs.base import ACCURACIES, Cells


@dataclass(frozen=True)
class RewindGrid(Cells):
    """Accuracy by sparsity and method (rows) and rewind epoch (columns): Tables 5-14."""

    kind = "rewind-grid"
    numbers = ACCURACIES
    shows = (
        "Test accuracy in % by sparsity S, method and rewind epoch k, mean ± sample standard "
        "deviation over seeds. Bold: the best method from a new initialisation at each sparsity; the "
        "best of several k on the test set, as in the paper, is too good by their noise. Where images "
        "are withheld from training, k is chosen on them and bold compares the methods there."
    )
