"""Permutation groups of any network, found by following its forward pass (torch.fx).

Every convolution and linear layer opens units of its own along its output; what reads the output
carries the same units along the axis it reads; an addition makes two layers' units one group. The
tracer follows each axis of each tensor through the graph and joins what has to move together.

Units *stay* where they are (they form no group) when they meet something that cannot be relabelled
with them: the image's channels, the classes, the joint of a concatenation, a grouped convolution.
An operation whose effect on the units is not known is refused, and so is a network whose graph
depends on the data. What was found in a network of the user's own is proven on it before it is
used; tests prove the groups of the built-in ones.
"""

from __future__ import annotations

import copy
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.utils import parametrize

from pipeline import symmetry
from pipeline.errors import UserError
from pipeline.symmetry.permutation import Group, PermutationSpec

#: Images of the trace and of the proof; random, so that a network needs no data.
IMAGES = 16
#: Largest relative change of a logit that is rounding.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-3}

Side = Literal["output", "input"]
#: A module by its dotted name, and what of it a hook sees.
Place = tuple[str, Side]


@dataclass(frozen=True)
class Traced:
    """The groups of a network, and the layers whose units stay where they are, with the reason."""

    spec: PermutationSpec
    stay: dict[str, str]
    places: dict[str, dict[Place, int]]
    """Where each group's units can be seen, with their axis: before and after activations alike."""


def permutation_spec(model: nn.Module, *, channels: int, size: int) -> Traced:
    """Groups of a network that reads images [N, channels, size, size], traced and proven.

    The network is left as it is; its weights do not matter, because the proof draws its own. The
    result is a function of the architecture alone. A group is observed after its last activation,
    at the output of a module or, behind a functional activation, at the input of the next one.

    Raises:
        UserError: the forward pass cannot be traced, an operation is not known, no units are free
            to move, or the proof fails; one line that says which node and why.
    """
    generator = torch.Generator().manual_seed(0)
    network = _drawn(model, generator)
    images = torch.randn(IMAGES, channels, size, size, generator=generator, dtype=torch.float64)
    try:
        with torch.inference_mode():
            network(images)
    except RuntimeError:  # a network that makes single precision numbers of its own
        network, images = network.float(), images.float()
    traced = trace(network, images)
    prove(network, traced.spec, images, generator)
    return traced


def trace(model: nn.Module, images: Tensor) -> Traced:
    """Groups of a network as its forward pass on ``images`` [N, C, H, W] shows them, unproven.

    Raises `UserError` as `permutation_spec` does.
    """
    if any(parametrize.is_parametrized(module) for module in model.modules()):
        raise _refusal("it has parametrised weights (torch.nn.utils.parametrize)")
    model = copy.deepcopy(model).eval()
    tracer = _Tracer()
    try:
        graph = tracer.trace(model)
    except Exception as error:
        raise _refusal(f"torch.fx cannot follow its forward: {_first_line(error)}") from None
    walk = _Walk(model, graph)
    walk.run(images)
    return walk.result(tracer)


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
        raise _refusal("its forward gives other values when it is repeated in evaluation mode")
    if not first.isfinite().all():
        raise _refusal("its output is not finite for random weights and images")
    tolerance = TOLERANCE[images.dtype]
    change = symmetry.prove(model, spec, images, generator)
    if not change <= tolerance:
        wrong = [group.name for group in spec.groups if not _kept(model, spec, group, images)]
        raise _refusal(
            f"permuting the traced groups changes its function (logits by {change:.1e} of the "
            f"largest; wrong: {', '.join(wrong) or 'all together'})"
        )
    planted = symmetry.random(spec, generator)
    twin = copy.deepcopy(model)
    twin.load_state_dict(symmetry.apply(spec, planted, model.state_dict()))
    for name, group in matching.collect(model, twin, spec, [images]).items():
        power_a, power_b = (
            variance + mean.square()
            for variance, mean in (
                (group.variance_a, group.mean_a),
                (group.variance_b, group.mean_b),
            )
        )
        cross = group.covariance + torch.outer(group.mean_b, group.mean_a)
        distance = power_b[:, None] + power_a[None, :] - 2 * cross
        wanted = planted[name]
        double = distance.gather(1, wanted[:, None]).squeeze(1) <= tolerance * power_b
        if not bool((double | (distance.argmin(1) == wanted)).all()):
            raise _refusal(f"a planted permutation of {name} is not recovered from its activations")


def _kept(model: nn.Module, spec: PermutationSpec, group: Group, images: Tensor) -> bool:
    """Whether turning one group's units round keeps the function."""
    one = symmetry.identity(spec) | {group.name: torch.arange(group.size).flip(0)}
    twin = copy.deepcopy(model)
    twin.load_state_dict(symmetry.apply(spec, one, model.state_dict()))
    with torch.inference_mode():
        before, after = model(images), twin(images)
    change = float((after - before).abs().max() / before.abs().max())
    return change <= TOLERANCE[images.dtype]


@torch.no_grad()
def _drawn(model: nn.Module, generator: torch.Generator) -> nn.Module:
    """A double precision copy whose tensors are all random: no unit is like another.

    Fresh networks would prove little: every BatchNorm is the same for all of its units.
    """
    network = copy.deepcopy(model).cpu().double().eval()
    for tensor in network.state_dict(keep_vars=True).values():
        if not tensor.is_floating_point() or not tensor.numel():
            continue
        values = torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype)
        if tensor.ndim > 1:
            tensor.copy_(values * (2 / max(1, tensor[0].numel())) ** 0.5)
        elif bool((tensor > 0).all()):  # scales and variances stay positive
            tensor.mul_(torch.exp(0.3 * values))
        else:
            tensor.nan_to_num_(0.0).add_(0.3 * values)
    return network


def _refusal(reason: str) -> UserError:
    return UserError(f"the permutation groups of the network cannot be found: {reason}")


def _first_line(error: Exception) -> str:
    return " ".join((str(error).strip() or type(error).__name__).splitlines()[0].split())[:300]


# -- units ---------------------------------------------------------------------------------------


class _Units:
    """Units that move together; joined with others, they point to those that speak for them."""

    def __init__(self, size: int, layer: str, order: int) -> None:
        self.size, self.layer, self.order = size, layer, order
        self.into: tuple[_Units, int] | None = None
        self.opened = False
        self.reason: str | None = None  # why they stay; "" where that needs no word


#: Units along an axis, and how many consecutive entries each of them owns; None: nothing moves.
Label = tuple[_Units, int] | None


def _resolved(label: Label) -> Label:
    """The units that speak for a label's, None if they stay."""
    while label is not None and label[0].into is not None:
        units, factor = label[0].into
        label = (units, label[1] * factor)
    return None if label is None or label[0].reason is not None else label


def _root(label: Label) -> _Units | None:
    """The units that speak for a label's, whether they move or stay."""
    if label is None:
        return None
    units = label[0]
    while units.into is not None:
        units = units.into[0]
    return units


def _stay(label: Label, reason: str) -> None:
    found = _resolved(label)
    if found is not None:
        found[0].reason = reason


def _name(units: _Units, after: _Units) -> None:
    """Units are named after the first layer that opened them."""
    if not units.opened or after.order < units.order:
        units.layer, units.order = after.layer, after.order
    units.opened = True


def _join(left: Label, right: Label, reason: str) -> None:
    """Make two axes of the same length move together, or both stay where that is not possible."""
    a, b = _resolved(left), _resolved(right)
    if a is None or b is None:
        _stay(left, reason)
        _stay(right, reason)
    elif a[0] is not b[0]:
        if a[1] < b[1]:
            a, b = b, a
        if a[1] % b[1]:
            _stay(a, reason)
            _stay(b, reason)
            return
        # The units of b are finer: as many of them as fit into one of a move with it.
        b[0].into = (a[0], a[1] // b[1])
        if b[0].opened:
            _name(a[0], b[0])
    elif a[1] != b[1]:
        _stay(a, reason)


@dataclass(frozen=True)
class _Seen:
    """A tensor in the graph: its shape and the units along each axis."""

    shape: tuple[int, ...]
    labels: list[Label]

    @property
    def ndim(self) -> int:
        return len(self.shape)


# -- operations ----------------------------------------------------------------------------------

_GATES = {"sigmoid", "hardsigmoid"}
_ACTIVATIONS = {
    "relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "mish", "hardswish",
    "hardtanh", "tanh", "softplus", "softsign", "threshold", "tanhshrink", "hardshrink",
    "softshrink", "logsigmoid", "rrelu",
}  # fmt: skip
#: Each entry of the result depends on the entries at the same place (after broadcasting).
_ELEMENTWISE = _ACTIVATIONS | _GATES | {
    "abs", "add", "addcdiv", "addcmul", "ceil", "clamp", "clip", "clone", "contiguous", "cos",
    "detach", "div", "divide", "double", "erf", "exp", "expm1", "float", "floor", "floordiv",
    "half", "iadd", "imul", "isub", "itruediv", "lerp", "log", "log1p", "maximum", "minimum",
    "mul", "multiply", "neg", "negative", "pos", "pow", "reciprocal", "round", "rsqrt", "rsub",
    "sign", "sin", "sqrt", "square", "sub", "subtract", "true_divide", "truediv", "to", "where",
    "eq", "ne", "lt", "le", "gt", "ge",
}  # fmt: skip
#: Same shape, and permuting the entries along any axis permutes the result.
_EQUIVARIANT = {
    "dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_dropout",
    "feature_alpha_dropout", "softmax", "log_softmax", "softmin", "normalize",
}  # fmt: skip
_REDUCTIONS = {"mean", "sum", "amax", "amin", "std", "var", "logsumexp", "prod"}
_RESHAPES = {"view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "ravel"}
_TRANSPOSITIONS = {"permute", "transpose", "swapaxes", "t", "movedim"}
_POOLS = {
    f"{adaptive}{kind}_pool{k}d"
    for adaptive in ("", "adaptive_")
    for kind in ("max", "avg")
    for k in (1, 2, 3)
}
_IN_PLACE = {operator.iadd, operator.isub, operator.imul, operator.itruediv, operator.setitem}

_MODULES: dict[type[nn.Module], str] = {
    nn.ReLU: "relu", nn.ReLU6: "relu6", nn.LeakyReLU: "leaky_relu", nn.ELU: "elu",
    nn.SELU: "selu", nn.CELU: "celu", nn.GELU: "gelu", nn.SiLU: "silu", nn.Mish: "mish",
    nn.Hardswish: "hardswish", nn.Hardtanh: "hardtanh", nn.Tanh: "tanh", nn.Sigmoid: "sigmoid",
    nn.Hardsigmoid: "hardsigmoid", nn.Softplus: "softplus", nn.Softsign: "softsign",
    nn.Threshold: "threshold", nn.Tanhshrink: "tanhshrink", nn.Hardshrink: "hardshrink",
    nn.Softshrink: "softshrink", nn.LogSigmoid: "logsigmoid", nn.RReLU: "rrelu",
    nn.Identity: "clone", nn.Softmax: "softmax", nn.LogSoftmax: "softmax", nn.Softmax2d: "softmax",
    nn.Flatten: "flatten", nn.Unflatten: "unflatten",
    nn.MaxPool1d: "max_pool1d", nn.MaxPool2d: "max_pool2d", nn.MaxPool3d: "max_pool3d",
    nn.AvgPool1d: "avg_pool1d", nn.AvgPool2d: "avg_pool2d", nn.AvgPool3d: "avg_pool3d",
    nn.AdaptiveAvgPool1d: "adaptive_avg_pool1d", nn.AdaptiveAvgPool2d: "adaptive_avg_pool2d",
    nn.AdaptiveAvgPool3d: "adaptive_avg_pool3d", nn.AdaptiveMaxPool1d: "adaptive_max_pool1d",
    nn.AdaptiveMaxPool2d: "adaptive_max_pool2d", nn.AdaptiveMaxPool3d: "adaptive_max_pool3d",
    nn.Upsample: "interpolate",
}  # fmt: skip


_NAMES = {
    *_ELEMENTWISE, *_EQUIVARIANT, *_REDUCTIONS, *_RESHAPES, *_POOLS, *_TRANSPOSITIONS, "cat",
    "concat", "concatenate", "linear", "layer_norm", "interpolate", "pad", "getitem",
}  # fmt: skip
_METHODS = _NAMES - {"getitem", "linear", "layer_norm", "interpolate", "pad"}
#: The functions of torch and operator behind the names: names alone could be a user's own.
_FUNCTIONS: dict[Any, str] = {
    getattr(library, spelled): name
    for library in (torch, functional, operator)
    for name in _NAMES
    for spelled in (name, f"{name}_")
    if hasattr(library, spelled)
}


class _Tracer(fx.Tracer):
    """Remembers what each module, made of others or not, read and gave at its last call."""

    def __init__(self) -> None:
        super().__init__()
        self.gave: dict[str, fx.Node] = {}
        self.read: dict[str, fx.Node] = {}

    def call_module(
        self,
        m: nn.Module,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        path = self.path_of_module(m)
        result = super().call_module(m, forward, args, kwargs)
        for seen, value in ((self.gave, result), (self.read, args[0] if args else None)):
            seen.pop(path, None)
            if isinstance(value, fx.Proxy):
                seen[path] = value.node
        return result


class _Walk(fx.Interpreter):
    """Runs the graph once and labels the axes of every tensor in it."""

    def __init__(self, model: nn.Module, graph: fx.Graph) -> None:
        super().__init__(model, garbage_collect_values=True, graph=graph)
        self.extra_traceback = False  # errors are told in one line
        self.network = model
        self.labels: dict[fx.Node, _Seen] = {}
        self.activations: dict[fx.Node, None] = {}
        self.live = _live(graph, model)
        self.unknown: list[tuple[str, Label]] = []
        self._state: dict[int, list[str]] = {}
        for name, tensor in model.state_dict(keep_vars=True).items():
            self._state.setdefault(id(tensor), []).append(name)
        self._weights: dict[int, _Seen] = {}
        self._units = 0

    def run(self, images: Tensor) -> None:  # type: ignore[override]
        with torch.inference_mode():
            super().run(images)

    # -- the graph -------------------------------------------------------------------------

    def placeholder(self, target: Any, args: Any, kwargs: Any) -> Any:
        try:
            return super().placeholder(target, args, kwargs)
        except RuntimeError:
            raise _refusal(f"its forward wants a second input, {target!r}") from None

    def run_node(self, n: fx.Node) -> Any:
        try:
            value = super().run_node(n)
        except UserError:
            raise
        except Exception as error:
            raise _refusal(f"{_place(n)} fails: {_first_line(error)}") from None
        if n.op == "output":
            if not isinstance(value, Tensor) or value.ndim != 2:
                raise _refusal("its output is not one tensor of logits [N, classes]")
            for label in self._inputs(n.args)[0].labels:
                _stay(label, "")
        elif isinstance(value, Tensor):
            if n not in self.live or n.op == "placeholder":
                labels: list[Label] = [None] * value.ndim
            elif n.op == "get_attr":
                labels = self._weight(value).labels
            else:
                labels = self._operation(n, value)
            self.labels[n] = _Seen(tuple(value.shape), labels)
        elif n in self.live and not _is_form(n):
            self._not_known(n)
        return value

    def _operation(self, n: fx.Node, value: Tensor) -> list[Label]:
        if n.op == "call_module":
            labels = self._module(n, self.network.get_submodule(str(n.target)), value)
        else:
            labels = self._named(n, _operation_name(n, self.network), value)
        if labels is None:
            self._not_known(n)
            return [None] * value.ndim
        return labels

    def _not_known(self, n: fx.Node) -> None:
        for seen in self._inputs((n.args, n.kwargs)):
            self.unknown += [(_place(n), label) for label in seen.labels if label is not None]

    def _inputs(self, arguments: Any) -> list[_Seen]:
        found: list[_Seen] = []
        fx.map_arg(arguments, lambda n: found.append(self.labels[n]) if n in self.labels else None)
        return found

    # -- modules ---------------------------------------------------------------------------

    def _module(self, n: fx.Node, module: nn.Module, value: Tensor) -> list[Label] | None:
        inputs = self._inputs((n.args, n.kwargs))
        if len(inputs) != 1:
            return None
        (x,) = inputs
        if isinstance(module, _ConvNd):
            transposed = isinstance(module, _ConvTransposeNd)
            return self._conv(n, x, module.weight, module.bias, module.groups, transposed)
        if isinstance(module, nn.Linear):
            return self._linear(n, x, self._weight(module.weight), module.bias)
        if isinstance(module, _BatchNorm | _InstanceNorm):
            return self._along(n, x, module.state_dict(keep_vars=True).values(), 1)
        if isinstance(module, nn.GroupNorm):
            if module.num_groups not in (1, module.num_channels):
                _stay(x.labels[1], f"normalised in {module.num_groups} groups at {_place(n)}")
            return self._along(n, x, (module.weight, module.bias), 1)
        if isinstance(module, nn.LayerNorm | nn.RMSNorm):
            tensors = (module.weight, getattr(module, "bias", None))
            return self._along(n, x, tensors, x.ndim - len(module.normalized_shape))
        if isinstance(module, nn.PReLU):
            self.activations[n] = None
            return self._along(n, x, (module.weight,), 1)
        if isinstance(module, _DropoutNd):
            return self._named(n, "dropout", value)
        name = _MODULES.get(type(module), "")
        return self._named(n, name, value)

    def _conv(
        self, n: fx.Node, x: _Seen, weight: Tensor, bias: Tensor | None, groups: int,
        transposed: bool = False,
    ) -> list[Label] | None:  # fmt: skip
        axis = x.ndim - weight.ndim + 1  # of the channels: 1, or 0 without a batch
        if axis < 0:
            return None
        w, why = self._weight(weight), f"read by a convolution in {groups} groups, {_place(n)}"
        reads, writes = (w.labels[0], w.labels[1]) if transposed else (w.labels[1], w.labels[0])
        channels = x.shape[axis]
        if groups == 1:
            _join(x.labels[axis], reads, "")
        elif groups == channels and not transposed:
            # Each channel has filters of its own, which move with it.
            carried = _resolved(x.labels[axis])
            own = carried and (carried[0], carried[1] * (w.shape[0] // channels))
            _join(own, writes, f"a filter for each of the channels that stay, {_place(n)}")
        else:
            for label in (x.labels[axis], reads, writes):
                _stay(label, why)
        self._joined(writes, bias)
        for label in x.labels[axis + 1 :]:
            _stay(label, f"the convolution {_place(n)} runs along it")
        self._open(writes)
        return [*x.labels[:axis], writes, *[None] * (x.ndim - axis - 1)]

    def _linear(self, n: fx.Node, x: _Seen, w: _Seen, bias: Tensor | None) -> list[Label]:
        _join(x.labels[-1], w.labels[1], "")
        self._joined(w.labels[0], bias)
        self._open(w.labels[0])
        return [*x.labels[:-1], w.labels[0]]

    def _along(
        self, n: fx.Node, x: _Seen, tensors: Iterable[Tensor | None], axis: int
    ) -> list[Label]:
        """Parameters and statistics with one entry per entry of the axes from ``axis`` on."""
        for tensor in tensors:
            own = None if tensor is None else self._weight(tensor)
            for offset, label in enumerate(own.labels if own else ()):
                if own and own.shape[offset] == x.shape[axis + offset]:
                    _join(x.labels[axis + offset], label, f"scaled by fixed values at {_place(n)}")
        return list(x.labels)

    def _joined(self, label: Label, bias: Tensor | None) -> None:
        if bias is not None:
            _join(label, self._weight(bias).labels[0], "")

    def _open(self, label: Label) -> None:
        units = _root(label)
        if label is not None and units is not None:
            _name(units, label[0])

    def _weight(self, tensor: Tensor) -> _Seen:
        """A tensor of the state, with units of its own along each axis when first seen.

        Tensors that are not in the state dict cannot be permuted: nothing moves along their axes.
        """
        if id(tensor) not in self._weights:
            names = self._state.get(id(tensor))
            labels: list[Label] = [None] * tensor.ndim
            if names and tensor.is_floating_point():
                for axis, count in enumerate(tensor.shape):
                    if count > 1 or axis < 2:
                        self._units += 1
                        layer = names[0].rpartition(".")[0] or names[0]
                        labels[axis] = (_Units(count, layer, self._units), 1)
            self._weights[id(tensor)] = _Seen(tuple(tensor.shape), labels)
        return self._weights[id(tensor)]

    # -- functions -------------------------------------------------------------------------

    def _named(self, n: fx.Node, name: str, value: Tensor) -> list[Label] | None:
        inputs = self._inputs((n.args, n.kwargs))
        if not name or not inputs:
            return None if inputs else [None] * value.ndim
        x = inputs[0]
        if name in _ELEMENTWISE:
            if name == "to":
                inputs = inputs[:1]  # a second tensor only names a type
            if name in _ACTIVATIONS or name in _GATES:
                self.activations[n] = None
            return _broadcast(n, inputs, tuple(value.shape))
        if name in _EQUIVARIANT:
            return list(x.labels) if value.ndim == x.ndim else None
        if name in _REDUCTIONS:
            return self._reduced(n, x, value)
        if name in _RESHAPES:
            return _reshaped(n, x, tuple(value.shape))
        if name in _TRANSPOSITIONS:
            return _transposed(n, x)
        if name in ("cat", "concat", "concatenate"):
            return _concatenated(n, inputs, value)
        if name == "getitem":
            return _indexed(n, x, value)
        if name == "attribute":
            return [*x.labels[:-2], *reversed(x.labels[-2:])] if x.ndim > 1 else None
        if name in _POOLS:
            return _local(n, x, value.ndim - int(name[-2]), value)
        if name == "interpolate":
            return _local(n, x, 2, value)
        if name == "pad":
            widths = n.args[1] if len(n.args) > 1 else n.kwargs["pad"]
            return _padded(n, x, widths)
        if name == "linear":
            return self._functional_linear(n, inputs)
        if name == "layer_norm":
            for own in inputs[1:]:
                for offset, label in enumerate(reversed(own.labels), start=1):
                    _join(x.labels[-offset], label, f"scaled by fixed values at {_place(n)}")
            return list(x.labels)
        return None

    def _functional_linear(self, n: fx.Node, inputs: Sequence[_Seen]) -> list[Label] | None:
        x, w = inputs[:2]
        if w.ndim != 2:
            return None
        _join(x.labels[-1], w.labels[1], f"read by fixed weights at {_place(n)}")
        if len(inputs) > 2:
            _join(w.labels[0], inputs[2].labels[0], f"a fixed bias is added at {_place(n)}")
        self._open(w.labels[0])
        return [*x.labels[:-1], w.labels[0]]

    def _reduced(self, n: fx.Node, x: _Seen, value: Tensor) -> list[Label] | None:
        """Sums over units do not depend on their order: these axes are gone."""
        axes = n.kwargs.get("dim", n.args[1] if len(n.args) > 1 else None)
        if axes is None:
            return [None] * value.ndim
        if isinstance(axes, int):
            axes = (axes,)
        if not isinstance(axes, tuple | list) or not all(isinstance(axis, int) for axis in axes):
            return None
        gone = {axis % x.ndim for axis in axes}
        kept: list[Label] = [None if i in gone else label for i, label in enumerate(x.labels)]
        if value.ndim != x.ndim:
            kept = [label for i, label in enumerate(kept) if i not in gone]
        return kept if len(kept) == value.ndim else None

    # -- the groups ------------------------------------------------------------------------

    def result(self, tracer: _Tracer) -> Traced:
        """Groups with their taps, and the axes that carry them."""
        for place, label in self.unknown:
            found = _resolved(label)
            if found is not None:
                raise _refusal(
                    f"{place}: it is not known what this does to the units of {found[0].layer}; "
                    "use layers and functions of torch that keep channels apart"
                )
        taps = self._taps(tracer)
        places = self._places(tracer)
        groups: dict[_Units, Group] = {}
        stay: dict[str, str] = {}
        for seen in self._weights.values():
            for label in seen.labels:
                self._settle(label, taps, groups, stay)
        if not groups:
            reasons = "; ".join(f"{layer}: {reason}" for layer, reason in stay.items())
            raise _refusal(
                f"no hidden units are free to move ({reasons or 'it has no hidden layer'})"
            )
        axes: dict[str, tuple[str | None, ...]] = {}
        positions: dict[str, int | tuple[int, ...]] = {}
        for name, tensor in self.network.state_dict(keep_vars=True).items():
            known = self._weights.get(id(tensor))
            labels = [_resolved(label) for label in known.labels] if known else [None] * tensor.ndim
            carried = [label if label and label[0] in groups else None for label in labels]
            axes[name] = tuple(label and groups[label[0]].name for label in carried)
            owned = {label[1] for label in carried if label}
            if owned - {1}:
                each = tuple(label[1] if label else 1 for label in carried)
                positions[name] = owned.pop() if len(owned) == 1 else each
        ordered = sorted(groups, key=lambda units: units.order)
        spec = PermutationSpec(tuple(groups[units] for units in ordered), axes, positions)
        return Traced(spec, stay, {units.layer: places[units] for units in ordered})

    def _settle(
        self, label: Label, taps: dict[_Units, tuple[str, str, int]],
        groups: dict[_Units, Group], stay: dict[str, str],
    ) -> None:  # fmt: skip
        units = _root(label)
        if units is None or not units.opened or units in groups:
            return
        if units.reason is None and units not in taps:
            units.reason = "no module reads or gives their activation, so it cannot be observed"
        if units.reason is not None:
            if units.reason:
                stay[units.layer] = units.reason
            return
        tap, side, axis = taps[units]
        groups[units] = Group(units.layer, units.size, tap, side, axis)  # type: ignore[arg-type]

    def _taps(self, tracer: _Tracer) -> dict[_Units, tuple[str, str, int]]:
        """Where each group is observed: its last activation that a hook can see.

        A group without an activation of its own is observed at its last visible tensor.
        """
        leaves = {path for path, n in tracer.gave.items() if n.op == "call_module"}
        leaves = {path for path in leaves if str(tracer.gave[path].target) == path}
        places: dict[fx.Node, tuple[str, str]] = {}
        for path, n in tracer.read.items():
            places.setdefault(n, (path, "input"))
        for path, n in tracer.gave.items():
            if places.get(n, ("", "input"))[1] == "input":
                places[n] = (path, "output")
        for path in leaves:
            places[tracer.gave[path]] = (path, "output")
        gates = {n for n in self.activations if _operation_name(n, self.network) in _GATES}
        found: dict[_Units, tuple[int, tuple[str, str, int]]] = {}
        for n in self.labels:
            if n not in places:
                continue
            rank = 2 if n in self.activations and n not in gates else 1
            for axis, units in self._visible(n):
                if found.get(units, (0,))[0] <= rank:
                    found[units] = (rank, (*places[n], axis))
        return {units: tap for units, (_, tap) in found.items()}

    def _places(self, tracer: _Tracer) -> dict[_Units, dict[Place, int]]:
        """Every module's input and output that shows a group's units, and their axis."""
        sides: tuple[tuple[Side, dict[str, fx.Node]], ...] = (
            ("input", tracer.read),
            ("output", tracer.gave),
        )
        found: dict[_Units, dict[Place, int]] = {}
        for side, seen in sides:
            for path, n in seen.items():
                for axis, units in self._visible(n):
                    found.setdefault(units, {})[path, side] = axis
        return found

    def _visible(self, n: fx.Node) -> Iterator[tuple[int, _Units]]:
        """Axes and units that a hook sees of a node's tensor, if nothing changes it afterwards."""
        if n not in self.labels or n not in self.live or n.op == "get_attr":
            return
        if any(_writes_in_place(user, self.network) for user in n.users):
            return
        for axis, label in enumerate(self.labels[n].labels):
            found = _resolved(label)
            if axis and found and found[1] == 1:
                yield axis, found[0]


def _place(n: fx.Node) -> str:
    """A node for an error line: the module's path, or the function and the node's name."""
    if n.op == "call_module":
        return f"module {n.target}"
    name = getattr(n.target, "__name__", str(n.target))
    return f"node {n.name} ({name})"


#: Properties of a tensor that exchange its last two axes.
_ATTRIBUTES = {"T", "mT"}


def _operation_name(n: fx.Node, model: nn.Module) -> str:
    if n.op == "call_module":
        return _MODULES.get(type(model.get_submodule(str(n.target))), "")
    if n.op == "call_function":
        if n.target is getattr and n.args[1] in _ATTRIBUTES:
            return "attribute"
        return _FUNCTIONS.get(n.target, "")
    name = str(n.target).removesuffix("_")
    return name if name in _METHODS else ""


def _writes_in_place(n: fx.Node, model: nn.Module) -> bool:
    """Whether a node changes the tensor that it reads first."""
    if n.op == "call_module":
        return bool(getattr(model.get_submodule(str(n.target)), "inplace", False))
    if n.op == "call_method":
        return bool(re.fullmatch(r"[a-z]\w*[a-z0-9]_", str(n.target)))
    if n.op == "call_function":
        name = getattr(n.target, "__name__", "")
        acts = _FUNCTIONS.get(n.target) in _ACTIVATIONS | _EQUIVARIANT
        flagged = n.kwargs.get("inplace") is True or (acts and any(a is True for a in n.args))
        return flagged or n.target in _IN_PLACE or bool(re.fullmatch(r"[a-z]\w*[a-z0-9]_", name))
    return False


def _live(graph: fx.Graph, model: nn.Module) -> set[fx.Node]:
    """The nodes on which the output depends, in-place changes of live tensors included."""
    live: set[fx.Node] = set()

    def mark(start: fx.Node) -> None:
        stack = [start]
        while stack:
            n = stack.pop()
            if n not in live:
                live.add(n)
                stack += n.all_input_nodes

    for n in graph.nodes:
        if n.op == "output":
            mark(n)
    changed = True
    while changed:
        before = len(live)
        for n in graph.nodes:
            if n not in live and _writes_in_place(n, model) and n.all_input_nodes:
                base = n.all_input_nodes[0]
                while base not in live and base.op != "placeholder" and base.all_input_nodes:
                    base = base.all_input_nodes[0]
                    if not _shares_memory(base, model):
                        break
                if base in live:
                    mark(n)
        changed = len(live) > before
    return live


def _shares_memory(n: fx.Node, model: nn.Module) -> bool:
    """Whether a node may give its first input's memory again: a view, or a change in place."""
    views = _RESHAPES | _TRANSPOSITIONS | {"getitem", "contiguous", "attribute"}
    return _writes_in_place(n, model) or _operation_name(n, model) in views


def _is_form(n: fx.Node) -> bool:
    """Whether a node asks for a tensor's form alone, which no permutation changes."""
    name = n.args[1] if n.target is getattr else n.target
    return name in {"size", "dim", "numel", "ndimension", "shape", "ndim", "dtype", "device"}


# -- rules for the axes of single operations -------------------------------------------------------


def _broadcast(n: fx.Node, inputs: Sequence[_Seen], shape: tuple[int, ...]) -> list[Label]:
    """Axes aligned at the right; an axis of length 1 constrains nothing."""
    result: list[Label] = []
    for axis, length in enumerate(shape):
        aligned: list[Label] = []
        for x in inputs:
            own = axis - len(shape) + x.ndim
            if own >= 0 and x.shape[own] == length:
                aligned.append(x.labels[own])
        for other in aligned[1:]:
            _join(aligned[0], other, f"meets at {_place(n)} what does not move with it")
        result.append(aligned[0] if aligned else None)
    return result


def _transposed(n: fx.Node, x: _Seen) -> list[Label] | None:
    """Follow each axis by running the operation on a tensor whose lengths name its axes."""
    if len(n.all_input_nodes) > 1:
        return None
    probe = torch.empty(tuple(range(x.ndim)), device="meta")
    function = getattr(torch.Tensor, n.target) if isinstance(n.target, str) else n.target
    moved = function(probe, *n.args[1:], **n.kwargs)
    return [x.labels[length] for length in moved.shape]


def _concatenated(n: fx.Node, inputs: Sequence[_Seen], value: Tensor) -> list[Label] | None:
    """Units side by side on one axis would need a permutation of each part: they stay."""
    axis = n.kwargs.get("dim", n.kwargs.get("axis", n.args[1] if len(n.args) > 1 else 0))
    if not isinstance(axis, int) or any(x.ndim != value.ndim for x in inputs):
        return None
    labels: list[Label] = list(inputs[0].labels)
    for x in inputs:
        _stay(x.labels[axis], f"concatenated with others at {_place(n)}")
        for i in range(value.ndim):
            if i != axis % value.ndim:
                _join(labels[i], x.labels[i], f"meets at {_place(n)} what does not move with it")
    labels[axis] = None
    return labels


def _indexed(n: fx.Node, x: _Seen, value: Tensor) -> list[Label] | None:
    """Whole slices keep an axis; a part of it is of units that stay."""
    index = n.args[1]
    parts = list(index) if isinstance(index, tuple) else [index]
    if not all(p is None or p is Ellipsis or isinstance(p, int | slice) for p in parts):
        return None
    named = sum(p is not None and p is not Ellipsis for p in parts)
    if Ellipsis not in parts:
        parts.append(Ellipsis)
    place = parts.index(Ellipsis)
    parts[place : place + 1] = [slice(None)] * (x.ndim - named)
    labels: list[Label] = []
    axis = 0
    for part in parts:
        if part is None:
            labels.append(None)
            continue
        label = x.labels[axis]
        axis += 1
        if part == slice(None):
            labels.append(label)
            continue
        _stay(label, f"a part is taken at {_place(n)}")
        if isinstance(part, slice):
            labels.append(None)
    return labels if len(labels) == value.ndim else None


def _local(n: fx.Node, x: _Seen, first: int, value: Tensor) -> list[Label] | None:
    """Pooling and resizing along the axes from ``first`` on."""
    if value.ndim != x.ndim:
        return None
    for label in x.labels[first:]:
        _stay(label, f"{_place(n)} runs along it")
    return [*x.labels[:first], *[None] * (x.ndim - first)]


def _padded(n: fx.Node, x: _Seen, widths: Any) -> list[Label] | None:
    if not isinstance(widths, tuple | list) or not all(isinstance(w, int) for w in widths):
        return None
    labels = list(x.labels)
    for i in range(len(widths) // 2):
        if widths[2 * i] or widths[2 * i + 1]:
            _stay(labels[-1 - i], f"padded with fixed values at {_place(n)}")
            labels[-1 - i] = None
    return labels


def _reshaped(n: fx.Node, x: _Seen, shape: tuple[int, ...]) -> list[Label]:
    """Axes merged and split in row-major order; axes of length 1 come and go.

    Units keep consecutive entries where they are first in a merge (a flatten of [C, H, W]), and
    first in a split; everywhere else they stay.
    """
    labels: list[Label] = [None] * len(shape)
    source = [i for i, length in enumerate(x.shape) if length != 1]
    target = [i for i, length in enumerate(shape) if length != 1]
    reason = f"its entries are rearranged at {_place(n)}"
    while source and target:
        block_in, block_out = [source.pop(0)], [target.pop(0)]
        size_in, size_out = x.shape[block_in[0]], shape[block_out[0]]
        while size_in != size_out:
            if size_in < size_out:
                block_in.append(source.pop(0))
                size_in *= x.shape[block_in[-1]]
            else:
                block_out.append(target.pop(0))
                size_out *= shape[block_out[-1]]
        for other in block_in[1:]:
            _stay(x.labels[other], reason)
        first = _resolved(x.labels[block_in[0]])
        if first is None:
            continue
        if shape[block_out[0]] % first[0].size:
            _stay(first, reason)
            continue
        labels[block_out[0]] = (first[0], shape[block_out[0]] // first[0].size)
    return labels
