"""Claims on pruned networks: hand-made barriers and accuracies with the verdict that they mean."""

from __future__ import annotations

import zlib
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline.report import claims
from pipeline.report.claims import CONTRADICTED, SUPPORTED, UNDECIDED, Claim, Numbers, sharma_sparse
from pipeline.report.claims.sweeps import of_levels
from pipeline.report.levels import PRUNED, UNPRUNED
from pipeline.results import CONNECTIONS

WHERE = {"experiment": "one", "dataset": "cifar10", "model": "vgg16_ln", "width": 1.0}
LEVELS = (1, 2, 3, 4)
MATCHERS = ("weights", "activations")
#: Highest level at which a mask is as good as the dense network, by what is rewound and arm.
REACH = {
    ("weights", PRUNED, ""): 3, ("weights", "dense", "weights"): 3,
    ("weights", "dense", "activations"): 2, ("weights", "none", ""): 0,
    ("weights", "one-shot", ""): 1, ("rate", "dense", "weights"): 1,
    ("rate", "dense", "activations"): 1,
}  # fmt: skip
BARRIERS = {"none": 60.0, "dense": 5.0, "sparse": 25.0, "one-shot": 30.0}


def noise(*key: object) -> float:
    """A hundredth of a point or so, another for each pair, level and line."""
    return float(np.random.default_rng(abs(zlib.crc32(repr(key).encode()))).normal(0, 0.01))


def connections(barriers: dict[str, float] | None = None, pairs: int = 3) -> pd.DataFrame:
    rows = []
    for matcher, pair, level in product(MATCHERS, range(pairs), (0, *LEVELS)):
        for arm, height in (barriers or BARRIERS).items():
            # at the level that pruning does not bear any more, the other way round
            value = 100 - height if level > REACH["weights", PRUNED, ""] else height
            rows.append(
                WHERE | {
                    "match": matcher, "matcher": matcher, "sweep": "rounds", "seeds": f"p{pair}",
                    "fraction": 0.2, "status": "ok", "arm": arm, "a": 2 * pair, "b": 2 * pair + 1,
                    "evaluated_at": level, "correction": "none", "split": "test",
                    "error_barrier": value + noise(pair, level, arm, matcher),
                }
            )  # fmt: skip
    return pd.DataFrame(rows, columns=CONNECTIONS)


def accuracies(reach: dict[Any, int] | None = None, pairs: int = 3) -> pd.DataFrame:
    """90 % for dense networks; half a point more for masks up to their reach, 80 % beyond it."""
    rows: list[dict[str, Any]] = []
    for pair in range(pairs):
        a, b = 2 * pair, 2 * pair + 1
        for rewound, seed in product(("weights", "rate"), (a, b)):
            value = 90 + noise(pair) if seed == b else 50.0  # a's own says nothing of b's masks
            rows.append({"rewound": rewound, "arm": UNPRUNED, "matcher": "", "level": 0,
                         "a": seed, "b": np.nan, "test_accuracy": value})  # fmt: skip
        for ((rewound, arm, matcher), last), level in product(
            (REACH | (reach or {})).items(), LEVELS
        ):
            own = arm == PRUNED
            rows.append(
                {"rewound": rewound, "arm": arm, "matcher": matcher, "level": level,
                 "a": b if own else a, "b": np.nan if own else b,
                 "test_accuracy": (90.5 if level <= last else 80.0)
                 + noise(pair, level, rewound, arm, matcher)}
            )  # fmt: skip
    return pd.DataFrame(rows).assign(**WHERE, status="ok")


def verdicts(*frames: pd.DataFrame) -> dict[str, Claim]:
    return {
        claim.id: claim
        for claim in claims.evaluate(Numbers(levels=of_levels(*frames)), [sharma_sparse])
    }


ALIGNED, CARRIED, FURTHER, RATE = (
    "dense-permutations-align-sparse-networks", "masks-can-be-carried-over",
    "weights-carry-masks-further", "rewinding-the-rate-carries-masks-less-far",
)  # fmt: skip


def test_what_the_work_says_is_supported_by_runs_that_are_so() -> None:
    found = verdicts(connections(), accuracies())
    assert {name: claim.verdict for name, claim in found.items()} == dict.fromkeys(
        (ALIGNED, CARRIED, FURTHER, RATE), SUPPORTED
    )
    values = {
        name: [part.reading.estimate.value for part in claim.parts] for name, claim in found.items()
    }
    near = {"abs": 0.03}
    # half a point above dense at one level and ten below at the next: 0.048 levels on
    fall, at_once = 0.5 / 10.5, 0.0
    assert values[ALIGNED] == pytest.approx([20, 15], **near)
    assert values[CARRIED] == pytest.approx([2.5 + fall - 1, 2.5 - 1, 1 - at_once], **near)
    assert values[FURTHER] == pytest.approx([1], **near)
    assert values[RATE] == pytest.approx([1.5], **near)


def test_levels_at_which_pruning_itself_fails_do_not_count() -> None:
    """There the barriers of these cells say the opposite."""
    found = verdicts(connections(), accuracies({("weights", PRUNED, ""): 4}))
    values = [part.reading.estimate.value for part in found[ALIGNED].parts]
    assert values == pytest.approx(
        [(4 * 20 - 20 - 20) / 4, (4 * 15 - 15 - (95 - 40 / 3)) / 4], abs=0.03
    )
    nowhere = verdicts(connections(), accuracies({("weights", PRUNED, ""): 0}))
    assert nowhere[ALIGNED].verdict == UNDECIDED and nowhere[ALIGNED].of == 0


def test_no_reach_counts_behind_a_level_that_fails() -> None:
    frame = accuracies()
    gone = frame["arm"].eq("dense") & frame["matcher"].eq("weights") & frame["level"].eq(1)
    found = verdicts(
        connections(), frame.assign(test_accuracy=frame["test_accuracy"].mask(gone, 10.0))
    )
    (part,) = found[FURTHER].parts
    assert part.reading.estimate.value == pytest.approx(0 - 2 - 0.5 / 10.5, abs=0.03)
    assert found[FURTHER].verdict == CONTRADICTED


@pytest.mark.parametrize(
    ("claim", "reach", "barriers"),
    [
        (ALIGNED, {}, BARRIERS | {"sparse": 2.0}),
        (ALIGNED, {}, BARRIERS | {"dense": 22.0}),
        (CARRIED, {("weights", "dense", m): 0 for m in MATCHERS}, BARRIERS),
        (CARRIED, {("weights", "one-shot", ""): 4}, BARRIERS),
        (CARRIED, {("weights", "none", ""): 2}, BARRIERS),
        (FURTHER, {("weights", "dense", "activations"): 4}, BARRIERS),
        (RATE, {("rate", "dense", m): 4 for m in MATCHERS}, BARRIERS),
    ],
)  # fmt: skip
def test_each_part_can_contradict_its_claim(
    claim: str, reach: dict[Any, int], barriers: dict[str, float]
) -> None:
    assert verdicts(connections(barriers), accuracies(reach))[claim].verdict == CONTRADICTED


def test_two_pairs_decide_nothing() -> None:
    found = verdicts(connections(pairs=2), accuracies(pairs=2))
    assert {claim.verdict for claim in found.values()} == {UNDECIDED}
    assert all(claim.of > 0 for claim in found.values())


def test_what_was_not_run_says_nothing() -> None:
    frame = accuracies()
    found = verdicts(connections(), frame[frame["rewound"] == "weights"])
    assert found[RATE].of == 0 and found[CARRIED].verdict == SUPPORTED
    found = verdicts(connections().iloc[:0], frame)
    assert found[ALIGNED].of == 0 and found[FURTHER].verdict == SUPPORTED
