"""Tables: means and spreads, the paper's layout and bold, missing and diverged runs, renderers."""

import html.parser
import io
import re
from itertools import product

import numpy as np
import pandas as pd
import pytest
import synthetic

from pipeline.report import published, tables
from pipeline.report.tables.cells import DENSE, aggregate, select
from pipeline.report.tables.table import SPAN
from pipeline.study.outputs.cost import Cost
from pipeline.study.outputs.diversity import Diversity
from pipeline.study.outputs.early_matching import EarlyMatching
from pipeline.study.outputs.ensemble import Ensemble
from pipeline.study.outputs.hyperparameters import Hyperparameters
from pipeline.study.outputs.notions import Notions
from pipeline.study.outputs.rewind_grid import RewindGrid
from pipeline.study.settings import Method

# Bold cells as the paper prints them: (S, k) of perm. (naive never is), per table.
BOLD = {
    "5": {(80, 75), (90, 75), (95, 20), (97, 15)},
    "6": {(80, 50), (90, 75), (95, 50), (95, 75), (97, 75)},
    "7": {(80, 50), (80, 100), (90, 50), (95, 50), (97, 50)},
    "8": {(80, 50), (90, 50), (95, 50), (97, 50)},
    "9": {(80, 50), (90, 50)},
    "11": {(80, 25), (90, 50), (95, 25), (97, 50)},
    "12": {(80, 100), (90, 100), (95, 50), (97, 100)},
    "13": {(80, 50), (90, 100), (95, 100), (97, 100)},
    "14": {(80, 100), (90, 100), (95, 25), (97, 100)},
}


def grid(runs, methods=None, **settings):
    output = RewindGrid(title="ResNet20×1 / CIFAR-10", **settings)
    return synthetic.table(output, runs, "table_5", methods=methods or {})


@pytest.fixture(scope="module")
def runs():
    return synthetic.runs_of("5")


@pytest.fixture(scope="module")
def broken(runs):
    """One run missing, one whole cell missing, one run diverged, one whole cell diverged."""
    where = synthetic.break_runs
    frame = synthetic.with_status(
        runs, "missing", where(runs, method="lth", sparsity=0.8, rewind_epoch=0.0, a=1)
    )
    frame = synthetic.with_status(
        frame, "missing", where(runs, method="permuted", sparsity=0.9, rewind_epoch=5.0)
    )
    frame = synthetic.with_status(
        frame, "diverged", where(runs, method="permuted", sparsity=0.8, rewind_epoch=75.0, a=1)
    )
    return synthetic.with_status(
        frame, "diverged", where(runs, method="naive", sparsity=0.97, rewind_epoch=100.0)
    )


def test_mean_and_sample_standard_deviation(runs):
    cells = aggregate(select(runs))
    known = published.table("5")
    both = cells.merge(known, on=["sparsity", "method", "rewind_epoch"], suffixes=("", "_known"))
    assert len(both) == 108
    assert np.allclose(both["mean"], both["mean_known"])
    assert np.allclose(both["std"], both["std_known"])
    assert (cells["n"] == 3).all()


def test_layout_is_the_papers(runs):
    table = grid(runs)
    assert table.layout.shape == (13, 9)
    assert table.layout.index.names == ["S", "Method"]
    assert list(table.layout.iloc[-1]) == ["92.92 ± 0.04", *[SPAN] * 8]
    assert table.layout.index[-1] == ("–", "dense")
    assert list(table.layout.index[:3]) == [("80%", "LTH"), ("80%", "naive"), ("80%", "perm.")]
    assert list(table.layout.columns.get_level_values(1)[:3]) == ["k=0", "5", "10"]
    assert table.layout.loc[("80%", "LTH")].iloc[0] == "90.41 ± 0.14"
    assert table.notes == [DENSE]


@pytest.mark.parametrize("label", BOLD)
def test_bold_is_the_papers(label):
    table = grid(synthetic.runs_of(label), bold="block")
    best = table.tidy[table.tidy["best"]]
    assert set(best["method"]) == {"permuted"}
    found = {(round(100 * row.sparsity), int(row.rewind_epoch)) for row in best.itertuples()}
    assert found == BOLD[label]
    assert int(table.bold.to_numpy().sum()) == len(best)


def test_bold_compares_methods_in_each_cell():
    """Of naive and permuted at each S and k, whichever is higher; of one alone, nothing."""
    runs = synthetic.runs_of("5")
    lower = synthetic.break_runs(runs, method="permuted", sparsity=0.8, rewind_epoch=5.0)
    runs.loc[lower, "test_accuracy"] -= 10
    gone = synthetic.break_runs(runs, method="naive", sparsity=0.9, rewind_epoch=5.0)
    table = grid(synthetic.with_status(runs, "missing", gone))
    best = table.tidy[table.tidy["best"]].groupby(["sparsity", "rewind_epoch"])["method"].agg(list)
    assert best[0.8, 5.0] == ["naive"] and (0.9, 5.0) not in best
    assert len(best) == 35 and sum(one == ["permuted"] for one in best) == 34


def test_a_table_says_what_it_is(runs):
    """Quantity, unit, n, spread, bold and protocol, in every format; the CSV in columns."""
    table = grid(runs)
    legend = [
        "Top-1 accuracy on test images in %, mean ± sample standard deviation over n = 3 "
        "finished runs.",
        "Bold: the highest mean at its S and k among the methods that start from a new "
        "initialisation; equal as printed, all; a cell with a diverged run never.",
        DENSE,
        "Protocol: paper.",
    ]
    page, markdown, latex = (
        make(table) for make in (tables.to_html, tables.to_markdown, tables.to_latex)
    )
    for sentence in legend:
        assert f"<p>{sentence}</p>" in page and f"- {sentence}\n" in markdown
        assert sentence.replace("%", "\\%").replace("±", "$\\pm$") in latex
    cells = pd.read_csv(io.StringIO(tables.to_csv(table)))
    said = {"unit": "%", "spread": "sample standard deviation", "protocol": "paper"}
    assert (cells[list(said)] == list(said.values())).all(axis=None)
    assert cells["bold"].str.startswith("the highest mean at its S and k").all()


def test_a_cell_has_the_value_of_every_run_by_its_seeds(broken):
    cells = grid(broken).tidy.set_index(["method", "sparsity", "rewind_epoch"])["values"]
    assert cells["lth", 0.8, 0.0] == "1: missing; 2: 90.41; 3: 90.55"
    assert cells["permuted", 0.8, 75.0].startswith("1-11: diverged; 2-12: 91.13; 3-13: ")
    assert cells["dense"].iloc[0].count(";") == 5


def test_every_number_has_the_runs_that_it_is_made_of(runs):
    """Their mean is the number; each run stands behind the cells of its own keys alone."""
    table = grid(runs)
    accuracy = dict(zip(runs["path"], runs["test_accuracy"], strict=True))
    for row, column in product(range(13), range(9)):
        text, behind = table.layout.iat[row, column], table.behind(row, column)
        if text != SPAN:
            assert float(text.split()[0]) == round(np.mean([accuracy[p] for p in behind]), 2)
    found = tables.groups(table)
    assert len(found) == 12 * 9 + 1 and len(set().union(*found)) == 3 * 12 * 9 + 6
    page = tables.to_fragment(table, runs="runs")
    assert re.findall(r'href="#runs-(\d+)"', page) == [str(number) for number in range(109)]


def test_markdown_sets_numbers_right_and_words_left(runs):
    rows = [("one", "Optimizer", "SGD"), ("one", "Epochs", 10)]
    words = tables.to_markdown(synthetic.table(Hyperparameters(), rows))
    assert "| --- | --- |" in words and "---:" not in words
    assert "| --- | --- |" + " ---: |" * 9 in tables.to_markdown(grid(runs))


def test_top1_and_top5_side_by_side():
    table = grid(synthetic.runs_of("10"), metrics=("top1", "top5"), bold="block")
    assert table.layout.shape == (10, 6)
    assert list(table.layout.columns)[3] == ("Top-5 Accuracy", "k=10")
    assert table.layout.loc[("80%", "naive")].iloc[4] == "88.10"
    best = table.tidy[table.tidy["best"]]
    assert sorted(best["mean"]) == [62.77, 66.37, 69.87, 84.79, 87.37, 89.45]
    assert any("single run" in note for note in table.notes)


def test_missing_and_diverged_are_shown_and_never_dropped(runs, broken):
    table = grid(broken, bold="block")
    assert table.layout.shape == (13, 9)
    text = table.layout
    assert text.loc[("80%", "LTH")].iloc[0] == "90.48 ± 0.10 (missing 1/3)"
    assert text.loc[("90%", "perm.")].iloc[1] == "missing"
    assert text.loc[("80%", "perm.")].iloc[7] == "91.16 ± 0.04 (diverged 1/3)"
    assert text.loc[("97%", "naive")].iloc[8] == "diverged 3/3"
    assert table.tidy["n_missing"].sum() == 4
    assert table.tidy["n_diverged"].sum() == 4
    # The mean of the survivors was the highest; it is no candidate.
    block = table.tidy[(table.tidy["sparsity"] == 0.8) & table.tidy["best"]]
    assert block["rewind_epoch"].tolist() == [100.0]
    assert table.notes == [
        "4 of 324 runs are missing; 1 of 108 cells have none.",
        "4 of 324 runs diverged; the mean of such a cell is over the runs that finished, and it is "
        "never marked as the best.",
        DENSE,
    ]


def test_a_run_that_two_experiments_share_counts_once(runs):
    twice = pd.concat([runs, runs.assign(experiment="other")], ignore_index=True)
    assert len(select(twice)) == len(select(runs))
    assert (aggregate(select(twice))["n"] == 3).all()


def test_filters_and_user_methods(runs):
    own = runs[runs["method"] == "permuted"].assign(method="weights")
    own["test_accuracy"] += 5.0
    own["path"] = own["path"] + "/weights"
    table = grid(
        pd.concat([runs, own]),
        sparsities=(0.9,),
        rewind_epochs=(0, 10),
        methods={"weights": Method(init="b", label="by weights")},
    )
    assert list(table.layout.index.get_level_values("Method")) == [
        "LTH", "naive", "perm.", "by weights", "dense",
    ]  # fmt: skip
    assert table.layout.shape == (5, 2)
    assert table.tidy[table.tidy["best"]]["method"].tolist() == ["weights"] * 2


def test_widths_that_vary_become_rows():
    table = grid(synthetic.runs_of("5", "6"))
    assert table.layout.index.names == ["w", "S", "Method"]
    assert table.layout.shape == (26, 9)
    dense = table.layout[table.layout.index.get_level_values("Method") == "dense"]
    assert list(dense.index) == [("1", "–", "dense"), ("4", "–", "dense")]


def test_a_table_of_nothing_but_missing_runs(runs):
    table = grid(synthetic.with_status(runs, "missing", synthetic.break_runs(runs)))
    assert (table.layout.iloc[:-1] == "missing").all().all()
    assert not table.bold.any().any()


def early():
    both = synthetic.runs_of("5", "15")
    # Table 15 shares its LTH, naive and t = T cells with Table 5.
    new = (both["experiment"] == "table_5") | both["matching_epoch"].notna()
    return synthetic.table(EarlyMatching(rewind_epochs=(20,)), both[new], "table_15", end=200)


def test_early_matching_is_table_15():
    table = early()
    assert table.layout.shape == (13, 5)
    assert list(table.layout.columns.get_level_values(1)) == ["t=5", "20", "50", "100", "200"]
    assert list(table.layout.loc[("80%", "LTH")]) == ["92.25 ± 0.14", *[SPAN] * 4]
    assert table.layout.loc[("95%", "perm.")].iloc[0] == "87.37 ± 0.33"
    assert table.layout.loc[("95%", "perm.")].iloc[4] == "88.29 ± 0.52"
    assert not table.tidy["best"].any()
    whole = '<td colspan="5" data-column="Early Matching Point t · t=5">92.25 ± 0.14</td>'
    assert whole in tables.to_html(table)
    assert "\\multicolumn{5}{c}{92.25 $\\pm$ 0.14}" in tables.to_latex(table)


def validated(runs, accuracy):
    """Runs with an accuracy on withheld images."""
    return runs.assign(validation_accuracy=accuracy(runs))


def test_k_is_chosen_on_withheld_images_and_never_by_test_accuracy():
    """Validation says the least k is best, whatever the test images say: bold stands there."""
    runs = synthetic.runs_of("5")
    table = grid(validated(runs, lambda frame: 90 - frame["rewind_epoch"]))
    assert set(table.tidy["rewind_epoch"][table.tidy["chosen"]]) == {0.0}
    assert table.tidy["chosen"].sum() == 4 * 3 and table.tidy["best"].sum() == 4
    last = table.layout.iloc[:, -1]
    assert table.layout.columns[-1][1] == "k chosen"
    assert last.loc[("80%", "LTH")] == "90.41 ± 0.14 (k = 0)"
    at_zero = table.layout.iloc[:, 0]
    assert [text.removesuffix(" (k = 0)") for text in last[:-1]] == list(at_zero[:-1])
    marked = table.tidy[table.tidy["best"]]
    assert (marked["rewind_epoch"] == 0).all()
    assert any("withheld" in note for note in table.notes)


def test_a_cell_with_a_diverged_run_is_not_chosen():
    runs = validated(synthetic.runs_of("5"), lambda frame: 90 - frame["rewind_epoch"])
    wild = synthetic.break_runs(runs, method="naive", sparsity=0.8, rewind_epoch=0.0, a=1)
    table = grid(synthetic.with_status(runs, "diverged", wild))
    row = table.layout.loc[("80%", "naive")]
    assert "(diverged 1/3)" in row.iloc[0] and row.iloc[-1].endswith("(k = 5)")


def test_nothing_is_chosen_without_withheld_images():
    table = grid(synthetic.runs_of("5"))
    assert "chosen" not in table.tidy and table.layout.columns[-1][1] == "100"


def test_rows_say_what_was_really_pruned():
    """authors-code stops within 0.005 of S on ResNet20; other networks and sparsities are exact."""
    pruned = {("resnet20", 0.95): 0.94502}
    runs = synthetic.runs_of("5")
    other = runs[runs["sparsity"] == 0.95].assign(model="vgg11")
    table = synthetic.table(RewindGrid(), runs, pruned=pruned)
    labels = ["80%", "90%", "95% (94.50%)", "97%"]
    assert list(table.layout.index.unique("S")) == [*labels, "–"]
    assert "95% (94.50%)" in tables.to_markdown(table)
    both = synthetic.table(RewindGrid(), pd.concat([runs, other]), pruned=pruned).layout.index
    found = set(both.to_frame()[["Model", "S"]].itertuples(index=False, name=None))
    assert ("VGG11", "95%") in found and ("ResNet20", "95% (94.50%)") in found


def diversity(frame):
    return synthetic.table(Diversity(title="Ensembles"), frame.assign(declared=5), "table_1")


def test_diversity_is_table_1_with_its_bold():
    table = diversity(published.diversity())
    assert list(table.layout.index.get_level_values("Mask")[:5]) == [
        "none (dense)", "IMP", "LTH", "permuted", "naive",
    ]  # fmt: skip
    first = table.layout.loc["ResNet20×1 / CIFAR-10"]
    assert list(first.loc["none (dense)"]) == ["92.76 ± 0.106", "–", "–", "–", "–"]
    best = table.tidy[table.tidy["best"]]
    found = set(best[["dataset", "method", "metric"]].itertuples(index=False, name=None))
    assert found == {
        ("cifar10", "lth", "test_accuracy"), ("cifar10", "permuted", "ensemble_accuracy"),
        ("cifar10", "naive", "disagreement"), ("cifar10", "permuted", "kl"),
        ("cifar10", "permuted", "js"),
        ("cifar100", "lth", "test_accuracy"), ("cifar100", "permuted", "ensemble_accuracy"),
        ("cifar100", "naive", "disagreement"), ("cifar100", "naive", "kl"),
        ("cifar100", "naive", "js"),
    }  # fmt: skip


def test_our_own_diversity_has_what_the_paper_does_not_print():
    own = published.diversity().assign(
        disagreement_per_error=1.04, ensemble_gain=2.39, ensemble_gain_error=0.2
    )
    table = synthetic.table(Diversity(js="whole", js_unit="bits"), own.assign(declared=5))
    row = table.layout.loc[("ResNet20×1 / CIFAR-10", "permuted")]
    assert row["Disagreement / Error"] == "1.04" and row["Ensemble Gain"] == "2.39 ± 0.20"
    assert any("JS: sum" in note and "bits" in note for note in table.notes)


def test_diversity_shows_missing_methods():
    part = published.diversity()
    part = part[part["dataset"] == "cifar10"].reset_index(drop=True)
    gone = part["method"] == "naive"
    part.loc[gone, part.columns[part.columns.get_loc("method") + 1 :]] = np.nan
    table = diversity(part.assign(runs=[0 if missing else 5 for missing in gone]))
    assert list(table.layout.iloc[-1]) == ["missing"] * 5
    assert table.tidy["n_missing"].sum() == 25
    assert table.notes == ["ResNet20×1 / CIFAR-10, naive: 0 of 5 runs."]


def test_ensembles_beside_their_networks_with_what_they_cost():
    table = synthetic.table(Ensemble(bins=10), synthetic.ensembles())
    assert list(table.layout.index.get_level_values("Networks made by")) == [
        "dense training", "IMP", "LTH", "permuted",
    ]  # fmt: skip
    dense, permuted = (table.layout.iloc[at].tolist() for at in (0, -1))
    assert dense == [
        "3", "90.50 ± 0.30", "91.50", "0.290 ± 0.003", "0.270", "3.00 ± 0.10", "1.00", "3.00", "1.5",
    ]  # fmt: skip
    assert permuted[1] == "87.50 ± 0.30" and permuted[2] == "missing" and permuted[-1] == "missing"
    assert "ResNet20×1 / CIFAR-10, permuted: 2 of 3 networks." in table.notes
    assert any("in 10 intervals" in note for note in table.notes)


def test_hyperparameters_of_one_and_of_two_groups():
    one = synthetic.table(
        Hyperparameters(), [("train", "Optimizer", "SGD"), ("train", "Momentum", 0.9)]
    )
    assert one.layout.loc["Momentum", "Value"] == "0.9"
    two = synthetic.table(
        Hyperparameters(title="Pruning"),
        [("ResNet20", "Learning rate", 0.01), ("ResNet50", "Learning rate", 0.04),
         ("ResNet20", "Augment", True)],
    )  # fmt: skip
    assert list(two.layout.loc["Learning rate"]) == ["0.01", "0.04"]
    assert list(two.layout.loc["Augment"]) == ["yes", "–"]


def matches(seconds=30.0):
    """A row per permutation, as the builder of costs reads them."""
    return pd.DataFrame(
        [
            {"dataset": "cifar10", "model": "resnet20", "width": 1.0, "a": a, "b": a + 10,
             "matching_epoch": np.nan, "seconds": seconds}
            for a in synthetic.SEEDS
        ]
    )  # fmt: skip


def cost(frame, matches):
    output = Cost(rewind_epochs=(20,), sparsities=(0.8,))
    permuted = {"permuted": Method(init="b", permute=True)}
    return synthetic.table(output, (frame, matches), methods=permuted)


def test_cost_of_a_solution_by_each_method(runs):
    frame = pd.concat([runs, synthetic.imp_runs(runs)])
    rows = cost(frame, matches()).tidy.set_index("method")
    # Dense a: 200 epochs of 2 s; IMP to 80 %: 8 rounds of 50 epochs, 100 s each; sparse: 180.
    assert rows.loc["lth", ["dense_a_epochs", "imp_epochs", "dense_b_epochs"]].tolist() == [
        200, 400, 0,
    ]  # fmt: skip
    assert rows["epochs"].to_dict() == {"lth": 780, "naive": 800, "permuted": 980}
    assert rows["seconds"].to_dict() == {"lth": 1560, "naive": 1600, "permuted": 1990}
    assert rows["matching_seconds"].to_dict() == {"lth": 0, "naive": 0, "permuted": 30}
    text = cost(frame, matches()).layout.loc[("80%", "LTH")]
    assert list(text) == ["200", "400", "–", "180", "780", "–", "1,560"]


def test_cost_without_measurements_says_missing(runs):
    table = cost(runs, matches().iloc[:0])  # no IMP rows, no matching
    assert list(table.layout.loc[("80%", "perm.")]) == [
        "200", "missing", "200", "180", "missing", "missing", "missing",
    ]  # fmt: skip
    assert table.tidy["n"].tolist() == [3, 3, 3]


class Reader(html.parser.HTMLParser):
    """Checks that tags nest, and counts the places that each table row fills."""

    def __init__(self):
        super().__init__()
        self.open, self.rows, self.bold, self.row = [], [], 0, None

    def handle_starttag(self, tag, attributes):
        if tag == "meta":
            return
        self.open.append(tag)
        spans = dict(attributes)
        if tag == "tr":
            self.row = {"width": 0, "below": []}
            self.rows.append(self.row)
        elif tag in ("td", "th"):
            width = int(spans.get("colspan", 1))
            self.row["width"] += width
            self.row["below"].append((int(spans.get("rowspan", 1)), width))
        self.bold += tag == "b"

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def widths(self):
        """Places per row, those that an earlier rowspan fills included."""
        found, pending = [], []
        for row in self.rows:
            found.append(row["width"] + sum(width for _, width in pending))
            pending = [(left - 1, width) for left, width in pending if left > 1]
            pending += [(height - 1, width) for height, width in row["below"] if height > 1]
        return found


@pytest.mark.parametrize("make", [lambda runs, broken: grid(broken, note="A <b> & note."),
                                  lambda runs, broken: early(),
                                  lambda runs, broken: grid(synthetic.runs_of("10"),
                                                            metrics=("top1", "top5"))])  # fmt: skip
def test_every_format_is_well_formed_and_deterministic(make, runs, broken, tmp_path):
    table = make(runs, broken)
    places = table.layout.shape[1] + table.layout.index.nlevels

    page = tables.to_html(table)
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    assert set(reader.widths()) == {places}
    bold = 0 if table.bold is None else int(table.bold.to_numpy().sum())
    assert reader.bold == bold
    assert "<b> & note" not in page

    latex = tables.to_latex(table)
    body = latex[latex.index("\\toprule") : latex.index("\\bottomrule")]
    for line in body.splitlines():
        if line.endswith("\\\\"):
            spans = [int(n) for n in re.findall(r"\\multicolumn\{(\d+)\}", line)]
            assert line.count(" & ") + 1 + sum(spans) - len(spans) == places
    assert latex.count("{") == latex.count("}")
    assert "%" not in latex.replace("\\%", "").splitlines()[1:]
    assert not re.search(r"[^\x00-\x7f]", latex)
    assert latex.count("\\textbf{") == bold

    markdown = tables.to_markdown(table)
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    assert {line.count(" | ") + 1 for line in rows} == {places}
    assert len(rows) == len(table.layout) + 2
    assert markdown.count("**") == 2 * bold

    for text in (page, latex, markdown):
        assert "Protocol: paper" in text
    paths = tables.write(table, tmp_path / "table")
    assert [path.name for path in paths] == ["table.csv", "table.html", "table.md", "table.tex"]
    again = make(runs, broken)
    tables.write(again, tmp_path / "again")
    for path in paths:
        assert path.read_bytes() == (tmp_path / f"again{path.suffix}").read_bytes()
    assert len(pd.read_csv(tmp_path / "table.csv")) == len(table.tidy)


def test_csv_keeps_missing_cells(broken):
    lines = tables.to_csv(grid(broken)).splitlines()
    assert lines[0].startswith("dataset,model,width,sparsity,method,rewind_epoch,matching_epoch")
    cell = "cifar10,resnet20,1,0.9,permuted,5,,top1,,,0,0,3,"
    gone = "1-11: missing; 2-12: missing; 3-13: missing,False,"
    assert any(line.startswith(cell + gone) for line in lines)


def lines_of(heights, over, **more):
    """Lines of one run of a sweep from (arm, point, a, b, epoch) to the barrier."""
    lines = pd.DataFrame([*heights], columns=["arm", "point", "a", "b", "evaluated_at"])
    return lines.assign(
        error_barrier=[*heights.values()], experiment="e", dataset="digits", model="mlp", width=1.0,
        match="weights", sweep="s", seeds="x", status="ok", over=over, correction="none", split="test",
    ).assign(**more)  # fmt: skip


def notions_of(frame, **settings):
    table = synthetic.table(Notions(**settings), frame)
    return table, table.layout.iloc[0].to_dict()


def test_notions_of_a_pair_are_at_the_end_and_at_all_epochs():
    heights = {
        ("none", None, 0, 1, 1): 5.0, ("none", None, 0, 1, 9): 50.0,
        ("matched", "t0001", 0, 1, 1): 0.5, ("matched", "end", 0, 1, 1): 3.0,
        ("matched", "end", 0, 1, 9): 1.0,
    }  # fmt: skip
    one = lines_of(heights, "epochs")
    assert notions_of(one)[1] == {"weak (1)": "holds (1.00)", "simultaneous (3)": "fails (3.00)"}
    assert notions_of(one, threshold=3.0)[1]["simultaneous (3)"] == "holds (3.00)"
    assert notions_of(one, split="train")[1]["weak (1)"] == "not measured"
    gone = one.iloc[:1].assign(arm=None, split=None, correction=None, status="missing", seeds="z")
    other = lines_of(heights | {("matched", "end", 0, 1, 9): 2.5}, "epochs", seeds="y")
    table, row = notions_of(pd.concat([one, other, gone], ignore_index=True))
    assert row == {"weak (1)": "1 of 2 hold (2.50)", "simultaneous (3)": "0 of 2 hold (3.00)"}
    assert any("Missing sweeps: 1" in note for note in table.notes)
    diverged = one.assign(error_barrier=np.nan)
    assert notions_of(diverged)[1]["weak (1)"] == "fails (diverged)"


def test_networks_are_strongly_connected_by_way_of_one_of_them():
    """All pairs by their direct lines; at once only where one indirect line is low as well."""

    def row(**indirect):
        heights = {("direct", f"{a}-{b}", a, b, 9): 1.0 for a, b in ((0, 1), (0, 2), (1, 2))}
        for point, height in indirect.items():
            a, b, c = map(int, point[1:])
            heights["indirect", f"{a}-{b}.{c}", a, b, 9] = height
        return notions_of(lines_of(heights, "triples"))[1]

    apart = row(p012=7.0, p021=8.0, p120=9.0)
    assert apart == {
        "weak (1)": "holds (1.00)", "strong (2)": "fails (7.00)",
        "weakly transitive (7)": "holds (1.00)", "3-wise transitive (8)": "fails (7.00)",
    }  # fmt: skip
    together = row(p012=7.0, p021=1.5, p120=9.0)
    assert together["strong (2)"] == "holds (1.50)"
    assert together["3-wise transitive (8)"] == "holds (1.50)"
    assert row()["strong (2)"] == "not measured"
