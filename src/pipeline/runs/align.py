"""The permutations of a whole sweep, found in one job."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

from pipeline.errors import UserError
from pipeline.runs.base import File, Run, Study
from pipeline.runs.dense import BASE, Dense
from pipeline.runs.form import Form, Parts
from pipeline.runs.match import passes_of
from pipeline.runs.sweeps import Line, Matching, Sweep


@dataclass(frozen=True)
class Align(Run):
    """A permutation for every point of a sweep over dense runs of one recipe.

    ``members``: a and b of a pair, or all dense runs of a sweep over several.
    """

    stage = "align"
    form = Form(f"{BASE}/<match>/<sweep>/<seeds>")
    files = ("permutations.safetensors", "align.csv", "metrics.json")
    title = "Permutations of sweeps"
    kind = "match"
    priority = 70

    members: tuple[Dense, ...]
    recipe: str
    sweep: str

    @property
    def parts(self) -> Parts:
        return {
            **self.members[0].parts, "match": self.recipe, "sweep": self.sweep, "seeds": self.who,
        }  # fmt: skip

    @classmethod
    def of(cls, parts: Parts) -> Self:
        numbers = parts["seeds"].removeprefix("seeds").replace("a", "").replace("b", "")
        members = tuple(Dense.of({**parts, "s": int(seed)}) for seed in numbers.split("-"))
        return cls(members, parts["match"], parts["sweep"])

    @property
    def networks(self) -> tuple[Dense, ...]:
        return self.members

    @property
    def who(self) -> str:
        """The seeds, as they stand in the path."""
        seeds = [member.seed for member in self.members]
        if len(seeds) == 2:
            return f"a{seeds[0]}-b{seeds[1]}"
        return f"seeds{'-'.join(map(str, seeds))}"

    @property
    def what(self) -> str:
        return f"matchings {self.sweep} {self.who}"

    def over(self, study: Study) -> Sweep:
        """The sweep."""
        found: Sweep = study.sweep(self.sweep, self.folder)
        return found

    def matchings(self, study: Study) -> list[Matching]:
        """The permutations that are looked for."""
        return [*self.over(study).matchings(study, self.members)]

    def lines(self, study: Study, at: Iterable[str]) -> list[Line]:
        """The lines that are measured under them; ``at``: where along training."""
        return [*self.over(study).lines(study, self.members, {*at})]

    def inputs(self, study: Study) -> dict[str, File]:
        return states(self.matchings(study))

    def beside(self, study: Study) -> dict[str, Any]:
        return {"sweep": self.over(study).declared()}

    def check(self, study: Study) -> None:
        seeds = [member.seed for member in self.members]
        if len(seeds) != len({*seeds}) or (len(seeds) > 2 and seeds != sorted(seeds)):
            raise UserError(f"{self.folder}: every seed once, and several in ascending order")
        self.over(study).fit(seeds, study.recipe(self.home), self.folder)

    def passes(self, study: Study) -> float:
        each = passes_of(study.recipe(self), study.info(self).train_images)
        return float(len(self.matchings(study)) * each)

    def images(self, study: Study) -> float:
        """The observed activations of a batch, of both networks."""
        return 270 * float(study.recipe(self).batch_size) * max(1.0, float(self.home.width))

    def disk(self, study: Study, network: float) -> float:
        """Of every permutation eight bytes a unit; units grow as a root of the parameters."""
        points = len(self.matchings(study)) + 1
        return float(points * (1e4 + 8 * (network / 4) ** 0.5))


def states(found: Iterable[Matching | Line]) -> dict[str, File]:
    """The files in which the states of these lie, each once, by role: state1, state2, …"""
    files = dict.fromkeys(File(file.run, file.name) for each in found for file in each.files)
    return {f"state{number}": file for number, file in enumerate(files, start=1)}
