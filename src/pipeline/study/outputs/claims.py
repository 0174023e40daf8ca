"""The claims of a work on a study's own runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

from pipeline.catalog.schema import choose, option
from pipeline.errors import UserError
from pipeline.study.outputs.base import Experiments, Linked, Output
from pipeline.study.works import Works


@dataclass(frozen=True)
class Claims(Linked):
    """Each claim of a work as a formula over the cells of other outputs, with its verdict.

    On sweeps: those of Sharma et al.; on all other tables and figures: the paper's and the thesis'.

    A target of its own, no part of ``tables``: it needs what the tables and figures need.
    """

    kind = "claims"
    what = "claims"
    shows = (
        "Each claim as a formula over the cells of the tables and figures, with its verdict on these "
        "runs and on the published numbers."
    )
    reuse: tuple[str, ...] = option(
        (), "experiments whose masks come from other data; judged apart", unique=True
    )

    work: str = option("", "a further work, whose claims these are; empty: paper and thesis")

    def cite(self, works: Works, where: str) -> None:
        super().cite(works, where)
        if self.work:
            choose(self.work, works.cells, f"{where}: work", "work")
            name = f"report/claims/{self.work}.py"
            if not files("pipeline").joinpath(name).is_file():
                raise UserError(f"{where}: work: its claims are missing: src/pipeline/{name}")

    @property
    def cited(self) -> str:
        return self.work

    def link(self, outputs: Mapping[str, Output], experiments: Experiments, where: str) -> None:
        super().link(outputs, experiments, where)
        for name in self.reuse:
            choose(name, experiments, f"{where}: reuse", "experiment")
