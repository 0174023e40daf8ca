"""The fused kernels compute what the modules they stand for compute."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small import Tiny
from test_golden import GOLDEN, difference, fingerprint
from torch import Tensor, nn

from pipeline import models
from pipeline.kernels import build, convolve, normalise
from pipeline.kernels.accelerate import accelerate
from pipeline.kernels.normalise import batch_norm_relu

pytestmark = pytest.mark.skipif(
    not any(map(build.shutil.which, build.COMPILERS)), reason="no C++ compiler on this machine"
)
EXACT = {torch.float32: 2e-5, torch.bfloat16: 1.6e-2}


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the kernels that are called from now on."""
    names: list[str] = []
    for module in (normalise, convolve):

        def call(name: str, *given: Any, inner: Any = module._call) -> None:
            names.append(name)
            inner(name, *given)

        monkeypatch.setattr(module, "_call", call)
    return names


def drawn(shape: tuple[int, ...], seed: int, dtype: torch.dtype) -> Tensor:
    draws = torch.Generator().manual_seed(seed)
    values = torch.randn(shape, generator=draws) * 2 + 1
    return values.contiguous(memory_format=torch.channels_last).to(dtype)


def norm_of(channels: int) -> nn.BatchNorm2d:
    norm, draws = nn.BatchNorm2d(channels), torch.Generator().manual_seed(5)
    nn.init.uniform_(norm.weight, 0.5, 2, generator=draws)
    nn.init.normal_(norm.bias, generator=draws)
    return norm


def both(
    shape: tuple[int, ...], dtype: torch.dtype, *, add: bool
) -> tuple[list[Tensor], list[Tensor]]:
    """Outputs, gradients and running statistics: of the kernels, and of modules in fp64."""
    found = []
    for exact in (False, True):
        kind = torch.float64 if exact else dtype
        inputs = drawn(shape, 1, dtype).to(kind).requires_grad_()
        added = drawn(shape, 2, dtype).to(kind).requires_grad_() if add else None
        norm = norm_of(shape[1])
        norm = norm.double() if exact else norm
        outputs = batch_norm_relu(norm, nn.ReLU(), inputs, added)
        assert ("BatchNormReLU" in str(outputs.grad_fn)) is not exact
        needed = [inputs, *([added] if add else []), norm.weight, norm.bias]
        gradients = torch.autograd.grad(outputs, needed, drawn(shape, 3, dtype).to(kind))
        assert norm.running_mean is not None and norm.running_var is not None
        assert int(norm.num_batches_tracked or 0) == 1
        found.append([outputs.detach(), *gradients, norm.running_mean, norm.running_var])
    return found[0], found[1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("add", [False, True])
@pytest.mark.parametrize("channels", [4, 16, 64, 128])
def test_kernels_equal_the_modules(channels: int, add: bool, dtype: torch.dtype) -> None:
    own, exact = both((8, channels, 6, 6), dtype, add=add)
    for one, other in zip(own, exact, strict=True):
        # Near 0 rounding may let a value through the ReLU or not: compare as vectors.
        error = (one.double() - other).norm() / other.norm()
        assert error < EXACT[dtype], error


@given(
    rows=st.integers(2, 40), channels=st.sampled_from([1, 2, 8, 32, 192]), add=st.booleans(),
    offset=st.sampled_from([0.0, 100.0]),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_any_shape_far_from_zero(rows: int, channels: int, add: bool, offset: float) -> None:
    """A mean that is large beside the deviation costs no digits of the variance."""
    torch.set_num_threads(1)
    inputs = drawn((rows, channels, 8, 8), 1, torch.float32) + offset
    added = drawn((rows, channels, 8, 8), 2, torch.float32) if add else None
    norm = norm_of(channels)
    exact = copy.deepcopy(norm).double()
    got = batch_norm_relu(norm, nn.ReLU(), inputs, added)
    want = batch_norm_relu(
        exact, nn.ReLU(), inputs.double(), None if added is None else added.double()
    )
    assert (got - want).abs().max() < (2e-5 if offset == 0 else 2e-3)
    torch.testing.assert_close(
        norm.running_var, exact.running_var, rtol=1e-4, atol=0, check_dtype=False
    )


def test_what_does_not_fit_goes_through_the_modules() -> None:
    norm, relu = norm_of(16), nn.ReLU()
    fitting = drawn((4, 16, 4, 4), 1, torch.float32)
    assert "BatchNormReLU" in str(batch_norm_relu(norm, relu, fitting).grad_fn)
    seen: list[Tensor] = []
    hook = relu.register_forward_hook(lambda *given: seen.append(given[2]))
    assert "Relu" in str(batch_norm_relu(norm, relu, fitting).grad_fn)
    assert len(seen) == 1
    hook.remove()
    others = {
        "layout": (norm, fitting.contiguous()),
        "channels": (norm_of(24), drawn((4, 24, 4, 4), 1, torch.float32)),
        "lanes": (norm, drawn((1, 16, 3, 3), 1, torch.float32)),
        "evaluation": (norm_of(16).eval(), fitting),
    }
    for case, (module, inputs) in others.items():
        name = str(batch_norm_relu(module, relu, inputs).grad_fn)
        assert "ReluBackward" in name, case
    torch.set_num_threads(2)
    assert "ReluBackward" in str(batch_norm_relu(norm, relu, fitting).grad_fn)


def test_what_is_not_finite_stays_so() -> None:
    inputs = drawn((4, 16, 4, 4), 1, torch.float32)
    inputs[0, 3, 0, 0] = torch.nan
    outputs = batch_norm_relu(norm_of(16), nn.ReLU(), inputs)
    assert outputs[:, 3].isnan().all() and outputs[:, 4].isfinite().all()


@pytest.mark.parametrize("name", ["resnet20", "resnet20_ln"])
def test_a_network_learns_the_same_with_and_without(
    name: str, monkeypatch: pytest.MonkeyPatch, called: list[str]
) -> None:
    """Loss and gradients of ResNet20, from the same weights; the variable is read once a process.

    With LayerNorm its convolutions alone are computed by kernels.
    """
    results = {}
    for wanted in ("0", "1"):
        monkeypatch.setenv("PIPELINE_KERNELS", wanted)
        build.compiled.cache_clear()
        convolve._available.cache_clear()
        draws = torch.Generator().manual_seed(0)
        network = models.build(name, width=1, classes=10, channels=3, size=16, generator=draws)
        network = accelerate(network).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        images = torch.randn(16, 3, 16, 16, generator=draws)
        outputs = network(images.contiguous(memory_format=torch.channels_last))
        loss = nn.functional.cross_entropy(outputs, torch.arange(16) % 10)
        loss.backward()
        squares = sum(float(p.grad.double().square().sum()) for p in network.parameters())
        results[build.in_use()] = [loss.item(), squares]
        assert bool(called) == (wanted == "1")
    assert results["own"] == pytest.approx(results["torch"], rel=1e-4)


def test_kernels_are_built_once_and_without_a_compiler_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One source is enough; all of them are built where other tests first use them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(build, "SOURCES", build.SOURCES[:1])
    build.compiled.cache_clear()
    assert build.compiled() is not None
    (made,) = (tmp_path / "pipeline-kernels").iterdir()
    before = made.stat().st_mtime_ns
    build.compiled.cache_clear()
    assert build.compiled() is not None and made.stat().st_mtime_ns == before
    monkeypatch.setattr(build, "COMPILERS", ())
    build.compiled.cache_clear()
    assert build.compiled() is None and build.in_use() == "torch"
    build.compiled.cache_clear()


def test_a_folder_that_others_can_write_to_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "pipeline-kernels").mkdir()
    (tmp_path / "pipeline-kernels").chmod(0o777)
    assert build._folder().parent != tmp_path


def drawn_network(name: str = "resnet20") -> nn.Module:
    return models.build(
        name, width=0.25, classes=10, channels=1, size=8, generator=torch.Generator().manual_seed(0)
    )


def test_a_network_in_training_uses_them_everywhere(called: list[str]) -> None:
    network = accelerate(drawn_network()).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    network(drawn((16, 1, 8, 8), 0, torch.float32)).sum().backward()
    # the stem and two a block; the normalisation of a shortcut has no ReLU of its own
    named = [name for name in called if name.endswith("fp32")]
    assert named == ["forward_fp32"] * 19 + ["backward_fp32"] * 19


def test_an_accelerated_network_is_the_same_object_with_the_same_tensors() -> None:
    network = drawn_network()
    tensors = {name: id(tensor) for name, tensor in network.named_parameters()}
    layers = [(name, id(layer)) for name, layer in network.named_modules()]
    order = list(network.state_dict())
    assert accelerate(network) is network
    assert {name: id(tensor) for name, tensor in network.named_parameters()} == tensors
    assert [(name, id(layer)) for name, layer in network.named_modules()] == layers
    assert list(network.state_dict()) == order


def test_copies_and_loaded_states_of_an_accelerated_network_are_accelerated(
    called: list[str],
) -> None:
    plain, images = drawn_network(), drawn((16, 1, 8, 8), 0, torch.float32)
    twin = copy.deepcopy(accelerate(copy.deepcopy(plain)))
    twin.load_state_dict(plain.state_dict())
    found = twin.to(memory_format=torch.channels_last)(images)  # type: ignore[call-overload]
    before = len(called)
    assert called.count("forward_fp32") == 19
    torch.testing.assert_close(found, plain(images), rtol=1e-3, atol=1e-4)
    assert len(called) == before, "a network that was not accelerated is plain torch"


def test_groups_are_the_same_before_and_after() -> None:
    plain = models.traced("resnet20", drawn_network()).spec
    assert models.traced("resnet20", accelerate(drawn_network())).spec == plain


def test_networks_without_such_blocks_stay_as_they_are() -> None:
    network = drawn_network("vgg11")
    before = [type(layer) for layer in network.modules()]
    assert [type(layer) for layer in accelerate(network).modules()] == before


@pytest.mark.parametrize("stage", ["dense", "imp", "match", "sparse", "curve"])
def test_stages_mean_the_same_without_the_exchange(
    stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, called: list[str]
) -> None:
    """The one call taken out: no kernel computes, and the numbers are those with them."""
    monkeypatch.setattr("pipeline.stages.job.accelerate", lambda network: network)
    recorded = json.loads(GOLDEN.read_text())[stage]
    assert difference(fingerprint(stage, tmp_path), recorded) is None
    assert called == []


def test_stages_use_them(fresh: Tiny, called: list[str]) -> None:
    fresh.run(fresh.dense())
    assert called.count("forward_fp32") == called.count("backward_fp32") == 19 * 8 * 4
    assert (
        called.count("forward") > called.count("data_gradient") == called.count("weight_gradient")
    )
