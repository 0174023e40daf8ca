"""The ends of what can be asked for: they work, or are refused with the reason in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from small import RECIPES, STUDY, Tiny, contents, few, write_study

from pipeline import pruning
from pipeline.artifacts.store import read_json
from pipeline.data import Split
from pipeline.data.npz import write_npz
from pipeline.errors import UserError
from pipeline.report import build
from pipeline.runs import Run
from pipeline.weights import read_mask


def study_of(root: Path, recipes: dict[str, Any], **experiments: dict[str, Any]) -> Tiny:
    """A study of experiments that differ from the small one's, with a table of all of them."""
    base = yaml.safe_load(RECIPES)
    for kind, entries in recipes.items():
        base[kind] |= entries
    small = yaml.safe_load(STUDY)["experiments"]["tiny"]
    study = {
        "experiments": {name: small | changes for name, changes in experiments.items()},
        "outputs": {"grid": {"kind": "rewind-grid", "experiments": list(experiments)}},
    }
    write_study(root, yaml.safe_dump(base), yaml.safe_dump(study))
    datasets = root / "config" / "datasets.yaml"
    entries = json.loads(datasets.read_text())
    # Loud enough that PyTorch's initialisation, which damps what passes through it, is no help.
    entries["loud"] = entries["few"] | {"std": [each / 1e6 for each in entries["few"]["std"]]}
    datasets.write_text(json.dumps(entries))
    return Tiny(root, root / "results")


def make_all(study: Tiny) -> dict[str, dict[str, Any]]:
    """Execute all runs of the table; the metrics of those that have some, by path."""
    found = {}
    runs: list[Run] = study.graph.closure(study.graph.outputs(["grid"]))
    for run in runs:
        if run.stage != "snapshot":
            found[f"{run.stage}/{run.key}"] = read_json(study.make(run) / "metrics.json")
        else:
            study.make(run)
    return found


ONE_PAIR: dict[str, Any] = {"pairs": [[0, 1]], "rewind_epochs": [1]}


def test_a_network_that_diverges_is_shown_counted_and_stops_no_other(tmp_path: Path) -> None:
    """VGG11 without BatchNorm at lr 0.08 on loud images, beside a ResNet that trains."""
    wild = {"epochs": 2, "lr": 0.08, "batch_size": 64, "trunk": [0, 1], "evaluate_every": 1}
    calm = wild | {"lr": 0.05}
    study = study_of(
        tmp_path,
        {"dense": {"calm": calm, "high": wild}},
        calm=ONE_PAIR | {"dense": "calm", "sparsities": [0.5]},
        high=ONE_PAIR | {"dense": "high", "model": "vgg11", "dataset": "loud", "sparsities": [0.5]},
    )
    metrics = make_all(study)
    high = {name: found for name, found in metrics.items() if "/vgg11-" in name}
    assert high and all(found["status"] == "diverged" for found in high.values()), high
    others = {name: found for name, found in metrics.items() if name not in high}
    assert others and all(found["status"] == "ok" for found in others.values())
    table = build.table(study.config, "grid").tidy
    counted = table[table["model"] == "vgg11"]
    of = counted.groupby(counted["method"] == "dense")["n_diverged"].agg(list)
    assert of[False] == [1, 1, 1] and of[True] == [2]
    assert (table[table["model"] == "resnet20"]["n_diverged"] == 0).all()
    text = next(p for p in build.write_table(study.config, "grid") if p.suffix == ".md").read_text()
    assert text.count("diverged") >= 3


def test_one_in_a_thousand_weights_at_width_one(tmp_path: Path) -> None:
    study = study_of(
        tmp_path,
        {"imp": {"steep": {"epochs": 1, "batch_size": 64, "fraction": 0.9, "rounds_per_block": 3}}},
        end=ONE_PAIR | {"width": 1, "sparsities": [0.999], "imp": "steep"},
    )
    for name, found in make_all(study).items():
        assert found["status"] == "ok", name
    mask = study.config.experiments["end"].mask(0, 0.999)
    zeros, entries = pruning.count(read_mask(study.path(mask)))
    assert zeros == round(0.999 * entries)


def test_layers_that_were_pruned_away_are_named_in_log_metrics_and_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """At S = 0.998 beside S = 0.5, where every layer keeps weights."""
    steep = {"epochs": 1, "batch_size": 64, "fraction": 0.9, "rounds_per_block": 3}
    study = study_of(
        tmp_path, {"imp": {"steep": steep}},
        both=ONE_PAIR | {"sparsities": [0.5, 0.998], "imp": "steep", "methods": ["lth", "permuted"]},
    )  # fmt: skip
    metrics = make_all(study)
    told = capsys.readouterr().out
    gone = {}
    for sparsity in (0.5, 0.998):
        mask = study.config.experiments["both"].mask(0, sparsity)
        kept = {name: int(m.sum()) for name, m in read_mask(study.path(mask)).items()}
        gone[sparsity] = [name for name, count in kept.items() if not count]
        assert metrics[f"mask/{mask.key}"].get("emptied", []) == gone[sparsity]
    assert not gone[0.5] and gone[0.998]
    assert f"pruned away entirely: {', '.join(gone[0.998])}\n" in told
    for cell in study.config.experiments["both"].cells():
        found = metrics[f"sparse/{cell.run.key}"]
        assert found.get("emptied", []) == gone[cell.sparsity]
    table = build.table(study.config, "grid")
    sparse = table.tidy[table.tidy["method"] != "dense"]
    assert dict(zip(sparse["sparsity"], sparse["n_emptied"], strict=True)) == {0.5: 0, 0.998: 1}
    assert any(note.startswith("In 2 of 4 runs pruning left nothing") for note in table.notes)
    shown = table.layout.to_numpy().ravel().tolist()
    assert sum("(layers gone 1/1)" in text for text in shown) == 2


def test_one_image_per_class_and_one_epoch(tmp_path: Path) -> None:
    """T = 1 and k = 0, which is T = k + 1, too."""
    study = study_of(
        tmp_path,
        {
            "dense": {"once": {"epochs": 1, "lr": 0.01, "batch_size": 10, "trunk": [0]}},
            "imp": {"once": {"epochs": 1, "batch_size": 10, "rounds_per_block": 4}},
            "match": {"once": {"batch_size": 10}},
            "sparse": {"once": {"batch_size": 10}},
        },
        end=ONE_PAIR | {"dense": "once", "imp": "once", "match": "once", "sparse": "once"}
        | {"rewind_epochs": [0], "sparsities": [0.5]},
    )  # fmt: skip
    data = few()
    arrays = {}
    for name, split in (("train", data.train), ("test", data.test)):
        chosen = torch.stack([(split.labels == label).nonzero()[0, 0] for label in range(10)])
        part = Split(split.images[chosen], split.labels[chosen])
        arrays |= {f"x_{name}": part.images.numpy(), f"y_{name}": part.labels.numpy()}
    path = tmp_path / "data" / "few.npz"
    path.unlink()
    write_npz(path, arrays)
    datasets = tmp_path / "config" / "datasets.yaml"
    entry = json.loads(datasets.read_text())
    entry["few"] |= {"train_images": 10, "test_images": 10}
    datasets.write_text(json.dumps(entry))
    study = Tiny(tmp_path, tmp_path / "results")
    metrics = make_all(study)
    assert metrics and all(found["status"] == "ok" for found in metrics.values())
    assert {found["epochs"] for name, found in metrics.items() if name[:6] == "sparse"} == {1}


def test_a_batch_larger_than_the_data_is_refused_with_the_reason(tmp_path: Path) -> None:
    large = {"epochs": 2, "batch_size": 513, "trunk": [0, 1]}
    study = study_of(tmp_path, {"dense": {"large": large}}, end=ONE_PAIR | {"dense": "large"})
    with pytest.raises(UserError, match="513"):
        study.make(study.dense(recipe="large"))


def test_the_last_rewind_epoch_leaves_one_epoch_and_the_one_after_is_refused(
    tmp_path: Path,
) -> None:
    study = study_of(tmp_path / "last", {}, end=ONE_PAIR | {"rewind_epochs": [3]})
    metrics = make_all(study)
    sparse = [found for name, found in metrics.items() if name.startswith("sparse/")]
    assert sparse and all(f["epochs"] == 1 and f["status"] == "ok" for f in sparse)
    with pytest.raises(UserError, match="4 must lie below T = 4"):
        study = study_of(tmp_path / "after", {}, end=ONE_PAIR | {"rewind_epochs": [4]})
        study.graph.outputs(["grid"])


def test_a_network_of_dead_units_is_matched_the_same_way_every_time(tmp_path: Path) -> None:
    """Nearly nothing learnt and most units dead: the permutation is a matter of rule, not luck."""
    study = study_of(
        tmp_path,
        {"dense": {"dead": {"epochs": 1, "lr": 0.5, "batch_size": 64, "weight_decay": 1.0,
                            "trunk": [0]}}},
        end=ONE_PAIR | {"dense": "dead", "model": "vgg11", "rewind_epochs": [0]},
    )  # fmt: skip
    (match,) = {run for run in study.graph.closure(study.graph.outputs(["grid"]))
                if run.stage == "match"}  # fmt: skip
    before = contents(study.make(match))
    groups = read_json(study.path(match, "metrics.json"))["groups"]
    assert sum(group["dead_a"] + group["dead_b"] for group in groups.values()) > 0
    study.run(match)
    assert contents(study.folder(match)) == before
