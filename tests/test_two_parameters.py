"""The network of two weights: what must fail with ReLU does, and with tanh nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from studies import BASE, ROOT, config, refused

from pipeline.report.figures.two_parameters import example, read
from pipeline.results import Results
from pipeline.study.config import read as read_study
from pipeline.two_parameters import METHODS, RUNS, TARGET, Trained, loss, train


@pytest.fixture(scope="module")
def relu() -> Trained:
    return train("relu", 400)


@pytest.fixture(scope="module")
def tanh() -> Trained:
    return train("tanh", 60)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_the_loss_is_symmetric_and_zero_at_both_solutions(activation: str) -> None:
    draw = torch.randn(50, 2, generator=torch.Generator().manual_seed(0)).double()
    torch.testing.assert_close(loss(activation, draw), loss(activation, draw.flip(-1)))
    ends = torch.tensor([[TARGET, 0], [0, TARGET]], dtype=torch.float64)
    assert loss(activation, ends).tolist() == [0, 0]


def test_with_relu_a_network_fails_where_no_kept_weight_is_above_zero(relu: Trained) -> None:
    """A ReLU whose weight is not positive sees no input: its gradient is zero for ever."""
    a, b = relu.starts["dense a"], relu.starts["dense b"]
    for name, start in (("dense a", a), ("dense b", b)):
        assert torch.equal(relu.failed[name], (start <= 0).all(-1))
    kept = relu.paths["dense a"][-1].abs().argmax(-1, keepdim=True)
    for name, start in (("lth", a), ("naive", b)):
        assert torch.equal(relu.failed[name], start.gather(1, kept)[:, 0] <= 0)


def test_with_relu_permuting_mends_what_naive_breaks(relu: Trained) -> None:
    """The shares that follow from the signs alone: 1/3 of the sound pairs, and next to none.

    Next to none: a dead weight below -2 outlasts the living one in a's mask, or in the matching.
    """
    share = {name: float(relu.failed[name][relu.sound].double().mean()) for name in METHODS}
    pairs = int(relu.sound.sum())
    assert abs(share["naive"] - 1 / 3) < 3 * (2 / 9 / pairs) ** 0.5
    assert share["permuted"] < 0.08 and share["lth"] < 0.08
    dead = relu.starts["dense a"].min(-1).values < -TARGET
    assert not (relu.failed["lth"] & relu.sound & ~dead).any()
    assert not (relu.failed["permuted"] & relu.sound & ~dead).any()


def test_with_tanh_every_method_reaches_the_same_loss(tanh: Trained) -> None:
    for name in RUNS:
        assert not tanh.failed[name].any()
        assert float(tanh.losses[name].max()) < 1e-6


@pytest.mark.parametrize("name", METHODS)
def test_a_masked_weight_stays_zero_and_the_loss_never_rises(relu: Trained, name: str) -> None:
    path = relu.paths[name]
    assert ((path == 0).sum(-1) >= 1).all()
    assert (loss("relu", path).diff(dim=0) <= 1e-12).all()


def test_the_example_is_a_pair_in_which_naive_alone_fails(relu: Trained) -> None:
    pair = example(relu)
    outcome = [bool(relu.failed[name][pair]) for name in RUNS]
    assert outcome == [False, False, False, True, False]


def test_the_same_seed_gives_the_same_initialisations(relu: Trained, tanh: Trained) -> None:
    assert torch.equal(relu.starts["lth"], train("relu", 400).starts["lth"])
    assert not torch.equal(train("tanh", 60, seed=1).starts["lth"], tanh.starts["lth"])


def test_figures_1_and_12_need_no_run(tmp_path: Path) -> None:
    study = read_study(ROOT, {"study": "paper", "results": str(tmp_path)})
    results = Results(study)
    for name in ("figure_1", "figure_12"):
        assert results.graph.outputs([name]) == []
    paths, failures = read(study.outputs["figure_12"], results)  # type: ignore[arg-type]
    assert set(paths["run"]) == set(RUNS) and set(failures["run"]) == set(METHODS)
    assert (failures["failed"][failures["activation"] == "tanh"] == 0).all()


def test_it_shows_no_experiments() -> None:
    output = {"kind": "two-parameters", "experiments": ["one"]}
    refused(
        lambda: config({"one": BASE}, {"out": output}), "experiments: two-parameters shows none"
    )
