"""Accuracy against the rewind epoch k."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.report.claims.accuracy import networks
from pipeline.report.claims.judge import Case, claim
from pipeline.report.claims.measures import Measure, flattens, later, rise
from pipeline.report.claims.numbers import Numbers
from pipeline.report.claims.values import Values
from pipeline.report.tables import names

HIGH_SPARSITY = 0.95


@claim(
    "paper, Section 4.1",
    "LTH, permuted: mean over S and k > 0 of accuracy(k) − accuracy(0) > 0",
    "sparsities",
)
def zero_helps_neither(numbers: Numbers) -> Iterator[Case]:
    """From the initialisation itself (k = 0) neither LTH nor permuted trains well; later rewind
    points do better."""
    for method in ("lth", "permuted"):
        for name, cells in networks(numbers.cells, method):
            yield Case(name, cells, Measure(later(method)), names.method(method))


@claim(
    "paper, Section 4.1",
    "S ≥ 95 %, naive: mean over S and k > 0 of accuracy(k) − accuracy(0) ≤ 0",
    "sparsities",
)
def naive_gains_nothing_from_k(numbers: Numbers) -> Iterator[Case]:
    """At higher sparsity the mask as it is gains nothing from a later rewind point."""
    for name, cells in networks(_high(numbers), "naive"):
        yield Case(name, cells, Measure(later("naive"), sign=-1, ties=True))


@claim(
    "paper, Section 4.1",
    "S ≥ 95 %: least-squares slope of accuracy in k > 0, mean over S, > 0 for LTH and permuted, "
    "≤ 0 for naive",
    "sparsities",
    note="The step from k = 0 is judged apart (zero-helps-neither): nearly all of what LTH gains "
    "comes from it.",
)
def rewinding_at_high_sparsity(numbers: Numbers) -> Iterator[Case]:
    """At higher sparsity increasing the rewind point improves LTH and permuted, but not naive."""
    for method, sign in (("lth", 1), ("permuted", 1), ("naive", -1)):
        for name, cells in networks(_high(numbers), method):
            measure = Measure(rise(method), sign=sign, ties=sign < 0)
            yield Case(name, cells, measure, names.method(method))


@claim(
    "paper, Section 4.1",
    "LTH, permuted: gain from k = 0 to the middle one of the k, less the gain from there to the "
    "last, mean over S, > 0",
    "sparsities",
)
def accuracy_flattens_in_k(numbers: Numbers) -> Iterator[Case]:
    """LTH and permuted improve with the rewind point up to a certain point, beyond which they
    plateau."""
    for method in ("lth", "permuted"):
        for name, cells in networks(numbers.cells, method):
            yield Case(name, cells, Measure(flattens(method)), names.method(method))


def _high(numbers: Numbers) -> Values | None:
    values = numbers.cells
    return (
        values.take((values.places["sparsity"] > HIGH_SPARSITY - 1e-6).to_numpy())
        if values
        else None
    )
