"""The proof of a spec on the network itself."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from pipeline import symmetry
from pipeline.errors import brief
from pipeline.symmetry.permutation import PermutationSpec
from pipeline.symmetry.trace.record import refusal

#: Largest relative change of a logit that is rounding.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-3}


def prove(
    model: nn.Module, spec: PermutationSpec, images: Tensor, generator: torch.Generator
) -> None:
    """Show on a network that a spec is right, or raise `UserError` with one line.

    A random permutation of all groups must keep its function, and be recovered from the activations
    of the network and its permuted self: each unit of the one is nearest to its image in the other
    (units with the same activations may stand for each other).
    """
    from pipeline.symmetry import matching  # loads SciPy, which a trace alone does not need

    model = copy.deepcopy(model).eval()
    with torch.inference_mode():
        first, again = model(images), model(images)
    if not torch.equal(first, again):
        raise refusal("its forward gives other values when it is repeated in evaluation mode")
    if not first.isfinite().all():
        raise refusal("its output is not finite for random weights and images")
    tolerance = TOLERANCE[images.dtype]
    change = symmetry.prove(model, spec, images, generator)
    if not change <= tolerance:
        nothing = symmetry.identity(spec)
        alone = {name: nothing | {name: index.flip(0)} for name, index in nothing.items()}
        changes = {name: symmetry.change(model, spec, one, images) for name, one in alone.items()}
        wrong = [name for name, each in changes.items() if not each <= tolerance]
        raise refusal(
            f"permuting the traced groups changes its function (logits by {change:.1e} of the "
            f"largest; wrong: {', '.join(wrong) or 'all together'})"
        )
    planted = symmetry.random(spec, generator)
    twin = symmetry.moved(model, spec, planted)
    for name, group in matching.collect(model, twin, spec, [images]).items():
        power_a, power_b = group.power
        distance = power_b[:, None] + power_a[None, :] - 2 * group.similarity("inner")
        wanted = planted[name]
        double = distance.gather(1, wanted[:, None]).squeeze(1) <= tolerance * power_b
        if not bool((double | (distance.argmin(1) == wanted)).all()):
            raise refusal(f"a planted permutation of {name} is not recovered from its activations")


def copied(model: nn.Module) -> nn.Module:
    """A copy; raises `UserError` where the network cannot be copied."""
    try:
        return copy.deepcopy(model)
    except Exception as error:
        raise refusal(f"it cannot be copied: {brief(error, lines=1)}") from None


@torch.no_grad()
def drawn(model: nn.Module, generator: torch.Generator) -> nn.Module:
    """A double precision copy whose tensors are all random: no unit is like another.

    Fresh networks would prove little: every BatchNorm is the same for all of its units.
    """
    network = copied(model).cpu().double().eval()
    for tensor in network.state_dict(keep_vars=True).values():
        if not tensor.is_floating_point() or not tensor.numel():
            continue
        values = torch.randn(tensor.shape, generator=generator)  # single: four times as fast
        if tensor.ndim > 1:
            tensor.copy_(values * (2 / max(1, tensor[0].numel())) ** 0.5)
        elif bool((tensor > 0).all()):  # scales and variances stay positive
            tensor.mul_(torch.exp(0.3 * values))
        else:
            tensor.nan_to_num_(0.0).add_(0.3 * values)
    return network
