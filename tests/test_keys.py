"""Paths of runs: one per run, and no way out of the results folder."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from studies import one_line, refused

from pipeline.errors import UserError
from pipeline.runs import (
    STAGES,
    Align,
    Connect,
    Curve,
    Dense,
    ImpBarrier,
    ImpBlock,
    Landscape,
    Mask,
    Match,
    PermutationQuality,
    Plane,
    Run,
    Snapshot,
    Solution,
    Sparse,
    parse,
)
from pipeline.runs.form import sparsity_text, width_text

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,12}", fullmatch=True)
LABELS = st.builds(
    lambda name, changes: "+".join([name, *changes]),
    NAMES,
    st.lists(
        st.from_regex(r"[a-z_]{1,9}=[A-Za-z0-9][A-Za-z0-9_.-]{0,5}", fullmatch=True), max_size=2
    ),
)
SEEDS = st.integers(0, 20) | st.integers(0, 10**15 - 1)
EPOCHS = st.integers(0, 10**6)
COUNTS = st.integers(1, 999)
WIDTHS = st.integers(1, 64_000).map(lambda n: width_text(n / 64))
TARGETS = (
    st.integers(1, 999_999).map(lambda n: f"S{sparsity_text(n / 10**6)}")
    | COUNTS.map("P{}".format)
    | COUNTS.map("O{}".format)
)
PARENTS = st.builds(Dense, NAMES, st.sampled_from(["resnet20", "vgg11"]), WIDTHS, LABELS, SEEDS)


def born(parent: Dense) -> st.SearchStrategy[Dense]:
    """The run, or a child of it."""
    return st.just(parent) | st.builds(
        replace, st.just(parent), spawn=EPOCHS, noise=st.integers(1, 9999)
    )


DENSE = PARENTS.flatmap(born)


@st.composite
def partners(draw: st.DrawFn) -> tuple[Dense, Dense]:
    """a and b: two seeds, on the same data by the same recipe or not."""
    b = draw(DENSE)
    foreign = draw(st.booleans())
    dataset = draw(NAMES) if foreign else b.dataset
    recipe = draw(LABELS) if foreign else b.recipe
    parent = Dense(dataset, b.model, b.width, recipe, draw(SEEDS))
    return draw(born(parent).filter(lambda a: a.who != b.who)), b


@st.composite
def matches(draw: st.DrawFn) -> Match:
    a, b = draw(partners())
    return Match(a, b, draw(LABELS), draw(st.none() | EPOCHS))


@st.composite
def sparse_runs(draw: st.DrawFn, permuted: bool | None = None) -> Sparse:
    a, b = draw(partners())
    permuted = draw(st.booleans()) if permuted is None else permuted
    match: Match | Align | None = None
    if permuted:
        match = Match(a, b, draw(LABELS), draw(st.none() | EPOCHS))
        if (a.dataset, a.recipe) == (b.dataset, b.recipe) and draw(st.booleans()):
            match = Align((a, b), match.recipe, draw(LABELS))
    own = not permuted and draw(st.booleans())
    init = replace(b, seed=a.seed, spawn=a.spawn, noise=a.noise) if own else b
    return Sparse(
        init, Mask(a, draw(LABELS), draw(TARGETS)), draw(NAMES), draw(EPOCHS), draw(COUNTS),
        draw(LABELS), match, draw(st.integers(0, 99)), not permuted and draw(st.booleans()),
    )  # fmt: skip


@st.composite
def planes(draw: st.DrawFn) -> Plane:
    run = draw(sparse_runs(permuted=True))
    return Plane(run, draw(LABELS))


MASKS = st.builds(Mask, DENSE, LABELS, TARGETS)


@st.composite
def sweeps(draw: st.DrawFn) -> Align:
    home = draw(PARENTS)
    seeds = draw(st.lists(SEEDS, min_size=2, max_size=5, unique=True))
    members = tuple(draw(born(replace(home, seed=seed))) for seed in seeds)
    return Align(members, draw(LABELS), draw(LABELS))


RUNS: dict[str, st.SearchStrategy[Run]] = {
    "dense": DENSE,
    "snapshot": st.builds(Snapshot, DENSE, EPOCHS),
    "imp": st.builds(ImpBlock, DENSE, LABELS, COUNTS),
    "mask": MASKS,
    "solution": st.builds(Solution, MASKS),
    "match": matches(),
    "sparse": sparse_runs(),
    "curve": st.builds(Curve, matches(), LABELS),
    "permutation-quality": st.builds(PermutationQuality, matches(), LABELS, LABELS),
    "imp-barrier": st.builds(ImpBarrier, DENSE, LABELS, LABELS, COUNTS, st.none() | TARGETS),
    "plane": planes(),
    "align": sweeps(),
    "connect": st.builds(Connect, sweeps(), LABELS),
    "landscape": st.builds(Landscape, sweeps(), LABELS),
}


def test_every_kind_of_run_has_a_path_a_form_and_a_test() -> None:
    assert RUNS.keys() == STAGES.keys()


@pytest.mark.parametrize("stage", RUNS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_run_comes_back_from_its_path(stage: str, data: st.DataObject) -> None:
    run = data.draw(RUNS[stage])
    head, _, rest = run.path().partition("/")
    key, _, name = rest.rpartition("/")
    assert (head, name) == (stage, STAGES[stage].files[0])
    assert parse(head, key) == run
    assert run.folder == f"{stage}/{key}"
    assert run.path("x.csv") == f"{stage}/{key}/x.csv"
    _inside(run.path())


def _inside(text: str) -> None:
    parts = PurePosixPath(text).parts
    assert "/".join(parts) == text and not text.startswith("/")
    assert not any(part.startswith(".") for part in parts)
    assert text.isascii() and not set(text) & set(" \t\n{}*?'\"$`;|&<>()!\\~")


def test_two_runs_never_share_a_path() -> None:
    labels = ["dense", "dense+lr=0.1", "dense+lr=0.10"]
    dense = [
        Dense(data, model, width, label, seed)
        for data, model, width, label, seed in product(
            ["digits", "digits-w"], ["vgg11", "w1"], ["1", "1.5"], labels, [0, 1, 10]
        )
    ]
    masks = [
        Mask(one, label, target)
        for one in dense
        for label in labels
        for target in ("S0.90", "P9", "O9")
    ]
    home = dense[0]
    dense += [replace(home, spawn=spawn, noise=noise) for spawn in (0, 1, 11) for noise in (1, 11)]
    others = [
        replace(home, seed=1),
        replace(home, seed=1, spawn=1, noise=1),
        replace(home, dataset="svhn"),
        replace(home, recipe="e", seed=1),
    ]
    pairs = [(a, b) for a, b in product([home, *others], repeat=2) if a.seed != b.seed]
    match = [Match(a, b, label, t) for a, b in pairs for label in labels for t in (None, 0, 5)]
    sparse = [
        Sparse(init, Mask(a, "i", "P9"), method, k, epochs, "s", found, again, shuffled)
        for a, b in pairs
        for method, k, epochs, again in product(["m", "m-n"], [0, 5], [1, 5], [0, 2])
        for shuffled in (False, True)
        for init, found in [
            (replace(b, seed=a.seed), None), (b, None), (b, Match(a, b, "x")), (b, Match(a, b, "x", 5)),
        ]
    ]  # fmt: skip
    runs = set(dense) | set(masks) | set(match) | set(sparse)
    runs |= {Snapshot(one, k) for one in dense for k in (1, 10)}
    runs |= {ImpBlock(one, label, n) for one in dense for label in labels for n in (1, 11)}
    runs |= {Solution(one) for one in masks} | {Curve(one, "line") for one in match}
    runs |= {
        ImpBarrier(one, "i", label, n, target)
        for one in dense for label in labels for n in (1, 11) for target in (None, "P11", "S0.90")
    }  # fmt: skip
    runs |= {Plane(one, "line") for one in sparse if one.match}
    runs |= {
        Sparse(b, Mask(a, "i", target), "m", 5, 1, "s", Align((a, b), label, sweep))
        for a, b in pairs if (a.dataset, a.recipe) == (b.dataset, b.recipe)
        for target in ("P9", "P8") for label in ("x", "y") for sweep in ("s", "line")
    }  # fmt: skip
    seeds = ((0, 1), (1, 0), (0, 11), (0, 1, 2), (0, 12))
    align = [
        Align(tuple(replace(home, seed=seed) for seed in members), label, sweep)
        for members in seeds for label in labels for sweep in ("s", "line")
    ]  # fmt: skip
    runs |= {*align} | {kind(one, "line") for one in align for kind in (Connect, Landscape)}
    assert len({run.path() for run in runs}) == len(runs) > 2000
    assert all(parse(run.stage, run.key) == run for run in runs)


#: Near misses: small pieces that keys are made of, in any order.
PIECES = [
    "digits", "resnet20-w1", "resnet20-w0.5", "resnet20-w..", "dense", "imp-ft", "seed0", "seed00",
    "epoch1", "block1", "block0", "S0.90", "S0.9", "P13", "P0", "a0-b1", "a0-b0", "a0", "k5-e195",
    "k5-e0", "permuted.activations", "m@shuffled", "lth", "sparse", "line", "..", ".", "", "~", "a0-b1@t5",
    "\n", "a0@digits@dense-b1", "rounds11", "rounds11-S0.90", "\x00", "$(id)", "{x}", "a0-b1.r1",
    "imp-ft@svhn@dense", "seeds0-1-2", "seeds0-1", "seeds2-01-1", "seed3t5n1", "seed3t5n0",
    "seed3t5", "seed3n1", "seed3t05n1", "a0t5n1-b1", "a0t5n1-b0t5n1", "seeds0t1n1-1-2t3n4",
    "a0t0n1-b0@t5", "a0t2n1@digits@dense-b1t2n3",
    "imp-ft@svhn@dense", "O13", "O0", "permuted.activations@rounds", "m@rounds", "m.x@shuffled@rounds",
    "seeds0-1-2", "seeds0-1", "seeds2-01-1",
]  # fmt: skip


@settings(max_examples=600, deadline=None)
@given(
    stage=st.sampled_from([*RUNS, "table", "..", ""]),
    key=st.lists(st.sampled_from(PIECES), max_size=9).map("/".join) | st.text(max_size=40),
)
def test_any_text_is_the_one_path_of_a_run_or_refused(stage: str, key: str) -> None:
    try:
        run = parse(stage, key)
    except UserError as error:
        assert one_line(str(error)) and "not the path of a run: " in str(error)
    else:
        assert run.folder == f"{stage}/{key}"
        _inside(run.path())


CELL = "digits/resnet20-w1/dense/imp-ft/permuted.activations/S0.90/k5-e195/sparse/a0-b1"
assert parse("sparse", CELL).key == CELL


@pytest.mark.parametrize(
    ("stage", "key"),
    [
        ("sparse", CELL.replace("-w1/", "-w1.0/")),  # another spelling of the same run
        ("sparse", CELL.replace("-w1/", "-w01/")),
        ("sparse", CELL.replace("S0.90", "S0.9")),
        ("sparse", CELL.replace("S0.90", "S0.900")),
        ("sparse", CELL.replace("a0-b1", "a00-b1")),
        ("sparse", CELL.replace("a0-b1", "a1-b1")),
        ("sparse", CELL.replace("a0-b1", "a1t0n1-b1t0n1")),
        ("sparse", CELL.replace("a0-b1", "a0t0n0-b1")),
        ("sparse", CELL.replace("a0-b1", "a0t00n1-b1")),
        ("sparse", CELL.replace("a0-b1", "a0t1n2t1n2-b1")),
        ("dense", "digits/resnet20-w1/dense/seed0t1n" + "9" * 5),
        ("dense", "digits/resnet20-w1/dense/seed0n1t1"),
        ("sparse", CELL.replace("a0-b1", "a0-b1.r0")),
        ("sparse", CELL.replace("imp-ft", "imp-ft@digits@dense")),
        ("sparse", CELL.replace("permuted.activations", "naive") + "@t5"),
        ("sparse", CELL.replace("S0.90", "S0.00")),  # no run at all
        ("sparse", CELL.replace("S0.90", "S1.00")),
        ("sparse", CELL.replace("S0.90", "P0")),
        ("sparse", CELL.replace("S0.90", "O0")),
        ("sparse", CELL.replace("S0.90", "O09")),
        ("sparse", CELL.replace("permuted.activations", "naive@rounds")),
        ("sparse", CELL.replace(".activations", ".activations@rounds") + "@t5"),
        ("sparse", CELL.replace("-w1/", "-w0/")),
        ("sparse", CELL.replace("k5", "k-5")),
        ("sparse", CELL.replace("a0", "a" + "9" * 16)),
        ("sparse", CELL + "\n"),
        ("sparse", CELL + "/metrics.json"),
        ("sparse", "../" + CELL),
        ("sparse", "/" + CELL),
        ("dense", "digits/../dense/seed0"),
        ("dense", "digits/resnet20-w1/.hidden/seed0"),
        ("dense", "digits/resnet20-w1/dense/seed٣"),  # a digit, but not of ours
        ("plane", "../" + CELL),
        ("plane", "../../x/" + CELL),
        ("plane", "line/" + CELL.replace("permuted.activations", "permuted.activations/..")),
        ("imp", "digits/resnet20-w1/dense/imp-ft/seed0/block" + "9" * 9),
        ("mask", "digits/resnet20-w1/dense/imp-ft/seed0/P" + "9" * 9),
        ("cells", CELL),
    ],
)
def test_other_spellings_and_ways_out_are_refused(stage: str, key: str) -> None:
    refused(lambda: parse(stage, key), "not the path of a run")


def test_numbers_have_one_spelling() -> None:
    assert [width_text(w) for w in (1, 1.0, 0.5, 0.0625, 16, 999.015625)] == [
        "1", "1", "0.5", "0.0625", "16", "999.015625",
    ]  # fmt: skip
    assert [sparsity_text(s) for s in (0.9, 0.90, 9e-1, 0.5, 0.975, 1e-5, 0.999999)] == [
        "0.90", "0.90", "0.90", "0.50", "0.975", "0.00001", "0.999999",
    ]  # fmt: skip
