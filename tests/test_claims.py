"""The claims: verdicts on the published numbers, and on made-up results either way."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import synthetic

from pipeline.report import claims, published, tables
from pipeline.report.claims import Numbers, claims_markdown, claims_table, evaluate, on_results
from pipeline.report.claims.judge import (
    CONTRADICTED,
    SUPPORTED,
    UNDECIDED,
    pooled,
    verdicts_on,
)
from pipeline.report.claims.numbers import barriers, of_curves, of_runs
from pipeline.report.claims.values import Reading, Sampled
from pipeline.report.shown import Shown
from pipeline.report.statistics import Estimate
from pipeline.study.outputs.claims import Claims

# Verdict, that of the independent reading, and how many entries hold literally, of how many.
PUBLISHED = {
    "permuted-at-least-naive": (SUPPORTED, "", 215, 215),
    "permuted-at-least-naive-top5": (UNDECIDED, "", 9, 9),
    "imagenet-gap-nearly-two-points": (UNDECIDED, "", 1, 2),
    "imagenet-lth-gap-larger": (UNDECIDED, "", 9, 9),
    "vgg-gap-larger-at-90": (UNDECIDED, SUPPORTED, 6, 7),
    "vgg-permuted-near-lth": (UNDECIDED, SUPPORTED, 6, 6),
    "vgg-naive-plateaus": (UNDECIDED, CONTRADICTED, 0, 2),
    "vgg-naive-unstable": (UNDECIDED, "", 0, 0),
    "gap-grows-with-sparsity": (SUPPORTED, "", 25, 27),
    "gap-grows-with-sparsity-at-every-k": (SUPPORTED, "", 94, 105),
    "gap-grows-with-width": (UNDECIDED, CONTRADICTED, 2, 6),
    "closed-share-grows-with-width": (UNDECIDED, SUPPORTED, 6, 6),
    "lth-gap-shrinks-with-width": (SUPPORTED, SUPPORTED, 6, 6),
    "naive-gap-does-not-shrink-with-width": (CONTRADICTED, CONTRADICTED, 0, 6),
    "zero-helps-neither": (SUPPORTED, "", 68, 68),
    "naive-gains-nothing-from-k": (UNDECIDED, "", 4, 16),
    "rewinding-at-high-sparsity": (UNDECIDED, "", 44, 51),
    "accuracy-flattens-in-k": (SUPPORTED, "", 68, 68),
    "permuted-ensembles-beat-lth": (UNDECIDED, "", 2, 2),
    "permuted-more-diverse-than-lth": (UNDECIDED, "", 6, 6),
    "permuted-as-diverse-as-imp": (UNDECIDED, "", 6, 6),
    "permuted-ensemble-gain-like-imp": (UNDECIDED, "", 2, 2),
    "early-matching-suffices": (UNDECIDED, UNDECIDED, 0, 8),
    "early-matching-keeps-most": (UNDECIDED, UNDECIDED, 4, 8),
    "mask-reuse": (UNDECIDED, UNDECIDED, 4, 6),
    "mask-reuse-clearer-at-20": (UNDECIDED, UNDECIDED, 3, 3),
    "mask-reuse-near-lth": (UNDECIDED, UNDECIDED, 2, 6),
}
WITHOUT_NUMBERS = [
    "barrier-falls-with-width", "barrier-below-initialisation", "repair-lowers-the-barrier",
    "dense-to-imp-stays-small", "permuted-to-lth-small", "imagenet-barrier-larger",
    "imagenet-barrier-halves-at-width-2", "matching-costs-little",
]  # fmt: skip


@pytest.fixture(scope="module")
def on_published():
    return {claim.id: claim for claim in claims.on_published()}


def judged(cells, **others):
    found = evaluate(claims.published_numbers(cells))
    return {claim.id: claim for claim in found}


def ours(runs, **others):
    return {claim.id: claim for claim in on_results(runs, **others)}


def test_verdicts_on_the_published_numbers(on_published):
    found = {key: (c.verdict, c.independent, c.held, c.of) for key, c in on_published.items()}
    assert found == PUBLISHED | dict.fromkeys(WITHOUT_NUMBERS, (UNDECIDED, "", 0, 0))


def test_the_gap_in_table_5_is_as_the_audit_found_it(on_published):
    """0.38, 0.78, 1.04, 0.72 points; the last step ± 0.22 with independent columns, else ± 0.63.

    (Two standard errors; three times 0.22, for nine columns of equal spread, would be 0.66.)
    """
    row = (
        on_published["gap-grows-with-sparsity"].rows.set_index("unit").loc["ResNet20×1 / CIFAR-10"]
    )
    assert row["values"] == "80%: +0.38; 90%: +0.78; 95%: +1.04; 97%: +0.72"
    assert (row["held"], row["of"]) == (2, 3)
    five = published.table("5")
    last = claims.published_numbers(five[five["sparsity"] > 0.94]).cells
    measure = claims.growth.Measure(
        claims.growth.along("sparsity", claims.growth.gap("permuted", "naive")), claims.growth.slope
    )
    reading = last.read(measure)
    assert reading.estimate.value == pytest.approx(-0.32, abs=0.005)
    assert 2 * reading.independent.error == pytest.approx(0.22, abs=0.005)
    assert 2 * reading.estimate.error == pytest.approx(0.63, abs=0.005)


def test_a_claim_on_imagenet_is_judged_on_imagenet_alone():
    """Top-5 of ten classes says nothing of it, and single runs decide nothing."""
    runs = synthetic.runs_of("5").assign(test_top5=99.0)
    found = ours(runs)["permuted-at-least-naive-top5"]
    assert (found.verdict, found.of, found.parts) == (UNDECIDED, 0, [])
    single = ours(synthetic.runs_of("10"))["permuted-at-least-naive-top5"]
    assert (single.verdict, single.of) == (UNDECIDED, 9)
    assert single.parts[0].over == "fewer than 3 independent pairs"


def test_our_runs_go_through_the_same_formulas():
    labels = ("5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "4.2")
    runs = synthetic.runs_of(*labels)
    shared = (runs["experiment"] == "table_15") & runs["matching_epoch"].isna()
    found = ours(runs[~shared], reuse=["table_4_2"], diversity=published.diversity())
    literal = {key: (claim.held, claim.of) for key, claim in found.items() if key in PUBLISHED}
    known = {key: row[2:] for key, row in PUBLISHED.items()}
    assert literal == known
    # Pooled over networks, only the means count; these are those that were published.
    for key in ("permuted-at-least-naive", "gap-grows-with-sparsity", "zero-helps-neither"):
        assert found[key].verdict == SUPPORTED


def test_the_statistic_is_taken_pair_by_pair():
    """A difference that all pairs share is found, however much the pairs themselves differ."""
    runs = synthetic.runs_of("5")
    level = runs["a"].map({1: 60.0, 2: 75.0, 3: 90.0})
    better = runs["method"].eq("permuted") * (1 + 0.1 * (runs["a"] - 2))
    found = ours(runs.assign(test_accuracy=level + better))["permuted-at-least-naive"]
    estimate = found.parts[0].reading.estimate
    assert (found.verdict, estimate.n) == (SUPPORTED, 3)
    assert estimate.value == pytest.approx(1.0) and estimate.reach == pytest.approx(0.248, abs=1e-3)


def test_pairs_that_share_a_dense_run_are_one_cluster():
    """Five partners of one mask are one independent pair, which decides nothing."""
    runs = synthetic.runs_of("5")
    runs["a"], runs["b"] = runs["a"].where(runs["kind"] == "dense", 1), runs["b"]
    chosen = ours(runs[(runs["method"] != "lth") | runs["kind"].eq("dense")])
    found = chosen["permuted-at-least-naive"]
    assert found.verdict == UNDECIDED and found.parts[0].reading.estimate.n == 1
    assert "3 pairs, 1 cluster of shared runs" in found.parts[0].reading.note


def test_a_pair_that_lacks_a_run_is_left_out_and_a_cell_with_a_diverged_run_too():
    runs = synthetic.runs_of("5")
    gone = synthetic.break_runs(runs, method="naive", sparsity=0.8, rewind_epoch=5.0, a=2)
    one = ours(synthetic.with_status(runs, "missing", gone))["permuted-at-least-naive"]
    assert one.parts[0].reading.estimate.n == 2 and one.verdict == UNDECIDED
    other = ours(synthetic.with_status(runs, "diverged", gone))["permuted-at-least-naive"]
    assert other.of == 35 and other.parts[0].reading.estimate.n == 3


def test_a_matching_at_the_end_is_one_by_any_name():
    """Table 15 alone has the cells of early matching; its column t = 200 is the end."""
    runs = synthetic.runs_of("15")
    found = ours(runs)["early-matching-suffices"]
    assert (found.held, found.of) == (0, 8)
    assert len(found.parts) == 2


def test_naive_that_diverges_at_high_sparsity_is_counted():
    runs = synthetic.runs_of("9")
    high = runs[runs["sparsity"] == 0.9].assign(sparsity=0.95)
    high["path"] += "/95"
    both = pd.concat([runs, high], ignore_index=True)
    fallen = synthetic.break_runs(both, method="naive", sparsity=0.95)
    fallen &= ~((both["rewind_epoch"] == 0) & (both["a"] == 1))
    found = ours(synthetic.with_status(both, "diverged", fallen))["vgg-naive-unstable"]
    assert (found.verdict, found.held, found.of) == (SUPPORTED, 7, 7)


def reading(value, error=0.1, n=3):
    return Reading(Estimate(value, error, n - 1, n))


def test_three_networks_are_a_sample_and_fewer_have_the_errors_of_their_pairs():
    over_networks, over = pooled([reading(v, error=9.0) for v in (1.0, 2.0, 3.0)], "networks")
    assert over == "3 networks" and over_networks.estimate.error == pytest.approx(1 / math.sqrt(3))
    two, over = pooled([reading(1.0, 0.3), reading(3.0, 0.4)], "networks")
    assert two.estimate.value == 2.0 and two.estimate.error == pytest.approx(0.25)
    assert "2 networks" in over
    few, over = pooled([reading(1.0, n=2), reading(3.0, math.nan)], "networks")
    assert not few.estimate.decides and few.estimate.value == 2.0


def test_all_parts_must_hold_and_one_contradicts():
    clear, against, open_ = (Estimate(v, 0.1, 20, 21) for v in (1.0, -1.0, 0.1))
    verdict = [verdicts_on([parts])[0][0] for parts in (
        [clear, clear], [clear, open_], [clear, against], [clear, Estimate(1.0, n=2)], [],
    )]  # fmt: skip
    assert verdict == [SUPPORTED, UNDECIDED, CONTRADICTED, UNDECIDED, UNDECIDED]


def test_claims_of_a_page_share_the_level():
    """p = .03 decides alone, and among two tests it does not; what cannot be tested counts nothing."""
    one = Estimate(1.0, 0.4, 9, 10)
    assert one.p == pytest.approx(0.034, abs=1e-3)
    none = Estimate(1.0, n=1)
    assert verdicts_on([[one], [none]])[0].tolist() == [SUPPORTED, UNDECIDED]
    assert verdicts_on([[one], [Estimate(0.1, 1.0, 9, 10)]])[0].tolist() == [UNDECIDED, UNDECIDED]


def test_no_cells_at_all_is_no_error():
    assert {claim.verdict for claim in evaluate(Numbers())} == {UNDECIDED}


def test_barrier_is_the_height_above_the_chord():
    alpha = np.linspace(0, 1, 5)
    loss = np.array([1.0, 2.0, 4.0, 2.0, 2.0])
    frame = pd.DataFrame(
        {"dataset": "d", "model": "m", "width": 1.0, "a": 1, "b": 2, "correction": "repair",
         "split": "test", "matched": True, "alpha": alpha, "loss": loss, "error": loss,
         "loss_at_init": 5.0}
    )  # fmt: skip
    found = barriers(pd.concat([frame, frame]))  # shared by two experiments
    assert found["barrier"].tolist() == [2.5]
    assert found["highest"].tolist() == [4.0]
    assert barriers(frame[frame["alpha"] < 1]).empty


def curves_of(**settings):
    headline = claims.Headline(**settings)
    return {"curves": synthetic.curves(), "headline": headline}


def test_curves_and_chains():
    runs = synthetic.runs_of("5")
    frames = curves_of() | {"imp_barriers": synthetic.imp_barriers()}
    found = ours(runs, **frames)
    # 2 data sets × 3 steps of the width
    falls = found["barrier-falls-with-width"]
    assert (falls.verdict, falls.held, falls.of) == (SUPPORTED, 6, 6)
    assert found["barrier-below-initialisation"].verdict == SUPPORTED
    # 8 networks × 2 splits, and 2 styles × 11 iterations × 2 splits
    repair = found["repair-lowers-the-barrier"]
    assert (repair.verdict, repair.held, repair.of) == (SUPPORTED, 16 + 44, 16 + 44)
    # 0.4 points an iteration: 4.4 after the last
    assert found["dense-to-imp-stays-small"].held == 0
    worse = synthetic.curves()
    worse.loc[(worse["width"] == 16) & (worse["correction"] == "repair"), "loss"] *= 9
    assert ours(runs, curves=worse)["barrier-falls-with-width"].verdict == CONTRADICTED


def test_the_headline_barrier_is_the_protocols() -> None:
    """The supremum on training data with REPAIR, or the height at 1/2 on test data with a reset."""
    rows = [
        {
            "experiment": "e", "dataset": "digits", "model": "resnet20", "width": width, "a": 0,
            "b": 1, "alpha": alpha, "correction": correction, "split": split, "error": 0.0,
            "loss": (height if alpha == where else height / 4) if 0 < alpha < 1 else 0.0,
            "loss_at_init": 9.0, "matched": True,
        }
        for correction, split, where, heights in (
            ("repair", "train", 0.25, (2.0, 1.0)), ("reset", "test", 0.5, (1.0, 3.0)),
        )
        for width, height in zip((1, 2), heights, strict=True)
        for alpha in (0.0, 0.25, 0.5, 0.75, 1.0)
    ]  # fmt: skip
    curves = pd.DataFrame(rows)

    def steps(*headline: object) -> tuple[int, int]:
        one = claims.Headline(*headline)  # type: ignore[arg-type]
        found = evaluate(Numbers(barriers=of_curves(curves, one), headline=one))
        falls = {claim.id: claim for claim in found}["barrier-falls-with-width"]
        return falls.held, falls.of

    assert steps("repair", None, "train") == (1, 1)
    assert steps("reset", 0.5, "test") == (0, 1)
    at_half = barriers(curves[curves["correction"] == "repair"], at=0.5)
    assert list(at_half["barrier"]) == [0.5, 0.25]


def test_planes_and_costs():
    planes, points = synthetic.plane()
    points = points.replace("lth", "LTH")  # as runs of stage plane name it
    runs = synthetic.runs_of("5")
    dense = runs[runs["kind"] == "dense"]
    matches = pd.DataFrame(
        {"dataset": "cifar10", "model": "resnet20", "width": 1.0, "a": [1, 2, 3], "b": [11, 12, 13],
         "matching_epoch": math.nan, "seconds": [3.0, 4.0, 5.0]}
    )  # fmt: skip
    found = ours(runs, planes=[(planes, points)], costs=[(dense, matches)])
    small = found["permuted-to-lth-small"]
    assert (small.held, small.of, small.verdict) == (1, 1, UNDECIDED)
    cheap = found["matching-costs-little"]
    assert cheap.verdict == SUPPORTED
    assert cheap.parts[0].reading.estimate.value == pytest.approx(0.1 * 400 - 4)


def test_a_run_of_a_alone_counts_for_every_pair_with_this_a():
    runs = synthetic.runs_of("5")
    values = of_runs(runs)
    assert isinstance(values, Sampled)
    assert sorted(values.table.columns) == [(1, 11), (2, 12), (3, 13)]
    lth = values.where(method="lth", sparsity=0.8, rewind_epoch=0)
    assert not lth.table.isna().to_numpy().any()


#: Entries that hold literally, of how many that can be told apart, and how many cannot.
SHARMA = {
    "indirect-falls-with-width": (48, 53, 7),
    "indirect-stays-above-direct": (68, 68, 4),
    "activations-are-usually-better": (12, 30, 6),
    "lower-layers-first": (14, 14, 18),
    "mixed-lie-between": (162, 162, 46),
    "permutations-settle": (8, 8, 2),
    "direct-and-indirect-stay-unlike": (35, 36, 8),
}


def test_single_means_read_off_curves_decide_nothing_but_can_be_taken_literally():
    found = {claim.id: claim for claim in claims.on_points()}
    assert {key: (c.held, c.of, c.unclear) for key, c in found.items()} == SHARMA
    assert {claim.verdict for claim in found.values()} == {UNDECIDED}
    over = {part.over for claim in found.values() for part in claim.parts}
    assert over == {"no spread is known"}
    page = claims.points_page(list(found.values()), "")
    assert "w = 0.25, weights, train: +5.50" in page


@pytest.mark.parametrize("factor", [0.0, 1.0, 1000.0])
def test_points_nearer_than_they_could_be_misread_are_not_told_apart(monkeypatch, factor):
    """By the differences themselves: every one larger than both reading errors counts, no other."""
    points = published.sharma()
    points["reading_error"] *= factor
    monkeypatch.setattr(published, "sharma", lambda: points)
    found = {claim.id: claim for claim in claims.on_points()}
    one = points[points["metric"].isin(["error", "loss"]) & points["figure"].eq("14")]
    both = one.pivot(
        index=["model", "width", "split", "metric", "matcher"],
        columns="arm",
        values=["value", "reading_error"],
    )
    apart = both["value"]["indirect"] - both["value"]["direct"]
    errors = both["reading_error"].sum(axis=1)
    known = (errors == 0) | (apart.abs() > errors + 1e-9)
    claim = found["indirect-stays-above-direct"]
    assert (claim.of, claim.unclear) == (known.sum(), (~known).sum())
    if factor > 1:
        assert not any(claim.of for claim in found.values())


def connections_of(points, noise=0.001):
    """Lines of three separate pairs at the end of training, as of a sweep, about given barriers.

    Those of another kind of sweep and under a correction are nonsense.
    """
    chosen = points[points["figure"].eq("14") & points["metric"].isin(["error", "loss"])]
    keys = ["dataset", "model", "width", "matcher", "arm", "split"]
    barriers = chosen.pivot(index=keys, columns="metric", values="value")
    barriers["error"] *= 100
    parts = [
        (barriers * (1 + noise * (seed - 2))).add_suffix("_barrier").assign(a=seed, b=seed + 10)
        for seed in (1, 2, 3)
    ]
    lines = pd.concat(parts).reset_index()
    lines = lines.assign(sweep="s", correction="none", matched_at=160, evaluated_at=160)
    lines = lines.assign(over="triples", dense="r", level=np.nan, distance=1.0)
    nonsense = lines.assign(error_barrier=99.0)
    return pd.concat([lines, nonsense.assign(over="epochs"), nonsense.assign(correction="reset")])


def test_our_sweeps_go_through_the_same_formulas_and_can_be_decided():
    points = published.sharma()
    found = {claim.id: claim for claim in claims.on_sweeps(connections_of(points))}
    above = found["indirect-stays-above-direct"]
    assert (above.verdict, above.held, above.of, above.unclear) == (SUPPORTED, 72, 72, 0)
    assert above.parts[0].reading.estimate.value == pytest.approx(14.127, abs=0.01)
    swapped = points.assign(arm=points["arm"].replace({"direct": "indirect", "indirect": "direct"}))
    turned = {claim.id: claim for claim in claims.on_sweeps(connections_of(swapped))}
    assert turned["indirect-stays-above-direct"].verdict == CONTRADICTED
    assert found["lower-layers-first"].of == 0


def test_table_and_page(on_published, tmp_path):
    known = list(on_published.values())
    table = claims_table(Claims(title="Claims"), Shown("claims"), known, beside=known)
    assert table.layout["Verdict"].tolist() == table.layout["On the published numbers"].tolist()
    assert len(table.tidy) == sum(len(claim.rows) for claim in known)
    assert list(table.layout.index) == [claim.id for claim in known if claim.of]
    assert all(name in table.notes[-1] for name in WITHOUT_NUMBERS)
    for path in tables.write(table, tmp_path / "claims"):
        assert path.stat().st_size > 1000
    page = claims_markdown(known, "Claims on the published numbers")
    assert page.startswith("# Claims on the published numbers\n")
    for claim in known:
        assert f"## {claim.id}\n" in page
    assert page == claims_markdown(claims.on_published(), "Claims on the published numbers")
