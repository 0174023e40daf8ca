"""Optimisation steps of a small network on a GPU: one recorded step, replayed.

A step of ResNet20 is some three hundred kernels of a few microseconds each; launching them one by
one takes the host longer than the GPU needs to run them. A CUDA graph launches them all at once.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Protocol

import torch
from torch import Tensor

from pipeline.errors import brief
from pipeline.training.step import Batch, Step

#: Ordinary steps before the recording: they make the momentum and let cuDNN choose its algorithms.
WARM_UP = 3
#: Does once more, on the same memory, what was recorded.
Replay = Callable[[], None]


class Recorder(Protocol):
    """Does the work of a step, and records it."""

    def take(self, work: Callable[[], None]) -> bool:
        """Do it; whether the host had to wait for the device."""

    def record(self, work: Callable[[], None]) -> Replay:
        """Record it; it need not have been done afterwards. RuntimeError where it cannot be."""


class Graph:
    """Records a CUDA graph, on a stream beside the current one.

    What is done before the recording is done on the same stream: autograd remembers where it first
    added to a gradient, and a recording may not wait for another stream.
    """

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def take(self, work: Callable[[], None]) -> bool:
        """Do ``work``; whether the host had to wait for the device."""
        before = torch.cuda.get_sync_debug_mode()
        with self._aside(), warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                work()
            finally:
                torch.cuda.set_sync_debug_mode(before)
        waits = [each for each in said if "synchronizing CUDA operation" in str(each.message)]
        for each in said:
            if each not in waits:
                warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)
        return bool(waits)

    def record(self, work: Callable[[], None]) -> Replay:
        """A graph of what ``work`` does on the device; a failure leaves nothing behind."""
        graph, pool = torch.cuda.CUDAGraph(), torch.cuda.graph_pool_handle()
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        with self._aside():
            graph.capture_begin(pool=pool, capture_error_mode="thread_local")
            try:
                work()
            except BaseException:
                _give_up(graph, pool)
                raise
            try:
                graph.capture_end()
            except RuntimeError:
                _release(pool)
                raise
        return graph.replay

    @contextmanager
    def _aside(self) -> Iterator[None]:
        current = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            yield
        current.wait_stream(self._stream)


def _give_up(graph: torch.cuda.CUDAGraph, pool: Any) -> None:
    """End a capture that was broken, or was left in the middle."""
    try:
        graph.capture_end()
    except RuntimeError:
        _release(pool)


def _release(pool: Any) -> None:
    """Take the allocator out of its capture, in which PyTorch 2.11 leaves it (its issue 180395)."""
    with suppress(RuntimeError):  # where it has left by itself
        torch._C._cuda_endAllocateToPool(torch.cuda.current_device(), pool)


class GraphedStep(Step):
    """Steps on whole batches of one shape, in one process; the same operations as `Step`'s.

    A network whose step cannot be recorded (one that waits for the host, say) goes on step by step.
    """

    def __init__(self, *arguments: Any, recorder: Recorder | None = None, **named: Any) -> None:
        super().__init__(*arguments, **named)
        if self._micro_batches > 1:
            raise ValueError("a step of several micro-batches is not recorded")
        # A number that the recording reads from memory, so that a new one takes effect.
        self._rate = self._memory = torch.zeros((), device=self.device)
        self._value = 0.0
        self._recorder = recorder or Graph(self.device)
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

    @property
    def recorded(self) -> bool:
        """Whether steps are replayed by now."""
        return self._replay is not None

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
                self._replay = self._recorder.record(self._whole)
            except RuntimeError as error:
                self._not_recorded(brief(error, lines=1))
        if self._replay is None:
            waited = self._recorder.take(self._whole)
            self._taken += 1
            if waited and self._recordable and self._taken == WARM_UP:
                self._not_recorded("the network waits for the device")
        else:
            self._replay()

    def _not_recorded(self, reason: str) -> None:
        self._recordable = False
        print(f"steps are not recorded: {reason}", flush=True)

    def _whole(self) -> None:
        assert self._batch is not None
        super().__call__([self._batch])


def step_of(device: torch.device, micro_batches: int, recorded: bool = True) -> type[Step]:
    """How steps are taken on a device; ``recorded``: where they can be."""
    return GraphedStep if recorded and device.type == "cuda" and micro_batches == 1 else Step
