"""The processes that share a run: what they tell each other, in numbers and JSON, never in pickles.

``torchrun`` (or ``pipeline.machine.launch``, which is torchrun without its many lines) starts the processes
and says to each through its environment who it is. Process 0 leads: it alone writes files, holds
the run's lock, shows progress and decides.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

from pipeline.errors import UserError, brief

#: How long one process waits for the others; process 0 may wait for the run's lock meanwhile. The
#: end of a process ends the others at once.
PATIENCE = timedelta(days=1)


class Lost(UserError):
    """Another process of the run has ended."""


@dataclass(frozen=True)
class Team:
    """This process, ``rank`` of ``size``; for a process alone, no method does anything.

    ``local`` is its number on its machine, of ``beside`` there.
    """

    rank: int = 0
    size: int = 1
    local: int = 0
    beside: int = 1

    @property
    def leads(self) -> bool:
        return self.rank == 0

    @property
    def alone(self) -> bool:
        return self.size == 1

    def meet(self, *, cuda: bool) -> None:
        """Connect to the other processes; returns when all are there."""
        if self.alone or dist.is_initialized():
            return
        with _others():
            dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=PATIENCE)

    def part(self) -> None:
        """End the connection."""
        if dist.is_available() and dist.is_initialized():
            dist.destroy_process_group()

    def add_up(self, tensor: Tensor) -> None:
        """Replace a tensor by its sum over the processes, the same bits in each."""
        if not self.alone:
            with _others():
                dist.all_reduce(tensor)

    def any(self, *flags: bool) -> list[bool]:
        """Which of the flags is true in any process."""
        if self.alone:
            return list(flags)
        found = torch.tensor(flags, dtype=torch.int32)
        with _others():
            dist.all_reduce(found, dist.ReduceOp.MAX)
        return [bool(flag) for flag in found.tolist()]

    def tell(self, value: Any) -> Any:
        """What process 0 gives, as JSON carries it; the others' values are not looked at."""
        if self.alone:
            return value
        text = json.dumps(value).encode() if self.leads else b""
        length = torch.tensor([len(text)])
        with _others():
            dist.broadcast(length, 0)
            data = torch.frombuffer(bytearray(text), dtype=torch.uint8) if self.leads else None
            if data is None:
                data = torch.empty(int(length), dtype=torch.uint8)
            dist.broadcast(data, 0)
        return json.loads(data.numpy().tobytes())

    def copy(self, tensors: Iterable[Tensor]) -> None:
        """Fill tensors with those of process 0; same number and shapes everywhere."""
        if self.alone:
            return
        with _others(), torch.no_grad():
            for tensor in tensors:
                moved = tensor.contiguous()
                dist.broadcast(moved, 0)
                tensor.copy_(moved)

    def collect(self, tensor: Tensor) -> list[Tensor] | None:
        """The tensors of all processes in their order, on the CPU, in process 0; else None.

        They may differ in length (first axis), in nothing else.
        """
        own = tensor.detach().cpu().contiguous()
        if self.alone:
            return [own]
        lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        with _others():
            dist.all_gather(lengths, torch.tensor([len(own)]))
            longest = int(max(lengths))
            padded = own.new_zeros((longest, *own.shape[1:]))
            padded[: len(own)] = own
            # As bytes: the transport does not know every type of number.
            sent = padded.view(torch.uint8)
            found = [torch.empty_like(sent) for _ in lengths] if self.leads else None
            dist.gather(sent, found, 0)
        if found is None:
            return None
        return [part.view(own.dtype)[: int(n)] for part, n in zip(found, lengths, strict=True)]

    def groups_of(self, parts: int) -> dist.ProcessGroup | None:
        """The ``parts`` consecutive processes of which this is one; None where it is alone."""
        if parts == 1:
            return None
        with _others():
            groups = [
                dist.new_group(list(range(first, first + parts)))
                for first in range(0, self.size, parts)
            ]
        found: dist.ProcessGroup = groups[self.rank // parts]
        return found


ALONE = Team()


def team() -> Team:
    """Who this process is, from the environment that torchrun sets; alone without it."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1 or "RANK" not in os.environ:
        return ALONE
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    return Team(*(int(os.environ[name]) for name in names))


@contextmanager
def _others() -> Iterator[None]:
    """The end of another process in one line."""
    try:
        yield
    except RuntimeError as error:
        raise Lost(f"another process of this run has ended ({brief(error, lines=1)})") from None
