"""Claims of Sharma et al. on sweeps: what each formula takes, and verdicts either way."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline.catalog.layers import KINDS
from pipeline.report import claims
from pipeline.report.claims import Claim
from pipeline.report.claims.judge import CONTRADICTED, SUPPORTED, UNDECIDED
from pipeline.report.claims.sweeps import of_connections, of_trajectories

PAIRS = ((0, 1), (2, 3), (4, 5), (6, 7))
Height = Callable[..., float]


def lines(over: str, found: list[dict[str, Any]], **more: Any) -> pd.DataFrame:
    """Lines of a kind of sweep over four separate pairs, each a little above or below the other."""
    place = {
        "experiment": "one", "dataset": "cifar10", "model": "vgg16_ln", "width": 1.0, "dense": "t",
        "over": over, "match": "weights", "matcher": "weights", "sweep": over, "status": "ok",
        "correction": "none", "distance": 1.0, "level": np.nan, "split": "test",
    }  # fmt: skip
    return pd.DataFrame(
        place | line | more
        | {"a": a, "b": b, "seeds": f"a{a}-b{b}",
           "error_barrier": line["error_barrier"] + 0.01 * a,
           "loss_barrier": line["error_barrier"] / 10}
        for line in found for a, b in PAIRS
    )  # fmt: skip


def along(
    own: dict[int, float], fixed: dict[int, float], none: float = 60.0, **more: Any
) -> pd.DataFrame:
    """A sweep over epochs: barriers under π_t, and under π of the end before it."""
    end = max(own)
    found: list[dict[str, Any]] = []
    for t in own:
        found.append({"arm": "none", "point": None, "matched_at": None, "evaluated_at": t,
                      "error_barrier": none})  # fmt: skip
        found.append({"arm": "matched", "point": "end" if t == end else f"t{t:04d}", "matched_at": t,
                      "evaluated_at": t, "error_barrier": own[t]})  # fmt: skip
    found += [
        {"arm": "matched", "point": "end", "matched_at": end, "evaluated_at": t,
         "error_barrier": height, "distance": 2.0}
        for t, height in fixed.items()
    ]  # fmt: skip
    return lines("epochs", found, **more)


def judged(*frames: pd.DataFrame, **others: Any) -> dict[str, Claim]:
    whole = pd.concat(frames, ignore_index=True)
    return {claim.id: claim for claim in claims.on_sweeps(whole, **others)}


EARLY = {0: 0.0, 1: 50.0, 5: 40.0, 20: 30.0, 100: 9.0, 160: 8.0}


@pytest.mark.parametrize(
    ("fixed", "third", "two"),
    [
        ({0: 0.0, 1: 0.5, 20: 1.0, 100: 1.5}, SUPPORTED, SUPPORTED),
        ({0: 0.0, 1: 0.5, 20: 12.0, 100: 1.5}, SUPPORTED, CONTRADICTED),
        ({0: 0.0, 1: 0.5, 20: 35.0, 100: 1.5}, CONTRADICTED, CONTRADICTED),
        ({0: 99.0, 1: 0.5, 20: 1.0, 100: 1.5}, SUPPORTED, SUPPORTED),  # untrained: no barrier
    ],
)
def test_one_permutation_is_judged_at_the_worst_epoch(
    fixed: dict[int, float], third: str, two: str
) -> None:
    found = judged(along(EARLY, fixed))
    lowers = found["one-permutation-lowers-the-barrier-at-all-epochs"]
    connects = found["one-permutation-connects-all-epochs"]
    assert (lowers.verdict, connects.verdict) == (third, two)
    assert lowers.of == connects.of == 3
    worst = max(height for t, height in fixed.items() if t)
    (part,) = connects.parts
    assert part.name == "weights"
    assert part.reading.estimate.value == pytest.approx(2 - worst - 0.03)


def test_weight_matching_has_to_fail_all_along_and_activations_not_once() -> None:
    steady = dict.fromkeys(EARLY, 8.0)
    other = {"match": "inner", "matcher": "activations"}
    both = judged(along(EARLY, {}), along(steady, {}, **other))["weight-matching-fails-early"]
    assert both.verdict == SUPPORTED
    assert (both.held, both.of) == (4, 4)  # t = 1, 5, 20 below T/2, and the one best
    assert {part.name for part in both.parts} == {"weights", "activations"}
    failing = judged(along(EARLY, {}), along(EARLY, {}, **other))["weight-matching-fails-early"]
    assert failing.verdict == CONTRADICTED
    once = judged(along(EARLY | {5: 8.0}, {}))["weight-matching-fails-early"]
    assert once.verdict == CONTRADICTED


def test_nearer_and_higher_are_two_things() -> None:
    fixed = {1: 2.0, 5: 3.0, 20: 6.0, 100: 7.0}
    found = judged(along(EARLY, fixed))["nearer-in-weights-and-higher-in-error"]
    distance, error = (part.reading.estimate.value for part in found.parts)
    assert [part.name for part in found.parts] == ["nearer", "higher"]
    assert distance == pytest.approx(1.0)
    assert error == pytest.approx((50 + 40 - 2 - 3) / 2)  # t = 1 and 5


def test_trajectories_of_other_recipes_are_others() -> None:
    """The same network and seeds, trained by another recipe, are no more values of one cell."""
    found = of_trajectories(pd.concat([along(EARLY, {}), along(EARLY, {}, dense="u")]))
    assert found is not None and {*found.places["dense"]} == {"t", "u"}
    lowers = judged(along(EARLY, {1: 1.0}), along(EARLY, {1: 50.0}, dense="u"))
    rows = lowers["one-permutation-lowers-the-barrier-at-all-epochs"].rows
    assert [*rows["unit"]] == [
        "VGG16-LN×1 / CIFAR-10 (t), weights",
        "VGG16-LN×1 / CIFAR-10 (u), weights",
    ]
    assert [*rows["held"]] == [1, 0]


def copies(added: Callable[[str, float], float]) -> pd.DataFrame:
    found = [
        {"arm": "none", "point": None, "matched_at": None, "evaluated_at": t, "error_barrier": 60.0}
        for t in (5, 160)
    ]
    for t, point in ((5, "t0005"), (160, "end")):
        at = {"matched_at": t, "evaluated_at": t}
        found.append({"arm": "matched", "point": point, "error_barrier": 8.0} | at)
        found += [
            {"arm": arm, "point": f"{arm}.{f}.{point}", "level": f,
             "error_barrier": 8.0 + added(arm, f)} | at
            for arm, f in product(("magnitude", "random"), (0.2, 0.4, 0.9))
        ]  # fmt: skip
    return lines("pruned", found)


def test_large_weights_are_what_matters() -> None:
    name = "weight-matching-rests-on-large-weights"
    found = judged(copies(lambda arm, f: 30 * f if arm == "random" else 20 * (f > 0.5)))[name]
    assert found.verdict == UNDECIDED  # differences without any spread have no test
    assert [part.reading.estimate.value for part in found.parts] == pytest.approx([(12 + 7) / 2, 2])


def test_pruning_that_changes_nothing_is_supported_only_with_some_spread() -> None:
    name = "weight-matching-rests-on-large-weights"
    frame = copies(lambda arm, f: 30 * f if arm == "random" else 0.5)
    noise = np.random.default_rng(0).normal(0, 0.05, len(frame))
    frame["error_barrier"] += noise
    found = judged(frame)[name]
    assert found.verdict == SUPPORTED and found.held == found.of == 2 * 2 + 2 * 2
    turned = frame.assign(arm=frame["arm"].replace({"random": "magnitude", "magnitude": "random"}))
    assert judged(turned)[name].verdict == CONTRADICTED


def mixtures(height: Callable[[str, int, int], float]) -> pd.DataFrame:
    ends = {1: 80.0, 10: 30.0, 160: 8.0}
    found: list[dict[str, Any]] = [
        {"arm": "matched", "point": "end" if t == 160 else f"t{t:04d}", "matched_at": t,
         "evaluated_at": 160, "error_barrier": value}
        for t, value in ends.items()
    ]  # fmt: skip
    found += [
        {"arm": kind, "point": f"{kind}.{k}.t{t:04d}", "matched_at": t, "evaluated_at": 160,
         "level": float(k), "error_barrier": height(kind, k, t)}
        for kind, k, t in product(KINDS, (2, 4, 8), (1, 10))
    ]  # fmt: skip
    return lines("layers", found)


def test_mixtures_are_judged_between_epoch_and_end() -> None:
    between = judged(mixtures(lambda kind, k, t: 8 + k + 1 / t))
    assert between["lower-layers-first"].held == between["lower-layers-first"].of == 4
    assert between["mixed-lie-between"].held == between["mixed-lie-between"].of == 2 * 24
    above = judged(mixtures(lambda kind, k, t: 99.0 - k))
    assert above["lower-layers-first"].held == 0
    assert above["mixed-lie-between"].held == 24  # all above the end, none below that of t
    values = of_connections(mixtures(lambda kind, k, t: 8 + k))
    assert values is not None
    assert {*values.places["cut"]} == {0.0, 2.0, 4.0, 8.0}


def alignments(shares: dict[str, dict[str, int]], over: str = "layers") -> pd.DataFrame:
    """Units of 100 that agree, by point and group; a little more with every pair."""
    return pd.DataFrame(
        {"experiment": "one", "dataset": "cifar10", "model": "resnet20_ln", "width": 1.0, "dense": "t",
         "over": over, "match": "weights", "matcher": "weights", "sweep": over, "status": "ok",
         "seeds": f"a{a}-b{b}", "point": point, "group": group, "size": 100,
         "alike": number + (a if point != "end" else 0), "reference": "end", "level": np.nan}
        for point, groups in shares.items() for group, number in groups.items() for a, b in PAIRS
    )  # fmt: skip


def test_permutations_settle_and_lower_layers_first() -> None:
    groups = ("stage1.0.inner", "stage3.0.inner", "stage1", "stage3")
    shares = {
        "t0001": dict(zip(groups, (20, 2, 30, 10), strict=True)),
        "t0010": dict(zip(groups, (50, 5, 60, 10), strict=True)),
        "t0080": dict(zip(groups, (50, 80, 60, 90), strict=True)),
        "end": dict.fromkeys(groups, 100),
        "bottom-up.2.t0001": dict.fromkeys(groups, 7),
    }
    empty = mixtures(lambda kind, k, t: 8.0).iloc[:0]
    found = judged(empty, alignments=alignments(shares))
    settle, first = found["permutations-settle"], found["lower-layers-settle-first"]
    assert (settle.held, settle.of) == (2, 2)
    assert settle.parts[0].reading.estimate.value == pytest.approx((70 - 15.5) / 2)
    # the stem opens stage1, the last block's inner units come last: t = 1 and 10 of three
    assert first.parts[0].reading.estimate.value == pytest.approx(((30 - 2) + (60 - 5)) / 2)
    assert (first.held, first.of) == (2, 2)


def test_definitions_are_judged_by_what_is_left_below_the_threshold() -> None:
    keys = {
        "dataset": "cifar10",
        "model": "vgg16_ln",
        "width": 1.0,
        "dense": "t",
        "matcher": "weights",
    }
    verdicts = pd.DataFrame(
        keys | {"notion": notion, "seeds": f"a{a}-b{b}", "worst": worst + 0.1 * a, "threshold": 2.0}
        for notion, worst in (("weak (1)", 0.5), ("simultaneous (3)", 6.0)) for a, b in PAIRS
    )  # fmt: skip
    one = keys | {"notion": "strong (2)", "seeds": "seeds0-1-2-3", "worst": 9.0, "threshold": 2.0}
    empty = mixtures(lambda kind, k, t: 8.0).iloc[:0]
    found = judged(empty, verdicts=pd.concat([verdicts, pd.DataFrame([one])]))
    assert found["weakly-connected"].verdict == SUPPORTED
    assert found["simultaneously-connected"].verdict == CONTRADICTED
    strong = found["strongly-connected"]
    assert strong.verdict == UNDECIDED and (strong.held, strong.of) == (0, 1)
    assert strong.parts[0].reading.estimate.value == pytest.approx(-7)


def test_activations_are_compared_along_training_too() -> None:
    other = {"match": "inner", "matcher": "activations"}
    frame = pd.concat([along(EARLY, {1: 2.0}), along(dict.fromkeys(EARLY, 7.0), {1: 1.0}, **other)])
    found = judged(frame)["activations-are-usually-better"]
    # own at six epochs, under π of the end at one; at t = 0 weights leave less
    assert (found.held, found.of) == (2 * 6, 2 * 7)


def test_points_of_the_authors_have_the_claims_that_they_can_be_judged_on() -> None:
    on_points = {claim.id for claim in claims.on_points()}
    on_sweeps = {*judged(along(EARLY, {}))}
    assert on_points < on_sweeps
    assert {"weakly-connected", "weight-matching-fails-early"} <= on_sweeps - on_points
