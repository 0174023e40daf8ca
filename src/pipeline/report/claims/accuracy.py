"""Permuted beside naive and LTH in every cell, and what is said of VGG11 and ImageNet alone."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from pipeline.report.claims.judge import Case, claim
from pipeline.report.claims.measures import Measure, between, gap, rise
from pipeline.report.claims.numbers import END, Numbers
from pipeline.report.claims.values import Values, units
from pipeline.report.tables import names
from pipeline.results import NETWORK

_NEARLY_TWO = 1.5  # what two decimals of a point round to "nearly 2 %"
_HIGHER = 0.9
_MODEL = {"model": "vgg11"}


def networks(
    values: Values | None, *methods: str, **chosen: object
) -> Iterator[tuple[str, Values]]:
    """Every network that has these methods, by its name; matched at the end of training."""
    own = values.where(matching_epoch=END, **chosen) if values else None
    for key, cells in units(own, NETWORK, methods):
        yield names.place(**key), cells


@claim("paper, Section 4.1, Tables 5–14", "mean over S, k of top-1(permuted) − top-1(naive) ≥ 0")
def permuted_at_least_naive(numbers: Numbers) -> Iterator[Case]:
    """With the permuted mask, sparse training reaches at least the accuracy of the mask as it is,
    at every width, sparsity and rewind epoch."""
    for name, cells in networks(numbers.cells, "permuted", "naive"):
        yield Case(name, cells, Measure(gap("permuted", "naive"), ties=True))


@claim(
    "paper, Section 4.1, Figure 7, Table 10",
    "ImageNet: mean over S, k of top-5(permuted) − top-5(naive) ≥ 0",
)
def permuted_at_least_naive_top5(numbers: Numbers) -> Iterator[Case]:
    """On ImageNet the same in top-5 accuracy."""
    for name, cells in networks(numbers.top5, "permuted", "naive", dataset="imagenet"):
        yield Case(name, cells, Measure(gap("permuted", "naive"), ties=True))


@claim(
    "paper, Section 4.1, Table 10",
    f"ImageNet, S ≥ 90 %: mean over S, k of permuted − naive ≥ {_NEARLY_TWO}",
    "sparsities",
)
def imagenet_gap_nearly_two_points(numbers: Numbers) -> Iterator[Case]:
    """On ImageNet permuted outperforms naive by nearly 2 % at higher sparsity levels."""

    def over(frame: pd.DataFrame) -> pd.DataFrame:
        gaps = gap("permuted", "naive")(frame)
        high = gaps[gaps.index.get_level_values("sparsity") > _HIGHER - 1e-6]
        return high.groupby("sparsity").mean() - _NEARLY_TWO

    for name, cells in networks(numbers.cells, "permuted", "naive", dataset="imagenet"):
        yield Case(name, cells, Measure(over, ties=True))


@claim(
    "paper, Section 4.1, Table 10",
    "mean over shared S, k of LTH − permuted: ImageNet's less that of each CIFAR network > 0",
    "CIFAR networks",
)
def imagenet_lth_gap_larger(numbers: Numbers) -> Iterator[Case]:
    """The gap between LTH and permuted is larger on ImageNet than on CIFAR-10 and CIFAR-100."""

    def beyond(frame: pd.DataFrame) -> pd.DataFrame:
        cell = ["sparsity", "rewind_epoch"]
        gaps = gap("lth", "permuted")(frame)
        on_imagenet = gaps.index.get_level_values("dataset") == "imagenet"
        here = gaps[on_imagenet].groupby(cell).mean()
        places = pd.MultiIndex.from_frame(gaps.index.to_frame(index=False)[cell])
        shared = ~on_imagenet & places.isin(here.index)
        more = here.reindex(places[shared]).to_numpy() - gaps[shared]
        return more.groupby(NETWORK).mean()

    values = numbers.cells
    if values is None or not {"imagenet", "cifar10"} <= set(values.places["dataset"]):
        return
    chosen = values.where(matching_epoch=END, method=["lth", "permuted"])
    yield Case("ImageNet beside CIFAR", chosen, Measure(beyond))


@claim("paper, Section 4.1, Figure 8", "VGG11: mean over k of permuted − naive at 90 % > at 80 %")
def vgg_gap_larger_at_90(numbers: Numbers) -> Iterator[Case]:
    """For VGG11 the gap between permuted and naive is not large at 80 % and significant at 90 %."""

    def widens(frame: pd.DataFrame) -> pd.DataFrame:
        return gap(0.9, 0.8, "sparsity")(gap("permuted", "naive")(frame))

    for name, cells in networks(numbers.cells, "permuted", "naive", sparsity=(0.8, 0.9), **_MODEL):
        yield Case(name, cells, Measure(widens))


@claim(
    "paper, Section 4.1, Figure 8",
    "VGG11, S = 90 %, k > 0: mean over k of permuted − (LTH + naive)/2 > 0",
)
def vgg_permuted_near_lth(numbers: Numbers) -> Iterator[Case]:
    """For VGG11 permuted comes close to LTH on increasing the rewind point: nearer to it than to
    naive."""
    methods = ("permuted", "lth", "naive")
    for name, cells in networks(numbers.cells, *methods, sparsity=0.9, **_MODEL):
        after = cells.take((cells.places["rewind_epoch"] > 0).to_numpy())
        yield Case(name, after, Measure(between("permuted", "lth", "naive")))


@claim(
    "paper, Section 4.1, Figure 8",
    "VGG11: least-squares slope of naive in k > 0, mean over S ≤ 0",
    "sparsities",
)
def vgg_naive_plateaus(numbers: Numbers) -> Iterator[Case]:
    """For VGG11 naive does not improve on increasing the rewind point."""
    for name, cells in networks(numbers.cells, "naive", **_MODEL):
        yield Case(name, cells, Measure(rise("naive"), sign=-1, ties=True))


@claim(
    "paper, Section 4.1",
    "VGG11, S > 90 %: share of naive runs that diverged, less that of LTH > 0",
)
def vgg_naive_unstable(numbers: Numbers) -> Iterator[Case]:
    """For VGG11 naive is unstable in training at sparsities above 90 %."""
    values = numbers.diverged
    high = values.take((values.places["sparsity"] > _HIGHER + 1e-6).to_numpy()) if values else None
    for name, cells in networks(high, "naive", "lth", **_MODEL):
        yield Case(name, cells, Measure(gap("naive", "lth")))
