"""Convolutions by kernels of our own equal exact ones, and stand aside where they are not meant."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from pipeline import models
from pipeline.kernels import convolve as module
from pipeline.kernels.accelerate import accelerate
from pipeline.kernels.convolve import convolve

#: Types that this machine has kernels for, with the largest relative error of an activation.
KINDS = [
    pytest.param(
        dtype, limit, id=name,
        marks=pytest.mark.skipif(
            not module._available(dtype), reason="no compiler, or no such instructions here"
        ),
    )
    for name, dtype, limit in (("fp32", torch.float32, 5e-6), ("bf16", torch.bfloat16, 4e-3))
]  # fmt: skip
every_kind = pytest.mark.parametrize(("dtype", "limit"), KINDS)
#: Largest relative error of a gradient of weights: sums in fp32.
SUMMED = 1e-5


def layer(inputs: int, outputs: int, stride: int, seed: int = 0) -> nn.Conv2d:
    torch.manual_seed(seed)
    made = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
    return made.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def drawn(*shape: int, dtype: torch.dtype, seed: int = 1) -> Tensor:
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return values.to(dtype).contiguous(memory_format=torch.channels_last)


def passes(convolution: nn.Conv2d, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor, str]:
    """Output, gradient of the inputs and of the weights, and what computed them.

    bfloat16 inputs are what autocast makes.
    """
    inputs = inputs.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=inputs.dtype == torch.bfloat16):
        outputs = convolve(convolution, inputs)
    to_inputs, to_weight = torch.autograd.grad(
        outputs, (inputs, convolution.weight), drawn(*outputs.shape, dtype=inputs.dtype, seed=2)
    )
    return outputs.detach(), to_inputs, to_weight, str(outputs.grad_fn)


def error(found: Tensor, exact: Tensor) -> float:
    return float((found.double() - exact).norm() / exact.norm())


@every_kind
@given(
    images=st.integers(1, 5), height=st.integers(1, 19), width=st.integers(1, 19),
    inputs=st.sampled_from([16, 32, 48]), outputs=st.sampled_from([16, 48, 64]),
    stride=st.sampled_from([1, 2]),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_all_passes_equal_those_in_double_precision(
    dtype: torch.dtype, limit: float, images: int, height: int, width: int, inputs: int,
    outputs: int, stride: int,
) -> None:  # fmt: skip
    torch.set_num_threads(1)
    convolution = layer(inputs, outputs, stride)
    pixels = drawn(images, inputs, height, width, dtype=dtype)
    found, to_inputs, to_weight, name = passes(convolution, pixels)
    assert "Convolve" in name
    rounded = convolution.weight.detach().to(dtype).double().requires_grad_()
    exact_inputs = pixels.double().requires_grad_()
    exact = functional.conv2d(exact_inputs, rounded, stride=stride, padding=1)
    gradients = torch.autograd.grad(
        exact, (exact_inputs, rounded), drawn(*exact.shape, dtype=dtype, seed=2).double()
    )
    assert error(found, exact.detach()) < limit
    assert error(to_inputs, gradients[0]) < limit
    assert to_weight.dtype == torch.float32 and error(to_weight, gradients[1]) < SUMMED


def test_the_two_ways_in_bfloat16_differ_by_rounding_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not module._available(torch.bfloat16):
        pytest.skip("no compiler, or no such instructions here")
    images, found = drawn(3, 32, 11, 10, dtype=torch.bfloat16), []
    for wide in (32, 64):
        monkeypatch.setattr(module, "WIDE", wide)
        assert module._kernel(images, 48, 1).startswith("winograd" if wide == 32 else "direct")
        found.append(passes(layer(32, 48, 1), images)[:3])
    # the direct kernel rounds the weights to bfloat16, as PyTorch does; Winograd's has no need to
    assert error(found[0][0], found[1][0].double()) < 4e-3
    assert error(found[0][1], found[1][1].double()) < 4e-3
    assert error(found[0][2], found[1][2].double()) < SUMMED


@every_kind
def test_an_image_has_the_same_bits_wherever_it_stands(dtype: torch.dtype, limit: float) -> None:
    convolution, images = layer(16, 32, 1), drawn(7, 16, 9, 9, dtype=dtype)
    whole = passes(convolution, images)[0]
    order = torch.tensor([3, 0, 6, 5, 1, 2, 4])
    moved = images[order].contiguous(memory_format=torch.channels_last)
    assert torch.equal(passes(convolution, moved)[0], whole[order])
    alone = images[2:3].contiguous(memory_format=torch.channels_last)
    assert torch.equal(passes(convolution, alone)[0], whole[2:3])
    assert all(map(torch.equal, passes(convolution, images)[:3], passes(convolution, images)[:3]))


@every_kind
def test_weights_may_lie_in_memory_as_they_like(dtype: torch.dtype, limit: float) -> None:
    last, images = layer(16, 16, 2), drawn(4, 16, 8, 8, dtype=dtype)
    first = nn.Conv2d(16, 16, 3, 2, padding=1, bias=False)
    first.weight.data = last.weight.detach().contiguous()
    for one, other in zip(passes(last, images)[:3], passes(first, images)[:3], strict=True):
        assert torch.equal(one, other)


@every_kind
def test_what_is_not_finite_stays_so(dtype: torch.dtype, limit: float) -> None:
    images = drawn(2, 16, 20, 6, dtype=dtype)
    images[0, 3, 2, 2] = torch.nan
    found = passes(layer(16, 16, 1), images)[0]
    assert found[0, :, 1:4, 1:4].isnan().all()
    # further than one pixel where tiles of several are computed together, but no further
    assert found[1].isfinite().all() and found[0, :, 9:].isfinite().all()


@every_kind
def test_what_does_not_fit_goes_through_the_module(dtype: torch.dtype, limit: float) -> None:
    fitting, images = layer(16, 16, 1), drawn(2, 16, 8, 8, dtype=dtype)
    assert "Convolve" in passes(fitting, images)[3]
    others = {
        "channels": (layer(24, 16, 1), drawn(2, 24, 8, 8, dtype=dtype)),
        "layout": (fitting, images.contiguous()),
        "bias": (nn.Conv2d(16, 16, 3, padding=1), images),
        "kernel": (nn.Conv2d(16, 16, 5, padding=1, bias=False), images),
        "padding": (nn.Conv2d(16, 16, 3, bias=False), images),
        "groups": (nn.Conv2d(16, 16, 3, padding=1, groups=2, bias=False), images),
    }
    for case, (convolution, other) in others.items():
        assert "Convolve" not in passes(convolution, other)[3], case
    seen: list[Tensor] = []
    hook = fitting.register_forward_hook(lambda *given: seen.append(given[2]))
    assert "Convolve" not in passes(fitting, images)[3] and len(seen) == 1
    hook.remove()
    torch.set_num_threads(2)
    assert "Convolve" not in passes(fitting, images)[3]


def network() -> nn.Module:
    made = models.build(
        "resnet20", width=1, classes=10, channels=3, size=16,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    return accelerate(made).to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def gradients(made: nn.Module, dtype: torch.dtype) -> Tensor:
    """Of the loss on some images, all parameters in one vector."""
    parameter = next(made.parameters())
    images = torch.randn(32, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    images = images.to(parameter.dtype).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        outputs = made(images)
    loss = functional.cross_entropy(outputs.to(parameter.dtype), torch.arange(32) % 10)
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(made.parameters()))])


@every_kind
def test_a_network_uses_them_for_all_but_the_first_layer(
    dtype: torch.dtype, limit: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[str] = []
    inner = module._call
    monkeypatch.setattr(
        module, "_call", lambda name, *given: (called.append(name), inner(name, *given))
    )
    gradients(network(), dtype)
    assert {name: called.count(name) for name in called} == {
        "forward": 20, "data_gradient": 20, "weight_gradient": 20,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("dtype", "worse"), [(torch.float32, 20.0), (torch.bfloat16, 1.1)], ids=["fp32", "bf16"]
)
def test_a_network_has_the_gradients_of_the_modules(
    dtype: torch.dtype, worse: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside double precision, the error is of the order of PyTorch's own."""
    exact = gradients(network().double(), torch.float64)
    own = error(gradients(network(), dtype), exact)
    monkeypatch.setattr(module, "_available", lambda dtype: False)
    assert own < worse * error(gradients(network(), dtype), exact)
