"""The walk over a recorded forward pass, which says what the axes of every tensor carry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_map_only

from pipeline.errors import brief
from pipeline.symmetry.trace.operations import TABLE, Call, Operation, rule_of
from pipeline.symmetry.trace.record import (
    Node,
    Recorder,
    Recording,
    Ref,
    Sight,
    kind_of,
    refusal,
)
from pipeline.symmetry.trace.rules import ACTIVATIONS
from pipeline.symmetry.trace.units import Entries, Label, State, Units, Value


class Walk:
    """Runs the forward pass of a network once and follows the entries of every tensor in it.

    Raises `UserError` if the forward pass cannot be followed.
    """

    def __init__(self, model: nn.Module, images: Tensor) -> None:
        self.model = model
        self.recording: Recording = Recorder(model).run(images)
        self.units = Units()
        self.state = State(self.units, model)
        self.values: dict[int, Value] = {}
        """By a tensor's number, in the order in which they were made."""
        self.unknown: list[tuple[str, Entries]] = []
        """Where entries met an operation that is not known."""
        for node, live in zip(self.recording.nodes, self.recording.live(), strict=True):
            if live:
                self._follow(node)
        assert self.recording.output is not None
        for each in self.value(self.recording.output).carried:
            self.units.fix(each.entries, "")
        for value in [*self.values.values(), *self.state.values.values()]:
            self.units.seen += [each.entries.reshape(-1) for each in value.carried]
        for grouped in self.state.grouped.values():
            self.units.seen += [grouped.first.reshape(-1), grouped.second.reshape(-1)]

    def value(self, ref: Ref) -> Value:
        """What a tensor carries."""
        if ref.number not in self.values:
            source = self.recording.sources.get(ref.number)
            shape = self.recording.shapes[ref.number]
            if source is not None and id(source) in self.state.names:
                return self.state.value(id(source), source)
            data = self.recording.depends(ref)
            self.values[ref.number] = Value(self.units, shape, (), data)
        return self.values[ref.number]

    def activates(self, number: int) -> bool:
        """Whether a node is an activation."""
        if number < 0:
            return False
        called = self.recording.nodes[number].called
        known = TABLE.get(kind_of(called))
        if known is not None:
            return known.activation
        return called.overloadpacket.__name__.removesuffix("_") in ACTIVATIONS

    def computes(self, sight: Sight, path: str) -> bool:
        """Whether a module itself computed what a hook saw."""
        return sight.writer >= 0 and self.recording.nodes[sight.writer].module == path

    def passes_on(self, path: str) -> bool:
        """Whether a module of torch gives just what it reads (dropout in evaluation)."""
        read, gave = (self.recording.seen.get((path, side)) for side in ("input", "output"))
        own = type(self.model.get_submodule(path)).__module__.startswith("torch.nn")
        return bool(own and read and gave and read == gave)

    def _follow(self, node: Node) -> None:
        found = self._found(node)
        if found is None:
            for ref in node.inputs:
                self.unknown += [(node.place, each.entries) for each in self.value(ref).carried]
            found = []
        for ref, value in zip(node.results, found, strict=False):
            # what is changed in place keeps its entries, which now move as those of what it met
            if value.shape == self.recording.shapes[ref.number] and ref.number not in self.values:
                known = self.recording.sources.get(ref.number)
                if known is None or id(known) not in self.state.names:
                    self.values[ref.number] = replace(value, data=self.recording.depends(ref))
        for ref in node.results:
            self.value(ref)

    def _found(self, node: Node) -> Sequence[Value] | None:
        """What the rule of an operation says of its results; None if it is not known."""
        own = TABLE.get(kind_of(node.called))
        rule = None if own else rule_of(node.called)
        if own is None and rule is None:
            return None
        args, kwargs = tree_map_only(Ref, self._argument(node), (node.args, node.kwargs))
        inputs = [each for each in tree_flatten((args, kwargs))[0] if isinstance(each, Value)]
        shape = self.recording.shapes[node.results[0].number] if node.results else ()
        data = any(self.recording.depends(ref) for ref in node.inputs)
        call = Call(node.place, shape, inputs, node.called, self.state, data)
        if rule is None:
            return _own(own, call, args, kwargs) if own else None
        try:
            found: Any = rule(call, *args, **kwargs)
        except (AttributeError, IndexError, TypeError, ValueError):
            return None  # arguments that the rule does not foresee
        return [found] if isinstance(found, Value) else found

    def _argument(self, node: Node) -> Any:
        """What stands for a tensor among the arguments of a rule."""
        weight = self._weight_in_groups(node)

        def argument(ref: Ref) -> Value:
            if ref.number == weight:
                source = self.recording.sources[ref.number]
                return Value(self.units, tuple(source.shape), key=id(source))
            return self.value(ref)

        return argument

    def _weight_in_groups(self, node: Node) -> int:
        """The number of the tensor of the network that is the weight of a convolution in groups."""
        packet = getattr(node.called, "overloadpacket", None)
        if packet is torch.ops.aten.convolution and node.args[8] > 1:
            source = self.recording.sources.get(node.args[1].number)
            if source is not None and id(source) in self.state.names:
                return int(node.args[1].number)
        return -1


def _own(
    known: Operation, call: Call, args: Sequence[Any], kwargs: dict[str, Any]
) -> list[Value] | None:
    """What a rule of one's own says of the (first) result."""
    try:
        found = known.labels(call, args, kwargs)
    except Exception as error:
        raise refusal(f"{call.place}: its rule fails: {brief(error, lines=1)}") from None
    if isinstance(found, Value):
        return [found]
    if found is None or len(found) != len(call.shape):
        return None
    if not all(label is None or isinstance(label, Label) for label in found):
        return None
    return [call.value(call.shape).with_labels(found)]  # type: ignore[arg-type]
