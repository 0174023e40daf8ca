"""The trial of a network: its whole life in small, on drawn images, before anything is trained.

It is built, traced, proven in evaluation and in training mode, trained for a step under a mask,
written, read back, pruned, permuted, merged and corrected. What every run needs is refused at once,
in one line; what some runs need is noted for those (`pipeline.runs.Run.obstacle`).
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.modules.dropout import _DropoutNd

from pipeline import models, pruning, symmetry
from pipeline.artifacts.lock import LOCK, Lock
from pipeline.artifacts.store import clear, write_tensors, writing
from pipeline.catalog.datasets import DataInfo
from pipeline.catalog.networks import Network
from pipeline.connectivity.barrier import curve
from pipeline.connectivity.correction import measured_modules
from pipeline.connectivity.survey import Ground
from pipeline.data import Split
from pipeline.data.augment import normalise
from pipeline.errors import UserError
from pipeline.forward import evaluation_mode
from pipeline.models.own import groups_digest, telling
from pipeline.runs import Dense
from pipeline.runs.trial import Trial
from pipeline.streams import generator
from pipeline.study import trials
from pipeline.study.config import Config
from pipeline.study.settings import TrainSettings
from pipeline.symmetry.permutation import PermutationSpec
from pipeline.symmetry.relaxation import refused
from pipeline.symmetry.trace.proof import drawn
from pipeline.training.step import Step
from pipeline.weights import read_state, sparse_state, state_of

#: Drawn images of a trial, and of the proof in training mode: BatchNorm of fewer has no gradient.
IMAGES, PROOF = 4, 8
#: Largest relative change of a logit or a gradient that is rounding.
TOLERANCE = {torch.float64: 1e-7, torch.float32: 1e-2}

State = Mapping[str, Tensor]
#: Makes the network on trial, initialised from a seed or waiting for a state.
Build = Callable[[int | None], nn.Module]


class NoRepair(UserError):
    """REPAIR cannot correct the network; says why."""


def hold(config: Config, dense: Dense, *, keep: bool = True) -> Trial:
    """What the trial of a dense run's network has found; made now, unless it is kept already.

    Of several processes one makes it. With ``keep=False`` nothing is written.

    Raises:
        UserError: the network cannot live through what every run needs; one line.
    """
    place = trials.place(config, dense)
    if (found := trials.read(place)) and found.done:
        return found
    if not keep:
        return Life(config, dense).lived()
    with writing(place), Lock(place.parent / LOCK).held(wait=True):
        if (found := trials.read(place)) and found.done:
            return found
        clear(place.parent)
        life = Life(config, dense)
        if not life.subject.network.tested:  # for the job that is to do it, if this is killed
            trials.keep(trials.size_file(place), life.size)
        found = life.lived()
        trials.keep(place, found)
    return found


@dataclass(frozen=True)
class Subject:
    """A network on trial: how it is made, and what images [N, channels, size, size] it reads."""

    network: Network
    info: DataInfo
    width: float

    def build(self, seed: int | None) -> nn.Module:
        """It, initialised from a seed or waiting for a state."""
        drawn = None if seed is None else generator(seed, "init")
        return models.build(self.network, width=self.width, generator=drawn, **self.info.shape)


class Life:
    """One network from its making to its corrections.

    Raises:
        UserError: as ``hold``.
    """

    def __init__(self, config: Config, dense: Dense) -> None:
        info, network = config.datasets[dense.dataset], config.models[dense.model]
        self.subject, self._words = Subject(network, info, float(dense.width)), trials.words(dense)
        self._model = self.subject.build(0)
        with self._told():
            self.size = size(self._model, info)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Errors inside name the network; the global generator is left as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            try:
                yield
            except UserError as error:
                raise UserError(f"network {self._words}: {error}") from error.__cause__

    def lived(self) -> Trial:
        """The trial, when it has gone through all."""
        with self._told():
            return self._lived(self._model)

    def _lived(self, model: nn.Module) -> Trial:
        problems: dict[str, str] = {}
        spec = None
        try:
            spec = groups(self.subject, model)
            problems |= refused(spec)
        except UserError as error:
            problems["groups"] = str(error)
        prunable = {which: models.prunable_parameters(model, which) for which in models.PRUNABLE}
        images = Images.drawn(self.subject.info)
        trained = self.subject.build(1)
        mask = pruned(trained, prunable["all"])
        train(trained, mask, images)
        ends = [state_of(model), state_of(trained)]
        read_back(self.subject.build, trained, mask, images)
        if spec is not None:
            with telling("its masks cannot be permuted"):
                symmetry.apply(spec, symmetry.random(spec, generator(0, "trial")), mask)
        try:
            corrected(self.subject.build(None), ends, images)
        except NoRepair as error:
            problems["repair"] = str(error)
        state = model.state_dict()
        return replace(
            self.size,
            prunable={k: sum(state[n].numel() for n in names) for k, names in prunable.items()},
            problems=problems,
            groups="" if spec is None else groups_digest(spec),
            done=True,
        )


@dataclass(frozen=True)
class Images:
    """Drawn images uint8 [N, C, H, W] and classes [N], and how they are normalised."""

    split: Split
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def drawn(cls, info: DataInfo) -> Images:
        stream = generator(0, "trial-images")
        shape = (IMAGES, info.channels, info.size, info.size)
        images = torch.randint(0, 256, shape, generator=stream, dtype=torch.uint8)
        return cls(Split(images, torch.arange(IMAGES) % info.classes), info.mean, info.std)

    @property
    def inputs(self) -> Tensor:
        """What a network reads, float32 [N, C, H, W]."""
        normal = normalise(self.split.images, self.mean, self.std)
        return normal.contiguous(memory_format=torch.channels_last)


def size(model: nn.Module, info: DataInfo) -> Trial:
    """The numbers in a network, and those that its modules give for one image."""
    given = 0

    def count(module: nn.Module, inputs: object, output: object) -> None:
        nonlocal given
        given += output.numel() if isinstance(output, Tensor) else 0

    hooks = [m.register_forward_hook(count) for m in model.modules() if not any(m.children())]
    try:
        with telling("fails in evaluation mode"), evaluation_mode(model), torch.inference_mode():
            model(torch.zeros(2, info.channels, info.size, info.size))
    finally:
        for hook in hooks:
            hook.remove()
    return Trial(sum(p.numel() for p in model.parameters()), given // 2)


def groups(subject: Subject, model: nn.Module) -> PermutationSpec:
    """The permutation groups of a network, proven; those of a built-in one are proven by tests.

    Raises UserError where it has none, or where they do not hold in training.
    """
    images = (subject.info.channels, subject.info.size)
    with telling("the permutation groups of the network cannot be found"):
        spec = models.traced(subject.network, model, images=images).spec
    if not subject.network.tested and (wrong := moved_in_training(model, spec, images)):
        raise UserError(
            "permuting its groups changes what it does in training, though not in evaluation: a path "
            f"that only training takes does not move with them ({wrong})"
        )
    return spec


def moved_in_training(model: nn.Module, spec: PermutationSpec, images: tuple[int, int]) -> str:
    """The tensors that a step of training changes otherwise in a permuted network; empty: none.

    Both networks see the same images in training mode: gradients and buffers of the one must be
    those of the other, permuted. What is drawn there (dropout) is switched off.
    """
    stream = generator(0, "trial-permuted")
    network, permutation = drawn(model, stream), symmetry.random(spec, stream)
    channels, side = images
    pixels = torch.randn(PROOF, channels, side, side, generator=stream, dtype=torch.float64)
    permuted = copy.deepcopy(network)
    permuted.load_state_dict(symmetry.apply(spec, permutation, network.state_dict()))
    with telling("fails in training mode"):
        try:
            first, second = (_changes(_training(each), pixels) for each in (network, permuted))
        except RuntimeError:  # a network that makes single precision numbers of its own
            pixels = pixels.float()
            first, second = (_changes(each.float(), pixels) for each in (network, permuted))
    first = symmetry.apply(spec, permutation, first)
    largest = max(_size(tensor) for tensor in first.values())
    wrong = [
        name
        for name, tensor in first.items()
        if not _size(second[name] - tensor)
        <= TOLERANCE[pixels.dtype] * max(_size(tensor), 1e-3 * largest)
    ]
    # most tensors are behind such a path; named are those that only training sees
    unseen = [name for name in wrong if name not in _changes(network.eval(), pixels)]
    return ", ".join((unseen or wrong)[:3])


def _changes(model: nn.Module, pixels: Tensor) -> dict[str, Tensor]:
    """What a step changes: gradients of the loss by parameter, and buffers after the forward pass.

    In the mode that the network is in.
    """
    logits = model(pixels)
    cross_entropy(logits, torch.arange(len(logits)) % logits.shape[1]).backward()  # type: ignore[no-untyped-call]
    found = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return found | {n: b.clone() for n, b in model.named_buffers() if b.is_floating_point()}


def _training(model: nn.Module) -> nn.Module:
    """The network in training mode, with dropout switched off."""
    model.train()
    for module in model.modules():
        if isinstance(module, _DropoutNd):
            module.eval()
    return model


def _size(tensor: Tensor) -> float:
    return float(tensor.abs().max()) if tensor.numel() else 0.0


def pruned(model: nn.Module, names: Iterable[str]) -> pruning.Mask:
    """A mask of half of the weights, by their magnitude."""
    state = model.state_dict()
    weights = {name: state[name] for name in names}
    return pruning.prune_fraction(weights, pruning.full(weights), 0.5)


def train(model: nn.Module, mask: pruning.Mask, images: Images) -> None:
    """Two steps of training under a mask; raises UserError where they fail or leave the mask."""
    settings = TrainSettings(lr=0.01, batch_size=IMAGES)
    with telling("cannot be trained"):
        step = Step(model.train(), settings, images.mean, images.std, torch.device("cpu"), mask)
        for _ in range(2):
            step([(images.split.images, images.split.labels)])
        with evaluation_mode(model), torch.inference_mode():
            finite = bool(model(images.inputs).isfinite().all())
    if not finite:
        raise UserError("its outputs are not finite after two steps on random images")
    state = model.state_dict()
    for name, kept in mask.items():
        if bool(state[name][~kept].any()):
            raise UserError(f"training changes weights of {name} that the mask has removed")


def read_back(build: Build, model: nn.Module, mask: pruning.Mask, images: Images) -> None:
    """Write a trained network, read it into a fresh one, and compare these two to the bit.

    Raises UserError where they differ in outputs, in either mode, or in a tensor of the state.
    """
    state = state_of(model)
    fresh = build(None)
    with tempfile.TemporaryDirectory(prefix="pipeline-") as folder:
        path = Path(folder, "weights.safetensors")
        with telling("what is written of it cannot be read back"):
            write_tensors(path, sparse_state(state, mask))
            sparse = read_state(path, like=fresh.state_dict())
            write_tensors(path, state)
            fresh.load_state_dict(read_state(path))
    fresh.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    _same(state, sparse, "its state under a mask")
    _same(state, fresh.state_dict(), "its state")
    for training in (False, True):
        with telling("fails"), torch.no_grad():
            before, after = (each.train(training)(images.inputs) for each in (model, fresh))
        if not torch.equal(before, after):
            raise UserError(
                f"what is written of it and read back gives other outputs in "
                f"{'training' if training else 'evaluation'} mode: it keeps something that is "
                "neither a parameter nor a persistent buffer, or changes its state as it is read"
            )
    _same(
        model.state_dict(), fresh.state_dict(), "after a forward pass in training mode, its state"
    )


def _same(written: State, read: State, what: str) -> None:
    wrong = [n for n in written if n not in read or not torch.equal(written[n], read[n])]
    if wrong := wrong + [name for name in read if name not in written]:
        raise UserError(f"{what} is not the same when it is read back: {', '.join(wrong[:3])}")


def corrected(model: nn.Module, ends: Sequence[State], images: Images) -> None:
    """Merge two trained networks, with every correction.

    Raises:
        UserError: it cannot be merged or its statistics reset; ``NoRepair`` where only REPAIR fails.
    """
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    ground = Ground.of_images(
        model, {"train": images.split}, images.mean, images.std, images.split.images, batch_size=2
    )
    with telling("cannot be merged"):
        curve(ground, *ends, alphas=[0.5], corrections=("none", "reset"))
    try:
        measured_modules(model)
    except ValueError as error:
        raise NoRepair(str(error)) from None
    try:
        with telling("REPAIR fails"):
            curve(ground, *ends, alphas=[0.5], corrections=("repair",))
    except UserError as error:
        raise NoRepair(str(error)) from error.__cause__
