"""The walk over the graph of a forward pass (torch.fx), which labels the axes of every tensor."""

from __future__ import annotations

import inspect
import operator
import re
from collections.abc import Callable
from types import FunctionType
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn

from pipeline.errors import UserError
from pipeline.symmetry.trace.operations import TABLE, Call, Operation
from pipeline.symmetry.trace.units import Label, Labels, State, Value, stay

Side = Literal["output", "input"]
#: A module by its dotted name, and what of it a hook sees.
Place = tuple[str, Side]
_IN_PLACE = {operator.iadd, operator.isub, operator.imul, operator.itruediv, operator.setitem}
#: Questions for a tensor's form alone, which no permutation changes.
_FORM = {"size", "dim", "numel", "ndimension", "shape", "ndim", "dtype", "device"}


def refusal(reason: str) -> UserError:
    """The error of a network whose groups cannot be found: one line."""
    return UserError(f"the permutation groups of the network cannot be found: {reason}")


class Recorder(fx.Tracer):
    """Remembers what each module, made of others or not, read and gave at its last call."""

    def __init__(self) -> None:
        own = (f for f in TABLE if isinstance(f, FunctionType))
        own = (f for f in own if f.__module__.partition(".")[0] != "torch")
        super().__init__(autowrap_functions=tuple(own))
        self.seen: dict[Place, fx.Node] = {}

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return type(m) in TABLE or super().is_leaf_module(m, module_qualified_name)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:  # fmt: skip
        path = self.path_of_module(m)
        result = super().call_module(m, forward, args, kwargs)
        sides: tuple[Side, Side] = ("output", "input")
        for side, value in zip(sides, (result, args[0] if args else None), strict=True):
            self.seen.pop((path, side), None)
            if isinstance(value, fx.Proxy):
                self.seen[path, side] = value.node
        return result


class Walk(fx.Interpreter):
    """Runs the graph of a network once and labels the axes of every tensor in it.

    Raises `UserError` if the forward pass cannot be followed.
    """

    def __init__(self, model: nn.Module, images: Tensor) -> None:
        self.recorder = Recorder()
        try:
            graph = self.recorder.trace(model)
        except Exception as error:
            raise refusal(f"torch.fx cannot follow its forward: {_first_line(error)}") from None
        super().__init__(model, garbage_collect_values=True, graph=graph)
        self.extra_traceback = False  # errors are told in one line
        self.state = State(model)
        self.values: dict[fx.Node, Value] = {}
        self.live = self._live()
        self.unknown: list[tuple[str, Label]] = []
        """Where units met an operation that is not known."""
        with torch.inference_mode():
            self.run(images)

    def placeholder(self, target: Any, args: Any, kwargs: Any) -> Any:
        try:
            return super().placeholder(target, args, kwargs)
        except RuntimeError:
            raise refusal(f"its forward wants a second input, {target!r}") from None

    def run_node(self, n: fx.Node) -> Any:
        try:
            value = super().run_node(n)
        except UserError:
            raise
        except Exception as error:
            raise refusal(f"{_place(n)} fails: {_first_line(error)}") from None
        if n.op == "output":
            if not isinstance(value, Tensor) or value.ndim != 2:
                raise refusal("its output is not one tensor of logits [N, classes]")
            for label in self._inputs(n)[0].labels:
                stay(label, "")
        elif isinstance(value, Tensor):
            labels = self._labels(n, value) if n in self.live else None
            self.values[n] = Value(tuple(value.shape), labels or [None] * value.ndim)
        elif n in self.live and (n.args[1] if n.target is getattr else n.target) not in _FORM:
            self._not_known(n)
        return value

    def _labels(self, n: fx.Node, value: Tensor) -> Labels | None:
        """What the rule of a node's operation says of the result; None if nothing moves."""
        if n.op == "get_attr":
            return self.state.value(value).labels
        inputs, known = self._inputs(n), self.operation(n)
        labels = None
        if inputs and known:
            call = Call(_place(n), tuple(value.shape), inputs, self._called(n))
            given = fx.map_arg((n.args, n.kwargs), lambda m: self.values.get(m, self.env[m]))
            labels = known.labels(call, *given, self.state)
        if labels is None:
            self._not_known(n)
        return labels

    def _not_known(self, n: fx.Node) -> None:
        self.unknown += [(_place(n), label) for x in self._inputs(n) for label in x.labels]

    def _inputs(self, n: fx.Node) -> list[Value]:
        found: list[fx.Node] = []
        fx.map_arg((n.args, n.kwargs), found.append)
        return [self.values[m] for m in found if m in self.values]

    def operation(self, n: fx.Node) -> Operation | None:
        """What is known of a node's operation."""
        called = self._called(n)
        if isinstance(called, nn.Module):
            return next((TABLE[kind] for kind in type(called).__mro__ if kind in TABLE), None)
        return TABLE.get(getattr(Tensor, str(n.args[1]), None) if called is getattr else called)

    def _called(self, n: fx.Node) -> Any:
        """The module or function of a node; a method of a tensor as its function."""
        if n.op == "call_module":
            return self.fetch_attr(str(n.target))
        if n.op == "call_method":
            return getattr(Tensor, str(n.target), None)
        return n.target if n.op == "call_function" else None

    def writes_in_place(self, n: fx.Node) -> bool:
        """Whether a node changes the tensor that it reads first."""
        called = self._called(n)
        if isinstance(called, nn.Module):
            return getattr(called, "inplace", False) is True
        name = getattr(called, "__name__", "")
        if called in _IN_PLACE or re.fullmatch(r"[a-z]\w*[a-z0-9]_", name):
            return True
        try:
            given = inspect.signature(called).bind(*n.args, **n.kwargs).arguments
        except (TypeError, ValueError):  # no function, or one that is built in
            return False
        return given.get("inplace") is True

    def _live(self) -> set[fx.Node]:
        """The nodes on which the output depends, in-place changes of live tensors included."""
        live: set[fx.Node] = set()
        before = -1
        while before < len(live):
            before = len(live)
            for n in reversed(self.graph.nodes):
                if n.op == "output" or n in live or self._changes(n, live):
                    live.update((n, *n.all_input_nodes))
        return live

    def _changes(self, n: fx.Node, live: set[fx.Node]) -> bool:
        """Whether a node changes one of the live tensors, itself or through a view."""
        if not n.all_input_nodes or not self.writes_in_place(n):
            return False
        base = n.all_input_nodes[0]
        while base not in live and base.op != "placeholder" and base.all_input_nodes:
            base = base.all_input_nodes[0]
            known = self.operation(base)
            if not (self.writes_in_place(base) or (known and known.view)):
                break
        return base in live


def _place(n: fx.Node) -> str:
    """A node for an error line: the module's path, or the function and the node's name."""
    if n.op == "call_module":
        return f"module {n.target}"
    name = getattr(n.target, "__name__", str(n.target))
    return f"node {n.name} ({name})"


def _first_line(error: Exception) -> str:
    return " ".join((str(error).strip() or type(error).__name__).splitlines()[0].split())[:300]
