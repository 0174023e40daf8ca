"""The advantage of the permuted mask, and its distance to LTH, along sparsity and width."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from pipeline.report.claims.accuracy import networks
from pipeline.report.claims.judge import Case, claim
from pipeline.report.claims.measures import Measure, along, gap, share, slope
from pipeline.report.claims.numbers import END, Numbers
from pipeline.report.claims.values import Values, units
from pipeline.report.tables import names

_ADVANTAGE = gap("permuted", "naive")
_WIDE = ("sparsity", "rewind_epoch")


@claim(
    "paper, Section 4.1",
    "slope per step of S of permuted − naive, mean over shared k, > 0",
    "steps",
    note="In Table 5 (ResNet20×1 / CIFAR-10) the printed means fall from 95 to 97 %, in Table 10 "
    "(ResNet50 / ImageNet, single runs) from 90 to 95 %. Whether the first of these falls is more "
    "than noise depends on how far cells of one row vary together, which was not published.",
)
def gap_grows_with_sparsity(numbers: Numbers) -> Iterator[Case]:
    """The advantage of the permuted mask grows with sparsity."""
    for name, cells in networks(numbers.cells, "permuted", "naive"):
        yield Case(name, cells, Measure(along("sparsity", _ADVANTAGE), slope))


@claim(
    "paper, Section 4.1, Figures 9 and 10",
    "for each k > 0 that half of the networks have: slope per step of S of permuted − naive > 0",
    "steps",
)
def gap_grows_with_sparsity_at_every_k(numbers: Numbers) -> Iterator[Case]:
    """The advantage of the permuted mask grows with sparsity at every rewind epoch."""
    found = list(networks(numbers.cells, "permuted", "naive"))
    having = Counter(k for _, cells in found for k in cells.places["rewind_epoch"].unique())
    for k in sorted(k for k, count in having.items() if k > 0 and 2 * count >= len(found)):
        for name, cells in found:
            at = cells.where(rewind_epoch=k)
            if len(at.means):
                yield Case(name, at, Measure(along("sparsity", _ADVANTAGE), slope), f"k = {k:g}")


@claim(
    "paper, Section 4.1 and Figures 9 and 10",
    "slope per step of w of permuted − naive, mean over shared S, k, > 0",
    "steps",
    "data sets",
    note="The widest network has a smaller advantage than the one before it on both data sets. The "
    "part of the distance between naive and LTH that permuted closes grows all the same "
    "(closed-share-grows-with-width).",
)
def gap_grows_with_width(numbers: Numbers) -> Iterator[Case]:
    """The advantage of the permuted mask grows with width."""
    for name, cells in _families(numbers, "permuted", "naive"):
        yield Case(name, cells, Measure(along("width", _ADVANTAGE, _WIDE), slope))


@claim(
    "paper, Section 4.1, Figures 5 and 6, by another reading",
    "slope per step of w of (permuted − naive)/(LTH − naive), means over shared S, k, > 0",
    "steps",
    "data sets",
)
def closed_share_grows_with_width(numbers: Numbers) -> Iterator[Case]:
    """Of the distance between naive and LTH, the permuted mask closes a larger part as networks get
    wider."""
    for name, cells in _families(numbers, "permuted", "naive", "lth"):
        yield Case(name, cells, Measure(share, slope))


@claim(
    "paper, Section 4.3",
    "slope per step of w of LTH − permuted, mean over shared S, k, < 0",
    "steps",
    "data sets",
)
def lth_gap_shrinks_with_width(numbers: Numbers) -> Iterator[Case]:
    """Permuted comes closer to LTH as networks get wider."""
    for name, cells in _families(numbers, "lth", "permuted"):
        yield Case(name, cells, Measure(along("width", gap("lth", "permuted"), _WIDE), slope, -1))


@claim(
    "paper, Figures 5 and 6",
    "slope per step of w of LTH − naive, mean over shared S, k, ≥ 0",
    "steps",
    "data sets",
    note="Naive comes closer to LTH with every width, on both data sets.",
)
def naive_gap_does_not_shrink_with_width(numbers: Numbers) -> Iterator[Case]:
    """Unlike permuted, naive does not come closer to LTH as networks get wider."""
    for name, cells in _families(numbers, "lth", "naive"):
        profile = along("width", gap("lth", "naive"), _WIDE)
        yield Case(name, cells, Measure(profile, slope, ties=True))


def _families(numbers: Numbers, *methods: str) -> Iterator[tuple[str, Values]]:
    """The widths of each network on each data set, as one unit."""
    values = numbers.cells.where(matching_epoch=END) if numbers.cells else None
    for key, cells in units(values, ["dataset", "model"], methods):
        if cells.places["width"].nunique() > 1:
            yield names.place(**key), cells
