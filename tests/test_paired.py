"""Differences between methods, pair by pair, and barriers before and after matching."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import synthetic
from scipy import stats

from pipeline.report import headline
from pipeline.report.statistics import clusters, combined, holm, mean_of
from pipeline.report.tables.paired_difference import interval
from pipeline.study.outputs.barriers import Barriers
from pipeline.study.outputs.paired_difference import PairedDifference
from pipeline.study.settings import Method

ONE = PairedDifference(sparsities=(0.95,), rewind_epochs=(20,))


@pytest.fixture
def runs() -> pd.DataFrame:
    return synthetic.runs_of("5")


def rows(frame: pd.DataFrame) -> pd.DataFrame:
    return synthetic.table(ONE, frame).tidy.set_index(["first", "second"])


def value(frame: pd.DataFrame, method: str, a: int) -> pd.Series:
    """Where the accuracy of one run of the chosen cell stands."""
    return (
        (frame["method"] == method) & (frame["a"] == a) & (frame["kind"] == "sparse")
        & (frame["sparsity"] == 0.95) & (frame["rewind_epoch"] == 20)
    )  # fmt: skip


def test_the_interval_is_that_of_a_paired_t_test() -> None:
    first, second = np.array([90.1, 90.7, 89.9, 91.0]), np.array([89.8, 90.1, 90.0, 90.2])
    mean, low, high, p = interval(first - second)
    test = stats.ttest_rel(first, second)
    expected = test.confidence_interval(0.95)
    assert mean == pytest.approx((first - second).mean())
    assert (low, high) == pytest.approx((expected.low, expected.high))
    assert p == pytest.approx(test.pvalue)


def test_nothing_is_said_of_a_spread_that_is_not_there() -> None:
    assert all(map(math.isnan, interval([])))
    mean, *rest = interval([0.5])
    assert mean == 0.5 and all(map(math.isnan, rest))
    mean, low, high, p = interval([0.5, 0.5])
    assert (mean, low, high) == (0.5, 0.5, 0.5) and math.isnan(p)


def test_runs_of_the_same_pair_are_compared(runs: pd.DataFrame) -> None:
    """A difference common to all pairs is found exactly, however much the pairs themselves differ."""
    for a, level in zip(synthetic.SEEDS, (70.0, 80.0, 90.0), strict=True):
        runs.loc[value(runs, "naive", a), "test_accuracy"] = level
        runs.loc[value(runs, "permuted", a), "test_accuracy"] = level + 1
        runs.loc[value(runs, "lth", a), "test_accuracy"] = level + 3
    found = rows(runs)
    assert found.loc[("permuted", "naive"), ["difference", "low", "high"]].tolist() == [1, 1, 1]
    # an LTH run has no b: it belongs to the pair with its a
    assert found.loc[("permuted", "lth"), ["difference", "low", "high"]].tolist() == [-2, -2, -2]
    assert found["n"].tolist() == [3, 3, 3]
    assert found.loc[("naive", "lth"), "n_positive"] == 0


def shared(runs: pd.DataFrame) -> pd.DataFrame:
    """One mask, three partners; and one LTH run for all of them."""
    cell = runs[(runs["sparsity"] == 0.95) & (runs["rewind_epoch"] == 20)].copy()
    cell = cell[(cell["method"] != "lth") | (cell["a"] == 1)]
    cell.loc[cell["method"] != "lth", "a"] = 1
    return cell


def test_one_lth_run_serves_all_pairs_with_its_a(runs: pd.DataFrame) -> None:
    cell = shared(runs)
    found = rows(cell)
    assert found.loc[("permuted", "lth"), "n_pairs"] == 3
    lth = cell.loc[cell["method"] == "lth", "test_accuracy"].item()
    mean = cell.loc[cell["method"] == "permuted", "test_accuracy"].mean()
    assert found.loc[("permuted", "lth"), "difference"] == pytest.approx(mean - lth)


def test_pairs_that_share_a_dense_run_are_one_value(runs: pd.DataFrame) -> None:
    """One cluster has no interval, and the table says why; two clusters have the interval of two."""
    found = synthetic.table(ONE, shared(runs))
    assert found.tidy[["n", "n_pairs"]].to_numpy().tolist() == [[1, 3]] * 3
    assert found.tidy["low"].isna().all()
    assert "3 pairs are 1 cluster, and one cluster has no interval" in " ".join(found.notes)
    chain = runs.copy()  # (1, 11), (2, 11): the second pair shares b with the first
    chain.loc[chain["a"].eq(2) & chain["b"].notna(), "b"] = 11
    row = rows(chain).loc[("permuted", "naive")]
    assert (row["n"], row["n_pairs"]) == (2, 3)
    expected = interval([0.98 - 0.08, 0.98 + 0.16])  # the mean of pairs 1 and 2, and pair 3
    assert (row["low"], row["high"]) == pytest.approx(expected[1:3])


def test_intervals_over_clusters_cover_what_they_say() -> None:
    """Three masks with three partners each, noise of the mask and of the partner: 95 %, not less."""
    rng = np.random.default_rng(1)
    pairs = [(a, 10 + 3 * a + b) for a in range(3) for b in range(3)]
    labels = clusters(pairs)
    noise = rng.normal(size=(2000, 3, 1)) + 0.5 * rng.normal(size=(2000, 3, 3))
    values = pd.DataFrame(noise.reshape(2000, 9)).T.groupby(labels).mean()
    assert len(values) == 3
    ends = np.array([interval(draw)[1:3] for draw in values.T.to_numpy()])
    covered = ((ends[:, 0] < 0) & (ends[:, 1] > 0)).mean()
    assert covered == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize("status", ["missing", "diverged"])
def test_a_pair_without_both_runs_is_left_out_and_counted(runs: pd.DataFrame, status: str) -> None:
    where = synthetic.break_runs(runs, method="naive", sparsity=0.95, rewind_epoch=20.0, a=2)
    found = rows(synthetic.with_status(runs, status, where))
    assert found.loc[("permuted", "naive"), ["n", "n_missing"]].tolist() == [2, 1]
    assert found.loc[("permuted", "lth"), ["n", "n_missing"]].tolist() == [3, 0]


def test_over_all_cells_a_pair_counts_once(runs: pd.DataFrame) -> None:
    output = PairedDifference(sparsities=(0.9, 0.95), rewind_epochs=(20,))
    both = synthetic.table(output, runs)
    whole = both.tidy[both.tidy["sparsity"].isna()].set_index(["first", "second"])
    cells = both.tidy[both.tidy["sparsity"].notna()].set_index(["first", "second"])
    assert whole["n"].tolist() == [3, 3, 3]
    for key in whole.index:
        assert whole.loc[key, "difference"] == pytest.approx(cells.loc[[key], "difference"].mean())
    assert both.layout.index[-1][:2] == ("all", "all")


def test_bold_says_that_the_interval_leaves_out_nothing(runs: pd.DataFrame) -> None:
    found = synthetic.table(ONE, runs)
    for position, row in enumerate(found.tidy.to_dict("records")):
        assert found.is_bold(position, 0) == (row["low"] > 0 or row["high"] < 0)
        assert f"{row['difference']:+.2f}".replace("-", "−") == found.layout.iat[position, 0]


def test_barriers_before_and_after_matching_with_and_without_correction() -> None:
    frame = synthetic.barriers({
        ("none", False): [2.0, 3.0], ("none", True): [1.0, 2.0],
        ("repair", False): [1.0, 1.0], ("repair", True): [0.25, math.nan],
    })  # fmt: skip
    found = synthetic.table(Barriers(), frame)
    assert list(found.layout.columns) == [
        ("Loss (nats)", "a–b"), ("Loss (nats)", "π(a)–b"), ("Error (%)", "a–b"),
        ("Error (%)", "π(a)–b"),
    ]  # fmt: skip
    assert list(found.layout.loc[("train", "sup", "none")]) == [
        "2.500 ± 0.707", "1.500 ± 0.707", "25.00 ± 7.07", "15.00 ± 7.07",
    ]  # fmt: skip
    assert found.layout.loc[("train", "sup", "REPAIR")].tolist()[1] == "0.250"
    missing = found.tidy[found.tidy["correction"].eq("repair") & found.tidy["matched"]]
    assert missing["n_missing"].tolist() == [1, 1] and any("missing" in n for n in found.notes)
    only = synthetic.table(Barriers(corrections=("repair",)), frame)
    assert len(only.layout) == 1


def test_holm_is_bonferroni_step_by_step() -> None:
    found = holm([0.01, math.nan, 0.04, 0.03, 0.5])
    assert found[[0, 2, 3, 4]].tolist() == pytest.approx([0.04, 0.09, 0.09, 0.5])
    assert math.isnan(found[1])
    draws = np.array([[0.01, 0.2], [0.04, 0.001]])
    assert np.allclose(holm(draws).T, [holm(draws[:, 0]), holm(draws[:, 1])])


def test_estimates_of_independent_parts_are_those_of_welch() -> None:
    """The mean of a and −b is half their difference."""
    first, second = np.array([1.0, 1.4, 1.1]), np.array([0.2, 0.9, 0.1, 0.4])
    found = combined([mean_of(first), mean_of(-second)])
    test = stats.ttest_ind(first, second, equal_var=False)
    assert found.p == pytest.approx(test.pvalue) and found.df == pytest.approx(test.df)
    low, high = test.confidence_interval(0.95)
    assert (2 * (found.value - found.reach), 2 * (found.value + found.reach)) == pytest.approx(
        (low, high)
    )


def test_the_head_of_a_report_says_over_which_cells_a_difference_is(runs: pd.DataFrame) -> None:
    """A mean over the cells of a table names them; the only cell of another names itself."""
    methods = {"permuted": Method(init="b", permute=True), "naive": Method(init="b")}
    several = PairedDifference(sparsities=(0.95, 0.97), rewind_epochs=(20,))
    outputs = {"several": several, "one": ONE}
    config = SimpleNamespace(recipes=SimpleNamespace(methods=methods), outputs=outputs)
    tables = {name: synthetic.table(output, runs) for name, output in outputs.items()}
    both, one = headline.sentences(config, tables)
    network = "ResNet20×1 / CIFAR-10"
    assert both.startswith(f"{network}, S = 95% and 97%, k = 20: permuted − naive: +")
    assert one.startswith(
        f"{network}, S = 95%, k = 20: permuted − naive: +0.98 points (95 % interval"
    )
    assert one.endswith("which leaves out zero; 3 pairs of seeds)")
