"""The operations whose effect on units is known: torch's own, and the hook that adds to them."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.symmetry.trace.units import Entries, Labels, State, Units, Value

#: What the result carries: labels, a `Value` (one for each tensor of the result), or None.
Found = Labels | Value | Sequence[Value] | None
Rule = Callable[..., Found]
R = TypeVar("R", bound=Rule)
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@dataclass(frozen=True, eq=False)
class Call:
    """One operation of a network as its rule sees it."""

    place: str
    """The module's path, or the operation and the line that calls it; for reasons."""
    shape: tuple[int, ...]
    """Of the (first) result."""
    inputs: Sequence[Value]
    """The tensors among the arguments, in their order."""
    called: Callable[..., Any]
    """The module, function or operation."""
    state: State
    data: bool
    """Whether an argument depends on the images."""

    @property
    def units(self) -> Units:
        return self.state.units

    def open(self, entries: Entries) -> None:
        """Entries of a weight are the outputs of its layer: they may be a group."""
        if layer := self.state.layer(entries):
            self.units.opened.append((entries.reshape(-1), layer))

    def value(self, shape: Sequence[int], carried: Sequence[Any] = ()) -> Value:
        """A result of this call."""
        return Value(self.units, tuple(shape), tuple(carried), self.data)


@dataclass(frozen=True)
class Operation:
    """A rule of one's own, and what else is known of the operations that follow it."""

    rule: Rule
    activation: bool

    def labels(self, call: Call, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Found:
        """What the rule says; None if it does not know, or takes no such arguments."""
        try:
            bound = inspect.signature(self.rule).bind(call, *args, **kwargs)
        except TypeError:
            return None
        return self.rule(*bound.args, **bound.kwargs)

    def attributes(
        self, module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Attributes of a module for parameters of the rule that are named like them."""
        signature = inspect.signature(self.rule)
        try:
            given = signature.bind_partial(None, *args, **kwargs).arguments
        except TypeError:
            return {}
        names = (n for n, p in signature.parameters.items() if p.kind in _NAMED and n not in given)
        return {name: getattr(module, name) for name in names if hasattr(module, name)}


#: Operations of one's own: by function (a method by that of `Tensor`) or class of modules.
TABLE: dict[object, Operation] = {}
#: Rules of torch's own operations, by the name that all ways to call one share (`aten`).
RULES: dict[str, Rule] = {}
_modules = {name.lower(): kind for name, kind in vars(nn).items() if isinstance(kind, type)}


def aten(names: str) -> Callable[[R], R]:
    """Register the rule of operations of torch, by the names that its functions come down to."""

    def register(rule: R) -> R:
        RULES.update(dict.fromkeys(names.split(), rule))
        return rule

    return register


def rule_of(called: Any) -> Rule | None:
    """The rule of an operation of torch; one that is in place follows that of the other."""
    name = called.overloadpacket.__name__
    for each in (name, name.removesuffix("_")):
        if each in RULES:
            return RULES[each]
        overloads = getattr(torch.ops.aten, each, None)
        tags = [getattr(overloads, o).tags for o in overloads.overloads()] if overloads else []
        if any(torch.Tag.pointwise in each for each in tags):
            return RULES["pointwise"]
    return None


def operation(
    *targets: Callable[..., Any] | str, activation: bool = False
) -> Callable[[Rule], Rule]:
    """Say what operations do to units: register their rule.

    targets: functions, and classes of modules with their subclasses. A string of names stands for
        all that torch calls so: functions of `torch`, `torch.nn.functional` and `operator`,
        methods of `Tensor`, those with an underscore (in place), and the module
        (`leaky_relu`: `nn.LeakyReLU`).
    activation: a group is observed after its last activation.

    A rule is called with the `Call` and the operation's own arguments, each tensor as a `Value`.
    For a module, parameters of the rule that are named like attributes of it are these, so that
    one rule serves `nn.Linear` and `functional.linear`. It returns the labels of the result's
    axes, after `join` of axes that have to move together and `stay` of those that cannot move; or
    None where it does not know, which refuses the network if units could move there. A later rule
    of the same target takes the place of an earlier one.

    An operation of one's own gets its rule where it is defined; its inside is then not looked at::

        def gated(images, gate):  # images [N, C, H, W], gate [C]
            return images * gate.sigmoid()[:, None, None]

        @trace.operation(gated)
        def _(call, images, gate):
            trace.join(images.labels[1], gate.labels[0], f"gated at {call.place}")
            return images.labels

    or that of another operation: ``trace.operation(swish, activation=True)(rules.elementwise)``.
    The function is followed where a file with a module of the network, or its own file, calls it by
    a name of that file.
    """

    def register(rule: Rule) -> Rule:
        for target in targets:
            for each in _named(target) if isinstance(target, str) else (target,):
                TABLE[each] = Operation(rule, activation)
        return rule

    return register


def _named(names: str) -> Iterator[object]:
    for name in names.split():
        for spelled in (name, f"{name}_"):
            for library in (torch, functional, operator, Tensor):
                if hasattr(library, spelled):
                    yield getattr(library, spelled)
        if name.replace("_", "") in _modules:
            yield _modules[name.replace("_", "")]
