"""What the builder of a table or figure knows beside its output and the frames that it reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd

from pipeline.report.tables import names
from pipeline.report.tables.table import Legend, Table
from pipeline.study.outputs import Output
from pipeline.study.settings import Correction, Method
from pipeline.study.works import NONE, Works


@dataclass(frozen=True)
class Shown:
    """An output's name, and what study and protocol say of all that it shows.

    protocol: its name. correction: the one that the protocol means where it names a barrier.
    methods: those of the recipes. end: epochs of a complete dense run, None where experiments
    differ in them. pruned: by model and S, the share that the protocol really prunes where it is
    another one than S. works: what further works have published.
    """

    name: str
    protocol: str = "paper"
    correction: Correction = "repair"
    methods: Mapping[str, Method] = field(default_factory=dict)
    end: int | None = None
    pruned: Mapping[tuple[str, float], float] = field(default_factory=dict)
    works: Works = NONE

    @property
    def labels(self) -> dict[str, str]:
        """The names that the recipes give methods in tables and figures."""
        return {name: method.label for name, method in self.methods.items() if method.label}

    @property
    def colors(self) -> dict[str, str]:
        """The colours that the recipes give methods in figures."""
        return {name: method.color for name, method in self.methods.items() if method.color}

    def at(self, sparsity: float, model: str | None = None) -> str:
        """``S = 95%``, and what was really pruned; model: where the output shows several."""
        text = names.at(sparsity)
        shares = {v for (m, s), v in self.pruned.items() if s == sparsity and model in (None, m)}
        return f"{text} ({100 * shares.pop():.2f}%)" if len(shares) == 1 else text

    def said(self, index: pd.Index) -> pd.Index:
        """The labels of rows, with what was really pruned behind a sparsity."""
        if "S" not in index.names or not self.pruned:
            return index
        rows = index.to_frame(index=False)
        for (model, sparsity), share in self.pruned.items():
            text = names.percent(sparsity)
            here = rows["S"] == text
            if "Model" in rows:
                here &= rows["Model"] == names.model(model)
            rows.loc[here, "S"] = f"{text} ({100 * share:.2f}%)"
        return pd.MultiIndex.from_frame(rows)

    def title(self, output: Output) -> str:
        return output.title or self.name

    def notes(self, output: Output, *own: str) -> list[str]:
        """The study's note and a builder's own."""
        return [*([output.note] if output.note else []), *own]

    def table(
        self,
        output: Output,
        tidy: pd.DataFrame,
        layout: pd.DataFrame,
        notes: list[str],
        bold: pd.DataFrame | None = None,
        legend: Legend | None = None,
        runs: pd.DataFrame | None = None,
    ) -> Table:
        """The table of an output, under its title and protocol, the study's note first."""
        title, notes = self.title(output), self.notes(output, *notes)
        layout = layout.set_axis(self.said(layout.index))
        bold = None if bold is None else bold.set_axis(layout.index)
        return Table(self.name, title, tidy, layout, notes, self.protocol, bold, legend, runs)
