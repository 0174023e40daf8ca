"""Ours beside the published numbers: differences, uncertainty, what is missing."""

import math

import numpy as np
import pandas as pd
import pytest
import synthetic
from scipy import stats

from pipeline.errors import UserError
from pipeline.report import published, tables
from pipeline.report.comparison import build, standard_error, uncertainty, welch_p
from pipeline.report.shown import Shown
from pipeline.study.outputs.barriers import Barriers
from pipeline.study.outputs.diversity import Diversity
from pipeline.study.outputs.early_matching import EarlyMatching
from pipeline.study.outputs.rewind_grid import RewindGrid


def compare(runs, output=RewindGrid, published="5", end=None, **settings):
    return build(output(published=published, **settings), Shown("table_5", end=end), runs)


@pytest.fixture(scope="module")
def runs():
    return synthetic.runs_of("5")


def test_the_published_numbers_agree_with_themselves(runs):
    table = compare(runs)
    frame = table.tidy
    assert table.name == "table_5_comparison"
    assert len(frame) == 108
    assert np.allclose(frame["difference"], 0, atol=1e-9)
    assert all(value is True for value in frame["within"])
    assert np.allclose(frame["welch_p"], 1)
    assert set(frame["status"]) == {"complete"}
    assert table.notes[0] == "108 of 108 judged cells within; 108 published cells."


def test_difference_uncertainty_and_welch_against_the_definitions(runs):
    shifted = runs.copy()
    rng = np.random.default_rng(0)
    shifted["test_accuracy"] += rng.normal(0, 0.4, len(shifted))
    frame = compare(shifted).tidy
    values = select_values(shifted, method="naive", sparsity=0.95, rewind_epoch=50.0)
    row = frame[
        (frame["method"] == "naive") & (frame["sparsity"] == 0.95) & (frame["rewind_epoch"] == 50)
    ].iloc[0]
    s = np.std(values, ddof=1)
    error = math.sqrt(s**2 / 3 + 0.08**2 / 3)
    df = (s**2 + 0.08**2) ** 2 / (s**4 / 2 + 0.08**4 / 2)
    assert row["difference"] == pytest.approx(np.mean(values) - 86.88)
    assert row["uncertainty"] == pytest.approx(stats.t.ppf(0.975, df) * error)
    assert row["within_two_errors"] == (abs(row["difference"]) <= 2 * error)
    expected = stats.ttest_ind_from_stats(np.mean(values), s, 3, 86.88, 0.08, 3, equal_var=False)
    assert row["welch_p"] == pytest.approx(expected.pvalue)
    assert {True, False} <= set(frame["within_two_errors"])
    # one rule in two forms
    assert (frame["within"].astype(bool) == (frame["welch_p"] >= 0.05)).all()


def test_equal_processes_miss_as_often_as_the_note_says():
    """At most 5 % of the cells by Student's quantile, 11.6 % by two standard errors at n = 3."""
    rng = np.random.default_rng(0)
    draws = rng.normal(90, 0.2, (2, 3, 20_000))
    (one, other), (s1, s2) = draws.mean(axis=1), draws.std(axis=1, ddof=1)
    away = np.abs(one - other)
    by_student = (away > uncertainty(s1, 3, s2, 3)).mean()
    by_two = (away > 2 * standard_error(s1, 3, s2, 3)).mean()
    assert 0.025 < by_student < 0.05
    assert by_two == pytest.approx(0.116, abs=0.008)
    assert 2 * stats.t.sf(2, 4) == pytest.approx(0.116, abs=0.001)


def test_a_table_is_judged_as_one(runs):
    """Its p is the smallest of the cells' times their number; misses stand beside those expected."""
    shifted = runs.copy()
    chosen = synthetic.break_runs(shifted, method="naive", sparsity=0.95, rewind_epoch=50.0)
    shifted.loc[chosen, "test_accuracy"] += 3
    table = compare(shifted)
    smallest = table.tidy["welch_p"].min()
    notes = " ".join(table.notes)
    assert "Outside: 1 found, 5.4 expected of two equal processes; by 2 SE: 1 found, 12.5" in notes
    assert f"All cells in one test: p = {108 * smallest:.2g}" in notes and 108 * smallest < 0.05
    assert "mean difference +0.03 (" in notes
    assert "p = 1 that ours" in " ".join(compare(runs).notes)


def select_values(runs, **where):
    return runs[synthetic.break_runs(runs, **where)]["test_accuracy"].to_numpy()


def test_runs_that_share_a_dense_run_are_not_judged_by_their_spread(runs):
    shared = runs.copy()
    shared.loc[shared["b"].notna(), "a"] = 1
    table = compare(shared)
    assert table.tidy["within"].isna().all() and table.tidy["published_mean"].notna().all()
    assert "3 pairs are 1 cluster of shared dense runs" in " ".join(table.notes)


def test_nothing_is_judged_without_a_spread():
    assert math.isnan(uncertainty(0.1, 1, 0.1, 3))
    assert math.isnan(uncertainty(math.nan, 3, 0.1, 3))
    assert math.isnan(uncertainty(0.1, 3, 0.1, math.nan))
    assert math.isnan(welch_p(90, 0.0, 3, 91, 0.0, 3))
    frame = compare(synthetic.runs_of("10"), published="10", metrics=("top1", "top5"))
    assert frame.tidy["within"].isna().all()
    assert frame.tidy["welch_p"].isna().all()
    assert len(frame.tidy) == 54
    assert np.allclose(frame.tidy["difference"], 0)


def test_missing_diverged_and_unpublished_cells_stay(runs):
    where = synthetic.break_runs
    frame = synthetic.with_status(
        runs, "missing", where(runs, method="lth", sparsity=0.8, rewind_epoch=0.0)
    )
    frame = synthetic.with_status(
        frame, "diverged", where(runs, method="naive", sparsity=0.97, rewind_epoch=0.0)
    )
    frame = synthetic.with_status(
        frame, "missing", where(runs, method="naive", sparsity=0.8, rewind_epoch=0.0, a=1)
    )
    frame = frame[~where(frame, rewind_epoch=100.0)]  # not even declared
    extra = frame[where(frame, rewind_epoch=50.0)].assign(rewind_epoch=60.0)
    extra["path"] += "/60"
    table = compare(pd.concat([frame, extra]))
    counts = table.tidy["status"].value_counts().to_dict()
    assert counts == {
        "complete": 93, "missing": 13, "not published": 12, "diverged": 1, "incomplete": 1,
    }  # fmt: skip
    assert table.layout.loc[("97%", "naive", "0"), "Ours"] == "diverged"
    assert table.layout.loc[("80%", "LTH", "0"), "Ours"] == "missing"
    assert table.layout.loc[("80%", "LTH", "60"), "Published"] == "–"
    assert len(table.layout) == 120


def test_early_matching_meets_table_15_at_its_end_too():
    both = synthetic.runs_of("5", "15")
    new = both[(both["experiment"] == "table_5") | both["matching_epoch"].notna()]
    frame = compare(new, EarlyMatching, "15", end=200, rewind_epochs=(20,)).tidy
    assert len(frame) == 28
    assert set(frame["status"]) == {"complete"}


def test_another_network_is_compared_with_a_warning(runs):
    other = runs.assign(dataset="digits", width=0.5)
    table = compare(other)
    assert table.notes[1].startswith("Not the same experiment: ours is ResNet20×0.5 / digits")
    assert len(table.tidy) == 108


def test_diversity_beside_table_1():
    ours = published.diversity()
    table = compare(ours, Diversity, "1", title="Ensembles")
    assert len(table.tidy) == 42  # 2 dense accuracies, 8 rows of five numbers
    assert np.allclose(table.tidy["difference"], 0)
    judged = table.tidy[table.tidy["within"].notna()]
    assert set(judged["metric"]) == {"test_accuracy"}
    part = ours[ours["method"] != "imp"]
    frame = compare(part, Diversity, "1").tidy
    assert (frame[frame["method"] == "imp"]["status"] == "missing").all()
    elsewhere = compare(ours.assign(dataset="digits"), Diversity, "1")
    assert elsewhere.notes[1] == "Nothing was published for these networks and data sets."
    assert set(elsewhere.tidy["status"]) <= {"not published", "missing"}


def test_a_kind_that_was_not_published_is_refused():
    with pytest.raises(UserError, match="table_5: a table of kind barriers has no published"):
        compare(pd.DataFrame(), Barriers)


def test_it_renders(runs, tmp_path):
    table = compare(runs)
    paths = tables.write(table, tmp_path / "c", ["csv", "html", "md"])
    assert len(pd.read_csv(paths[0])) == 108
    assert "| 80% | LTH | 0 | 90.41 ± 0.14 | 90.41 ± 0.14 |" in paths[2].read_text()


def test_filters_hold_for_the_published_cells_too():
    runs = synthetic.runs_of("5")
    rows = compare(runs, sparsities=(0.9, 0.95), rewind_epochs=(20,)).tidy
    assert set(zip(rows["sparsity"], rows["rewind_epoch"], strict=True)) == {(0.9, 20), (0.95, 20)}
    assert len(rows) == 6 and set(rows["status"]) == {"complete"}
