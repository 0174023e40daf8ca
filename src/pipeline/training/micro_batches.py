"""A step in micro-batches, in one process or several: its gradient and BatchNorm statistics.

The gradient of a step is the mean over its micro-batches, whichever process had them. The running
statistics of BatchNorm move once a step, by the mean of what each micro-batch alone would have made
of them; so neither depends on the number of processes.

Gradients and statistics lie in one tensor, which one sum over the processes makes whole. Its layout
is fixed, so that a resumed run adds in the order of one that was never stopped; PyTorch's
DistributedDataParallel lays out its buckets anew after the first step, which with more than two
processes changes the last bits. In return, nothing is sent while gradients are still computed.
"""

from __future__ import annotations

from itertools import accumulate

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from pipeline.machine.team import Team

#: Entries to whose multiples tensors are laid: kernels read aligned memory faster.
ALIGNED = 16


class Accumulation:
    """Gradients and statistics of ``model`` over the ``count`` micro-batches of a step."""

    def __init__(self, model: nn.Module, count: int, team: Team) -> None:
        self._team, self._count = team, count
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
        self._running = [t for m in norms for t in (m.running_mean, m.running_var) if t is not None]
        self._counters = [m.num_batches_tracked for m in norms if m.num_batches_tracked is not None]
        # Lists of one type each: a list of mixed ones is copied tensor by tensor.
        self._kept = [[t.clone() for t in tensors] for tensors in (self._running, self._counters)]
        tensors = (*self._parameters, *self._running)
        places = [0, *accumulate(-(-t.numel() // ALIGNED) * ALIGNED for t in tensors)]
        self._flat = self._parameters[0].new_zeros(places[-1])
        views = [
            self._flat[place:].as_strided(tensor.size(), tensor.stride())
            for place, tensor in zip(places, tensors, strict=False)
        ]
        self._gradients = views[: len(self._parameters)]
        self._statistics = views[len(self._parameters) :]

    def begin(self) -> None:
        """Before a step."""
        self._flat.zero_()
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            parameter.grad = gradient
        for kept, tensors in zip(self._kept, (self._running, self._counters), strict=True):
            if tensors:
                torch._foreach_copy_(kept, tensors)

    def forget(self) -> None:
        """Before a micro-batch: running statistics as they were before the step."""
        for kept, tensors in zip(self._kept, (self._running, self._counters), strict=True):
            if tensors:
                torch._foreach_copy_(tensors, kept)

    def keep(self) -> None:
        """After the forward pass of a micro-batch."""
        if self._running:
            torch._foreach_add_(self._statistics, self._running)

    def finish(self) -> None:
        """After the last micro-batch: gradients and statistics are those of the whole step."""
        self._team.add_up(self._flat)
        if self._running:
            torch._foreach_copy_(self._running, self._statistics)
            torch._foreach_div_(self._running, float(self._count))
