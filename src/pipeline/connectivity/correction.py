"""Corrections of a merged network's activation statistics: BatchNorm reset and REPAIR.

Averaging two networks averages out a part of their activations' variance ("variance collapse",
Jordan et al. 2023). The corrections, all computed from batches of training images:

* ``reset``: BatchNorm's running statistics are measured anew on the merged network.
* ``repair``: each measured module's channels get the mean, and the standard deviation, that the
  same mix of the end points' means and standard deviations prescribes (thesis, eq. 2.17).
* ``repair-blocks``: a reset, and REPAIR at the outputs of whole blocks, as REPAIR's code does it
  for ResNet50.

On a network with BatchNorm, ``repair`` measures at BatchNorm's outputs, and is a reset by
construction: over the batch that it normalises, such an output has the mean beta and the standard
deviation |gamma| (but for eps) whatever comes in. So the mix of the ends' moments is that of their
betas and |gammas|, and those are what the merged network's BatchNorm layers give as soon as their
statistics are fresh (where both gammas have one sign). Only ends measured in evaluation mode, by
their running statistics as here, make a small difference. REPAIR says more than a reset where
something follows BatchNorm that merging changes: the sums of a residual block.

None touches the classifier. A network that is an end point itself is never corrected: callers leave
alpha = 0 and alpha = 1 as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from pipeline.forward import arithmetic, device_of, evaluation_mode

CORRECTIONS = ("none", "reset", "repair", "repair-blocks")

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


def blocks(model: nn.Module) -> dict[str, nn.Module]:
    """The blocks at whose output ``repair-blocks`` acts, in module order.

    The innermost modules that hold several BatchNorm layers, such as the residual blocks of a
    ResNet; containers (``Sequential``, ``ModuleList``) and the network itself are none. ValueError
    if there is none.
    """
    containers = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
    several = {
        name: module
        for name, module in model.named_modules()
        if name and not isinstance(module, containers)
        and sum(isinstance(inner, _BatchNorm) for inner in module.modules()) > 1
    }  # fmt: skip
    found = {
        name: module
        for name, module in several.items()
        if not any(other.startswith(f"{name}.") for other in several)
    }
    if not found:
        raise ValueError(
            "REPAIR at blocks needs blocks of several BatchNorm layers; there are none"
        )
    return found


def check_place(model: nn.Module, correction: str) -> None:
    """ValueError, of `measured_modules` or `blocks`, if a network has no place for a correction."""
    if correction == "repair":
        measured_modules(model)
    elif correction == "repair-blocks":
        blocks(model)


@torch.no_grad()
def endpoint_statistics(
    model: nn.Module,
    batches: Batches,
    *,
    precision: str = "fp32",
    names: Iterable[str] | None = None,
    training: bool = False,
) -> dict[str, tuple[Tensor, Tensor]]:
    """Channel means and standard deviations at modules of an end point; by default the measured ones.

    The network runs in evaluation mode, as the function whose loss the barrier compares with, or in
    ``training`` mode, as REPAIR's code has it: BatchNorm normalises by each batch. Mean and standard
    deviation (population, float64 [channels]) are those of all batches pooled, streamed in constant
    memory; one pass. The network is left as it was.
    """
    moments = {name: _Moments() for name in (measured_modules(model) if names is None else names)}

    def observe(name: str) -> Hook:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            moments[name].add(output)

        return hook

    hooks = {name: observe(name) for name in moments}
    if training:
        before = {name: buffer.clone() for name, buffer in model.named_buffers()}
        reset_batch_norm(model, batches, precision=precision, hooks=hooks)
        for name, buffer in model.named_buffers():
            buffer.copy_(before[name])
    else:
        _forward_all(model, batches, precision, hooks)
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
def reset_batch_norm(
    model: nn.Module,
    batches: Batches,
    *,
    precision: str = "fp32",
    hooks: Mapping[str, Hook] | None = None,
) -> None:
    """Measure every BatchNorm layer's running statistics anew, in place, in one pass.

    As torch does with ``momentum=None``: the plain average over batches of batch mean and unbiased
    batch variance, each layer normalising by the batch it sees. Without BatchNorm: does nothing.
    ``hooks``: forward hooks on modules by name during the pass.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    device = device_of(model)
    with evaluation_mode(model), arithmetic(device, precision), _hooked(model, hooks or {}):
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
            return _brought(values, scale, mean - batch_mean * scale).to(output.dtype)

        return hook

    _forward_all(model, batches, precision, {name: standardise(name) for name in modules})
    for name, module in modules.items():
        mean, variance = moments[name].result()
        if isinstance(module, _BatchNorm):
            _fix_batch_norm(module, mean, variance, *targets[name])
        else:
            _fix_convolution(module, mean, variance, *targets[name])


@contextmanager
def repaired_blocks(
    model: nn.Module, batches: Batches, targets: ChannelStatistics, *, precision: str = "fp32"
) -> Iterator[None]:
    """REPAIR at blocks: inside, each block's output channels have their targets' moments.

    One pass measures BatchNorm's statistics anew, as ``reset_batch_norm`` does, while every block's
    output is standardised by its own batch and brought to the target, all blocks at once. Then each
    output is scaled and shifted by the moments of all batches pooled. A sum of two branches has no
    layer that could hold this, so it is done by hooks, which go at the end; the new statistics stay.

    targets: of ``blocks``, from ends measured in training mode; see ``mix_statistics``.
    """
    moments = {name: _Moments() for name in blocks(model)}
    if moments.keys() != targets.keys():
        raise ValueError("REPAIR targets are not those of this network's blocks")
    device = device_of(model)
    targets = {name: (m.to(device), s.to(device)) for name, (m, s) in targets.items()}

    def standardise(name: str) -> Hook:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            affine = _affine(*moments[name].add(output), *targets[name])
            return _brought(output, *affine).to(output.dtype)

        return hook

    def fixed(scale: Tensor, shift: Tensor) -> Hook:
        return lambda module, inputs, output: _brought(output, scale, shift).to(output.dtype)

    reset_batch_norm(
        model, batches, precision=precision, hooks={name: standardise(name) for name in moments}
    )
    affine = {name: _affine(*moment.result(), *targets[name]) for name, moment in moments.items()}
    with _hooked(model, {name: fixed(*both) for name, both in affine.items()}):
        yield


def _affine(
    mean: Tensor, variance: Tensor, target_mean: Tensor, target_std: Tensor
) -> tuple[Tensor, Tensor]:
    """Scale and shift that bring channels to the target; a constant one gets its mean alone."""
    inverse = _inverse_std(mean, variance)
    scale = torch.where(inverse > 0, target_std * inverse, 1.0)
    return scale, target_mean - mean * scale


def _brought(values: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """``values`` [B, channels, ...] scaled and shifted by channel, in fp32."""
    shape = [1, -1] + [1] * (values.ndim - 2)
    return torch.addcmul(shift.float().view(shape), values.float(), scale.float().view(shape))


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
    """Run all batches, with forward hooks on the named modules."""
    device = device_of(model)
    with evaluation_mode(model), arithmetic(device, precision), _hooked(model, hooks):
        for batch in batches():
            model(batch.to(device, non_blocking=True))


@contextmanager
def _hooked(model: nn.Module, hooks: Mapping[str, Hook]) -> Iterator[None]:
    """Inside, forward hooks on the named modules, which go whatever happens."""
    with ExitStack() as hooked:
        for name, hook in hooks.items():
            hooked.enter_context(model.get_submodule(name).register_forward_hook(hook))
        yield
