"""One optimisation step: normalise, forward, loss, backward, SGD, mask, totals.

A step is one batch, or several micro-batches in one process or more. Nothing in it waits for the
device: the loop around it reads the totals once an epoch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.data.augment import normalise
from pipeline.forward import arithmetic, tensor_cores
from pipeline.machine.team import ALONE, Team
from pipeline.study.settings import TrainSettings
from pipeline.training.micro_batches import Accumulation
from pipeline.weights import under

#: Images uint8 [n, C, H, W] and their classes int64 [n], on the network's device.
Batch = tuple[Tensor, Tensor]


class Step:
    """The steps of one training run of ``model``; calling it takes one.

    SGD with momentum on all parameters; after each step the weights under ``mask`` (by parameter
    name, false where pruned) are set to zero, which gives the others exactly the values of the
    usual re-parametrisation ``weight * mask``.

    ``micro_batches`` is their number in a step, those of all processes of ``team`` together.
    ``totals``, float64 [2], adds up the sum of the losses (nats) and the number of right answers of
    this process.
    """

    def __init__(
        self,
        model: nn.Module,
        settings: TrainSettings,
        mean: Sequence[float],
        std: Sequence[float],
        device: torch.device,
        mask: Mapping[str, Tensor] | None = None,
        micro_batches: int = 1,
        team: Team = ALONE,
    ) -> None:
        self.model = model
        self.model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.device, self.precision = device, settings.precision
        self.mean, self.std = mean, std
        self.parameters = dict(model.named_parameters())
        #: Learning rate of the steps that follow; a tensor where a recording reads it from memory.
        self._rate: float | Tensor = settings.lr
        self._decay = settings.weight_decay, settings.momentum
        self._buffers: dict[str, Tensor] = {}
        self.totals = torch.zeros(2, dtype=torch.float64, device=device)
        self._masked = [self.parameters[name] for name in mask or ()]
        masks = [
            m.to(device, p.dtype) for m, p in zip((mask or {}).values(), self._masked, strict=True)
        ]
        self._masks = [m.contiguous(memory_format=_format(m)) for m in masks]
        zeros = sum(int((m == 0).sum()) for m in (mask or {}).values())
        #: Share of the entries under the mask that are zero; 0 without a mask.
        self.sparsity = zeros / sum(m.numel() for m in masks) if masks else 0.0
        self._apply_mask()
        self._micro_batches = micro_batches
        self._accumulation = None
        if micro_batches > 1:
            self._accumulation = Accumulation(model, micro_batches, team)

    @property
    def lr(self) -> float:
        """Learning rate of the steps that follow."""
        return float(self._rate)

    @lr.setter
    def lr(self, value: float) -> None:
        self._rate = value

    def __call__(self, batches: Iterable[Batch]) -> None:
        """Take one step on this process's micro-batches, one batch where a step is not cut."""
        if self._accumulation is None:
            for parameter in self.parameters.values():
                parameter.grad = None
            for images, labels in batches:
                self._backward(images, labels)
        else:
            self._accumulate(batches, self._accumulation)
        self._update()
        self._apply_mask()

    @torch.no_grad()
    def _update(self) -> None:
        """SGD with weight decay and momentum, as torch.optim's fused one takes it, to the bit.

        Called by hand, since torch.optim loads a compiler: half a second at the start of every run.
        """
        decay, momentum = self._decay
        moved = {name: p for name, p in self.parameters.items() if p.grad is not None}
        gradients = [p.grad for p in moved.values() if p.grad is not None]
        first = momentum != 0 and not self._buffers
        if momentum:
            for name in moved.keys() - self._buffers.keys():
                self._buffers[name] = torch.zeros_like(moved[name])
        torch._fused_sgd_(
            list(moved.values()), gradients, [self._buffers[n] for n in moved] if momentum else [],
            weight_decay=decay, momentum=momentum, lr=self._rate,  # type: ignore[arg-type]
            dampening=0.0, nesterov=False, maximize=False, is_first_step=first,
        )  # fmt: skip

    def _accumulate(self, batches: Iterable[Batch], step: Accumulation) -> None:
        """The gradient of the mean loss of all micro-batches, and one update of statistics."""
        step.begin()
        for images, labels in batches:
            step.forget()
            self._backward(images, labels)
            step.keep()
        step.finish()

    def _backward(self, images: Tensor, labels: Tensor) -> None:
        """Add the gradient of a micro-batch's share in the mean loss to what is there."""
        inputs = normalise(images, self.mean, self.std)
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        with tensor_cores(self.precision):
            with arithmetic(self.device, self.precision):
                logits = self.model(inputs)
            loss = functional.cross_entropy(logits.float(), labels)
            share = loss if self._micro_batches == 1 else loss / self._micro_batches
            share.backward()  # type: ignore[no-untyped-call]
        self.totals[0] += loss.detach() * len(labels)
        self.totals[1] += (logits.detach().argmax(dim=1) == labels).sum()

    @torch.no_grad()
    def _apply_mask(self) -> None:
        if self._masks:
            torch._foreach_mul_(tuple(self._masked), tuple(self._masks))

    def momentum(self) -> dict[str, Tensor]:
        """Momentum by parameter name; none before the first step, or without momentum."""
        return {name: self._buffers[name] for name in self.parameters if name in self._buffers}

    def set_momentum(self, momentum: Mapping[str, Tensor]) -> None:
        """Go on with a copy of ``momentum``."""
        for name, buffer in momentum.items():
            self._buffers[name] = torch.empty_like(self.parameters[name]).copy_(buffer)

    def state(self) -> dict[str, Tensor]:
        """All that a later process needs to go on but the totals: weights and momentum, by name."""
        tensors = {f"weights/{name}": tensor for name, tensor in self.model.state_dict().items()}
        return tensors | {f"momentum/{name}": t for name, t in self.momentum().items()}

    def set_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what ``state`` gave."""
        self.model.load_state_dict(under("weights/", state))
        self.set_momentum(under("momentum/", state))


def _format(tensor: Tensor) -> torch.memory_format:
    return torch.channels_last if tensor.dim() == 4 else torch.contiguous_format
