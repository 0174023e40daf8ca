"""Laws of shared trainings: what comes out depends on the recipe, not on the number of processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import team as work
import torch
from hypothesis import given
from hypothesis import strategies as st
from small import few, same

from pipeline import stages
from pipeline.artifacts.store import read_json, read_tensors
from pipeline.artifacts.unfinished import RESUME
from pipeline.errors import UserError
from pipeline.machine import warm
from pipeline.machine.launch import RENDEZVOUS, launch
from pipeline.machine.team import ALONE
from pipeline.runs import Dense, ImpBlock, Mask
from pipeline.study.config import FROZEN, freeze, read
from pipeline.study.graph import Graph
from pipeline.study.settings import DenseSettings, TrainSettings
from pipeline.study.shares import shares
from pipeline.training import group_batch_norm as batch_norm
from pipeline.training.loop import Schedule, Trainer, Training

HERE = Path(__file__).parent
SCRIPT = HERE.parent / "workflow" / "scripts" / "run.py"
START = "import sys; from pipeline.machine.launch import launch; sys.exit(launch(sys.argv[1:], 2))"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two real processes over gloo left."""
    folder = tmp_path_factory.mktemp("team")
    work.photographs(folder)
    paths = os.pathsep.join([str(HERE), str(HERE.parent / "src")])
    done = subprocess.run(
        [sys.executable, "-c", START, str(HERE / "team.py"), str(folder)],
        env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, check=False,
        timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


def of(place: Path, case: str, rank: int = 0) -> tuple[dict[str, Any], dict[str, Any]]:
    return (
        read_tensors(place / f"{case}-{rank}.safetensors"),
        read_json(place / f"{case}-{rank}.json"),
    )


def near(one: dict[str, Any], two: dict[str, Any], tolerance: float = 1e-4) -> bool:
    return one.keys() == two.keys() and all(
        torch.allclose(one[k].double(), two[k].double(), rtol=tolerance, atol=tolerance)
        for k in two
    )


def weights(tensors: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in tensors.items() if k != "logits"}


@pytest.mark.parametrize("case", ["masked", "decoded"])
def test_two_processes_equal_one_with_two_accumulations(place: Path, case: str) -> None:
    """Weights, momentum, BatchNorm statistics and counters, and logits of the whole test set."""
    tensors, facts = of(place, case)
    model, outcome = work.CASES[case](ALONE, place)
    alone, history = work.found(model, outcome)
    assert near(tensors, alone)
    assert facts["status"] == history["status"] == "ok"
    for one, two in zip(facts["history"], history["history"], strict=True):
        assert one == pytest.approx(two, rel=1e-4)


def test_another_cut_leads_elsewhere(place: Path) -> None:
    """The laws here have teeth: BatchNorm sees other images, and the weights are not near."""
    data = few(320, 63)
    model = work.network(data)
    outcome = work.train(ALONE, data, work.WHOLE, model, mask=work.half_mask(model))
    assert not near(weights(of(place, "masked")[0]), weights(work.found(model, outcome)[0]), 1e-2)


def test_all_processes_have_the_same_bits(place: Path) -> None:
    for case in ("masked", "grouped", "decoded", "resumed"):
        assert same(weights(of(place, case, 1)[0]), weights(of(place, case)[0])), case
        assert of(place, case, 1)[1] == of(place, case)[1]


def test_batch_norm_over_all_processes_equals_one_whole_batch(place: Path) -> None:
    data = few(64, 63)
    model = work.network(data)
    alone, history = work.found(model, work.train(ALONE, data, work.WHOLE, model))
    tensors, facts = of(place, "grouped")
    assert near(weights(tensors), weights(alone))
    for one, two in zip(facts["history"], history["history"], strict=True):
        assert one["train_loss"] == pytest.approx(two["train_loss"], rel=1e-3)
    # one process takes the group as a whole
    again = work.network(data)
    work.train(ALONE, data, work.GROUPED, again)
    assert same(again.state_dict(), model.state_dict())
    cut = work.network(data)
    work.train(ALONE, data, work.CUT, cut)
    assert not near(cut.state_dict(), model.state_dict(), 1e-2)


def test_a_stopped_run_goes_on_with_the_same_bits(place: Path) -> None:
    """Stopped through one of its processes in the first epoch and again at its end."""
    tensors, facts = of(place, "resumed")
    whole, history = of(place, "masked")
    assert same(tensors, whole) and facts == history


def test_only_the_first_process_writes(place: Path) -> None:
    assert (place / "resumed-2-0" / RESUME).exists()
    assert not (place / "resumed-2-1").exists()


def test_a_run_that_diverges_does_so_in_all_processes(place: Path) -> None:
    for rank in (0, 1):
        tensors, facts = of(place, "diverged", rank)
        assert facts["status"] == "diverged" and len(facts["history"]) < work.EPOCHS + 1
        assert "logits" not in tensors


# --- one process -----------------------------------------------------------------------------


def test_accumulating_equals_the_whole_batch_without_batch_norm() -> None:
    data = few(320, 63)
    models = []
    for settings in (work.WHOLE, work.CUT, replace(work.CUT, micro_batch=8)):
        model = work.network(data, "vgg11").double()
        with pytest.MonkeyPatch.context() as patch:
            double_inputs(patch)
            work.train(ALONE, data, settings, model, mask=work.half_mask(model))
        models.append(model.state_dict())
    assert near(models[1], models[0], 1e-9) and near(models[2], models[0], 1e-9)


def double_inputs(patch: pytest.MonkeyPatch) -> None:
    from functools import partial

    from pipeline import evaluation
    from pipeline.data.augment import normalise
    from pipeline.training import step

    for module in (step, evaluation):
        patch.setattr(module, "normalise", partial(normalise, dtype=torch.float64))


def test_statistics_move_once_a_step_by_the_mean_over_micro_batches() -> None:
    data = few(96, 64)
    settings = replace(work.CUT, batch_size=96, lr=1e-30, weight_decay=0, momentum=0)
    model = work.network(data)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    parts = []
    from pipeline.data.augment import Augmenter, normalise

    images, _ = Augmenter(data.train, flip=data.flip, pad=data.pad).epoch(
        batch_size=96, order=work.streams("order", 0), augmentation=work.streams("augmentation", 0)
    )
    for batch in images.split(24):
        fresh = work.network(data).train()
        fresh(normalise(batch, data.mean, data.std))
        parts.append(fresh.state_dict())
    training = Training(Schedule(0, 1, 1), work.streams)
    Trainer(data, settings, work.CPU).train(model, training)
    for name, value in model.state_dict().items():
        if "running" in name:
            mean = torch.stack([part[name] for part in parts]).mean(0)
            assert torch.allclose(value, mean, rtol=1e-4, atol=1e-5), name
            assert not torch.allclose(value, before[name], rtol=1e-2), name
        if "num_batches" in name:
            assert value == 1


def test_layers_come_back_as_they_were() -> None:
    model = work.network(few(320, 63))
    layers = dict(model.named_modules())
    state = model.state_dict()
    with batch_norm.shared(model, group=object()):  # type: ignore[arg-type]
        kinds = {type(m) for m in model.modules() if "BatchNorm" in type(m).__name__}
        assert kinds == {batch_norm.GroupBatchNorm}
        inside = model.state_dict()
        assert inside.keys() == state.keys()
        assert all(inside[k].data_ptr() == state[k].data_ptr() for k in state)
    assert dict(model.named_modules()) == layers


# --- dealing ---------------------------------------------------------------------------------

powers = st.integers(0, 3).map(lambda n: 2**n)


@given(powers, powers, powers, st.integers(1, 5))
def test_groups_do_not_depend_on_the_processes(
    world: int, group: int, more: int, chunk: int
) -> None:
    """Every image is dealt once, and the images that BatchNorm sees together are always the same."""
    settings = TrainSettings(
        batch_size=chunk * group * more * 8, micro_batch=chunk, batch_norm_group=chunk * group
    )
    dealt = shares(settings, world)
    seen: list[int] = []
    groups = []
    for first in range(0, world, dealt.parts):
        members = [dealt.starts(rank) for rank in range(first, first + dealt.parts)]
        assert len({len(own) for own in members}) == 1
        for together in zip(*members, strict=True):
            images = [i for start in together for i in range(start, start + dealt.chunk)]
            groups.append(images)
            seen += images
    assert seen == list(range(settings.batch_size))
    size = settings.batch_norm_group
    assert groups == [seen[i : i + size] for i in range(0, len(seen), size)]
    assert dealt.count * dealt.chunk == settings.batch_size


@pytest.mark.parametrize(
    ("settings", "processes"),
    [(TrainSettings(batch_size=64), 2), (TrainSettings(batch_size=64, micro_batch=32), 3)],
)
def test_a_batch_that_cannot_be_dealt_is_refused(settings: TrainSettings, processes: int) -> None:
    with pytest.raises(UserError, match=f"for {processes} processes"):
        shares(settings, processes)


@pytest.mark.parametrize(
    "changes",
    [
        {"micro_batch": 48}, {"micro_batch": 32, "batch_norm_group": 48},
        {"batch_norm_group": 64}, {"schedule": "steps"}, {"milestones": (3,)},
    ],
)  # fmt: skip
def test_settings_that_do_not_fit_together_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        DenseSettings(**changes).check("here")
    DenseSettings(micro_batch=32, batch_norm_group=64, milestones=(3,), schedule="steps").check("x")


def test_the_steps_of_the_schedule() -> None:
    settings = TrainSettings(lr=0.04, schedule="steps", milestones=(30, 61), warmup_epochs=5)
    rates = [Schedule(0, 80, 80).lr(settings, epoch) for epoch in range(80)]
    assert rates[:6] == pytest.approx([0.04 * share / 6 for share in range(1, 7)])
    assert {round(rate, 9) for rate in rates[5:30]} == {0.04}
    assert {round(rate, 9) for rate in rates[30:61]} == {0.004}
    assert {round(rate, 9) for rate in rates[61:]} == {0.0004}


# --- the launcher ----------------------------------------------------------------------------


def written(tmp_path: Path, code: str) -> Path:
    script = tmp_path / "script.py"
    script.write_text(code)
    return script


def launched(script: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", START, str(script)], stderr=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True, cwd=script.parent,
    )  # fmt: skip


FAILS = """
import os, sys, time
if os.environ["RANK"] == "1":
    sys.exit(3)
time.sleep(60)
"""
WAITS = """
import os, pathlib, signal, sys, time
from pipeline.machine import warm
from pipeline.machine.launch import end_with_parent

if sys.argv[1:2] == [warm.SERVE]:
    warm.serve(lambda: None)
else:
    end_with_parent()
    if (status := warm.ask()) is not None:
        os._exit(status)
def stop(*_):
    pathlib.Path("stopped" + os.environ["RANK"]).touch()
    sys.exit(143)
signal.signal(signal.SIGTERM, stop)
own = pathlib.Path(os.environ["RANK"])
own.write_text(str(os.getppid()))
own.rename("there" + own.name)
time.sleep(60)
"""


def test_a_process_that_fails_is_named_in_one_line(tmp_path: Path) -> None:
    out, err = (process := launched(written(tmp_path, FAILS))).communicate(timeout=60)
    assert process.returncode == 1 and out == ""
    assert "error: process 1 of 2 ended with status 3" in err.splitlines()
    assert len(err.splitlines()) <= 2 and "Traceback" not in err


@pytest.mark.parametrize("served", [False, True])
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_or_killed_launcher_stops_its_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: signal.Signals, served: bool
) -> None:
    """Also where these are forks of the warm server."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setenv(warm.PLACE, "nowhere")
    script = written(tmp_path, WAITS)
    server = warm.Server(script) if served else None
    process = launched(script)
    wait_for(tmp_path, "there")
    parents = {path.read_text() for path in tmp_path.glob("there*")}
    assert parents == {str((server._process if server else process).pid)}
    process.send_signal(sent)
    wait_for(tmp_path, "stopped")
    _, err = process.communicate(timeout=60)
    assert process.returncode == (143 if sent == signal.SIGTERM else -9)
    assert err == ""
    if server:
        server.stop()


MEETS = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
import torch
from pipeline.machine.team import team
me = team()
me.meet(cuda=False)
total = torch.tensor([me.rank + 1.0])
me.add_up(total)
told = me.tell({"from": me.rank})
print(json.dumps([me.rank, me.size, me.beside, total.item(), told]), flush=True)
me.part()
"""


def test_two_machines_meet(tmp_path: Path) -> None:
    """Two launchers, as srun starts one on each node of an allocation."""
    script = tmp_path / "script.py"
    script.write_text(MEETS)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    start = START.replace(", 2)", ", 2, nodes=2)")
    machines = [
        subprocess.Popen(
            [sys.executable, "-c", start, str(script), str(HERE)],
            env=os.environ | {RENDEZVOUS: f"localhost:{port}"}, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    said = [
        json.loads(line) for m in machines for line in m.communicate(timeout=90)[0].splitlines()
    ]
    assert [machine.returncode for machine in machines] == [0, 0]
    assert sorted(said) == [[rank, 2, 1, 3.0, {"from": 0}] for rank in (0, 1)]


def test_several_machines_need_a_slurm_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(RENDEZVOUS, raising=False)
    with pytest.raises(UserError, match="nodes: 2 needs a Slurm job"):
        launch(["x.py"], 4, nodes=2)


def wait_for(folder: Path, name: str) -> None:
    end = time.monotonic() + 60
    while not all((folder / f"{name}{rank}").exists() for rank in (0, 1)):
        assert time.monotonic() < end, f"no {name}"
        time.sleep(0.1)


# --- a whole job -----------------------------------------------------------------------------

RECIPES = """
dense:
  d: {epochs: 1, lr: 0.05, batch_size: 16, micro_batch: 8, trunk: [0]}
imp:
  i: {epochs: 2, lr: 0.02, batch_size: 16, micro_batch: 8, rounds_per_block: 3}
match:
  m: {images: 16}
sparse:
  s: {batch_size: 16, micro_batch: 8}
connectivity:
  c: {}
methods:
  lth: {init: a}
protocols:
  paper: {}
"""
STUDY = """
experiments:
  e: {dataset: shapes, model: resnet20, width: 0.25, dense: d, imp: i, match: m, sparse: s,
      connectivity: c, methods: [lth]}
outputs: {}
"""


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder from which jobs on drawn photographs run."""
    monkeypatch.chdir(tmp_path)
    work.photographs(tmp_path / "data")
    (tmp_path / "config" / "studies").mkdir(parents=True)
    (tmp_path / "config.yaml").write_text(
        "{study: s, results: results, data_root: data, device: cpu, processes: 2}"
    )
    (tmp_path / "config" / "recipes.yaml").write_text(RECIPES)
    (tmp_path / "config" / "studies" / "s.yaml").write_text(STUDY)
    (tmp_path / "config" / "datasets.yaml").write_text(json.dumps({"shapes": work.ENTRY}))
    return tmp_path


def test_a_killed_job_goes_on_between_rounds(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Process 0 alone writes; killed after a round, it ends with the numbers of one process."""
    alone = read(study, {"results": str(study / "alone"), "processes": 1})
    dense = Dense("shapes", "resnet20", "0.25", "d", 0)
    block = ImpBlock(dense, "i", 1)
    assert Graph(alone).processes(dense) == 1
    for run in (dense, block):
        stages.run(alone, run.stage, run.key)
    shutil.copytree(study / "alone" / dense.folder, study / "results" / dense.folder)
    folder = study / "results" / block.folder
    monkeypatch.setenv("PIPELINE_SAVE_SECONDS", "0")
    monkeypatch.setenv(FROZEN, str(freeze(read(study, {}), study)))
    monkeypatch.setenv(warm.PLACE, "nowhere")
    server = warm.Server(SCRIPT)
    command = [sys.executable, str(SCRIPT), "imp", block.key]
    job = subprocess.Popen(command, cwd=study, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 120
    while not (folder / ".round01.safetensors").exists() and time.monotonic() < end:
        time.sleep(0.01)
    job.kill()
    job.communicate(timeout=60)
    while (folder / ".lock").exists() and time.monotonic() < end:
        time.sleep(0.1)  # until its processes have saved
    done = subprocess.run(command, cwd=study, capture_output=True, text=True, timeout=120)
    server.stop()
    assert (done.returncode, done.stderr) == (0, "")
    assert not list(folder.glob(".r*")) and not list((study / "results" / ".progress").iterdir())
    theirs = read_tensors(study / "alone" / block.folder / "rounds.safetensors")
    assert near(read_tensors(folder / "rounds.safetensors"), theirs, 1e-3)
    provenance = read_json(folder / "provenance.json")
    assert provenance["processes"] == 2
    assert provenance["digest"] == Graph(alone).digest(block)


def test_a_job_whose_batch_cannot_be_dealt_is_refused(study: Path) -> None:
    run = Dense("shapes", "resnet20", "0.25", "d", 0)
    for count in (3, 4):
        with pytest.raises(UserError, match=f"processes: {count}.*micro_batch"):
            Graph(read(study, {"processes": count})).processes(run)
    with pytest.raises(UserError, match="multiple of nodes"):
        read(study, {"processes": 2, "nodes": 3})
    # other data, and stages that do not train, take one process
    graph = Graph(read(study, {"processes": 2}))
    assert graph.processes(run) == 2
    assert graph.processes(Dense("digits", "resnet20", "0.25", "d", 0)) == 1
    assert graph.processes(Mask(run, "i", "S0.50")) == 1
