"""Laws of the files of weights and masks: what is written comes back, damage is told."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small import same, seeded
from torch import Tensor

from pipeline import pruning
from pipeline.artifacts.store import write_tensors
from pipeline.errors import UserError
from pipeline.models import build, prunable_parameters
from pipeline.weights import (
    dense_state,
    read_mask,
    read_state,
    sparse_state,
    state_of,
    write_mask,
)

SHAPES = st.lists(st.integers(1, 5), min_size=1, max_size=4)


@st.composite
def networks(draw: st.DrawFn) -> tuple[dict[str, Tensor], pruning.Mask]:
    """A state and a mask of some of its tensors; extreme shares of zeros included."""
    generator = seeded(draw(st.integers(0, 2**31)))
    state, mask = {}, {}
    for number in range(draw(st.integers(1, 4))):
        name = f"layer{number}.weight"
        state[name] = torch.randn(draw(SHAPES), generator=generator)
        if number == 0 or draw(st.booleans()):
            share = draw(st.sampled_from([0.0, 0.5, 1.0]))
            mask[name] = torch.rand(state[name].shape, generator=generator) < share
    state["steps"] = torch.tensor(draw(st.integers(0, 2**62)))
    return state, mask


@settings(deadline=None, max_examples=80)
@given(networks())
def test_packing_is_undone(case: tuple[dict[str, Tensor], pruning.Mask]) -> None:
    _, mask = case
    packed = pruning.pack(mask)
    shapes = {name: list(m.shape) for name, m in mask.items()}
    assert same(pruning.unpack(packed, shapes), mask)
    for name, bits in packed.items():
        assert bits.dtype == torch.uint8 and len(bits) == math.ceil(mask[name].numel() / 8)


@settings(deadline=None, max_examples=80)
@given(networks())
def test_a_sparse_state_is_undone(case: tuple[dict[str, Tensor], pruning.Mask]) -> None:
    state, mask = case
    tensors = sparse_state(state, mask)
    back, found = dense_state(tensors, state)
    assert same(found, mask)
    assert same(back, pruning.apply(mask, state))
    assert all(back[name].dtype == state[name].dtype for name in state)
    values = sum(t.numel() for name, t in tensors.items() if name.startswith("values/"))
    assert values == sum(int(m.sum()) for m in mask.values())


@pytest.fixture
def network() -> tuple[dict[str, Tensor], pruning.Mask]:
    model = build("resnet20", width=0.25, classes=10, channels=1, size=8, generator=seeded(0))
    state = state_of(model)
    weights = {name: state[name] for name in prunable_parameters(model, "all")}
    return state, pruning.prune_to(weights, pruning.full(weights), 0.7)


def test_files_give_back_states_and_masks(
    tmp_path: Path, network: tuple[dict[str, Tensor], pruning.Mask]
) -> None:
    state, mask = network
    write_mask(tmp_path / "mask", mask)
    assert same(read_mask(tmp_path / "mask"), mask)
    assert (tmp_path / "mask").stat().st_size < sum(m.numel() for m in mask.values()) / 8 + 5000
    write_tensors(tmp_path / "dense", {f"epoch/{k}": v for k, v in state.items()})
    assert same(read_state(tmp_path / "dense", "epoch/"), state)
    write_tensors(tmp_path / "sparse", sparse_state(state, mask))
    assert same(read_state(tmp_path / "sparse", like=state), pruning.apply(mask, state))
    with pytest.raises(UserError, match="sparse: holds sparse weights"):
        read_state(tmp_path / "sparse")


def test_a_state_is_a_copy() -> None:
    model = build("resnet20", width=0.25, classes=10, channels=1, size=8, generator=seeded(0))
    state = state_of(model)
    before = {name: tensor.clone() for name, tensor in state.items()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert same(state, before)


def test_what_does_not_fit_is_told_with_the_file(
    tmp_path: Path, network: tuple[dict[str, Tensor], pruning.Mask]
) -> None:
    state, mask = network
    name = next(iter(mask))
    file = tmp_path / "weights.safetensors"

    def refused(tensors: dict[str, Tensor], like: dict[str, Tensor]) -> None:
        write_tensors(file, tensors)
        with pytest.raises(UserError, match=r"weights\.safetensors: .*fit|bits|bytes") as caught:
            read_state(file, like=like)
        assert "\n" not in str(caught.value)

    good = sparse_state(state, mask)
    assert read_state_of(file, good, state)
    refused({k: v for k, v in good.items() if k != f"values/{name}"}, state)
    refused(good | {f"values/{name}": good[f"values/{name}"][:-1]}, state)
    refused(good | {f"values/{name}": good[f"values/{name}"][:1]}, state)  # would broadcast
    refused({k: v for k, v in good.items() if k != f"bits/{name}"}, state)
    refused(good | {f"bits/{name}": good[f"bits/{name}"][:-1]}, state)
    refused(good | {f"bits/{name}": good[f"bits/{name}"].long()}, state)
    refused({k: v for k, v in good.items() if k != "dense/bn1.weight"}, state)
    refused(good | {"dense/bn1.weight": torch.zeros(3)}, state)
    refused(good | {"dense/other": torch.zeros(3)}, state)
    wide = build("resnet20", width=0.5, classes=10, channels=1, size=8, generator=None)
    refused(good, wide.state_dict())


def read_state_of(file: Path, tensors: dict[str, Tensor], like: dict[str, Tensor]) -> bool:
    write_tensors(file, tensors)
    return read_state(file, like=like).keys() == like.keys()


def test_a_file_that_is_no_mask_is_told(
    tmp_path: Path, network: tuple[dict[str, Tensor], pruning.Mask]
) -> None:
    state, mask = network
    file = tmp_path / "mask.safetensors"
    packed = pruning.pack(mask)
    shapes = {name: list(m.shape) for name, m in mask.items()}
    name = next(iter(mask))
    for tensors, info in (
        (state, None),
        (packed, None),
        (packed, {"shapes": None}),
        (packed, "text"),
        (packed, {"shapes": shapes | {"more": [1]}}),
        (packed, {"shapes": shapes | {name: [10_000]}}),
        (packed | {name: packed[name].float()}, {"shapes": shapes}),
    ):
        write_tensors(file, tensors, info)
        with pytest.raises(UserError, match=r"mask\.safetensors: "):
            read_mask(file)


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_damage_never_passes_as_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Cut or change a file anywhere: it is read, or refused by a line that names it."""
    folder = tmp_path_factory.mktemp("damage")
    mask = {"w": torch.rand(4, 5, generator=seeded(1)) < 0.5}
    state = {"w": torch.randn(4, 5, generator=seeded(2)), "b": torch.zeros(3)}
    write_mask(folder / "mask", mask)
    write_tensors(folder / "state", sparse_state(state, mask))
    for name in ("mask", "state"):
        content = bytearray((folder / name).read_bytes())
        if data.draw(st.booleans()):
            content = content[: data.draw(st.integers(0, len(content) - 1))]
        else:
            place = data.draw(st.integers(0, len(content) - 1))
            content[place] ^= 1 << data.draw(st.integers(0, 7))
        (folder / name).write_bytes(content)
        try:
            read_mask(folder / name) if name == "mask" else read_state(folder / name, like=state)
        except UserError as error:
            assert str(folder / name) in str(error) and "\n" not in str(error)
