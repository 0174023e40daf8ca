"""What the processes of a team do in tests: the same short trainings, whatever their number.

``team.py FOLDER``, started by ``pipeline.machine.launch``, writes what each process found to FOLDER.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from pictures import folder
from small import few, seeded
from torch import Tensor, nn

from pipeline import pruning
from pipeline.artifacts.store import write_json, write_tensors
from pipeline.catalog.datasets import parse_entry
from pipeline.data import DataSet, load
from pipeline.data.photographs import Photographs
from pipeline.errors import Interrupted
from pipeline.machine.team import Team
from pipeline.machine.team import team as joined
from pipeline.models import build, prunable_parameters
from pipeline.streams import generator
from pipeline.study.settings import TrainSettings
from pipeline.training.loop import Keeper, Outcome, Schedule, Trainer, Training, graceful

CPU = torch.device("cpu")
#: Six steps of 48 images an epoch, 32 images dropped; each in two micro-batches.
CUT = TrainSettings(lr=0.05, batch_size=48, micro_batch=24, evaluate_every=1, weight_decay=0.01)
WHOLE = replace(CUT, micro_batch=0)
#: BatchNorm sees the whole batch though no process holds it.
GROUPED = replace(CUT, batch_norm_group=48)
#: Three steps of 16 photographs.
DECODED = replace(CUT, batch_size=16, micro_batch=8)
EPOCHS = 2
ENTRY = {
    "kind": "image_folder", "path": "shapes", "classes": 4, "size": 24, "train_images": 48,
    "test_images": 15, "mean": [0.5] * 3, "std": [0.25] * 3, "flip": True,
}  # fmt: skip


def photographs(root: Path) -> Photographs:
    """48 drawn photographs for training, 15 for test: no even number for two processes."""
    if not (root / "shapes").exists():
        folder(root / "shapes")
        (root / "shapes" / "val" / "disc" / "000.jpg").unlink()
    found = load(parse_entry("shapes", ENTRY), root)
    assert isinstance(found, Photographs)
    return found


def network(data: DataSet | Photographs, name: str = "resnet20") -> nn.Module:
    width = 0.25 if name == "resnet20" else 0.125
    return build(
        name, width=width, classes=data.classes, channels=data.channels, size=data.size,
        generator=seeded(3),
    )  # fmt: skip


def half_mask(model: nn.Module) -> pruning.Mask:
    """Half of the weights, drawn at random."""
    parameters, draws = dict(model.named_parameters()), seeded(4)
    return {
        name: torch.rand(parameters[name].shape, generator=draws) < 0.5
        for name in prunable_parameters(model, "all")
    }


def streams(purpose: str, epoch: int) -> torch.Generator:
    return generator(5, purpose, epoch)


def train(
    team: Team, data: DataSet | Photographs, settings: TrainSettings, model: nn.Module, **more: Any
) -> Outcome:
    trainer = Trainer(data, settings, CPU, team)
    schedule = Schedule(0, EPOCHS, EPOCHS)
    return trainer.train(model, Training(schedule, streams, keep_logits=True, **more))


def found(model: nn.Module, outcome: Outcome) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All that a training leaves, as tensors and as JSON."""
    tensors = {k: v.clone().contiguous() for k, v in model.state_dict().items()}
    tensors |= {f"momentum/{k}": v.clone().contiguous() for k, v in outcome.momentum.items()}
    if outcome.final is not None and outcome.final.logits is not None:
        tensors["logits"] = outcome.final.logits
    return tensors, {"status": outcome.status, "history": outcome.history}


def masked(team: Team, place: Path) -> tuple[nn.Module, Outcome]:
    """A sparse run; the mask holds after the last step."""
    data = few(320, 63)
    model = network(data)
    mask = half_mask(model)
    outcome = train(team, data, CUT, model, mask=mask)
    state = model.state_dict()
    assert all((state[name][~kept] == 0).all() for name, kept in mask.items())
    return model, outcome


def grouped(team: Team, place: Path) -> tuple[nn.Module, Outcome]:
    """A step an epoch: after several, a ReLU that flips where a sum is rounded otherwise has grown."""
    model = network(few(64, 63))
    return model, train(team, few(64, 63), GROUPED, model)


def decoded(team: Team, place: Path) -> tuple[nn.Module, Outcome]:
    data = photographs(place)
    model = network(data)
    return model, train(team, data, DECODED, model)


def diverged(team: Team, place: Path) -> tuple[nn.Module, Outcome]:
    model = network(few(320, 63))
    return model, train(team, few(320, 63), replace(CUT, lr=1e8), model)


def resumed(team: Team, place: Path) -> tuple[nn.Module, Outcome]:
    """SIGTERM to the last process alone, in the middle of an epoch and at its end; then again."""
    data = few(320, 63)
    own = place / f"resumed-{team.size}-{team.rank}"
    for after in (4, 2):  # the second stop is at the end of the first epoch
        model, calls = network(data), 0

        def count(module: nn.Module, inputs: object, after: int = after) -> None:
            nonlocal calls
            calls += module.training
            if calls == after * 2 // team.size and team.rank == team.size - 1:
                os.kill(os.getpid(), signal.SIGTERM)

        model.register_forward_pre_hook(count)
        try:
            with graceful():
                train(
                    team,
                    data,
                    CUT,
                    model,
                    keeper=Keeper(own, "x", interval=1e9),
                    mask=half_mask(model),
                )
        except Interrupted:
            continue
        raise AssertionError("not interrupted")
    model = network(data) if team.leads else network(data).apply(spoil)
    keeper = Keeper(own, "x", interval=1e9)
    return model, train(team, data, CUT, model, keeper=keeper, mask=half_mask(network(data)))


@torch.no_grad()
def spoil(module: nn.Module) -> None:
    """Everything comes from the state that process 0 read."""
    for parameter in module.parameters(recurse=False):
        parameter.fill_(7.0)


CASES: dict[str, Callable[[Team, Path], tuple[nn.Module, Outcome]]] = {
    "masked": masked, "grouped": grouped, "decoded": decoded, "diverged": diverged,
    "resumed": resumed,
}  # fmt: skip


def main(place: Path) -> None:
    team = joined()
    torch.set_num_threads(1)
    team.meet(cuda=False)
    for name, case in CASES.items():
        tensors, facts = found(*case(team, place))
        write_tensors(place / f"{name}-{team.rank}.safetensors", tensors)
        write_json(place / f"{name}-{team.rank}.json", facts)
    team.part()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
