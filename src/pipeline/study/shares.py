"""How the images of a step are cut into micro-batches and dealt to processes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pipeline.errors import UserError
from pipeline.study.settings import TrainSettings


@dataclass(frozen=True)
class Shares:
    """A step of ``batch`` images, forwarded ``chunk`` at a time by ``world`` processes.

    ``parts`` processes at a time see the consecutive chunks of one BatchNorm group; every ``parts``
    processes take an equal, consecutive part of the step. So which images are in a group depends on
    ``chunk * parts`` alone, and the groups that one process sees one after the other are those that
    several processes see at once.

    Raises:
        UserError: sizes that do not divide.
    """

    batch: int
    chunk: int
    world: int = 1
    parts: int = 1

    def __post_init__(self) -> None:
        if self.chunk < 1 or self.world % self.parts or self.batch % (self.chunk * self.world):
            raise UserError(
                f"a batch of {self.batch} images cannot be cut into micro-batches of {self.chunk} "
                f"for {self.world} processes: batch_size must be a multiple of "
                f"{self.chunk * self.world} (micro_batch of the recipe says how it is cut)"
            )

    @property
    def count(self) -> int:
        """Micro-batches of a step, those of all processes together."""
        return self.batch // self.chunk

    def starts(self, rank: int) -> range:
        """Where in the step the micro-batches of a process begin, in the order it takes them."""
        group, part = divmod(rank, self.parts)
        own = self.batch * self.parts // self.world
        first = group * own
        return range(first + part * self.chunk, first + own, self.parts * self.chunk)


def shares(settings: TrainSettings, processes: int = 1) -> Shares:
    """How ``processes`` share the steps of a training.

    A BatchNorm group of several micro-batches is spread over as many processes; where they are too
    few, each takes more of it at once.

    Raises:
        UserError: a batch cannot be dealt to so many processes.
    """
    chunk = settings.micro_batch or settings.batch_size
    group = settings.batch_norm_group or chunk
    parts = math.gcd(group // chunk, processes)
    return Shares(settings.batch_size, group // parts, processes, parts)
