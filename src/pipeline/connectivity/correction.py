"""Corrections of a merged network's activation statistics: BatchNorm reset and REPAIR.

Averaging two networks averages out a part of their activations' variance ("variance collapse",
Jordan et al. 2023). Two corrections, both computed from batches of training images:

* ``reset``: BatchNorm's running statistics are measured anew on the merged network.
* ``repair``: each measured module's channels get the mean, and the standard deviation, that the
  same mix of the end points' means and standard deviations prescribes (thesis, eq. 2.17).

Both change a network in place and neither touches the classifier. A network that is an end point
itself is never corrected: callers leave alpha = 0 and alpha = 1 as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from pipeline.forward import arithmetic, device_of, evaluation_mode

CORRECTIONS = ("none", "reset", "repair")

Batches = Callable[[], Iterable[Tensor]]
"""Gives, at every call, the same normalised batches [B, C, H, W]: statistics of two networks can
be compared only on the same images."""

ChannelStatistics = Mapping[str, tuple[Tensor, Tensor]]
"""Module name -> (mean, standard deviation) of its channels over batch and positions, float64."""

Hook = Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor | None]

# A channel whose standard deviation is below this share of its mean holds nothing but rounding
# noise in fp32; it is taken for constant.
_CONSTANT = 1e-5


def has_batch_norm(model: nn.Module) -> bool:
    """Whether the model has a BatchNorm layer, and so statistics that can be reset."""
    return any(isinstance(module, _BatchNorm) for module in model.modules())


def measured_modules(model: nn.Module) -> dict[str, _BatchNorm | _ConvNd]:
    """The modules at whose output REPAIR acts, in module order.

    Every BatchNorm layer of a network that has any; every convolution (before its ReLU) of one that
    has none. ValueError if there is neither, if one has no bias to hold a shift, or a BatchNorm has
    no running statistics.
    """
    kind = _BatchNorm if has_batch_norm(model) else _ConvNd
    modules = {name: module for name, module in model.named_modules() if isinstance(module, kind)}
    if not modules:
        raise ValueError("REPAIR needs BatchNorm or convolution layers; this network has neither")
    for name, module in modules.items():
        if module.bias is None:
            raise ValueError(f"REPAIR needs a bias in {name} to hold the corrected mean")
        if isinstance(module, _BatchNorm) and module.running_var is None:
            raise ValueError(f"REPAIR needs running statistics in {name} to hold what it corrects")
    return modules


@torch.no_grad()
def endpoint_statistics(
    model: nn.Module, batches: Batches, *, precision: str = "fp32"
) -> dict[str, tuple[Tensor, Tensor]]:
    """Channel means and standard deviations at every measured module of an end point.

    The network runs in evaluation mode, as the function whose loss the barrier compares with. Mean
    and standard deviation (population, float64 [channels]) are those of all batches pooled,
    streamed in constant memory; one pass.
    """
    moments = {name: _Moments() for name in measured_modules(model)}

    def observe(name: str) -> Hook:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            moments[name].add(output)

        return hook

    _forward_all(model, batches, precision, {name: observe(name) for name in moments})
    statistics = {}
    for name, moment in moments.items():
        mean, variance = moment.result()
        statistics[name] = (mean, variance.sqrt())
    return statistics


def mix_statistics(
    statistics: Sequence[ChannelStatistics], coefficients: Sequence[float]
) -> dict[str, tuple[Tensor, Tensor]]:
    """REPAIR's targets (eq. 2.17): sum_i c_i mean_i and sum_i c_i std_i for every channel.

    The standard deviations are mixed, not the variances. A mix with negative coefficients (outside
    the segment or triangle of the networks) is held at a standard deviation of 0 or more.
    """
    pairs = list(zip(coefficients, statistics, strict=True))
    return {
        name: (
            sum((c * s[name][0] for c, s in pairs), start=torch.zeros_like(mean)),
            sum((c * s[name][1] for c, s in pairs), start=torch.zeros_like(mean)).clamp(min=0.0),
        )
        for name, (mean, _) in statistics[0].items()
    }


@torch.no_grad()
def reset_batch_norm(model: nn.Module, batches: Batches, *, precision: str = "fp32") -> None:
    """Measure every BatchNorm layer's running statistics anew, in place, in one pass.

    As torch does with ``momentum=None``: the plain average over batches of batch mean and unbiased
    batch variance, each layer normalising by the batch it sees. Without BatchNorm: does nothing.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    device = device_of(model)
    with evaluation_mode(model), arithmetic(device, precision):
        for norm in norms:
            norm.reset_running_stats()
            norm.train()
        for index, batch in enumerate(batches()):
            # The cumulative average, without momentum=None: that makes the host wait at every layer
            # to read the number of batches.
            for norm in norms:
                norm.momentum = 1.0 / (index + 1)
            model(batch.to(device, non_blocking=True))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


@torch.no_grad()
def repair(
    model: nn.Module, batches: Batches, targets: ChannelStatistics, *, precision: str = "fp32"
) -> None:
    """REPAIR (thesis, eq. 2.17) of a merged network, in place, in one pass.

    targets: wanted mean and standard deviation of each measured module's channels, see
    ``mix_statistics``.

    During the pass every measured module's output is replaced by its own batch, standardised and
    brought to the target, all modules at once, so that each sees corrected inputs. What it was
    standardised by is then made permanent with the moments of all batches pooled: in the affine
    parameters and running statistics of BatchNorm, or in the weight and bias of a convolution. The
    architecture does not change; weights that are zero stay zero.

    A BatchNorm channel keeps the sign of its weight: the merged network's next layer relies on it.
    The layer's eps is made up for, so that the target is met however small the variance is. A
    channel that is constant over the data has no standard deviation to restore: it only gets its
    mean.
    """
    modules = measured_modules(model)
    if modules.keys() != targets.keys():
        raise ValueError("REPAIR targets are not those of this network's modules")
    device = device_of(model)
    targets = {name: (m.to(device), s.to(device)) for name, (m, s) in targets.items()}
    moments = {name: _Moments() for name in modules}

    def standardise(name: str) -> Hook:
        mean, std = targets[name]

        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            if isinstance(module, _BatchNorm):
                values, wanted = inputs[0], std * module.weight.sign()
            else:
                values, wanted = output, std
            batch_mean, variance = moments[name].add(values)
            scale = wanted * _inverse_std(batch_mean, variance)
            shift = mean - batch_mean * scale
            shape = [1, -1] + [1] * (values.ndim - 2)
            corrected = torch.addcmul(
                shift.float().view(shape), values.float(), scale.float().view(shape)
            )
            return corrected.to(output.dtype)

        return hook

    _forward_all(model, batches, precision, {name: standardise(name) for name in modules})
    for name, module in modules.items():
        mean, variance = moments[name].result()
        if isinstance(module, _BatchNorm):
            _fix_batch_norm(module, mean, variance, *targets[name])
        else:
            _fix_convolution(module, mean, variance, *targets[name])


def _fix_batch_norm(
    norm: _BatchNorm, mean: Tensor, variance: Tensor, target_mean: Tensor, target_std: Tensor
) -> None:
    """Running statistics and affine parameters that bring inputs of these moments to the target."""
    inverse = _inverse_std(mean, variance)
    # sqrt(var + eps) / std undoes the shrinking by eps; a constant channel keeps it (inverse 0).
    undo_eps = torch.where(inverse > 0, (variance + norm.eps).sqrt() * inverse, 1.0)
    norm.weight.copy_(norm.weight.sign() * target_std * undo_eps)
    norm.bias.copy_(target_mean)
    assert norm.running_mean is not None and norm.running_var is not None
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)


def _fix_convolution(
    conv: _ConvNd, mean: Tensor, variance: Tensor, target_mean: Tensor, target_std: Tensor
) -> None:
    """Fuse "standardise, then bring to the target" into the convolution's weight and bias."""
    inverse = _inverse_std(mean, variance)
    scale = torch.where(inverse > 0, target_std * inverse, 1.0)
    shape = [-1] + [1] * (conv.weight.ndim - 1)
    conv.weight.copy_(conv.weight.double() * scale.view(shape))
    assert conv.bias is not None
    conv.bias.copy_((conv.bias.double() - mean) * scale + target_mean)


def _inverse_std(mean: Tensor, variance: Tensor) -> Tensor:
    """1 / sqrt(variance), and 0 for a channel that is constant up to rounding."""
    constant = variance <= (_CONSTANT * mean).square().clamp(min=torch.finfo(torch.float32).tiny)
    return torch.where(constant, 0.0, variance.clamp(min=1e-300).rsqrt())


class _Moments:
    """Mean and population variance per channel, pooled over batches; float64, on the device."""

    def __init__(self) -> None:
        self.count = 0
        self.sums: Tensor | None = None  # [2, channels]: sum of x, sum of x^2

    def add(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add [B, channels, ...]; return this batch's own mean and variance, float64 [channels]."""
        count = values.numel() // values.shape[1]
        axes = [axis for axis in range(values.ndim) if axis != 1]
        variance, mean = torch.var_mean(values.float(), dim=axes, correction=0)
        variance, mean = variance.double(), mean.double()
        # Sums in float64 of squares that include a batch's own variance lose only what is below
        # 1e-16 of the squared mean; the plain sum of x^2 in fp32 would lose 1e-7 of it.
        sums = count * torch.stack((mean, variance + mean.square()))
        self.sums = sums if self.sums is None else self.sums + sums
        self.count += count
        return mean, variance

    def result(self) -> tuple[Tensor, Tensor]:
        if self.sums is None:
            raise ValueError("no batch to measure statistics on")
        mean, square = self.sums / self.count
        return mean, (square - mean.square()).clamp(min=0.0)


def _forward_all(
    model: nn.Module, batches: Batches, precision: str, hooks: Mapping[str, Hook]
) -> None:
    """Run all batches, with forward hooks on the named modules that go whatever happens."""
    device = device_of(model)
    with evaluation_mode(model), arithmetic(device, precision), ExitStack() as hooked:
        for name, hook in hooks.items():
            hooked.enter_context(model.get_submodule(name).register_forward_hook(hook))
        for batch in batches():
            model(batch.to(device, non_blocking=True))
