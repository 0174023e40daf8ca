"""Laws of the training loop: PyTorch's results, masks that hold, kills that change nothing."""

from __future__ import annotations

import copy
import math
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from small import few, same, seeded
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import prune

from pipeline import evaluation, pruning
from pipeline.artifacts.unfinished import RESUME
from pipeline.cli import ENDS
from pipeline.data.augment import Augmenter, normalise
from pipeline.errors import Interrupted, UserError
from pipeline.evaluation import evaluate
from pipeline.machine.team import ALONE
from pipeline.models import build, prunable_parameters
from pipeline.streams import generator
from pipeline.study.settings import TrainSettings
from pipeline.study.shares import shares
from pipeline.training import step
from pipeline.training.batches import feed
from pipeline.training.loop import (
    HISTORY,
    Keeper,
    Outcome,
    Schedule,
    Trainer,
    Training,
    graceful,
)
from pipeline.weights import under

CPU = torch.device("cpu")
SETTINGS = TrainSettings(lr=0.05, batch_size=48, evaluate_every=2)
EPOCHS = 3
DATA = few(320, 64)  # six steps of 48 images, 32 images dropped
STEPS = 6


def network(name: str = "resnet20") -> nn.Module:
    width = 0.25 if name == "resnet20" else 0.125
    return build(name, width=width, classes=10, channels=1, size=8, generator=seeded(3))


def streams(purpose: str, epoch: int) -> torch.Generator:
    return generator(5, purpose, epoch)


def half_mask(model: nn.Module) -> pruning.Mask:
    """Half of the weights, drawn at random."""
    parameters, draws = dict(model.named_parameters()), seeded(4)
    return {
        name: torch.rand(parameters[name].shape, generator=draws) < 0.5
        for name in prunable_parameters(model, "all")
    }


def state_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def train(
    model: nn.Module,
    settings: TrainSettings = SETTINGS,
    schedule: Schedule | None = None,
    draws: Callable[[str, int], torch.Generator] = streams,
    **options: Any,
) -> Outcome:
    schedule = schedule or Schedule(0, EPOCHS, EPOCHS)
    return Trainer(DATA, settings, CPU).train(model, Training(schedule, draws, **options))


def reference(
    model: nn.Module, settings: TrainSettings, epochs: int = EPOCHS
) -> tuple[list[float], list[float]]:
    """A plain PyTorch loop in double precision; train losses and learning rates by epoch."""
    optimizer = torch.optim.SGD(
        model.parameters(), settings.lr, settings.momentum, weight_decay=settings.weight_decay,
        foreach=False,
    )  # fmt: skip
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs)
    augmenter = Augmenter(DATA.train, flip=DATA.flip, pad=DATA.pad)
    losses, rates = [], []
    for epoch in range(epochs):
        images, labels = augmenter.epoch(
            batch_size=1, order=streams("order", epoch),
            augmentation=streams("augmentation", epoch),
        )  # fmt: skip
        model.train()
        total = 0.0
        for start in range(0, len(labels) - settings.batch_size + 1, settings.batch_size):
            batch = slice(start, start + settings.batch_size)
            inputs = (images[batch].double() / 255 - DATA.mean[0]) / DATA.std[0]
            optimizer.zero_grad()
            loss = cross_entropy(model(inputs).float(), labels[batch])
            loss.backward()
            optimizer.step()
            total += loss.item()
        losses.append(total / STEPS)
        rates.append(optimizer.param_groups[0]["lr"])
        scheduler.step()
    return losses, rates


def close(left: Mapping[str, Tensor], right: Mapping[str, Tensor], tolerance: float) -> bool:
    return all(
        torch.allclose(left[k].double(), right[k].double(), rtol=tolerance, atol=tolerance)
        for k in right
    )


# --- the loop is PyTorch's -------------------------------------------------------------------


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inputs in double precision, for networks in double precision.

    In single precision a rounding error now and then moves a unit across the kink of its ReLU,
    and two loops that are the same part by more than a percent within an epoch.
    """
    for module in (step, evaluation):
        monkeypatch.setattr(module, "normalise", partial(normalise, dtype=torch.float64))


def test_the_loop_equals_a_plain_one(double: None) -> None:
    ours, theirs = network().double(), network().double()
    outcome = train(ours)
    losses, rates = reference(theirs, SETTINGS)
    assert close(ours.state_dict(), theirs.state_dict(), 1e-9)
    assert [row["train_loss"] for row in outcome.history] == pytest.approx(losses, rel=1e-6)
    assert [row["learning_rate"] for row in outcome.history] == pytest.approx(rates, rel=1e-9)
    # the law has teeth: any other setting leads elsewhere by far more
    for other in (
        replace(SETTINGS, weight_decay=0),
        replace(SETTINGS, momentum=0.89),
        replace(SETTINGS, lr=0.051),
    ):
        different = network().double()
        reference(different, other)
        assert not close(ours.state_dict(), different.state_dict(), 1e-4), other


def test_a_masked_run_equals_the_reparametrised_one(double: None) -> None:
    ours, theirs = network().double(), network().double()
    mask = half_mask(ours)
    train(ours, mask=mask)
    for name, kept in mask.items():
        prune.custom_from_mask(theirs.get_submodule(name.removesuffix(".weight")), "weight", kept)
    reference(theirs, SETTINGS)
    for name in mask:
        prune.remove(theirs.get_submodule(name.removesuffix(".weight")), "weight")
    assert close(ours.state_dict(), theirs.state_dict(), 1e-9)
    unmasked = network().double()
    train(unmasked)
    assert not close(ours.state_dict(), unmasked.state_dict(), 1e-3)


def test_masked_weights_are_zero_at_every_epoch() -> None:
    model = network()
    mask = half_mask(model)
    seen = []

    def check(epoch: int, state: dict[str, Tensor]) -> None:
        weights = under("weights/", state)
        for name, kept in mask.items():
            assert (weights[name][~kept] == 0).all()
            assert (weights[name][kept] != 0).any()
        seen.append(epoch)

    settings = replace(SETTINGS, weight_decay=0.1)
    outcome = train(model, settings, mask=mask, at_epoch=check)
    assert seen == [0, 1, 2, 3]
    zeros, entries = pruning.count(mask)
    assert {row["sparsity"] for row in outcome.history} == {zeros / entries}
    state = model.state_dict()
    assert all((state[name][~kept] == 0).all() for name, kept in mask.items())


def test_weight_decay_cannot_reach_through_a_mask() -> None:
    """Values under the mask are gone, so what stood there does not matter."""
    model = network()
    mask = half_mask(model)
    other = copy.deepcopy(model)
    with torch.no_grad():
        for name, kept in mask.items():
            other.get_parameter(name)[~kept] = 1e3
    settings = replace(SETTINGS, weight_decay=0.1)
    train(model, settings, mask=mask)
    train(other, settings, mask=mask)
    assert same(model.state_dict(), other.state_dict())


def test_a_mask_is_not_changed_and_may_keep_everything() -> None:
    model, plain = network(), network()
    mask = half_mask(model)
    before = {name: kept.clone() for name, kept in mask.items()}
    train(network(), mask=mask)
    assert same(mask, before)
    train(model, mask=pruning.full(mask))
    train(plain)
    assert same(model.state_dict(), plain.state_dict())


# --- the schedule ----------------------------------------------------------------------------


def test_learning_rates_follow_the_formula() -> None:
    cosine = Schedule(0, 10, 10)
    for epoch in range(10):
        expected = 0.5 * 0.08 * (1 + math.cos(math.pi * epoch / 10))
        assert cosine.lr(TrainSettings(lr=0.08), epoch) == pytest.approx(expected, rel=1e-12)
    assert cosine.lr(TrainSettings(lr=0.08), 10) == pytest.approx(0, abs=1e-15)
    # a part of a run has the rates of the whole
    assert Schedule(3, 7, 10).lr(TrainSettings(), 5) == cosine.lr(TrainSettings(), 5)
    constant = TrainSettings(lr=0.3, schedule="constant")
    assert {cosine.lr(constant, epoch) for epoch in range(10)} == {0.3}
    warm = TrainSettings(lr=0.4, warmup_epochs=4)
    assert [cosine.lr(warm, e) for e in range(4)] == pytest.approx([0.08, 0.16, 0.24, 0.32])
    for epoch in range(4, 10):
        expected = 0.5 * 0.4 * (1 + math.cos(math.pi * (epoch - 4) / 6))
        assert cosine.lr(warm, epoch) == pytest.approx(expected, rel=1e-12)


def test_the_rate_of_an_epoch_is_the_one_used() -> None:
    """With weight decay alone (momentum 0, no gradient) each step multiplies by 1 - lr * decay."""
    settings = replace(SETTINGS, momentum=0, weight_decay=0.1, warmup_epochs=1, lr=0.5)
    model = network()
    unused = nn.Parameter(torch.ones(1))
    model.register_parameter("unused", unused)
    forward = model.forward
    model.forward = lambda x: forward(x) + 0 * model.unused  # type: ignore[method-assign]
    values = []
    train(model, settings, at_epoch=lambda _, state: values.append(state["weights/unused"].item()))
    for epoch in range(EPOCHS):
        rate = Schedule(0, EPOCHS, EPOCHS).lr(settings, epoch)
        expected = values[epoch] * (1 - rate * 0.1) ** STEPS
        assert values[epoch + 1] == pytest.approx(expected, rel=1e-5)


def test_rates_may_change_with_every_step() -> None:
    """Ten epochs of four steps, one of them warm-up: the values of Sharma et al.'s recipes."""
    settings = TrainSettings(lr=0.1, warmup_epochs=1, lr_changes="step")
    whole = Schedule(0, 10, 10)

    def rates(**changes: Any) -> list[float]:
        changed = replace(settings, **changes)
        return [whole.lr(changed, epoch, step, 4) for epoch in range(10) for step in range(4)]

    assert rates()[:5] == pytest.approx([0, 0.025, 0.05, 0.075, 0.1], abs=1e-15)
    assert rates()[22] == pytest.approx(0.05, rel=1e-12)  # half way from step 4 to step 40
    assert all(later < before for before, later in pairwise(rates()[4:]))
    assert whole.lr(settings, 10, 0, 4) == pytest.approx(0, abs=1e-15)
    assert rates(schedule="constant")[4:] == [0.1] * 36
    steps = rates(schedule="steps", milestones=(5, 8))
    assert steps[19:21] == pytest.approx([0.1, 0.01]) and steps[31:33] == pytest.approx(
        [0.01, 1e-3]
    )
    assert rates(warmup_epochs=0)[0] == 0.1
    # without the switch all steps of an epoch have the same
    assert len(set(rates(lr_changes="epoch"))) == 10


def test_the_rate_of_every_step_is_the_one_used() -> None:
    """As above, with a rate of its own for each step; the history shows that of the last one."""
    settings = replace(
        SETTINGS, momentum=0, weight_decay=0.1, warmup_epochs=1, lr=0.5, lr_changes="step"
    )
    model = network()
    model.register_parameter("unused", nn.Parameter(torch.ones(1)))
    forward = model.forward
    model.forward = lambda x: forward(x) + 0 * model.unused  # type: ignore[method-assign]
    outcome = train(model, settings)
    whole = Schedule(0, EPOCHS, EPOCHS)
    rates = [whole.lr(settings, e, i, STEPS) for e in range(EPOCHS) for i in range(STEPS)]
    expected = math.prod(1 - rate * 0.1 for rate in rates)
    assert model.unused.item() == pytest.approx(expected, rel=1e-5)
    assert [row["learning_rate"] for row in outcome.history] == rates[STEPS - 1 :: STEPS]


# --- what it sees ----------------------------------------------------------------------------


def seen(settings: TrainSettings, draws: Callable[[str, int], torch.Generator]) -> list[Tensor]:
    """The images of an epoch in their order."""
    shared = shares(settings, 1)
    fed = feed(DATA, settings, shared, ALONE, CPU)
    return [images for step in fed.epoch(draws, 0, 0) for images, _ in step]


def among(images: Tensor) -> set[int]:
    """Which of the training images these are, by their bytes; all must be among them."""
    known = {image.numpy().tobytes(): index for index, image in enumerate(DATA.train.images)}
    return {known[image.numpy().tobytes()] for image in images}


def test_images_may_be_plain() -> None:
    plain = torch.cat(seen(replace(SETTINGS, augment=False), streams))
    assert len(among(plain)) == len(plain)
    order = torch.randperm(len(DATA.train), generator=streams("order", 0))[: len(plain)]
    assert torch.equal(plain, DATA.train.images[order])
    assert not torch.equal(plain, torch.cat(seen(SETTINGS, streams)))


def test_a_run_may_train_on_some_of_the_images_the_same_for_every_seed() -> None:
    settings = replace(SETTINGS, augment=False, images=3 * SETTINGS.batch_size)
    parts = []
    for seed in (1, 2):
        batches = seen(settings, lambda *what, seed=seed: generator(seed, *what))  # type: ignore[misc]
        assert len(batches) == 3
        parts.append(torch.cat(batches))
    assert not torch.equal(*parts)
    assert among(parts[0]) == among(parts[1]) and len(among(parts[0])) == settings.images
    more = replace(settings, images=4 * SETTINGS.batch_size)
    assert among(parts[0]) < among(torch.cat(seen(more, streams)))  # the first of a fixed order
    everything = replace(settings, images=10**6)
    assert torch.equal(
        torch.cat(seen(everything, streams)),
        torch.cat(seen(replace(SETTINGS, augment=False), streams)),
    )
    with pytest.raises(UserError, match=r"images .1. must be at least batch_size"):
        replace(SETTINGS, images=1).check("here")


# --- streams ---------------------------------------------------------------------------------


def test_a_run_depends_on_its_streams_alone() -> None:
    states = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        model = network()
        train(model)
        assert torch.equal(torch.get_rng_state(), before)
        states.append(state_of(model))
    assert same(*states)
    for changed in ("order", "augmentation"):
        model = network()
        train(model, draws=lambda p, e, c=changed: generator(6 if p == c else 5, p, e))
        assert not close(model.state_dict(), states[0], 1e-3), changed


def test_evaluations_and_reports_do_not_touch_a_run() -> None:
    one, two = network(), network()
    rows: list[Any] = []
    often = train(one, replace(SETTINGS, evaluate_every=1), report=rows.append, keep_logits=True)
    seldom = train(two, replace(SETTINGS, evaluate_every=100))
    assert same(one.state_dict(), two.state_dict())
    assert rows == often.history
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    measured = [row["test_loss"] is not None for row in seldom.history]
    assert measured == [False, False, True]
    assert often.final and seldom.final and often.final.loss == seldom.final.loss
    found = evaluate(one, DATA.test.images, DATA.test.labels, DATA.mean, DATA.std, logits=True)
    assert often.final.accuracy == found.accuracy == often.history[-1]["test_accuracy"]
    assert often.final.logits is not None and found.logits is not None
    assert torch.equal(often.final.logits, found.logits) and seldom.final.logits is None


def test_train_accuracy_and_loss_are_those_of_the_steps() -> None:
    """With a rate near zero the network stays as it is but for its statistics."""
    settings = replace(SETTINGS, lr=1e-20, weight_decay=0, momentum=0)
    model = network()
    outcome = train(model, settings, Schedule(0, 1, 1))
    fixed = network().train()
    images, labels = Augmenter(DATA.train, flip=DATA.flip, pad=DATA.pad).epoch(
        batch_size=48, order=streams("order", 0), augmentation=streams("augmentation", 0)
    )
    loss, correct = 0.0, 0
    with torch.no_grad():
        for batch, target in zip(images.split(48), labels.split(48), strict=True):
            logits = fixed(normalise(batch, DATA.mean, DATA.std))
            loss += cross_entropy(logits, target, reduction="sum").item()
            correct += int((logits.argmax(1) == target).sum())
    row = outcome.history[0]
    assert row["train_loss"] == pytest.approx(loss / 288, rel=1e-5)
    assert row["train_accuracy"] == pytest.approx(100 * correct / 288)


def test_a_row_of_the_history_says_what_the_header_names() -> None:
    outcome = train(network(), schedule=Schedule(0, 1, 2))
    assert [tuple(row) for row in outcome.history] == [HISTORY]


# --- other arithmetic, and runs that end badly -----------------------------------------------


def test_bf16_differs_but_not_much() -> None:
    full, half = network(), network()
    exact = train(full)
    rounded = train(half, replace(SETTINGS, precision="bf16"))
    assert rounded.status == "ok"
    assert not close(full.state_dict(), half.state_dict(), 1e-4)
    for share, one, two in zip((0.05, 0.1, 0.2), exact.history, rounded.history, strict=True):
        assert one["train_loss"] == pytest.approx(two["train_loss"], rel=share)
    assert all(p.dtype == torch.float32 for p in half.parameters())


@pytest.mark.parametrize(("name", "lr"), [("resnet20", 1e6), ("vgg11", 1e4)])
@pytest.mark.parametrize("masked", [False, True])
def test_a_run_that_diverges_says_so(name: str, lr: float, masked: bool) -> None:
    model = network(name)
    mask = half_mask(model) if masked else None
    outcome = train(model, replace(SETTINGS, lr=lr, evaluate_every=1), mask=mask)
    assert outcome.status == "diverged" and outcome.final is None
    assert len(outcome.history) < EPOCHS or outcome.history[-1]["test_loss"] is None
    assert outcome.history[-1]["test_accuracy"] is None
    finite = [value for row in outcome.history for value in row.values() if value is not None]
    assert all(math.isfinite(value) for value in finite)


def test_no_epochs_is_an_evaluation() -> None:
    model = network()
    before = state_of(model)
    outcome = train(model, schedule=Schedule(2, 2, 5))
    assert outcome.status == "ok" and outcome.final and outcome.history == []
    assert same(model.state_dict(), before)


# --- continuing ------------------------------------------------------------------------------


def test_continuing_with_the_momentum_is_the_same_run() -> None:
    """What snapshots rest on: the state after an epoch is weights and momentum, nothing else."""
    whole = network()
    states: dict[int, dict[str, Tensor]] = {}

    def keep(epoch: int, state: dict[str, Tensor]) -> None:
        states[epoch] = {name: tensor.clone() for name, tensor in state.items()}

    train(whole, at_epoch=keep)
    assert under("momentum/", states[0]) == {}
    assert under("momentum/", states[1]).keys() == dict(whole.named_parameters()).keys()
    for first in range(EPOCHS):
        model = build("resnet20", width=0.25, classes=10, channels=1, size=8, generator=None)
        given = {name: tensor.clone() for name, tensor in states[first].items()}
        train(model, schedule=Schedule(first, EPOCHS, EPOCHS), state=states[first])
        assert same(model.state_dict(), whole.state_dict()), first
        assert same(states[first], given), "the given state was changed"
    fresh = network()
    fresh.load_state_dict(under("weights/", states[1]))
    train(fresh, schedule=Schedule(1, EPOCHS, EPOCHS))
    assert not close(fresh.state_dict(), whole.state_dict(), 1e-3)


class Killed(Exception):
    """Stands for a kill without warning."""


def facts(outcome: Outcome) -> dict[str, Any]:
    """What must not depend on kills: all but the times."""
    found = {k: v for k, v in vars(outcome).items() if k in ("status", "history")}
    return found | {k: v for k, v in asdict(outcome.final).items() if k != "logits"}


def stopped_and_resumed(
    folder: Path, after: int, how: str, mask: bool, settings: TrainSettings = SETTINGS
) -> tuple[nn.Module, Any]:
    """A run ended in its step ``after`` (counted from 1), then started again."""
    model = network()
    options: dict[str, Any] = {"mask": half_mask(model)} if mask else {}
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1
        if calls == after and how == "kill":
            raise Killed
        if calls == after:
            os.kill(os.getpid(), signal.SIGTERM)

    def hook(module: nn.Module, inputs: object) -> None:
        if module.training:
            count()

    model.register_forward_pre_hook(hook)
    keeper = Keeper(folder, "settings", 1, interval=0 if how == "kill" else 1e9)
    with pytest.raises(Killed if how == "kill" else Interrupted), graceful():
        train(model, settings, keeper=keeper, **options)
    assert (folder / RESUME).exists() == (how == "term" or after > 1)
    again = network()
    with torch.no_grad():  # everything comes from the state
        for parameter in again.parameters() if after > 1 or how == "term" else ():
            parameter.fill_(7.0)
    keeper = Keeper(folder, "settings", 1, interval=1e9)
    return again, train(again, settings, keeper=keeper, keep_logits=True, **options)


@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("how", ["term", "kill"])
def test_a_run_that_was_stopped_goes_on_with_the_same_bits(
    tmp_path: Path, how: str, mask: bool
) -> None:
    whole = network()
    options: dict[str, Any] = {"mask": half_mask(whole)} if mask else {}
    expected = train(whole, keep_logits=True, **options)
    places = [1, 3, STEPS, STEPS + 1, 2 * STEPS + 4]  # in, at the end and at the start of an epoch
    for after in places if not mask else places[1:2]:
        (tmp_path / RESUME).unlink(missing_ok=True)
        model, outcome = stopped_and_resumed(tmp_path, after, how, mask)
        assert same(model.state_dict(), whole.state_dict()), after
        assert same(outcome.momentum, expected.momentum), after
        assert facts(outcome) == facts(expected), after
        assert outcome.final and expected.final
        assert torch.equal(outcome.final.logits, expected.final.logits)
        skipped = after if how == "term" else max(0, after - 1)
        assert outcome.epochs_executed == pytest.approx(EPOCHS - skipped / STEPS)


def test_a_run_whose_rate_changes_with_every_step_goes_on_with_the_same_bits(
    tmp_path: Path,
) -> None:
    settings = replace(SETTINGS, warmup_epochs=2, lr_changes="step", augment=False, images=200)
    whole = network()
    expected = train(whole, settings, keep_logits=True)
    again, outcome = stopped_and_resumed(tmp_path, 6, "term", False, settings)
    assert same(again.state_dict(), whole.state_dict())
    assert facts(outcome) == facts(expected)


def test_a_run_stopped_again_and_again_arrives(tmp_path: Path) -> None:
    """SIGTERM in every epoch's first step."""
    whole = network()
    train(whole)

    def draws(purpose: str, epoch: int) -> torch.Generator:
        if purpose == "order":
            os.kill(os.getpid(), signal.SIGTERM)
        return streams(purpose, epoch)

    stops = 0
    while True:
        model = network()
        try:
            with graceful():
                train(model, draws=draws, keeper=Keeper(tmp_path, "d", interval=1e9))
            break
        except Interrupted:
            stops += 1
            assert stops < 100
    # One step for each start; in the last step of the last epoch the run ends as usual.
    assert stops == EPOCHS * STEPS - 1
    assert same(model.state_dict(), whole.state_dict())


@pytest.mark.parametrize("sent", ENDS)
def test_a_signal_outside_changes_nothing(sent: signal.Signals) -> None:
    """After ``graceful`` the process reacts to it as before."""
    caught = []
    before = signal.signal(sent, lambda *_: caught.append(1))
    try:
        with graceful():
            os.kill(os.getpid(), sent)
            assert caught == []
        os.kill(os.getpid(), sent)
        assert caught == [1]
        signal.signal(sent, signal.SIG_IGN)  # as under nohup
        with graceful():  # an old request is forgotten
            os.kill(os.getpid(), sent)
            train(network(), schedule=Schedule(0, 1, 1), keeper=Keeper(Path("/nowhere"), "d"))
    finally:
        signal.signal(sent, before)


@pytest.mark.parametrize("change", ["digest", "slot", "damage", "text"])
def test_a_state_of_other_settings_is_not_used(tmp_path: Path, change: str) -> None:
    expected = network()
    train(expected)

    def stop(purpose: str, epoch: int) -> torch.Generator:
        if epoch == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return generator(99, purpose, epoch)

    with pytest.raises(Interrupted), graceful():
        train(network(), draws=stop, keeper=Keeper(tmp_path, "old", 1, interval=1e9))
    path = tmp_path / RESUME
    digest, slot = ("new" if change == "digest" else "old"), (2 if change == "slot" else 1)
    if change == "damage":
        path.write_bytes(path.read_bytes()[:-50])
    if change == "text":
        path.write_text("not a state")
    keeper = Keeper(tmp_path, digest, slot, interval=1e9)
    assert keeper.load() is None
    model = network()
    train(model, keeper=keeper)
    assert same(model.state_dict(), expected.state_dict())
    keeper.clear()
    assert not list(tmp_path.iterdir())
    keeper.clear()


def test_states_are_saved_at_intervals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saves = []
    monkeypatch.setattr(Keeper, "save", lambda self, *_: saves.append(1))
    monkeypatch.setenv("PIPELINE_SAVE_SECONDS", "0")
    train(network(), keeper=Keeper(tmp_path, "d"))
    assert len(saves) == EPOCHS * STEPS - 1  # after each step but the last, whose run ends
    saves.clear()
    monkeypatch.setenv("PIPELINE_SAVE_SECONDS", "1000")
    train(network(), keeper=Keeper(tmp_path, "d"))
    assert saves == []
