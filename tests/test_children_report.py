"""Children in figures and claims: what is drawn of them, the onset, and verdicts either way."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest
import synthetic
from studies import BASE, config, recipes, refused

from pipeline.connectivity.notions import onset
from pipeline.report import claims
from pipeline.report.claims import CONTRADICTED, SUPPORTED, UNDECIDED, Claim
from pipeline.study.outputs.sweep_barriers import SweepBarriers

#: As the work has it: apart until the onset at epoch 5, and connected from there on.
WORK = {0: 60.0, 2: 20.0, 4: 5.0, 5: 1.5, 8: 0.5, 20: 0.2}


def test_the_onset_is_the_first_epoch_from_which_all_are_connected() -> None:
    assert onset(WORK, 2.0) == 5
    assert onset({20: 0.2, 0: 60.0, 5: 2.0}, 2.0) == 5  # the threshold is inclusive, order is none
    assert onset({0: 60, 2: 1, 4: 3, 5: 1}, 2.0) == 5  # not 2: those of 4 are apart
    assert onset({0: 0.0, 5: 0.0}, 2.0) == 0
    for nowhere in ({0: 0.0, 5: 3.0}, {}, {0: 0.0, 5: math.nan}):
        assert onset(nowhere, 2.0) is None


# -- figures -----------------------------------------------------------------------------------


def drawn(frame: pd.DataFrame, **options: Any) -> tuple[Any, pd.DataFrame, list[str]]:
    output = SweepBarriers(lines=options.pop("lines", ("instability", "children")), **options)
    figure, data = synthetic.figure(output, frame)
    return figure, data, [text.get_text() for text in figure.legends[0].get_texts()]


def test_children_are_drawn_against_the_epoch_of_their_start_at_the_end_of_training() -> None:
    figure, data, legend = drawn(synthetic.children(WORK), x="spawn", threshold=2.0)
    (panel,) = figure.get_axes()
    assert panel.get_xlabel() == "Epoch t of the children's start\n(onset: t = 5)"
    assert panel.get_xticklabels()[0].get_text() == "0"
    own = data[data["line"] == "instability"].sort_values("x")
    assert [*own["x"]] == [*WORK] and [*own["mean"]] == pytest.approx([*WORK.values()])
    assert {*own["matcher"]} == {""} and {*own["n"]} == {3}
    assert [*own["std"]] == pytest.approx([0.1] * len(WORK))  # of pairs, not of children
    permuted = data.loc[data["line"] == "children", "mean"]
    assert [*permuted] == pytest.approx([6.0] * 2 * len(WORK))
    assert legend == [
        "instability: children of one network", "weight matching, children, π of parents",
        "activation matching, children, π of parents", "2 points",
    ]  # fmt: skip
    figure, _, _ = drawn(synthetic.children({0: 60, 5: 30}), x="spawn", threshold=2.0)
    assert figure.get_axes()[0].get_xlabel().endswith("(no onset)")


def test_along_training_children_of_each_epoch_have_a_line_of_their_own() -> None:
    frame = synthetic.children({0: 60.0, 5: 1.5}, matchers=("weights",))
    figure, data, legend = drawn(frame, lines=("children",))
    assert legend == [
        "weight matching, children, π of parents", "children of epoch 0", "children of epoch 5",
    ]  # fmt: skip
    (panel,) = figure.get_axes()
    assert sum(len(line.get_xdata()) == 2 and line.get_color() != "#888888"
               for line in panel.get_lines()) == 2  # fmt: skip
    assert [*data["x"].unique()] == [20, 160] and {*data["spawn"]} == {0, 5}
    _, data, legend = drawn(frame, lines=("none", "along", "instability"), spawns=(0,))
    assert legend == [
        "without π", "weight matching, π of the end", "instability: children of one network",
    ]  # fmt: skip
    along = data[(data["line"] == "along") & (data["x"] == 160)]
    assert along["mean"].item() == pytest.approx(5.0)  # the parents', not their children's
    own = data[(data["line"] == "instability") & (data["x"] == 160)]
    assert own["mean"].item() == pytest.approx(60.0)


def test_matchers_have_rows_of_their_own_where_colours_say_the_epoch() -> None:
    figure, _, _ = drawn(synthetic.children({0: 60.0, 5: 1.5}), lines=("children",))
    assert [panel.get_ylabel().splitlines()[-1] for panel in figure.get_axes()] == [
        "weight matching", "activation matching",
    ]  # fmt: skip


def test_children_have_looks_of_their_own_in_every_figure() -> None:
    frame = synthetic.children({0: 60.0})
    figure, _, _ = drawn(frame, lines=("none", "along", "instability", "children"))
    entries = figure.legends[0].get_lines()
    looks = {(e.get_color(), e.get_marker(), str(e._unscaled_dash_pattern)) for e in entries}
    assert len(looks) == len(entries) == 6


def study(output: dict[str, Any]) -> Any:
    found = recipes()
    found["dense"]["mine"] = {"epochs": 160, "trunk": [0, 5]}
    found["sweep"]["mine"] = {"over": "spawns", "permutations": "sharma-end", "spawns": [0, 5]}
    one = {key: BASE[key] for key in ("dataset", "width", "pairs")}
    one |= {"model": "vgg16_ln", "dense": "mine", "sweep": "mine", "connectivity": "sharma"}
    return config({"one": one}, {"figure_one": output | {"experiments": ["one"]}}, recipes=found)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lines": ["own"]}, ["unknown line 'own'", "children, instability, none"]),
        ({"x": "spawn", "lines": ["children", "along"]}, ["x: spawn", "not of along"]),
        ({"lines": ["children"], "x": "born"}, ["unknown value 'born'"]),
        ({"lines": ["children"], "spawns": [1]}, ["spawns: sweep 'mine' has no children of epoch 1"]),
        ({"spawns": [0], "lines": ["none"]}, ["spawns go with lines of instability and children"]),
        ({"kind": "fixed-points"}, ["needs a sweep over epochs, layers, rounds or triples"]),
        ({"kind": "notions"}, ["needs a sweep over epochs, rounds or triples, not over spawns"]),
        ({"kind": "landscape"}, ["needs a sweep over epochs, not over spawns"]),
    ],
)  # fmt: skip
def test_a_mistake_in_a_figure_of_children_is_one_line(
    options: dict[str, Any], words: list[str]
) -> None:
    refused(lambda: study({"kind": "barrier", **options}), "figure_one", *words)


def test_children_are_drawn_of_sweeps_that_have_them() -> None:
    assert study({"kind": "barrier", "lines": ["children"], "x": "spawn", "spawns": [5]}).outputs


# -- claims ------------------------------------------------------------------------------------


def judged(*frames: pd.DataFrame) -> dict[str, Claim]:
    return {one.id: one for one in claims.on_sweeps(pd.concat(frames, ignore_index=True))}


def test_claims_on_children_hold_where_children_do_what_the_work_says() -> None:
    stable = synthetic.children({0: 1.0}, dense="s", along={20: 10.0, 160: 30.0}, under=26.9)
    found = judged(synthetic.children(WORK, under=2.0), stable)
    assert {name: found[name].verdict for name in CLAIMS} == dict.fromkeys(CLAIMS, SUPPORTED)
    kept = found["parents-permutation-keeps-most"]
    assert [*kept.rows["unit"]] == [
        f"VGG16-LN×1 / CIFAR-10, {of}, {matcher}"
        for of in ("s", "u") for matcher in ("activations", "weights")
    ]  # fmt: skip
    value = kept.rows.set_index("unit")["estimate"]
    assert value["VGG16-LN×1 / CIFAR-10, u, weights"] == pytest.approx((60 + 5) / 2 - 2)
    assert found["onset-is-at-about-epoch-five"].parts[0].reading.estimate.value == pytest.approx(
        18
    )
    assert found["stability-is-not-enough"].parts[0].reading.estimate.value == pytest.approx(28)
    assert found["stability-is-not-needed"].parts[0].reading.estimate.value == pytest.approx(15)


CLAIMS = (
    "children-come-to-be-connected", "onset-is-at-about-epoch-five",
    "parents-permutation-serves-children", "parents-permutation-keeps-most",
    "stability-is-not-needed", "stability-is-not-enough",
)  # fmt: skip


@pytest.mark.parametrize(
    ("frame", "against"),
    [
        (synthetic.children(dict.fromkeys(WORK, 30.0)), CLAIMS[:2]),  # never connected
        (synthetic.children(dict.fromkeys(WORK, 0.1)), CLAIMS[:2]),  # from the start
        (synthetic.children(WORK | {2: 0.1, 4: 0.1}), CLAIMS[1:2]),  # too early
        (synthetic.children(WORK | {8: 9.0}), CLAIMS[1:2]),  # too late
        (synthetic.children(WORK, under=55.0), CLAIMS[2:4]),
        (synthetic.children(WORK, along={20: 50.0, 160: 5.0}), CLAIMS[4:5]),
        (synthetic.children({0: 1.0}, along={20: 0.5, 160: 0.5}), CLAIMS[5:]),
    ],
)
def test_claims_on_children_fail_where_they_do_otherwise(
    frame: pd.DataFrame, against: tuple[str, ...]
) -> None:
    found = judged(frame)
    assert {found[name].verdict for name in against} == {CONTRADICTED}


def test_few_pairs_and_other_sweeps_decide_nothing_about_children() -> None:
    for frame in (synthetic.children(WORK, pairs=2), synthetic.connections()):
        found = judged(frame)
        assert {found[name].verdict for name in CLAIMS} == {UNDECIDED}
    assert not any(judged(synthetic.connections())[name].of for name in CLAIMS)
    # children of the start alone, or of no epoch near the onset, are no evidence about it
    found = judged(synthetic.children({0: 60.0}))
    assert not any(found[name].of for name in CLAIMS[:4])
    assert not judged(synthetic.children({0: 60.0, 4: 1.0}))["onset-is-at-about-epoch-five"].of


def test_lines_of_children_are_no_barriers_of_their_parents() -> None:
    frame = synthetic.connections()
    both = claims.on_sweeps(pd.concat([frame, synthetic.children(WORK)], ignore_index=True))
    alone = {one.id: one for one in claims.on_sweeps(frame)}
    for one in both:
        if one.id not in CLAIMS:
            assert (one.held, one.of) == (alone[one.id].held, alone[one.id].of)
