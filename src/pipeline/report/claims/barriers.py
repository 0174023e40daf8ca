"""Barriers between π(a) and b, and between dense and sparse solutions; what matching costs."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from pipeline.report.claims.judge import Case, claim
from pipeline.report.claims.measures import Measure, Profile, along, gap, itself, slope
from pipeline.report.claims.numbers import Numbers
from pipeline.report.claims.values import Values, units
from pipeline.report.tables import names
from pipeline.results import NETWORK

#: Points of error below which networks count as connected (Frankle et al., 2020).
CONNECTED = 2.0
#: What "a small overhead" is: this part of one dense training.
OVERHEAD = 0.1
_CONNECTED = f"the largest error barrier over iterations and data ≤ {CONNECTED:g} points"


@claim(
    "paper, Section 4.3, Figure 3",
    "slope per step of w of the loss barrier (eq. 3, with REPAIR) < 0",
    "steps",
    "data sets",
)
def barrier_falls_with_width(numbers: Numbers) -> Iterator[Case]:
    """The barrier between π(a) and b falls with width."""
    for key, cells in units(_barriers(numbers, "barrier"), ["dataset", "model"]):
        if cells.places["width"].nunique() > 1:
            measure = Measure(along("width", itself, ("split",)), slope, -1)
            yield Case(names.place(**key), cells, measure)


@claim(
    "paper, Section 3, Figure 3",
    "loss at initialisation − largest loss on the path (REPAIR) > 0",
    "paths",
)
def barrier_below_initialisation(numbers: Numbers) -> Iterator[Case]:
    """After matching and REPAIR, the loss between π(a) and b stays below that of an untrained
    network."""
    found = _barriers(numbers, ("start", "highest"))
    for key, cells in units(found, NETWORK, ("start", "highest"), "quantity"):
        yield Case(names.place(**key), cells, Measure(gap("start", "highest", "quantity")))


@claim(
    "paper, Section 3, Figures 3 and 4a",
    "barrier(no correction) − barrier(REPAIR) > 0, between π(a) and b, and along pruning",
    "barriers",
)
def repair_lowers_the_barrier(numbers: Numbers) -> Iterator[Case]:
    """REPAIR lowers the barrier, between π(a) and b and between dense and IMP solutions."""
    both = ("none", "repair")
    measure = Measure(gap(*both, "correction"))
    found = numbers.barriers.where(quantity="barrier") if numbers.barriers else None
    for key, cells in units(found, NETWORK, both, "correction"):
        yield Case(names.place(**key), cells, measure, "π(a) to b")
    for _, cells in units(numbers.chains, [], both, "correction"):
        yield Case("all chains", cells, measure, "dense to IMP")


@claim("paper, Section 3, Figure 4a", f"REPAIR: {_CONNECTED}", "chains")
def dense_to_imp_stays_small(numbers: Numbers) -> Iterator[Case]:
    """With REPAIR the error barrier between the dense and the IMP solution stays small along
    pruning."""
    for _, cells in units(numbers.chains, [], ("repair",), "correction"):
        yield Case("all chains", cells, Measure(_below(["experiment", "style"]), ties=True))


@claim("paper, Section 3, Figure 4b", _CONNECTED.replace("iterations and data", "α"), "planes")
def permuted_to_lth_small(numbers: Numbers) -> Iterator[Case]:
    """The barrier between the permuted and the LTH solution is small."""
    if numbers.planes:
        yield Case("all planes", numbers.planes, Measure(_below(["experiment"]), ties=True))


@claim(
    "paper, Section 4.1, Figure 3c",
    "loss barrier (REPAIR) at w = 1: ImageNet's less that of each CIFAR network > 0",
    "CIFAR networks",
)
def imagenet_barrier_larger(numbers: Numbers) -> Iterator[Case]:
    """The barrier between π(a) and b is larger on ImageNet than on CIFAR-10 and CIFAR-100."""

    def beyond(frame: pd.DataFrame) -> pd.DataFrame:
        on_imagenet = frame.index.get_level_values("dataset") == "imagenet"
        here = frame[on_imagenet].groupby("split").mean()
        others = frame[~on_imagenet]
        splits = others.index.get_level_values("split")
        return (here.reindex(splits).to_numpy() - others).dropna().groupby(NETWORK).mean()

    found = _barriers(numbers, "barrier")
    chosen = found.where(width=1.0) if found else None
    if chosen and {"imagenet", "cifar10"} <= set(chosen.places["dataset"]):
        yield Case("ImageNet beside CIFAR", chosen, Measure(beyond))


@claim(
    "thesis, Section 4.1.3, Figure 4.7c (there by nearly 57 %)",
    "ImageNet: barrier(w = 1)/2 − barrier(w = 2) > 0",
)
def imagenet_barrier_halves_at_width_2(numbers: Numbers) -> Iterator[Case]:
    """On ImageNet the barrier of width 2 is less than half of that of width 1."""

    def halved(frame: pd.DataFrame) -> pd.DataFrame:
        narrow = frame.index.get_level_values("width") == 1
        return gap(1.0, 2.0, "width")(frame.mul(narrow * 0.5 + ~narrow * 1.0, axis=0))

    found = _barriers(numbers, "barrier")
    chosen = found.where(dataset="imagenet", width=(1.0, 2.0)) if found else None
    for key, cells in units(chosen, ["dataset", "model"], (1.0, 2.0), "width"):
        yield Case(names.place(**key), cells, Measure(halved))


@claim(
    "paper, Appendix D",
    f"{OVERHEAD:g} · seconds of the dense training of a − seconds of matching a and b > 0",
)
def matching_costs_little(numbers: Numbers) -> Iterator[Case]:
    """Matching adds a small overhead: less than a tenth of one dense training."""

    def spared(frame: pd.DataFrame) -> pd.DataFrame:
        training = frame.index.get_level_values("part") == "training"
        weighed = frame.mul(training * OVERHEAD + ~training * 1.0, axis=0)
        return gap("training", "matching", "part")(weighed)

    for key, cells in units(numbers.seconds, NETWORK, ("training", "matching"), "part"):
        yield Case(names.place(**key), cells, Measure(spared))


def _barriers(numbers: Numbers, quantity: object) -> Values | None:
    """Barriers between π(a) and b with the headline's correction."""
    found = numbers.barriers
    return found.where(correction=numbers.headline.correction, quantity=quantity) if found else None


def _below(by: list[str]) -> Profile:
    """How far the largest value of each group lies below what counts as connected."""
    return lambda frame: CONNECTED - frame.groupby(by).max()
