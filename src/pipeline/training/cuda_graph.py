"""Optimisation steps of a small network on a GPU: one recorded step, replayed.

A step of ResNet20 is some three hundred kernels of a few microseconds each; launching them one by
one takes the host longer than the GPU needs to run them. A CUDA graph launches them all at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from pipeline.training.step import Batch, Step

#: Ordinary steps before the recording: they make the momentum and let cuDNN choose its algorithms.
WARM_UP = 3


class Recording(Protocol):
    """Work on the device that can be repeated on the same memory."""

    def record(self, work: Callable[[], None]) -> None:
        """Remember ``work``; it need not have been done afterwards."""

    def replay(self) -> None:
        """Do it."""


class CudaRecording:
    """A CUDA graph."""

    def __init__(self) -> None:
        self._graph = torch.cuda.CUDAGraph()

    def record(self, work: Callable[[], None]) -> None:
        """See ``Recording``."""
        torch.cuda.synchronize()
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            work()

    def replay(self) -> None:
        """See ``Recording``."""
        self._graph.replay()


class GraphedStep(Step):
    """Steps on whole batches of one shape, in one process; the same operations as `Step`'s.

    A network whose step cannot be recorded (one that waits for the host, say) goes on step by step.
    """

    _recording: Recording | None

    def __init__(
        self, *arguments: Any, recording: Callable[[], Recording] = CudaRecording, **named: Any
    ) -> None:
        super().__init__(*arguments, **named)
        if self._micro_batches > 1:
            raise ValueError("a step of several micro-batches is not recorded")
        # A number that the recording reads from memory, so that a new one takes effect.
        self._lr = torch.zeros((), device=self.device)
        for group in self.optimiser.param_groups:
            group["lr"] = self._lr
        self._value = 0.0
        self._make, self._recording = recording, None
        self._taken, self._recordable = 0, True
        self._images: Tensor | None = None
        self._labels: Tensor | None = None

    @property
    def lr(self) -> float:
        """Learning rate of the steps that follow."""
        return self._value

    @lr.setter
    def lr(self, value: float) -> None:
        self._value = value
        self._lr.fill_(value)

    def set_momentum(self, momentum: Mapping[str, Tensor]) -> None:
        """Go on with a copy of ``momentum``; what was recorded held the old one."""
        super().set_momentum(momentum)
        self._recording, self._taken = None, 0

    def __call__(self, batches: Iterable[Batch]) -> None:
        """Take one step on the one batch of it."""
        ((images, labels),) = batches
        if self._images is None or self._labels is None:
            self._images = torch.empty_like(images, memory_format=torch.contiguous_format)
            self._labels = torch.empty_like(labels)
        self._images.copy_(images)
        self._labels.copy_(labels)
        if self._recording is None and self._recordable and self._taken >= WARM_UP:
            self._record()
        if self._recording is None:
            self._whole()
            self._taken += 1
        else:
            self._recording.replay()

    def _whole(self) -> None:
        assert self._images is not None and self._labels is not None
        super().__call__([(self._images, self._labels)])

    def _record(self) -> None:
        recording = self._make()
        try:
            recording.record(self._whole)
        except RuntimeError as error:
            self._recordable = False
            print(f"steps are not recorded: {str(error).splitlines()[0]}", flush=True)
            return
        self._recording = recording


def step_of(device: torch.device, micro_batches: int) -> type[Step]:
    """How steps are taken on a device."""
    return GraphedStep if device.type == "cuda" and micro_batches == 1 else Step
