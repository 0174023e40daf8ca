"""Optimisation steps of a small network on a GPU: one recorded step, replayed.

A step of ResNet20 is some three hundred kernels of a few microseconds each; launching them one by
one takes the host longer than the GPU needs to run them. A CUDA graph launches them all at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from pipeline.training.step import Batch, Step

#: Ordinary steps before the recording: they make the momentum and let cuDNN choose its algorithms.
WARM_UP = 3
#: Does once more, on the same memory, what was recorded.
Replay = Callable[[], None]


def record(work: Callable[[], None]) -> Replay:
    """A CUDA graph of what ``work`` does on the device; it need not have been done afterwards."""
    graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        work()
    return graph.replay


class GraphedStep(Step):
    """Steps on whole batches of one shape, in one process; the same operations as `Step`'s.

    A network whose step cannot be recorded (one that waits for the host, say) goes on step by step.
    """

    def __init__(
        self, *arguments: Any, record: Callable[[Callable[[], None]], Replay] = record, **named: Any
    ) -> None:
        super().__init__(*arguments, **named)
        if self._micro_batches > 1:
            raise ValueError("a step of several micro-batches is not recorded")
        # A number that the recording reads from memory, so that a new one takes effect.
        self._rate = self._memory = torch.zeros((), device=self.device)
        self._value = 0.0
        self._record = record
        self._replay: Replay | None = None
        self._taken, self._recordable = 0, True
        self._batch: Batch | None = None

    @property
    def lr(self) -> float:
        """Learning rate of the steps that follow."""
        return self._value

    @lr.setter
    def lr(self, value: float) -> None:
        self._value = value
        self._memory.fill_(value)

    def set_momentum(self, momentum: Mapping[str, Tensor]) -> None:
        """Go on with a copy of ``momentum``; what was recorded held the old one."""
        super().set_momentum(momentum)
        self._replay, self._taken = None, 0

    def __call__(self, batches: Iterable[Batch]) -> None:
        """Take one step on the one batch of it."""
        (batch,) = batches
        if self._batch is None:
            images, labels = batch
            layout = torch.contiguous_format
            self._batch = torch.empty_like(images, memory_format=layout), torch.empty_like(labels)
        for own, given in zip(self._batch, batch, strict=True):
            own.copy_(given)
        if self._replay is None and self._recordable and self._taken >= WARM_UP:
            try:
                self._replay = self._record(self._whole)
            except RuntimeError as error:
                self._recordable = False
                print(f"steps are not recorded: {str(error).splitlines()[0]}", flush=True)
        if self._replay is None:
            self._whole()
            self._taken += 1
        else:
            self._replay()

    def _whole(self) -> None:
        assert self._batch is not None
        super().__call__([self._batch])


def step_of(device: torch.device, micro_batches: int) -> type[Step]:
    """How steps are taken on a device."""
    return GraphedStep if device.type == "cuda" and micro_batches == 1 else Step
