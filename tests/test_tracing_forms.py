"""One operation in all the ways to write it has the same groups, and what does nothing is passed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from small import seeded
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import DropBlock2d, StochasticDepth, drop_block2d, stochastic_depth

from pipeline import symmetry
from pipeline.errors import UserError
from pipeline.symmetry import trace
from pipeline.symmetry.trace import Traced

SIZE = 8


class Net(nn.Module):
    """Two convolutions of 8 and 5 units, what stands between them, and parameters of its own."""

    def __init__(self, middle: Callable[[Net, Tensor], Tensor], **own: nn.Module | Tensor) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 5, 3, padding=1)
        self.a, self.b, self.out = nn.ReLU(), nn.ReLU(), nn.Linear(5, 4)
        for name, each in own.items():
            if isinstance(each, Tensor):
                self.register_parameter(name, nn.Parameter(each))
            else:
                setattr(self, name, each)
        self.middle = middle

    def forward(self, images: Tensor, style: Tensor | None = None, scale: float = 1.0) -> Tensor:
        hidden = self.middle(self, self.a(self.one(images)))
        if style is not None:
            hidden = hidden * style
        return self.out(self.b(self.two(hidden * scale)).mean((2, 3)))


def groups(model: nn.Module) -> dict[str, int]:
    """Sizes of the groups, after a proof of our own in evaluation and in training."""
    found: Traced = trace.permutation_spec(model, channels=3, size=SIZE)
    network = trace.proof.drawn(model, seeded(1))
    moved = symmetry.moved(network, found.spec, symmetry.random(found.spec, seeded(2)))
    images = torch.randn(6, 3, SIZE, SIZE, generator=seeded(3), dtype=torch.float64)
    with torch.no_grad():
        before, after = network(images), moved(images)
    assert (after - before).abs().max() < 1e-12 * before.abs().max()
    return found.spec.sizes


def statistics(n: Net, x: Tensor) -> Tensor:
    norm = n.norm
    return functional.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias)


def by_heads(n: Net, x: Tensor) -> Tensor:
    return torch.einsum("nchw,dc->ndhw", x, n.w)


SAME = {
    "batch_norm": (statistics, {"norm": nn.BatchNorm2d(8)}),
    "prelu": (lambda n, x: functional.prelu(x, n.w), {"w": torch.rand(8)}),
    "group_norm": (lambda n, x: functional.group_norm(x, 8, n.w), {"w": torch.rand(8)}),
    "instance_norm": (lambda n, x: functional.instance_norm(x, weight=n.w), {"w": torch.rand(8)}),
    "layer_norm": (
        lambda n, x: functional.layer_norm(x.movedim(1, -1), (8,), n.w).movedim(-1, 1),
        {"w": torch.rand(8)},
    ),
    "a method": (lambda n, x: x.mul(n.w[:, None, None]).clamp(min=0), {"w": torch.rand(8)}),
    "an operator": (lambda n, x: x * n.w.view(1, -1, 1, 1) + 1, {"w": torch.rand(8)}),
    "stack and sum": (lambda n, x: torch.stack([x, n.again(x)]).sum(0),
                      {"again": nn.Conv2d(8, 8, 1)}),
    "sum of a list": (lambda n, x: sum([x, n.again(x)]), {"again": nn.Conv2d(8, 8, 1)}),
    "maximum": (lambda n, x: torch.max(x, n.again(x)), {"again": nn.Conv2d(8, 8, 1)}),
    "attention over channels": (
        lambda n, x: x * torch.max(x, dim=1, keepdim=True)[0].sigmoid(), {},
    ),
    "max of pixels": (lambda n, x: x * torch.amax(x, (2, 3), keepdim=True), {}),
    "a mean over units": (lambda n, x: x - x.mean(1, keepdim=True), {}),
    "circular padding": (lambda n, x: functional.pad(x, (1, 1, 1, 1), mode="circular"), {}),
    "repeat_interleave of pixels": (lambda n, x: functional.interpolate(x, scale_factor=2), {}),
    "no drop path": (lambda n, x: n.drop(x) + x, {"drop": StochasticDepth(0.0, "row")}),
    "drop path": (lambda n, x: stochastic_depth(x, 0.5, "row", n.training), {}),
    "drop block": (lambda n, x: n.drop(x), {"drop": DropBlock2d(0.3, 3)}),
    "drop block's function": (lambda n, x: drop_block2d(x, 0.3, 3, training=n.training), {}),
    "dropout": (lambda n, x: functional.dropout(x, 0.5, n.training), {}),
    "an assertion": (lambda n, x: asserted(x), {}),
    "a choice by size": (lambda n, x: x[..., ::2, ::2] if x.size(-1) > 4 else x, {}),
    "a loop over sizes": (lambda n, x: x.reshape(-1, *(size for size in x.shape[1:])), {}),
}  # fmt: skip


def asserted(x: Tensor) -> Tensor:
    assert x.shape[1] == 8
    return x


@pytest.mark.parametrize("form", SAME)
def test_what_keeps_the_units_apart_keeps_the_groups(form: str) -> None:
    middle, own = SAME[form]
    assert groups(Net(middle, **own)) == {"one": 8, "two": 5}  # type: ignore[arg-type]


def standard(weight: Tensor) -> Tensor:
    rest = (1, 2, 3)
    return (weight - weight.mean(rest, keepdim=True)) / weight.std(rest, keepdim=True)


NEW = {
    "conv2d": (lambda n, x: functional.conv2d(x, n.w, padding=1), (8, 8, 3, 3)),
    "conv_transpose2d": (lambda n, x: functional.conv_transpose2d(x, n.w), (8, 8, 3, 3)),
    "linear": (lambda n, x: functional.linear(x.movedim(1, -1), n.w).movedim(-1, 1), (8, 8)),
    "@": (lambda n, x: (x.movedim(1, -1) @ n.w).movedim(-1, 1), (8, 8)),
    "matmul": (lambda n, x: torch.matmul(n.w, x.flatten(2)).unflatten(2, (8, 8)), (8, 8)),
    "einsum": (by_heads, (8, 8)),
    "standardised weights": (lambda n, x: functional.conv2d(x, standard(n.w)), (8, 8, 3, 3)),
}  # fmt: skip


@pytest.mark.parametrize("form", NEW)
def test_a_layer_of_parameters_of_its_own_has_units(form: str) -> None:
    """It is called by its parameter, which belongs to the network itself."""
    middle, shape = NEW[form]
    model = Net(middle, w=torch.randn(shape))  # type: ignore[arg-type]
    assert groups(model) == {"one": 8, "w": 8, "two": 5}


def test_weights_that_are_divided_by_their_own_norm_keep_their_units() -> None:
    """As spectral normalisation by hooks does it."""

    def middle(n: Net, x: Tensor) -> Tensor:
        flat = n.w.flatten(1)
        return functional.conv2d(x, n.w / torch.dot(n.u, torch.mv(flat, n.v)))

    own = {"w": torch.randn(8, 8, 3, 3), "u": torch.rand(8), "v": torch.rand(72)}
    assert groups(Net(middle, **own)) == {"one": 8, "w": 8, "two": 5}


def test_buffers_that_scale_units_move_with_them_and_those_that_number_them_hold_them() -> None:
    model = Net(lambda n, x: x * n.keep)
    model.register_buffer("keep", (torch.arange(8) % 2).float().view(1, 8, 1, 1))
    assert groups(model) == {"one": 8, "two": 5}
    model = Net(lambda n, x: x[:, n.order])
    model.register_buffer("order", torch.randperm(8, generator=seeded(0)))
    assert groups(model) == {"two": 5}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("wrap", "word"),
    [
        (lambda net: torch.compile(net, backend="eager"), "compiled"),
        (lambda net: torch.jit.script(net), "scripted"),
        (lambda net: torch.jit.trace(net, torch.zeros(1, 3, SIZE, SIZE)), "scripted"),
        (nn.DataParallel, "DataParallel"),
        (lambda net: nn.Sequential(nn.DataParallel(net)), "module 0 is wrapped in DataParallel"),
    ],
)
def test_what_stands_around_a_network_is_named(
    wrap: Callable[[nn.Module], nn.Module], word: str
) -> None:
    plain = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)
    )
    assert groups(plain) == {"0": 6}
    message = refused(wrap(plain))
    assert word in message and "return the plain module" in message


@pytest.mark.parametrize(
    "middle",
    [
        lambda n, x: x if x.max() > 0 else -x,
        lambda n, x: x * float(x.mean()),
        lambda n, x: x[: int(x.argmax()) + 1],
        lambda n, x: x if torch.equal(x, x.abs()) else x.abs(),
    ],
)
def test_control_flow_on_values_is_refused_by_its_line(
    middle: Callable[[Net, Tensor], Tensor],
) -> None:
    message = refused(Net(middle))
    assert "control flow on values of the images" in message
    assert "test_tracing_forms.py:" in message and "torch.where" in message


def test_a_network_that_fails_is_told_by_module_and_line() -> None:
    def fails(n: Net, x: Tensor) -> Tensor:
        raise ValueError("a reason of many words " * 30)

    message = refused(Net(fails))
    assert "fails: a reason of many words" in message and "test_tracing_forms.py:" in message


def refused(model: nn.Module) -> str:
    with pytest.raises(UserError) as caught:
        trace.permutation_spec(model, channels=3, size=SIZE)
    message = str(caught.value)
    assert message.isprintable() and len(message) <= 200, message
    return message


def test_where_another_group_moves_too_its_mean_is_observed() -> None:
    """As in MLP-Mixer: hidden tokens are seen beside channels alone."""

    class Mixer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.norm = nn.Conv2d(3, 6, 4, 4), nn.LayerNorm(6)
            self.tokens, self.act, self.back = nn.Linear(4, 7), nn.GELU(), nn.Linear(7, 4)
            self.out = nn.Linear(6, 4)

        def forward(self, x: Tensor) -> Tensor:
            h = self.stem(x).flatten(2).transpose(1, 2)
            h = h + self.back(self.act(self.tokens(self.norm(h).transpose(1, 2)))).transpose(1, 2)
            return self.out(h.mean(1))

    model = Mixer()
    assert groups(model) == {"stem": 6, "tokens": 7}
    stem, tokens = trace.permutation_spec(model, channels=3, size=SIZE).spec.groups
    assert stem.averaged == () and (tokens.tap, tokens.axis, tokens.averaged) == ("act", 2, (1,))
