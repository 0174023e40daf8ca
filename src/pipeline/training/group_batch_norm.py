"""BatchNorm over the images of several processes, where one process cannot hold a whole group."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.modules.batchnorm import _BatchNorm


def _summed(value: Tensor, group: dist.ProcessGroup) -> Tensor:
    """Sum over the processes of a group; so is its gradient."""
    from torch.distributed.nn.functional import all_reduce  # not in every build of torch

    total: Tensor = all_reduce(value, group=group)  # type: ignore[no-untyped-call]
    return total


class GroupBatchNorm(_BatchNorm):
    """BatchNorm over the batches of a group of processes, on any device.

    PyTorch's own ``SyncBatchNorm`` is for GPUs alone. Batches must be of one size.
    """

    group: dist.ProcessGroup

    def _check_input_dim(self, input: Tensor) -> None:
        del input  # any

    def forward(self, input: Tensor) -> Tensor:
        """``input`` [B, C, ...]; as every BatchNorm, and in evaluation nothing is shared."""
        if not self.training:
            return super().forward(input)
        axes = [axis for axis in range(input.dim()) if axis != 1]
        shape = [1, -1, *[1] * (input.dim() - 2)]
        values = input.to(self.weight.dtype)
        count = input.numel() // input.shape[1] * dist.get_world_size(self.group)
        mean = _summed(values.sum(axes), self.group) / count
        centred = values - mean.view(shape)
        variance = _summed(centred.square().sum(axes), self.group) / count
        if self.track_running_stats and self.running_mean is not None:
            assert self.running_var is not None and self.num_batches_tracked is not None
            self.num_batches_tracked.add_(1)
            share = self.momentum or 1 / float(self.num_batches_tracked)
            with torch.no_grad():
                self.running_mean.lerp_(mean, share)
                self.running_var.lerp_(variance * (count / (count - 1)), share)
        scale = self.weight * (variance + self.eps).rsqrt()
        return torch.addcmul(self.bias.view(shape), centred, scale.view(shape)).to(input.dtype)


@contextmanager
def shared(model: nn.Module, group: dist.ProcessGroup | None) -> Iterator[None]:
    """Inside, BatchNorm layers of ``model`` see the batches of all processes of ``group``.

    Parameters and statistics stay the tensors they are. Nothing happens without a group.
    """
    before: list[tuple[nn.Module, str, nn.Module]] = []
    if group is not None:
        for name, layer in list(model.named_modules()):
            if isinstance(layer, _BatchNorm) and name:
                parent = model.get_submodule(name.rpartition(".")[0])
                own = name.rpartition(".")[2]
                before.append((parent, own, layer))
                setattr(parent, own, _shared(layer, group))
    try:
        yield
    finally:
        for parent, own, layer in before:
            layer.train(parent.training)
            setattr(parent, own, layer)


def _shared(layer: _BatchNorm, group: dist.ProcessGroup) -> nn.Module:
    if layer.weight.is_cuda:
        convert = nn.SyncBatchNorm.convert_sync_batchnorm
        made: nn.Module = convert(layer, group)  # type: ignore[no-untyped-call]
        return made
    copy = GroupBatchNorm(
        layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats
    )
    copy.group = group
    copy.weight, copy.bias = layer.weight, layer.bias
    for name, buffer in layer.named_buffers():
        setattr(copy, name, buffer)
    return copy.train(layer.training)
