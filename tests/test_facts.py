"""What is known of data is compared with them: when they are first read, and ever after."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import draw, folder
from small import RECIPES, Tiny, few, write_study
from studies import refused

from pipeline.artifacts.store import read_json, write_json
from pipeline.catalog.datasets import parse_entry
from pipeline.commands.check import problems
from pipeline.data import load
from pipeline.data.npz import write_npz
from pipeline.stages.data import check_scale, compare_facts, facts_file, write_facts


@pytest.fixture
def own(tmp_path: Path) -> Tiny:
    """A study whose data may be changed."""
    tiny = Tiny(write_study(tmp_path / "study"), tmp_path / "results")
    write_facts(tiny.config, "few")
    return tiny


def rewrite(own: Tiny, **changes: np.ndarray) -> None:
    """Put other arrays under the name of the data set's file."""
    path = own.root / "data" / "few.npz"
    write_npz(path, dict(np.load(path)) | changes)


def shuffled(array: np.ndarray) -> np.ndarray:
    return np.asarray(np.random.default_rng(0).permutation(array))


@pytest.mark.parametrize("array", ["y_train", "x_train", "x_test", "y_test"])
def test_data_exchanged_under_one_name_are_refused_by_every_run_that_reads_them(
    own: Tiny, array: str
) -> None:
    own.run(own.dense(0))
    kind, _, split = array.partition("_")
    before = getattr(few(), split)
    rewrite(own, **{array: shuffled((before.images if kind == "x" else before.labels).numpy())})
    part = f"{split} {'images' if kind == 'x' else 'labels'}"
    refused(
        lambda: own.run(own.dense(1)), "data set 'few'", str(facts_file(own.config, "few")), part
    )
    assert any(part in line for line in problems(own.config, results=False))


def test_the_same_data_in_another_file_are_the_same(own: Tiny) -> None:
    path = own.root / "data" / "few.npz"
    arrays = dict(np.load(path))
    np.savez_compressed(path, **arrays)
    own.run(own.dense(0))


def test_facts_of_another_entry_are_written_anew(own: Tiny) -> None:
    path = facts_file(own.config, "few")
    facts = read_json(path)
    write_json(path, facts | {"mean": [0.4], "sha256": dict.fromkeys(facts["sha256"], "0")})
    own.run(own.dense(0))  # of other settings than the runs that those facts stood for
    assert read_json(path) == facts


@pytest.mark.parametrize("wrong", [{}, {"sha256": None}, []])
def test_damaged_facts_are_told(own: Tiny, wrong: Any) -> None:
    write_json(facts_file(own.config, "few"), wrong)
    refused(lambda: own.run(own.dense(0)), "facts.json: damaged", "rm ")


def test_a_photograph_exchanged_added_or_emptied_is_noticed(tmp_path: Path) -> None:
    place = folder(tmp_path / "shapes")
    entry = {
        "kind": "image_folder", "path": str(place), "classes": 4, "size": 24, "train_images": 48,
        "test_images": 16, "mean": [0.6] * 3, "std": [0.3] * 3, "flip": True,
    }  # fmt: skip
    root = write_study(tmp_path / "study")
    write_json(root / "config" / "datasets.yaml", {"few": entry})
    own = Tiny(root, tmp_path / "results")
    write_facts(own.config, "few")

    def compare() -> None:
        compare_facts(own.config, load(own.config.datasets["few"], ".", download=False))

    compare()
    image = place / "train" / "disc" / "000.jpg"
    before = image.read_bytes()
    image.write_bytes(before + b"\0")
    refused(compare, "data set 'few'", "train files")
    image.write_bytes(before)
    compare()
    image.rename(image.with_name("other.jpg"))
    refused(compare, "train files")
    (place / "train" / "disc" / "other.jpg").rename(image)
    image.write_bytes(b"")
    refused(compare, str(image), "empty")


# -- mean and std ----------------------------------------------------------------------------------


def entry(**changes: Any) -> dict[str, Any]:
    return {
        "kind": "npz", "path": "x.npz", "classes": 3, "channels": 3, "size": 8, "train_images": 6,
        "test_images": 4, "mean": [0.5] * 3, "std": [0.2] * 3, "flip": False, "pad": 0,
    } | changes  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mean": [125.3, 123.0, 113.9], "std": [63.0, 62.1, 66.7]}, ("mean: 125.3", "255")),
        ({"mean": [0.5, 0.5, -0.1]}, ("mean: -0.1",)),  # of pixels from -1 to 1
        ({"std": [0.2, 63.0, 0.2]}, ("std: 63.0", "at most 0.5")),
        ({"mean": [0.0] * 3, "std": [1.0, 1.0, 0.6]}, ("std: 1.0", "at most 0.5")),
    ],
)
def test_mean_and_std_are_of_pixels_from_0_to_1(
    changes: dict[str, Any], words: tuple[str, ...]
) -> None:
    refused(lambda: parse_entry("mine", entry(**changes)), "config/datasets.yaml: mine: ", *words)
    parse_entry("mine", entry(mean=[0.0, 1.0, 0.5], std=[0.5, 0.01, 0.2]))
    parse_entry("mine", entry(mean=[0.0] * 3, std=[1.0] * 3))  # pixels as they are


@pytest.mark.parametrize(
    "changes",
    [
        {"mean": [1 - 0.3058]},  # of the inverted images
        {"std": [0.3761**2 / 2]},  # the variance of something
        {"mean": [0.0], "std": [0.01]},
    ],
)
def test_mean_and_std_that_do_not_normalise_the_images_are_refused(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    root = write_study(tmp_path / "study", recipes=RECIPES)
    path = root / "config" / "datasets.yaml"
    declared = read_json(path)["few"]
    if "std" not in changes:
        changes = changes | {"std": [0.15]}
    write_json(path, {"few": declared | changes})
    own = Tiny(root, tmp_path / "results")
    refused(lambda: write_facts(own.config, "few"), "data set 'few'", "mean 0.30", "std 0.37")
    assert not facts_file(own.config, "few").exists()
    assert any("do not normalise" in line for line in problems(own.config, results=False))


def test_customary_constants_are_accepted(tmp_path: Path) -> None:
    """ImageNet's, a half for both, and none, on digits, which are darker than photographs."""
    root = write_study(tmp_path / "study")
    path = root / "config" / "datasets.yaml"
    declared = read_json(path)["few"]
    for mean, std in ((0.485, 0.229), (0.5, 0.5), (0.0, 1.0), (0.3058, 0.3761)):
        write_json(path, {"few": declared | {"mean": [mean], "std": [std]}})
        own = Tiny(root, tmp_path / "results")
        check_scale(load(own.config.datasets["few"], "."))


def test_an_image_that_cannot_be_read_is_told_when_the_data_are_looked_at(tmp_path: Path) -> None:
    place = folder(tmp_path / "shapes", train=2, test=2)
    wrong = place / "val" / "disc" / "001.JPEG"
    wrong.write_bytes(b"no image at all")
    info = parse_entry(
        "shapes",
        {
            "kind": "image_folder", "path": str(place), "classes": 4, "size": 24, "train_images": 8,
            "test_images": 8, "mean": [0.6] * 3, "std": [0.3] * 3, "flip": True,
        },
    )  # fmt: skip
    refused(lambda: check_scale(load(info, ".")), str(wrong), "cannot be read as an image")
    draw("disc", 30, 30, random.Random(0)).save(wrong)
    check_scale(load(info, "."))
