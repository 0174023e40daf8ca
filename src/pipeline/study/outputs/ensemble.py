"""What an ensemble of networks is worth, by how its networks were made."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.catalog.schema import Bounds, option
from pipeline.runs import Run
from pipeline.study.experiment import Experiment
from pipeline.study.outputs.base import Members


@dataclass(frozen=True)
class Ensemble(Members):
    """Accuracy, calibration, weights and device hours of ensembles of as many networks per method.

    Every method has as many networks as the one with the fewest, the first ones.
    """

    kind = "ensemble"
    shows = (
        "Accuracy and calibration on test images of single networks (± sample standard deviation) "
        "and of their ensemble, and what its networks cost, by how they were made."
    )

    bins: int = option(15, "intervals of the expected calibration error", Bounds(1, 1000))

    def members(self, experiment: Experiment) -> dict[str, list[Run]]:
        rows = super().members(experiment)
        fewest = min(len(runs) for runs in rows.values())
        return {name: runs[:fewest] for name, runs in rows.items()}


@dataclass(frozen=True)
class EnsembleSize(Ensemble):
    """The same against the number of networks, and accuracy against device hours.

    A point is the mean over ensembles of networks that follow one another in the list of runs, the
    first after the last: each network is in as many of them.
    """

    kind = "ensemble-size"
    what = "figure"
    shows = (
        "Accuracy, negative log-likelihood and calibration error on test images against the number "
        "of networks of an ensemble, and accuracy against the device hours of all that it comes from; "
        "means over the ensembles of so many networks. Band: ± one sample standard deviation over "
        "single networks."
    )
