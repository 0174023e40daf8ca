"""Weights of runs as plain modules: they compute what was measured when the runs were made."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from small import Tiny, same
from studies import refused
from torch import Tensor, nn

from pipeline import interop, models, results, symmetry
from pipeline.artifacts.store import read_json, read_tensors
from pipeline.data import load
from pipeline.data.augment import normalise
from pipeline.runs import Run, Snapshot, Solution
from pipeline.runs.dense import epoch_prefix
from pipeline.runs.imp import round_prefix
from pipeline.weights import dense_state, read_mask, read_state


def accuracy(study: Tiny, network: nn.Module) -> float:
    """Accuracy on the test set, in per cent, as a reader of the how-to would measure it."""
    data = load(study.config.datasets["few"], study.config.data_root)
    with torch.inference_mode():
        logits = network(normalise(data.test.images, data.mean, data.std))
    return 100 * (logits.argmax(1) == data.test.labels).double().mean().item()


def measured(study: Tiny, run: Run) -> float:
    value: float = read_json(study.path(run, "metrics.json"))["test_accuracy"]
    return value


def plain(network: nn.Module) -> dict[str, Tensor]:
    assert not network.training and all(p.device.type == "cpu" for p in network.parameters())
    assert all(parameter.requires_grad for parameter in network.parameters())
    return network.state_dict()


def test_dense_weights_at_the_end_and_at_trunk_epochs(tiny: Tiny) -> None:
    run = tiny.dense()
    folder = tiny.make(run)
    network = interop.network(folder)
    assert same(plain(network), read_state(tiny.path(run, "weights.safetensors")))
    assert accuracy(tiny, network) == pytest.approx(measured(tiny, run))
    trunk = tiny.path(run, "trunk.safetensors")
    for epoch in (0, 2):
        kept = read_state(trunk, epoch_prefix(epoch) + "weights/")
        assert same(plain(interop.network(folder, at=epoch)), kept)
    refused(lambda: interop.network(folder, at=1), "epochs 0, 2, not 1")


def test_a_snapshot(tiny: Tiny) -> None:
    run = Snapshot(tiny.dense(), 1)
    folder = tiny.make(run)
    assert same(plain(interop.network(folder)), read_state(folder / "weights.safetensors"))
    refused(lambda: interop.network(folder, at=1), "'at' goes with")


def test_sparse_weights_are_zero_where_the_mask_is(tiny: Tiny) -> None:
    for run in (tiny.solution(), tiny.cell("permuted").run):
        network = interop.network(tiny.make(run))
        state = plain(network)
        names = models.prunable_parameters(network, "all")
        mask = read_mask(tiny.path(run.mask, "mask.safetensors"))
        if not isinstance(run, Solution):
            assert run.match is not None
            permutation = read_tensors(tiny.path(run.match, "permutation.safetensors"))
            mask = symmetry.apply(models.permutation_spec("resnet20", network), permutation, mask)
        assert all(bool((state[name][~mask[name]] == 0).all()) for name in names)
        assert sum(int((state[name] != 0).sum()) for name in names) == sum(
            int(m.sum()) for m in mask.values()
        )
        assert accuracy(tiny, network) == pytest.approx(measured(tiny, run))


def test_the_weights_after_a_round_of_imp(tiny: Tiny) -> None:
    block = tiny.block()
    folder = tiny.make(block)
    like = interop.network(tiny.make(tiny.dense())).state_dict()
    for at, number in ((1, 1), (2, 2), (None, 2)):
        stored = read_tensors(folder / "rounds.safetensors", round_prefix(number))
        assert same(plain(interop.network(folder, at=at)), dense_state(stored, like)[0])
    refused(lambda: interop.network(folder, at=3), "rounds 1, 2, not 3")


def test_permuted_weights_compute_the_same(tiny: Tiny) -> None:
    cell = tiny.cell("permuted").run
    assert cell.match is not None
    match, lth = tiny.make(cell.match), tiny.cell("lth").run
    images = torch.randn(8, 1, 8, 8)
    for run in (cell.match.a, lth):
        folder = tiny.make(run)
        a, moved = interop.network(folder), interop.network(folder, permuted_by=match)
        assert torch.allclose(a(images), moved(images), atol=1e-4)
        assert not same(plain(a), plain(moved))
    other = tiny.make(cell.match.b)
    refused(lambda: interop.network(other, permuted_by=match), "permutes", "seed0", "not", "seed1")
    refused(lambda: interop.network(other, permuted_by=other), "not the path of a match run")


def test_a_run_is_found_by_folder_file_or_path_of_the_results_frame(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny.dense()
    folder = tiny.make(run)
    state = interop.network(folder).state_dict()
    frame = results.Results(tiny.config).runs(tiny.config.experiments.values())
    (path,) = set(frame[(frame["kind"] == "dense") & (frame["a"] == 0)]["path"].head(1))
    monkeypatch.chdir(tiny.results.parent)
    found: list[tuple[Any, dict[str, Any]]] = [
        (folder / "metrics.json", {}),
        (path, {}),
        (path, {"results": tiny.results}),
        (run.folder, {}),
        (f"results/{run.folder}/", {}),
    ]
    for place, options in found:
        assert same(interop.network(place, **options).state_dict(), state)


def test_what_cannot_be_loaded_is_refused_in_one_line(tiny: Tiny, tmp_path: Path) -> None:
    refused(lambda: interop.network("weights.pt"), "not the path of a run", "dense")
    refused(lambda: interop.network(tiny.make(tiny.mask())), "holds no weights")
    refused(lambda: interop.network(tiny.folder(tiny.dense(seed=9))), "no such file")
    run = tiny.cell("naive").run
    folder = tmp_path / "results" / run.folder
    shutil.copytree(tiny.make(run), folder)
    weights = folder / "weights.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    refused(lambda: interop.network(folder), "content changed")
    weights.unlink()
    refused(lambda: interop.network(folder), "keep_weights: true")
    record = folder / "provenance.json"
    record.write_text(json.dumps({"settings": {}}))
    refused(lambda: interop.network(folder), "does not say what network")
