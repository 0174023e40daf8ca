"""The recording of a forward pass: it runs, and every operation of torch in it is written down.

All ways to write an operation (a module, a function, a method, an operator, a scripted piece) come
down to the same few operations (`torch.ops.aten`), and all control flow on shapes, all options and
defaults are decided, because the pass really runs.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from types import FrameType, FunctionType
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_flatten, tree_map_only
from torch.utils.weak import WeakIdKeyDictionary

from pipeline.errors import UserError, brief
from pipeline.symmetry.trace.operations import TABLE

Side = Literal["output", "input"]
#: A module by its dotted name, and what of it a hook sees.
Place = tuple[str, Side]
#: What asks for the numbers in a tensor.
_VALUES = {"_local_scalar_dense", "is_nonzero", "equal"}
_OWN = tuple(f"{Path(file).parent}{os.sep}" for file in (__file__, torch.__file__))
#: Letters of a refusal.
LENGTH = 200


def refusal(reason: str) -> UserError:
    """The error of a network whose groups cannot be found: one line of at most 200 letters."""
    line = f"the permutation groups of the network cannot be found: {' '.join(reason.split())}"
    if len(line) > LENGTH:
        line = line[: LENGTH - 3].rsplit(" ", 1)[0].rstrip(",;:(") + " ..."
    return UserError(line)


@dataclass(frozen=True)
class Ref:
    """A tensor of the pass, by number."""

    number: int


@dataclass
class Node:
    """One operation that ran."""

    called: Any
    """An operation of torch, or a function or module with a rule of its own."""
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    results: list[Ref]
    module: str
    """The innermost module that ran."""
    place: str
    """For an error line: the module's path, or the operation and the line that calls it."""
    changes: frozenset[int] = frozenset()
    """Memory that it changes in place."""

    @property
    def inputs(self) -> list[Ref]:
        """The tensors that it reads, in order."""
        return [each for each in tree_flatten((self.args, self.kwargs))[0] if isinstance(each, Ref)]


@dataclass(frozen=True)
class Sight:
    """A tensor that a hook sees: how often its memory had been changed, and what wrote it."""

    ref: Ref
    changed: int
    writer: int
    """Number of the node that wrote it last; -1 for the images."""


@dataclass
class Recording:
    """A forward pass: its operations in order, its tensors and what its modules read and gave."""

    nodes: list[Node] = field(default_factory=list)
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    storages: list[int] = field(default_factory=list)
    """The memory of each tensor."""
    sources: dict[int, Tensor] = field(default_factory=dict)
    """Tensors that no operation made: those of the network, constants."""
    data: set[int] = field(default_factory=set)
    """Memory that depends on the images."""
    seen: dict[Place, Sight] = field(default_factory=dict)
    changes: dict[int, int] = field(default_factory=dict)
    """How often memory was changed in place."""
    output: Ref | None = None

    def shown(self, sight: Sight) -> bool:
        """Whether a tensor still is what the hook saw when the pass ends."""
        return self.changes.get(self.storages[sight.ref.number], 0) == sight.changed

    def depends(self, ref: Ref) -> bool:
        """Whether a tensor depends on the images."""
        return self.storages[ref.number] in self.data

    def live(self) -> list[bool]:
        """Whether the output depends on each node, by what it makes or what it changes in place."""
        assert self.output is not None
        tensors, memory = {self.output.number}, {self.storages[self.output.number]}
        found = []
        for node in reversed(self.nodes):
            makes = any(ref.number in tensors for ref in node.results)
            found.append(makes or bool(node.changes & memory))
            if found[-1]:
                tensors.update(ref.number for ref in node.inputs)
                memory.update(self.storages[ref.number] for ref in node.inputs)
        return found[::-1]


class Recorder(TorchDispatchMode):
    """Writes down a forward pass.

    Raises `UserError` where it fails or asks for numbers that depend on the images.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.recording = Recording()
        self._numbers = WeakIdKeyDictionary()
        self._memory: dict[int, tuple[StorageWeakRef, int]] = {}
        self._next = count()
        self._writers: dict[int, int] = {}
        self._stack: list[str] = [""]
        self._paths: dict[int, tuple[str, nn.Module]] = {}
        for name, module in model.named_modules():
            self._paths.setdefault(id(module), (name, module))
        self._model = model

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # or torch would load its compiler to keep it out, half a second a run

    def run(self, images: Tensor) -> Recording:
        """The recording of ``model(images)``."""
        self.recording.data.add(self._storage(images))
        fast = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            with ExitStack() as stack, torch.no_grad():
                for path, module in self._paths.values():
                    self._watch(stack, path, module)
                stack.enter_context(_functions(self))
                stack.enter_context(_Torch(self))
                stack.enter_context(self)
                output = self._model(images)
        except UserError:
            raise
        except Exception as error:
            raise refusal(f"{self._failing(error)} fails: {brief(error, lines=1)}") from None
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)
        if not isinstance(output, Tensor) or output.ndim != 2:
            raise refusal("its output is not one tensor of logits [N, classes]")
        self.recording.output = self.ref(output)
        return self.recording

    def ref(self, tensor: Tensor, made: bool = False) -> Ref:
        """The number of a tensor; one that is not known is a source unless it was ``made``."""
        number = self._numbers.get(tensor)  # type: ignore[no-untyped-call]
        if number is None:
            number = len(self.recording.shapes)
            self._numbers[tensor] = number
            self.recording.shapes.append(tuple(tensor.shape))
            self.recording.storages.append(self._storage(tensor))
            if not made:
                self.recording.sources[number] = tensor
        return Ref(number)

    def _storage(self, tensor: Tensor) -> int:
        storage = tensor.untyped_storage()
        known = self._memory.get(storage._cdata)
        if known is None or known[0].expired():  # type: ignore[no-untyped-call]
            known = (StorageWeakRef(storage), next(self._next))  # type: ignore[no-untyped-call]
            self._memory[storage._cdata] = known
        return known[1]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        place = self._place(func.overloadpacket.__name__.rstrip("_"))
        if func.overloadpacket.__name__ in _VALUES and self._depends((args, kwargs)):
            raise refusal(
                f"control flow on values of the images at {place}: decide by shapes, or compute "
                "with torch.where"
            )
        before = tree_map_only(Tensor, self.ref, (args, kwargs))  # in place may change a shape
        result = func(*args, **kwargs)
        changed = _changed(func, args, kwargs) if func._schema.is_mutable else ()
        self.note(func, before, result, place, changed)
        return result

    def note(
        self, called: Any, given: Any, result: Any, place: str, changed: tuple[Tensor, ...] = ()
    ) -> None:
        """Write down an operation."""
        recording, number = self.recording, len(self.recording.nodes)
        results = [self.ref(t, made=True) for t in tree_flatten(result)[0] if isinstance(t, Tensor)]
        memory = frozenset(self._storage(t) for t in changed)
        for each in memory:
            recording.changes[each] = recording.changes.get(each, 0) + 1
        args, kwargs = given
        node = Node(called, args, kwargs, results, self._stack[-1], place, memory)
        recording.nodes.append(node)
        written = results + [self.ref(t) for t in changed]
        for ref in written:
            self._writers[ref.number] = number
        if any(recording.depends(ref) for ref in node.inputs):
            recording.data.update(recording.storages[ref.number] for ref in written)

    def whole(self, called: Any, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Call what has a rule of its own, whose inside is not looked at."""
        operation = TABLE[kind_of(called)]
        place, extra = self._place(getattr(called, "__name__", "")), {}
        if isinstance(called, nn.Module):
            place = f"module {self._stack[-1]}"
            extra = operation.attributes(called, args, kwargs)
        given = tree_map_only(Tensor, self.ref, (args, kwargs | extra))
        first = next((t for t in tree_flatten((args, kwargs))[0] if isinstance(t, Tensor)), None)
        before = None if first is None else first._version
        with _disable_current_modes(), torch._C.DisableTorchFunction():
            result = function(*args, **kwargs)
        changed = (first,) if first is not None and first._version != before else ()
        self.note(called, given, result, place, changed)
        return result

    def _watch(self, stack: ExitStack, path: str, module: nn.Module) -> None:
        """Keep what a module reads and gives at its last call, and its name while it runs."""
        inner = module.forward

        def before(_: nn.Module, inputs: Any) -> None:
            self._stack.append(path)
            self._see((path, "input"), inputs[0] if inputs else None)

        def after(_: nn.Module, __: Any, output: Any) -> None:
            self._see((path, "output"), output)
            self._stack.pop()

        stack.enter_context(module.register_forward_pre_hook(before))
        stack.enter_context(module.register_forward_hook(after))
        if kind_of(module) in TABLE:
            module.forward = lambda *args, **kwargs: self.whole(module, inner, args, kwargs)

    def _see(self, place: Place, value: Any) -> None:
        self.recording.seen.pop(place, None)
        if isinstance(value, Tensor):
            ref = self.ref(value)
            changed = self.recording.changes.get(self.recording.storages[ref.number], 0)
            writer = self._writers.get(ref.number, -1)
            self.recording.seen[place] = Sight(ref, changed, writer)

    def _depends(self, given: Any) -> bool:
        tensors = (t for t in tree_flatten(given)[0] if isinstance(t, Tensor))
        return any(self._storage(t) in self.recording.data for t in tensors)

    def _place(self, name: str) -> str:
        path = self._stack[-1]
        if path and type(self._module(path)).__module__.startswith("torch.nn"):
            return f"module {path}"
        return f"node {name} ({_line(sys._getframe(1))}{', module ' + path if path else ''})"

    def _module(self, path: str) -> nn.Module:
        return self._model.get_submodule(path)

    def _failing(self, error: Exception) -> str:
        """Where a pass failed: the module of torch, or the line of the user's."""
        path = self._stack[-1]
        if path and type(self._module(path)).__module__.startswith("torch.nn"):
            return f"module {path}"
        frames = traceback.extract_tb(error.__traceback__)
        own = [f for f in frames if not f.filename.startswith(_OWN)]
        line = f" ({Path(own[-1].filename).name}:{own[-1].lineno})" if own else ""
        return f"module {path}{line}" if path else f"its forward{line}"


class _Torch(TorchFunctionMode):
    """Functions of torch that have a rule of one's own."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in TABLE and not isinstance(func, FunctionType):
            return self.recorder.whole(func, func, args, kwargs)
        return func(*args, **kwargs)


def kind_of(called: Any) -> Any:
    """What an operation is known by: the class of a module that has a rule, or itself."""
    if isinstance(called, nn.Module):
        return next((kind for kind in type(called).__mro__ if kind in TABLE), type(called))
    return called


@contextmanager
def _functions(recorder: Recorder) -> Iterator[None]:
    """Functions with rules of their own, wherever a file of the network calls them by name."""
    own = {each: each for each in TABLE if isinstance(each, FunctionType)}
    files = {type(module).__module__ for _, module in recorder._paths.values()}
    files |= {each.__module__ for each in own}
    names = [sys.modules[file].__dict__ for file in files if file in sys.modules] if own else []
    patched: list[tuple[dict[str, Any], str, Any]] = []
    for space in names:
        for name, found in list(space.items()):
            if isinstance(found, FunctionType) and found in own:
                patched.append((space, name, found))
                space[name] = _wrapped(recorder, found)
    try:
        yield
    finally:
        for space, name, found in patched:
            space[name] = found


def _wrapped(recorder: Recorder, function: FunctionType) -> Callable[..., Any]:
    return lambda *args, **kwargs: recorder.whole(function, function, args, kwargs)


def _changed(func: Any, args: Any, kwargs: Any) -> tuple[Tensor, ...]:
    """The arguments that an operation changes in place."""
    found = []
    for number, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            given = args[number] if number < len(args) else kwargs.get(argument.name)
            found += [t for t in tree_flatten(given)[0] if isinstance(t, Tensor)]
    return tuple(found)


def _line(frame: FrameType | None) -> str:
    """File and line of the innermost code that is neither torch's nor the tracer's."""
    while frame is not None and frame.f_code.co_filename.startswith(_OWN):
        frame = frame.f_back
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}" if frame else "?"
