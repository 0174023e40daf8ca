"""The CUDA path without a GPU: PyTorch's CUDA build on a device that computes nothing.

What is shown: each kind of job ends, nothing is illegal in a capture, and the launches, waits and
allocations of a step and an epoch, as bounds that a change may not exceed. What is not: any number,
any speed, what a driver or cuDNN does. ``tests/stand_ins/device.h`` says how.
"""

from __future__ import annotations

import sys
from typing import Any

import pytest
from small import REPOSITORY
from stand_ins import build
from stand_ins.build import seen, together

from pipeline.catalog.networks import NETWORKS
from pipeline.machine.gpu import has_code
from pipeline.runs import STAGES

sys.path.insert(0, str(REPOSITORY / "benchmarks"))
import first_gpu

pytestmark = pytest.mark.skipif(bool(build.missing()), reason=build.missing())

#: Kernels and memory operations of a recorded step of ResNet20×1 and VGG11×1.
NODES = {
    ("resnet20", "fp32"): 212, ("resnet20", "bf16"): 366, ("vgg11", "fp32"): 104,
    ("vgg11", "bf16"): 143,
}  # fmt: skip
#: Waits of the host in an epoch: its order goes there, its totals and those of the test set come back.
WAITS = 4


#: What disturbs each other in nothing that is counted shares a process.
STEPS = [("steps", *case) for case in NODES]
SMALL = [
    ("fake", "resnet20", "bf16"), ("fake", "vgg11", "tf32"), ("rate",), ("tf32",),
    ("micro_batches",), ("steps", "resnet20", "bf16", True), ("passes",),
]  # fmt: skip


def small(*work: str | bool) -> Any:
    """What one of the small works found."""
    return together(*SMALL)[SMALL.index(work)]


@pytest.mark.parametrize(("model", "precision"), NODES)
def test_a_replayed_step_is_one_launch_without_a_wait_or_an_allocation(
    model: str, precision: str
) -> None:
    steps = together(*STEPS)[list(NODES).index((model, precision))]
    assert not any(step["broken"] for step in steps)
    assert [step["recorded"] for step in steps] == [False] * 3 + [True] * 3
    assert steps[3]["nodes"] <= NODES[model, precision]
    assert steps[2]["launches"] <= NODES[model, precision] + 1  # and the learning rate
    for replayed in steps[4:]:
        assert replayed["graphs"] == replayed["launches"] == 1  # the one launch: the learning rate
        assert replayed["copies"] == 2  # images and labels, on the device
        assert replayed["waits"] == replayed["allocations"] == replayed["pageable"] == 0
        assert replayed["held"] == steps[3]["held"]


def test_a_deterministic_step_launches_no_more() -> None:
    """To fill memory that is not written yet would nearly double it."""
    steps = small("steps", "resnet20", "bf16", True)
    assert steps[3]["recorded"] and steps[3]["nodes"] <= NODES["resnet20", "bf16"]


def test_the_recorded_step_reads_the_learning_rate_and_new_momentum_is_recorded_anew() -> None:
    assert all(small("rate").values())


@pytest.mark.parametrize("kind", ["sparse", "cut", "not recorded"])
def test_an_epoch_waits_for_the_device_a_fixed_number_of_times(kind: str) -> None:
    rows = seen("training", kind)
    assert not any(row["broken"] for row in rows)
    first, second = rows[:4], rows[4:]
    for training in (first, second):
        *_, before, after = training
        assert before["waits"] <= WAITS and before["allocations"] == after["allocations"] == 0
        assert after["waits"] <= WAITS + 1  # its logits
        assert before["held"] == after["held"]
    graphs = [row["graphs"] for row in first]
    assert graphs == ([5, 8, 8, 8] if kind == "sparse" else [0] * 4)  # three steps warm up


def test_a_network_that_keeps_a_tensor_of_its_last_pass_is_recorded() -> None:
    found = seen("unusual", "keeps")
    assert found["recorded"] and found["default"] and not found["said"] and not found["broken"]


@pytest.mark.parametrize(
    ("network", "reason", "captures"),
    [("waits", "the network waits for the device", 0),
     ("fails", "CUDA error: operation not permitted when stream is capturing", 1)],
)  # fmt: skip
def test_a_step_that_cannot_be_recorded_goes_on_and_leaves_nothing_behind(
    network: str, reason: str, captures: int
) -> None:
    """The stream is the default one again, and the allocator has left its capture."""
    found = seen("unusual", network)
    assert not found["recorded"] and found["default"] and found["graphs"] == 0
    assert found["said"] == f"steps are not recorded: {reason}\n"
    assert found["captures"] == captures and len(found["broken"]) == captures


def test_waits_of_matching_and_evaluation_do_not_grow_with_the_images() -> None:
    for few, many in small("passes").values():
        assert few == many


def test_a_step_in_micro_batches_copies_no_tensor_by_itself() -> None:
    assert small("micro_batches")["copies"] == 0  # 477 of a ResNet50, in a list of two types


@pytest.mark.parametrize("kind", ["nano", "every"])
def test_all_kinds_of_jobs_end_on_the_device(kind: str) -> None:
    found = seen("study", kind)
    assert not found["broken"] and found["graphs"] > 0
    if kind == "every":
        assert found["runs"].keys() == STAGES.keys()
    else:
        assert found["written"] > 0


def test_trainings_in_threads_do_on_the_device_what_each_does_by_itself() -> None:
    """On a stream and in a recording of their own, and the host waits no more often."""
    alone, threads = (seen("study", "nano", how, True) for how in (False, True))
    assert not threads["broken"] and threads["captures"] > 0
    for name in ("runs", "written", "graphs", "captures", "waits", "launches"):
        assert threads[name] == alone[name], name
    assert set(alone["streams"]) == {0} and len(set(threads["streams"])) > 2
    assert 0 not in threads["streams"]


@pytest.mark.parametrize(("model", "precision"), [("resnet20", "bf16"), ("vgg11", "tf32")])
def test_a_step_mixes_no_devices_and_an_evaluation_is_read_once_at_its_end(
    model: str, precision: str
) -> None:
    assert small("fake", model, precision) == {"devices": ["cuda"], "read": True}


def test_a_fork_of_the_warm_server_uses_the_device() -> None:
    assert seen("forked") == 0


def test_trainings_of_a_workflow_share_a_process_on_the_device() -> None:
    found = seen("hosted")
    assert found["ends"] == [0, 0] and found["hosts"] == 1
    assert all("cpu" not in device for device in found["where"])


@pytest.mark.parametrize("name", first_gpu.ITEMS)
def test_the_first_minutes_go_through_on_the_device(name: str) -> None:
    """Every item of ``benchmarks/first_gpu.py`` ends with findings, of which no number means anything."""
    works = [("item", each) for each in first_gpu.ITEMS]
    assert together(*works)[list(first_gpu.ITEMS).index(name)] > 0


def test_the_page_of_the_first_minutes_says_what_was_found() -> None:
    """Rows as a GPU would give them; a failed item is said, and loses no other."""
    single = {"item": "single", "ok": None, "model": "resnet20", "precision": "bf16", "mib": 1}
    text = first_gpu.page([
        {"item": "machine", "ok": True, "device": "a GPU"},
        {"item": "recorded", "ok": False, "apart": 1.0},
        {"item": "recorded", "ok": None, "end": 0, "seconds": 3},
        single | {"precision": "fp32", "width": 1, "recorded": False, "ms": 4.0},
        single | {"width": 1, "recorded": True, "ms": 1.0},
        single | {"width": 4, "recorded": True, "ms": 4.0},
        {"item": "side_by_side", "ok": None, "processes": 8, "mps": True, "ms": 0.25},
        {"item": "threads", "ok": True, "what": "three runs in threads, as each by itself"},
        {"item": "threads", "ok": None, "runs": 12, "ms": 0.2},
        {"item": "kernels", "ok": False, "end": -9, "seconds": 60},
    ])  # fmt: skip
    assert "Machine: device a GPU." in text
    assert "| recorded | **WRONG** | apart: 1.0 |" in text
    assert "| kernels | **WRONG** | end: -9, seconds: 60 |" in text
    assert "| 8 | processes under MPS | 0.25 | 16.0 | 0.098 | 1.6 |" in text
    assert "| 12 | threads of one process | 0.2 | 20.0 | 0.078 | 1.2 |" in text
    assert "Fastest: `sharing: threads` with `PIPELINE_PER_GPU=12`." in text
    assert "| one run at least 3 times eager fp32 | 4.0 |" in text
    few, many = (3 * 128 * NETWORKS["resnet20"].forward_flops(width, 32) for width in (1, 4))
    assert f"{(many - few) / 0.003:.2g} FLOP/s" in text


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("precision", "more", "said"),
    [
        ("fp32", {"STAND_IN_CAPABILITY": "75"}, ""),
        ("bf16", {"STAND_IN_CAPABILITY": "75"}, "precision: bf16 needs a GPU of compute capability 8.0"),
        ("tf32", {"STAND_IN_CAPABILITY": "75"}, "precision: tf32 needs a GPU of compute capability 8.0"),
        ("tf32", {"STAND_IN_CAPABILITY": "80"}, ""),
        ("fp32", {"STAND_IN_CAPABILITY": "70"}, "(compute capability 7.0) cannot run torch"),
        ("fp32", {"STAND_IN_DRIVER": "12080"}, "driver on your system is too old"),
        ("fp32", {"STAND_IN_DRIVER": "12080", "CUDA_VISIBLE_DEVICES": ""}, ""),
        ("tf32", {"STAND_IN_DRIVER": "12080", "CUDA_VISIBLE_DEVICES": ""}, "tf32 needs a GPU, and this run"),
    ],
)  # fmt: skip
def test_what_the_hardware_cannot_do_is_refused_in_one_line(
    precision: str, more: dict[str, str], said: str
) -> None:
    """An old driver is no reason to compute on the CPU, unless no GPU is to be seen."""
    found = seen("refusal", precision, **more)
    assert said in found and bool(said) == bool(found) and "\n" not in found


@pytest.mark.parametrize(
    ("capability", "built", "runs"),
    [((9, 0), ["sm_80", "sm_90"], True), ((8, 9), ["sm_80", "sm_90"], True),
     ((7, 0), ["sm_75", "sm_80"], False), ((9, 0), ["sm_80"], False), ((9, 0), ["compute_80"], True),
     ((12, 1), ["sm_90a", "sm_120"], True), ((7, 5), ["compute_80"], False)],
)  # fmt: skip
def test_code_runs_on_later_chips_of_its_generation_and_an_intermediate_one_on_all_later(
    capability: tuple[int, int], built: list[str], runs: bool
) -> None:
    assert has_code(capability, built) is runs


def test_tf32_rounds_in_forward_and_backward_passes_where_it_is_asked_for_and_nowhere_else() -> (
    None
):
    found: dict[str, Any] = small("tf32")
    assert len(found) == 7
    for when, allowed in found.items():
        assert allowed == [when.startswith("tf32")] * 2, when
