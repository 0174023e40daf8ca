"""Recorded steps are the ordinary ones. On the CPU a recording that repeats its work stands in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pipeline import models
from pipeline.study.settings import TrainSettings
from pipeline.training.cuda_graph import WARM_UP, GraphedStep, step_of
from pipeline.training.step import Step

CPU = torch.device("cpu")
MEAN, STD = (0.5,), (0.25,)


class Repeated:
    """Repeats what was recorded on the same tensors, as a graph does."""

    waits = False
    replays = 0

    def take(self, work: Callable[[], None]) -> bool:
        work()
        return self.waits

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        def replay() -> None:
            self.replays += 1
            work()

        return replay


def network() -> nn.Module:
    return models.build(
        "resnet20", width=0.25, classes=10, channels=1, size=8,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip


def batches(count: int) -> list[list[tuple[Tensor, Tensor]]]:
    draws = torch.Generator().manual_seed(1)
    return [
        [
            (
                torch.randint(256, (16, 1, 8, 8), generator=draws, dtype=torch.uint8),
                torch.randint(10, (16,), generator=draws),
            )
        ]
        for _ in range(count)
    ]


def trained(kind: type[Step], momentum: float, **named: Any) -> Step:
    model = network()
    names = models.prunable_parameters(model, "all")
    draws = torch.Generator().manual_seed(2)
    mask = {n: torch.rand(model.state_dict()[n].shape, generator=draws) > 0.5 for n in names}
    settings = TrainSettings(momentum=momentum)
    step = kind(model, settings, MEAN, STD, CPU, mask, **named)
    for number, batch in enumerate(batches(9)):
        step.lr = 0.1 / (number // 3 + 1)  # changes while the recording is in use
        step(batch)
    return step


@pytest.mark.parametrize("momentum", [0.9, 0.0])
def test_recorded_steps_equal_ordinary_ones(momentum: float) -> None:
    recorder = Repeated()
    plain = trained(Step, momentum)
    recorded = trained(GraphedStep, momentum, recorder=recorder)
    assert recorder.replays == 9 - WARM_UP
    assert recorded.lr == plain.lr and torch.equal(recorded.totals, plain.totals)
    for name, tensor in plain.state().items():
        assert torch.allclose(recorded.state()[name], tensor, rtol=1e-6, atol=1e-7), name
    assert recorded.sparsity == plain.sparsity > 0


def test_a_state_that_is_set_later_is_not_lost() -> None:
    """Momentum that is replaced is not what was recorded: it is recorded again."""
    recorded = trained(GraphedStep, 0.9, recorder=Repeated())
    plain = trained(Step, 0.9)
    state = {name: tensor.clone() for name, tensor in plain.state().items()}
    for step in (plain, recorded):
        step.set_state(state)
        for batch in batches(6):
            step(batch)
    for name, tensor in plain.state().items():
        assert torch.allclose(recorded.state()[name], tensor, rtol=1e-5, atol=1e-6), name


class Refusing(Repeated):
    """Cannot record."""

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")


class Waiting(Repeated):
    """The work waits for the device."""

    waits = True


@pytest.mark.parametrize(
    ("recorder", "reason"),
    [(Refusing(), "operation not permitted when stream is capturing"),
     (Waiting(), "the network waits for the device")],
)  # fmt: skip
def test_what_cannot_be_recorded_goes_on(
    recorder: Repeated, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded = trained(GraphedStep, 0.9, recorder=recorder)
    plain = trained(Step, 0.9)
    for name, tensor in plain.state().items():
        assert torch.allclose(recorded.state()[name], tensor, rtol=1e-6, atol=1e-7), name
    assert capsys.readouterr().out.splitlines() == [f"steps are not recorded: {reason}"]
    assert recorder.replays == 0 and not recorded.recorded


def test_where_steps_are_recorded() -> None:
    assert step_of(torch.device("cuda"), 1) is GraphedStep
    assert step_of(torch.device("cuda"), 2) is Step
    assert step_of(torch.device("cuda"), 1, recorded=False) is Step
    assert step_of(CPU, 1) is Step


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
def test_a_cuda_graph_trains_as_the_ordinary_steps() -> None:
    found = []
    for kind in (Step, GraphedStep):
        step = kind(network(), TrainSettings(), MEAN, STD, torch.device("cuda"))
        for batch in batches(9):
            step.lr = 0.1
            step([(images.cuda(), labels.cuda()) for images, labels in batch])
        found.append({name: tensor.cpu() for name, tensor in step.state().items()})
    for name, tensor in found[0].items():
        assert torch.allclose(found[1][name], tensor, rtol=1e-3, atol=1e-4), name
