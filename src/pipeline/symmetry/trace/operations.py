"""The operations whose effect on units is known: one table, and the hook that adds to it."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.symmetry.trace.units import Labels, State, Value

Rule = Callable[..., Labels | None]
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@dataclass(frozen=True)
class Call:
    """One operation of a network as its rule sees it."""

    place: str
    """The module's path, or the function and the node's name; for reasons."""
    shape: tuple[int, ...]
    """Of the result."""
    inputs: Sequence[Value]
    """The tensors among the arguments, in their order."""
    called: Callable[..., Any]
    """The module or function; a method of `Tensor` as its function."""


@dataclass(frozen=True)
class Operation:
    """A rule, and what else is known of the operations that follow it."""

    rule: Rule
    activation: bool
    view: bool

    def labels(
        self, call: Call, args: Sequence[Any], kwargs: Mapping[str, Any], state: State
    ) -> Labels | None:
        """Labels of the result; None if the rule does not know, or takes no such arguments."""
        signature, own = inspect.signature(self.rule), {}
        try:
            if isinstance(module := call.called, nn.Module):
                given = signature.bind_partial(call, *args, **kwargs).arguments
                for name, parameter in signature.parameters.items():
                    if name not in given and hasattr(module, name) and parameter.kind in _NAMED:
                        found = getattr(module, name)
                        own[name] = state.value(found) if isinstance(found, Tensor) else found
            bound = signature.bind(call, *args, **kwargs, **own)
        except TypeError:
            return None
        labels = self.rule(*bound.args, **bound.kwargs)
        return labels if labels is not None and len(labels) == len(call.shape) else None


#: By function (a method by that of `Tensor`) or class of modules.
TABLE: dict[object, Operation] = {}
_modules = {name.lower(): kind for name, kind in vars(nn).items() if isinstance(kind, type)}


def operation(
    *targets: Callable[..., Any] | str, activation: bool = False, view: bool = False
) -> Callable[[Rule], Rule]:
    """Say what operations do to units: register their rule.

    targets: functions, and classes of modules with their subclasses. A string of names stands for
        all that torch calls so: functions of `torch`, `torch.nn.functional` and `operator`,
        methods of `Tensor`, those with an underscore (in place), and the module
        (`leaky_relu`: `nn.LeakyReLU`).
    activation: a group is observed after its last activation.
    view: the result may share its memory with the first argument.

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
    The function is followed where a file with a forward pass calls it by a name of that file that
    does not begin with an underscore; elsewhere, add `torch.fx.wrap`.
    """

    def register(rule: Rule) -> Rule:
        for target in targets:
            for each in _named(target) if isinstance(target, str) else (target,):
                TABLE[each] = Operation(rule, activation, view)
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
