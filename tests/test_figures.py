"""Figures: every kind draws, shows what is missing, and writes the same bytes again."""

from collections import defaultdict
from dataclasses import replace
from functools import cache
from itertools import combinations

import matplotlib
import numpy as np
import pandas as pd
import pytest
import synthetic
from matplotlib.colors import to_rgb

from pipeline.report import figures
from pipeline.report.figures import style
from pipeline.report.figures.accuracy_vs_alignment import slope
from pipeline.study.outputs import KINDS
from pipeline.study.outputs.accuracy import AccuracyVsRewind, AccuracyVsSparsity
from pipeline.study.outputs.accuracy_vs_alignment import AccuracyVsAlignment
from pipeline.study.outputs.ensemble import EnsembleSize
from pipeline.study.outputs.fixed_points import FixedPoints
from pipeline.study.outputs.gap_vs_epochs import GapVsEpochs
from pipeline.study.outputs.imp_barrier import ImpBarriers
from pipeline.study.outputs.interpolation import Interpolation
from pipeline.study.outputs.landscape import Landscape
from pipeline.study.outputs.mask_sparsity import MaskSparsity
from pipeline.study.outputs.matching_quality import MatchingQuality
from pipeline.study.outputs.partial_barriers import PartialBarriers
from pipeline.study.outputs.plane import LossPlane
from pipeline.study.outputs.sweep_barriers import SweepBarriers
from pipeline.study.outputs.training_curves import TrainingCurves
from pipeline.study.outputs.two_parameters import TwoParameters


@pytest.fixture(scope="module")
def runs():
    return synthetic.runs_of("5", "6")


def lines(axes, colour):
    """Lines of a panel in a colour, without reference lines and legend entries."""
    return [
        line
        for line in axes.get_lines()
        if to_rgb(line.get_color()) == to_rgb(colour) and len(line.get_xdata()) > 2
    ]


def test_methods_have_distinct_colours_that_stay():
    names = ["lth", "naive", "permuted", "imp", "dense"]
    assert len({style.method_style(name)["color"] for name in names}) == len(names)
    assert style.method_style("mine") == style.method_style("mine")
    assert style.method_style("mine", {"mine": "#123456"})["color"] == "#123456"


def test_accuracy_vs_rewind_panels_are_figure_5(runs):
    figure, data = synthetic.figure(AccuracyVsRewind(), runs)
    panels = figure.get_axes()
    assert len(panels) == 8  # 2 widths × 4 sparsities
    assert [panel.get_title() for panel in panels[:4]] == [f"S = {s}%" for s in (80, 90, 95, 97)]
    assert panels[0].get_ylabel() == "ResNet20×1 / CIFAR-10\nTest accuracy (%)"
    assert panels[4].get_xlabel() == "Rewind epoch k"
    (line,) = lines(panels[0], style.METHODS["lth"]["color"])
    assert list(line.get_xdata()) == [0, 5, 10, 15, 20, 25, 50, 75, 100]
    assert line.get_ydata()[0] == pytest.approx(90.41)
    dense = data[data["method"] == "dense"]
    assert len(dense) == 2
    assert (dense["n"] == 6).all()
    dashed = [line for line in panels[0].get_lines() if line.get_linestyle() == "--"]
    assert dashed[0].get_ydata()[0] == pytest.approx(dense["mean"].iloc[0])


def test_accuracy_vs_sparsity_panels_are_figure_9(runs):
    output = AccuracyVsSparsity(rewind_epochs=(10, 25, 50, 100))
    figure, data = synthetic.figure(output, runs)
    panels = figure.get_axes()
    assert len(panels) == 8
    assert [panel.get_title() for panel in panels[:4]] == [f"k = {k}" for k in (10, 25, 50, 100)]
    (line,) = lines(panels[0], style.METHODS["naive"]["color"])
    assert list(line.get_xdata()) == [80, 90, 95, 97]
    assert len(data) == 2 * 4 * 4 * 3 + 2


def test_a_missing_cell_is_a_gap_and_a_note(runs):
    gone = synthetic.break_runs(runs, method="permuted", sparsity=0.9, rewind_epoch=25.0, width=1.0)
    partial = synthetic.with_status(runs, "missing", gone)
    figure, data = synthetic.figure(AccuracyVsRewind(), partial)
    (line,) = lines(figure.get_axes()[1], style.METHODS["permuted"]["color"])
    assert np.isnan(line.get_ydata()).tolist() == [False] * 5 + [True] + [False] * 3
    assert figure.legends[0].get_title().get_text() == "1 of 216 cells missing"
    assert int(data["mean"].isna().sum()) == 1
    diverged = synthetic.with_status(runs, "diverged", gone)
    figure, _ = synthetic.figure(AccuracyVsRewind(), diverged)
    note = figure.legends[0].get_title().get_text()
    assert note == "1 of 216 cells missing; 1 of 216 cells with diverged runs"


def test_a_point_without_neighbours_keeps_its_spread(runs):
    around = synthetic.break_runs(runs, method="lth") & runs["rewind_epoch"].isin([10.0, 20.0])
    narrow = synthetic.with_status(runs, "missing", around)[runs["width"] == 1]
    figure, _ = synthetic.figure(AccuracyVsRewind(), narrow)
    bars = [c for c in figure.get_axes()[0].collections if hasattr(c, "get_segments")]
    assert sum(len(bar.get_segments()) for bar in bars) == 1


def test_top5_and_no_dense_runs():
    image = synthetic.runs_of("10")
    output = AccuracyVsRewind(metrics=("top5",))
    figure, data = synthetic.figure(output, image[image["kind"] != "dense"])
    assert figure.get_axes()[0].get_ylabel().endswith("Top-5 test accuracy (%)")
    assert set(data["method"]) == {"lth", "naive", "permuted"}
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "LTH", "naive", "permuted",
    ]  # fmt: skip


def test_a_figure_of_nothing_but_missing_runs(runs, tmp_path):
    gone = synthetic.with_status(runs, "missing", runs["kind"].notna())
    figure, data = synthetic.figure(AccuracyVsRewind(), gone)
    assert figure.legends[0].get_title().get_text() == "216 of 216 cells missing"
    assert data["mean"].isna().all()
    figures.save(figure, data, tmp_path / "f")


def test_interpolation_means_over_pairs():
    curves = synthetic.curves()
    output = Interpolation(corrections=("none", "repair"), unmatched=False)
    figure, data = synthetic.figure(output, curves)
    assert len(figure.get_axes()) == 4  # 2 data sets × before and after REPAIR
    assert set(data["correction"]) == {"none", "repair"}
    assert (data["n"] == 3).all()
    middle = data[(data["alpha"] == 0.5) & (data["correction"] == "repair")]
    assert middle.sort_values(["dataset", "width"])["mean"].is_monotonic_decreasing is False
    one = middle[middle["dataset"] == "cifar10"].sort_values("width")["mean"]
    assert one.is_monotonic_decreasing
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["w = 1", "w = 4", "w = 8", "w = 16", "loss at initialisation"]


def test_interpolation_counts_absent_curves():
    curves = synthetic.curves()
    part = curves[~((curves["width"] == 8) & (curves["dataset"] == "cifar100"))]
    figure, _ = synthetic.figure(Interpolation(corrections=("repair",)), part)
    assert figure.legends[0].get_title().get_text() == "2 of 16 curves missing"


def test_imp_barrier_panels_and_sparsity_axis():
    frame = synthetic.imp_barriers()
    figure, data = synthetic.figure(ImpBarriers(split="test"), frame)
    titles = [panel.get_title() for panel in figure.get_axes()]
    assert titles == ["IMP with rewinding", "IMP-FT (fine-tuning)"]
    assert len(data) == 2 * 2 * 11
    frame.loc[(frame["iteration"] == 5) & (frame["correction"] == "repair"), "error_barrier"] = (
        np.nan
    )
    figure, _ = synthetic.figure(ImpBarriers(split="test"), frame)
    assert figure.legends[0].get_title().get_text() == "2 of 44 cells missing"


def test_plane_marks_the_networks():
    planes, points = synthetic.plane()
    figure, data = synthetic.figure(LossPlane(), (planes, points))
    panel = figure.get_axes()[0]
    places = {tuple(np.concatenate(line.get_data())) for line in panel.get_lines()}
    assert places == {(0.0, 0.0), (40.0, 0.0), (18.0, 30.0)}
    assert {text.get_text() for text in panel.texts} >= {"dense", "LTH", "permuted"}
    assert len(data) == 21 * 21 + 3
    assert panel.get_title().replace("\n", " ") == "ResNet20×4 / CIFAR-10, S = 90%, k = 10"
    planes.loc[3, "error"] = np.nan
    figure, _ = synthetic.figure(LossPlane(), (planes, points))
    assert figure.get_supxlabel() == "1 of 441 points missing"


def test_training_curves_are_means_from_the_rewind_epoch_on():
    frame = synthetic.histories()
    output = TrainingCurves(sparsity=0.9, rewind_epoch=5)
    figure, data = synthetic.figure(output, frame)
    loss, other, accuracy, _ = figure.get_axes()
    assert [loss.get_title(), other.get_title()] == [
        "ResNet20×1 / CIFAR-10",
        "ResNet20×4 / CIFAR-10",
    ]
    assert loss.get_ylabel() == "Training loss (nats)"
    assert accuracy.get_xlabel() == "Epoch (sparse: S = 90%, k = 5)"
    (line,) = lines(loss, style.METHODS["lth"]["color"])
    assert list(line.get_xdata()) == list(range(6, 21))
    ours = frame[(frame["method"] == "lth") & (frame["width"] == 1) & (frame["epoch"] == 6)]
    assert line.get_ydata()[0] == pytest.approx(ours["train_loss"].mean())
    at_test = [
        line for line in accuracy.get_lines() if line.get_marker() == style.METHODS["lth"]["marker"]
    ]
    assert [list(line.get_xdata()) for line in at_test] == [[10, 20]]
    assert (data["n"] == 3).all()


def test_training_curves_without_a_run_say_so_and_show_the_last_matching():
    frame = synthetic.histories()
    permuted = frame["method"] == "permuted"
    early = frame[permuted].assign(matching_epoch=2.0, train_loss=9.0)
    late = frame[permuted].assign(matching_epoch=20.0)
    both = pd.concat([frame[~permuted], early, late], ignore_index=True)
    gone = both.iloc[[0]].assign(status="missing", a=9, epoch=None, path="gone")
    frame = pd.concat([both, gone], ignore_index=True)
    figure, data = synthetic.figure(TrainingCurves(), frame)
    assert data["train_loss"].max() < 9
    assert figure.legends[0].get_title().get_text() == "1 of 25 runs missing"


def test_mask_sparsity_follows_the_layers():
    frame = synthetic.mask_layers()
    figure, data = synthetic.figure(MaskSparsity(), frame)
    (panel,) = figure.get_axes()
    named = [text.get_text() for text in panel.get_xticklabels()]
    assert named == [f"conv{number}" for number in range(1, 11)] + ["classifier"]
    first = data[(data["layer"] == "conv1.weight") & (data["sparsity"] == 0.8)]
    assert first["mean"].item() == pytest.approx(52) and first["std"].item() == pytest.approx(1)
    assert first["whole"].item() == pytest.approx(80)
    gone = frame["a"].eq(3) & frame["sparsity"].eq(0.9)
    frame.loc[gone, ["layer", "position", "pruned", "whole"]] = None
    frame.loc[gone, "status"] = "missing"
    figure, _ = synthetic.figure(MaskSparsity(), frame)
    assert figure.legends[0].get_title().get_text() == "1 of 6 masks missing"


def value_of(data, line, matcher, x, then=None):
    """Mean of a line's point on test errors of VGG16."""
    own = data[data["line"].eq(line) & data["matcher"].eq(matcher) & data["x"].eq(x)]
    own = own[own["model"].eq("vgg16_ln") & own["split"].eq("test") & own["metric"].eq("error")]
    own = own if then is None else own[own["matched_at"].eq(then)]
    assert len(own) == 1
    assert own["n"].item() == 3
    return own["mean"].item()


def test_every_role_of_a_sweep_shows_the_lines_that_it_says():
    frame = synthetic.connections()
    output = SweepBarriers(lines=("none", "own", "along", "end", "fixed"))
    _, data = synthetic.figure(output, frame)
    assert value_of(data, "none", "", 5) == pytest.approx(50)
    assert value_of(data, "own", "weights", 5) == pytest.approx(5.005)
    assert value_of(data, "along", "weights", 5) == pytest.approx(160.005)
    assert value_of(data, "end", "activations", 5) == pytest.approx(5.16)
    assert value_of(data, "fixed", "activations", 5, then=20) == pytest.approx(20.005)
    assert data["std"].to_numpy() == pytest.approx(0.1)


def test_a_line_without_a_permutation_is_drawn_once_for_all_matchings():
    figure, data = synthetic.figure(SweepBarriers(), synthetic.connections())
    assert len(data[data["line"] == "none"]) == 2 * 4
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == [
        "without π", "weight matching, π of the end", "activation matching, π of the end",
    ]  # fmt: skip


def test_rows_of_panels_are_networks_matchings_lines_and_last_epochs():
    frame = synthetic.connections()
    splits = ("train", "test")
    figure, _ = synthetic.figure(SweepBarriers(metrics=("error", "loss"), splits=splits), frame)
    assert len(figure.get_axes()) == 2 * 4
    titles = [axes.get_title() for axes in figure.get_axes()[:4]]
    metrics = ("error\nbarrier (points)", "loss\nbarrier (nats)")
    assert titles == [f"{split} {metric}" for metric in metrics for split in ("Training", "Test")]
    figure, _ = synthetic.figure(SweepBarriers(lines=("own", "end"), rows="line"), frame)
    assert [axes.get_xlabel() for axes in figure.get_axes()] == [*[""] * 3, "Matching epoch t"]
    figure, _ = synthetic.figure(SweepBarriers(lines=("fixed",), until=(20,)), frame)
    assert len(figure.get_axes()) == 2 * 2 * 2
    early = figure.get_axes()[1]
    assert (
        max(max(line.get_xdata()) for line in early.get_lines() if len(line.get_xdata()) > 2) == 20
    )


def test_one_look_per_role_in_every_figure():
    frame, by_width = synthetic.connections(), synthetic.triples()
    seen = {}
    for output, given in (
        (SweepBarriers(lines=("none", "along")), frame),
        (SweepBarriers(lines=("none", "own", "along", "end")), frame),
        (SweepBarriers(lines=("none", "direct", "indirect")), by_width),
    ):
        figure, _ = synthetic.figure(output, given)
        looks = set()
        for entry in figure.legends[0].get_lines():
            look = (entry.get_color(), entry.get_marker(), str(entry._unscaled_dash_pattern))
            assert seen.setdefault(entry.get_label(), look) == look
            looks.add(look)
        assert len(looks) == len(figure.legends[0].get_lines())
    assert len(seen) == 11


def test_triples_are_drawn_by_channels():
    figure, data = synthetic.figure(
        SweepBarriers(lines=("direct", "indirect")), synthetic.triples()
    )
    vgg = data[data["model"].eq("vgg16_ln") & data["matcher"].eq("weights")]
    direct = vgg[vgg["line"] == "direct"].sort_values("x")
    assert [*direct["x"]] == [32, 64, 128]
    assert [*direct["mean"]] == pytest.approx([20 + 1 / 3, 10 + 1 / 3, 5 + 1 / 3])
    panel = figure.get_axes()[0]
    assert panel.get_ylabel() == "VGG16-LN\nCIFAR-10"
    assert panel.get_xscale() == "log" and panel.get_title() == "Test error\nbarrier (points)"
    assert [t.get_text() for t in panel.get_xticklabels()] == ["32", "64", "128"]


def test_a_sweep_that_is_missing_is_said():
    frame = synthetic.connections()
    gone = frame["seeds"].eq("a0-b1") & frame["match"].eq("weights") & frame["model"].eq("vgg16_ln")
    frame.loc[gone, ["arm", "point", "a", "b", "error_barrier", "correction", "split"]] = np.nan
    frame.loc[gone, "status"] = "missing"
    figure, data = synthetic.figure(SweepBarriers(), frame)
    assert figure.legends[0].get_title().get_text() == "1 of 12 sweeps missing"
    assert data["n"].min() == 2


def test_the_authors_values_stand_beside_ours_of_the_same_network_only():
    frame = synthetic.triples((0.125, 1.0))
    output = SweepBarriers(lines=("direct", "indirect"), published=True)
    figure, data = synthetic.figure(output, frame)
    theirs = data[data["source"] == "authors"]
    assert len(theirs) == 2 * 2 * 2 * 6  # networks, matchers, lines, widths
    one = theirs[theirs["model"].eq("vgg16_ln") & theirs["matcher"].eq("weights")]
    one = one[one["line"].eq("direct") & one["x"].eq(8)]
    assert one["mean"].item() == pytest.approx(68.2) and one[
        "reading_error"
    ].item() == pytest.approx(0.5)
    assert figure.legends[0].get_texts()[-1].get_text() == "the authors' values"
    other = frame.assign(dataset="digits")
    figure, data = synthetic.figure(output, other)
    assert set(data["source"]) == {"ours"}
    assert "the authors' values" not in [t.get_text() for t in figure.legends[0].get_texts()]
    epochs = SweepBarriers(lines=("fixed",), splits=("train",), published=True)
    _, data = synthetic.figure(epochs, synthetic.connections((1, 3, 20, 150)))
    theirs = data[data["source"] == "authors"]
    assert len(theirs) == 45
    assert theirs[theirs["matched_at"].eq(3) & theirs["x"].eq(20)]["mean"].item() == pytest.approx(
        76
    )
    _, data = synthetic.figure(FixedPoints(published=True), synthetic.alignments())
    theirs = data[data["source"] == "authors"]
    assert len(theirs) == 2 * 6 and theirs["mean"].max() == pytest.approx(0.212)


def test_figures_of_nothing_but_missing_sweeps():
    for output, frame in (
        (SweepBarriers(lines=("none", "own", "fixed"), published=True), synthetic.connections()),
        (SweepBarriers(lines=("direct", "indirect"), published=True), synthetic.triples()),
        (FixedPoints(published=True), synthetic.alignments()),
        (PartialBarriers(published=True), synthetic.partial()),
        (PartialBarriers(last=True), synthetic.partial("pruned")),
    ):
        place = ["experiment", "dataset", "model", "width", "match", "matcher", "sweep", "seeds"]
        place += ["over"] if "over" in frame else []
        gone = frame[place].drop_duplicates().reindex(columns=frame.columns)
        figure, data = synthetic.figure(output, gone.assign(status="missing"))
        note = figure.legends[0].get_title().get_text()
        assert note == f"{len(gone)} of {len(gone)} sweeps missing" and data.empty
    grid, paths = synthetic.landscape()
    figure, data = synthetic.figure(Landscape(scheme=True), (grid.iloc[:0], paths.iloc[:0]))
    assert figure.legends[0].get_title().get_text() == "the sweep is missing" and data.empty


def test_mixtures_have_a_row_for_each_kind_between_epoch_and_end():
    output = PartialBarriers(metrics=("error", "loss"), splits=("train", "test"))
    figure, data = synthetic.figure(output, synthetic.partial())
    assert len(figure.get_axes()) == 2 * 4 * 4
    kinds = [panel.get_ylabel().split("\n")[-2].rstrip(":") for panel in figure.get_axes()[:16:4]]
    assert kinds == ["bottom-up", "top-down", "put-in", "leave-out"]
    own = data[data["model"].eq("vgg16_ln") & data["metric"].eq("error") & data["split"].eq("test")]
    for _, row in own[own["line"] != "end"].iterrows():
        assert row["mean"] == pytest.approx(10 * row["cut"] + row["x"] / 100)
    ends = own[own["line"] == "end"].sort_values("x")
    assert [*ends["x"]] == [1, 20, 160] and [*ends["mean"]] == pytest.approx([99.5, 90, 20])
    panel = figure.get_axes()[0]
    assert panel.get_xscale() == "log"
    heights = {tuple(line.get_ydata()) for line in panel.get_lines()}
    assert any(height == pytest.approx((20, 20)) for height in heights)  # π of the end
    some = replace(output, kinds=("bottom-up",))
    figure, data = synthetic.figure(some, synthetic.partial())
    assert {*data["line"]} == {"bottom-up", "end"} and len(figure.get_axes()) == 2 * 4


def test_pruned_copies_begin_with_whole_ones():
    figure, data = synthetic.figure(PartialBarriers(), synthetic.partial("pruned"))
    assert {*data["line"]} == {"magnitude", "random"} and {*data["x"]} == {0.0, 0.4, 0.8}
    assert len(figure.get_axes()) == 2
    own = data[data["model"].eq("vgg16_ln") & data["matched_at"].eq(20)]
    found = own.set_index(["line", "x"])["mean"]
    assert found["magnitude", 0.0] == found["random", 0.0] == pytest.approx(90)
    assert found["random", 0.8] - found["magnitude", 0.8] == pytest.approx(20)
    _, data = synthetic.figure(PartialBarriers(last=True), synthetic.partial("pruned"))
    assert {*data["matched_at"]} == {160}


def test_the_authors_values_of_mixtures_stand_in_the_panel_of_their_kind():
    frame = synthetic.partial().replace({"width": 1.0}, {"width": 4.0})
    frame.loc[frame["model"] == "vgg16_ln", "width"] = 1.0
    output = PartialBarriers(splits=("train",), published=True)
    _, data = synthetic.figure(output, frame)
    theirs = data[data["source"] == "authors"]
    assert theirs.groupby(["model", "line"]).size().to_dict() == {
        ("vgg16_ln", "bottom-up"): 20, ("vgg16_ln", "top-down"): 8, ("vgg16_ln", "put-in"): 20,
        ("vgg16_ln", "leave-out"): 4, ("vgg16_ln", "end"): 8,
        ("resnet20_ln", "bottom-up"): 20, ("resnet20_ln", "top-down"): 4,
        ("resnet20_ln", "put-in"): 20, ("resnet20_ln", "leave-out"): 8, ("resnet20_ln", "end"): 8,
    }  # fmt: skip
    one = theirs[theirs["model"].eq("vgg16_ln") & theirs["line"].eq("bottom-up")]
    assert one[one["cut"].eq(4) & one["x"].eq(3)]["mean"].item() == pytest.approx(38)


def test_groups_of_units_are_told_apart_from_the_input_up():
    frame = synthetic.alignments()
    names = ["stage1.0.inner", "stage2.0.inner", "stage1", "stage2"]
    parts = [frame[frame["group"] == "x"].assign(group=name) for name in names]
    figure, data = synthetic.figure(FixedPoints(groups=True), pd.concat(parts))
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts[:4] == ["stage1", "stage1.0.inner", "stage2", "stage2.0.inner"]
    assert len(data) == 2 * 2 * 4


def test_fixed_points_weigh_groups_by_their_units():
    _, data = synthetic.figure(FixedPoints(), synthetic.alignments())
    assert data["mean"].to_numpy() == pytest.approx(2 / 6)  # a mean of fractions would give 1/4
    assert data["chance"].to_numpy() == pytest.approx(2 / 6)
    assert (data["n"] == 1).all()  # two paths of one triangle
    assert sorted({*data["x"]}) == [32, 64]
    _, data = synthetic.figure(FixedPoints(groups=True), synthetic.alignments())
    assert dict(zip(data["group"], data["mean"], strict=True)) == {"x": 0.5, "y": 0.0}


def test_landscapes_have_a_column_per_epoch_and_a_row_per_plane():
    output = Landscape(planes=("permutations", "start"), scheme=True)
    figure, data = synthetic.figure(output, synthetic.landscape())
    assert [axes.get_title() for axes in figure.get_axes()[:3]] == ["", "t = 1", "t = 20"]
    names = {text.get_text() for axes in figure.get_axes()[:6] for text in axes.texts}
    assert names >= {"b", "$\\pi_t(a)$", "$\\pi_T(a)$", "b at 0"}
    assert len(data) == 4 * 81 + 2 * (3 + 2) * 6
    sizes = [c.get_sizes() for c in figure.get_axes()[1].collections if len(c.get_offsets()) == 6]
    assert sizes and all(np.all(np.diff(size) > 0) for size in sizes)  # nearer, and so larger


def test_matching_quality_has_its_controls_and_the_networks_order():
    figure, data = synthetic.figure(MatchingQuality(), synthetic.match_groups())
    (panel,) = figure.get_axes()
    named = [text.get_text() for text in panel.get_xticklabels()]
    assert named == [f"conv{number} (64)" for number in range(1, 12)]
    assert data["matched"].unique() == pytest.approx([0.44])
    assert data["matched_std"].unique() == pytest.approx([0.02])
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["matched", "identity", "random matching (expected)"]
    figure, _ = synthetic.figure(MatchingQuality(), synthetic.match_groups((2, 50, None)))
    titles = [axes.get_title() for axes in figure.get_axes()]
    assert titles == [f"VGG11×1 / CIFAR-10{at}" for at in (", b at epoch 2", ", b at epoch 50", "")]


#: An output of each kind, and the data that it is drawn from.
CASES = {
    output.kind: (output, data)
    for output, data in (
        (AccuracyVsRewind(), lambda: synthetic.runs_of("9")),
        (EnsembleSize(), synthetic.ensembles),
        (AccuracyVsSparsity(), lambda: synthetic.runs_of("9")),
        (
            Interpolation(corrections=("none", "repair"), unmatched=False),
            lambda: synthetic.curves((("cifar10", (1.0, 4.0)),)),
        ),
        (ImpBarriers(split="test"), synthetic.imp_barriers),
        (LossPlane(), synthetic.plane),
        (TrainingCurves(), synthetic.histories),
        (MaskSparsity(), synthetic.mask_layers),
        (MatchingQuality(), synthetic.match_groups),
        (AccuracyVsAlignment(correction="repair"), synthetic.alignment),
        (GapVsEpochs(published_rewind_epoch=20), synthetic.horizons),
        (SweepBarriers(lines=("none", "own", "along"), threshold=2), synthetic.connections),
        (FixedPoints(), synthetic.alignments),
        (PartialBarriers(splits=("train", "test")), synthetic.partial),
        (Landscape(planes=("permutations", "start"), scheme=True), synthetic.landscape),
        (TwoParameters(), synthetic.two_parameters),
    )
}


def test_the_slope_of_accuracy_along_alignment_is_taken_within_pairs():
    """Two points a nat whatever the levels of the pairs; pairs that share a run are one cluster."""
    data = synthetic.alignment()
    _, frame = synthetic.figure(AccuracyVsAlignment(correction="repair"), data)
    slopes = frame[frame["kind"] == "slope"].set_index("along")
    assert slopes.loc["barrier", "slope"] == pytest.approx(-2.0) and slopes.loc["barrier", "n"] == 3
    assert slopes.loc["barrier", ["low", "high"]].tolist() == pytest.approx([-2.0, -2.0])
    assert slopes.loc["similarity", "slope"] > 0
    shared = data.assign(b=data["b"].replace(11, 10))
    assert slope(shared, "barrier")["n"] == 2
    nothing = slope(data.assign(barrier=np.nan), "barrier")
    assert nothing["n"] == 0 and np.isnan(nothing["slope"])


def test_gaps_stand_at_their_epochs_beside_the_published_cell():
    """Ours are of pairs with intervals; the paper's difference of means stands at its own T."""
    output = GapVsEpochs(published_rewind_epoch=20)
    figure, frame = synthetic.figure(output, synthetic.horizons(10, 20))
    theirs = frame[frame["source"] == "published"]
    assert theirs["difference"].round(2).tolist() == [0.98, 2.29] and set(theirs["T"]) == {200}
    ours = frame[frame["source"] == "ours"]
    assert set(ours["T"]) == {10, 20} and (ours["n"] == 3).all()
    assert ours["difference"].round(2).tolist() == [0.98, 2.29] * 2
    assert [tick.get_text() for tick in figure.get_axes()[0].get_xticklabels()] == [
        "10",
        "20",
        "200",
    ]
    alone = synthetic.figure(GapVsEpochs(), synthetic.horizons(10))[1]
    assert set(alone["source"]) == {"ours"}


def test_ensembles_stand_at_their_size_and_cost():
    """A line ends where networks are missing, and the note counts them."""
    figure, _ = synthetic.figure(EnsembleSize(), synthetic.ensembles())
    panels = figure.get_axes()
    assert [panel.get_ylabel() for panel in panels] == [
        "Accuracy (%)", "NLL (nats)", "ECE (%)", "Accuracy (%)",
    ]  # fmt: skip
    assert panels[0].get_title() == "ResNet20×1 / CIFAR-10\nS = 90%, k = 20"
    (imp,) = lines(panels[0], style.METHODS["imp"]["color"])
    assert list(imp.get_xdata()) == [1, 2, 3] and list(imp.get_ydata()) == [89.5, 90, 90.5]
    (against_hours,) = lines(panels[3], style.METHODS["imp"]["color"])
    assert list(against_hours.get_xdata()) == [2.5, 3, 3.5]
    (permuted,) = lines(panels[0], style.METHODS["permuted"]["color"])
    assert np.isnan(permuted.get_ydata()[-1])
    assert panels[0].get_ylim() == panels[3].get_ylim() != panels[1].get_ylim()
    assert figure.legends[0].get_title().get_text() == "1 of 12 networks missing"


def test_every_kind_is_covered():
    assert set(CASES) == {name for name, kind in KINDS.items() if kind.what == "figure"}


def fewer(data):
    """Of one model and width, two sparsities and two rewind epochs; whole where it is a plane."""
    if isinstance(data, tuple):
        return data
    for column, count in (("model", 1), ("width", 1), ("sparsity", 2), ("rewind_epoch", 2)):
        if column in data:
            values = data[column].dropna().unique()[:count]
            data = data[data[column].isin(values) | data[column].isna()]
    return data


@pytest.mark.parametrize("kind", CASES)
def test_files_are_the_same_again(kind, tmp_path):
    output, data = CASES[kind]
    for name in ("one", "two"):
        paths = figures.save(*synthetic.figure(output, fewer(data())), tmp_path / name)
        assert [path.suffix for path in paths] == [".pdf", ".png", ".svg", ".csv"]
    for path in paths:
        assert path.read_bytes() == (tmp_path / f"one{path.suffix}").read_bytes()
    assert not pd.read_csv(tmp_path / "one.csv").empty
    assert b"Date" not in (tmp_path / "one.svg").read_bytes()
    assert b"CreationDate" not in (tmp_path / "one.pdf").read_bytes()


@cache
def laid_out(kind):
    """A figure with a long title, all in its place."""
    output, data = CASES[kind]
    long = "Accuracy of networks that start where another network has begun, by rewind epoch"
    with matplotlib.rc_context(style.RC):
        figure, _ = synthetic.figure(replace(output, title=long), data())
        figure.draw_without_rendering()
    return figure


@pytest.mark.parametrize("kind", CASES)
def test_nothing_overlaps_the_panels(kind):
    """Legend and titles lie inside the figure and off every panel; each entry has a visible mark."""
    figure = laid_out(kind)
    with matplotlib.rc_context(style.RC):
        page = figure.bbox
        panels = [axes.get_window_extent() for axes in figure.get_axes()]
        boxes = [legend.get_window_extent() for legend in figure.legends]
    for box in boxes:
        assert box.x0 >= page.x0 - 1 and box.x1 <= page.x1 + 1 and box.y0 >= page.y0 - 1
        assert not any(box.overlaps(panel) for panel in panels)
    for mark in (line for legend in figure.legends for line in legend.get_lines()):
        drawn = {mark.get_color(), mark.get_markerfacecolor(), mark.get_markeredgecolor()}
        if mark.get_linestyle() == "None":
            drawn = {mark.get_markerfacecolor(), mark.get_markeredgecolor()}
        assert drawn - {"none", "white"}, mark.get_label()


@pytest.mark.parametrize("kind", CASES)
def test_titles_stand_over_their_panels(kind):
    """However long a title is, it is no wider than the figure, and over the middle of the panels."""
    figure = laid_out(kind)
    with matplotlib.rc_context(style.RC):
        title = figure.texts[0].get_window_extent()
        panels = [a for a in figure.get_axes() if a.get_label() != "<colorbar>"]
        boxes = [panel.get_window_extent() for panel in panels]
        own = [(a.title.get_window_extent(), box) for a, box in zip(panels, boxes, strict=True)]
    assert title.x0 >= 0 and title.x1 <= figure.bbox.x1
    middle = (min(box.x0 for box in boxes) + max(box.x1 for box in boxes)) / 2
    assert abs((title.x0 + title.x1) / 2 - middle) < 0.05 * figure.bbox.width
    assert not any(one.overlaps(other) for (one, _), (other, _) in combinations(own, 2))


#: Kinds whose panels of a row show one quantity.
ALIKE = sorted({*CASES} - {"plane", "landscape", "two-parameters", "ensemble-size"})


@pytest.mark.parametrize("kind", ALIKE)
def test_panels_of_a_row_share_their_scale(kind):
    rows = defaultdict(set)
    for panel in laid_out(kind).get_axes():
        if panel.get_subplotspec():
            rows[panel.get_subplotspec().rowspan.start].add(panel.get_ylim())
    assert all(len(limits) == 1 for limits in rows.values())


def test_a_label_of_a_legend_is_no_wider_than_its_figure():
    long = "a label that a study gives to a method of its own, and that says a lot about it"
    figure, _ = style.grid(1, 1)
    style.legend(figure, [style.handle(style.METHODS["lth"], long)])
    figure.draw_without_rendering()
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.x1


def test_ticks_keep_ends_and_room():
    assert style.ticks([0, 5, 10, 15, 20, 25, 50, 75, 100]) == [0, 25, 50, 75, 100]
    assert style.ticks([80, 90, 95, 97]) == [80, 90, 95, 97]
    assert style.ticks([3]) == [3]
