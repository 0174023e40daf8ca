"""Claims of Sharma et al. (2024) on what weight matching rests on: large weights, lower layers."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from pipeline.report.claims.judge import Case, claim
from pipeline.report.claims.measures import Measure, least, of
from pipeline.report.claims.numbers import Numbers
from pipeline.report.claims.sweeps import networks
from pipeline.report.tables import names

#: Of so small a share pruned the work says that it changes nothing; more than that is much.
_SOME, _MUCH = 0.5, 0.4
_NOTHING = 2.0  # points


@claim(
    "Section 6 and Appendix H.2, Figures 5 and 16",
    "error: mean over t and fractions f ≥ 40 % of barrier(random f pruned before matching) − "
    "barrier(smallest f pruned) > 0, and least over t and f ≤ 50 % of 2 points − (barrier(smallest f "
    "pruned) − barrier(none pruned)) > 0",
)
def weight_matching_rests_on_large_weights(numbers: Numbers) -> Iterator[Case]:
    """Weight matching does as well without the smallest weights, and worse without random ones."""
    arms = ("whole", "magnitude", "random")
    for name, cells in networks(numbers.connections, metric="error", arm=arms):
        if cells.places["arm"].eq("magnitude").any():
            yield Case(name, cells, Measure(_random_above), "worse without random ones")
            yield Case(name, cells, Measure(_room, least), "as well without the smallest")


def _random_above(frame: pd.DataFrame) -> pd.DataFrame:
    """Barriers after random pruning of much less those after pruning of the smallest weights."""
    above = (of(frame, "random", "arm") - of(frame, "magnitude", "arm")).dropna()
    return above[above.index.get_level_values("cut") >= _MUCH]


def _room(frame: pd.DataFrame) -> pd.DataFrame:
    """How much less than two points the pruning of some of the smallest weights adds."""
    whole = of(frame, "whole", "arm").droplevel("cut")
    pruned = of(frame, "magnitude", "arm")
    pruned = pruned[pruned.index.get_level_values("cut") <= _SOME]
    keys = pruned.index.droplevel("cut")
    return _NOTHING - (pruned - whole.reindex(keys).set_axis(pruned.index)).dropna()


@claim(
    "Section 6 and Appendix H.3, Figure 21",
    "share of units on which π of t and π of the end agree: mean over the earlier half of the t of the "
    "first group of units less the last > 0",
    "epochs",
)
def lower_layers_settle_first(numbers: Numbers) -> Iterator[Case]:
    """Early in training, permutations agree with that of the end on lower layers more."""
    for name, cells in networks(numbers.groups):
        yield Case(name, cells, Measure(_first_above_last))


def _first_above_last(frame: pd.DataFrame) -> pd.DataFrame:
    groups = names.from_the_input(frame.index.get_level_values("group"))
    above = (of(frame, groups[0], "group") - of(frame, groups[-1], "group")).dropna()
    epochs = above.index.get_level_values("matching_epoch")
    return above[epochs <= sorted({*epochs})[(len({*epochs}) - 1) // 2]] if len(epochs) else above
