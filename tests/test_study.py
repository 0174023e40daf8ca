"""Studies: every mistake is one line before any job, and each protocol switch does what it says."""

from __future__ import annotations

import copy
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import forks
import pytest
from micro import environment
from studies import BASE, ROOT, STUDY, config, digests, graph, raw, recipes, refused

from pipeline.errors import UserError
from pipeline.runs import Curve, ImpBlock, Sparse, parse
from pipeline.runs.mask import mask_target, rounds_for, target_rounds
from pipeline.study import outputs as kinds
from pipeline.study.call import begin
from pipeline.study.config import FROZEN, Config, freeze, frozen, read
from pipeline.study.graph import Graph
from pipeline.study.outputs.base import Cells
from pipeline.study.outputs.diversity import Diversity

# -- mistakes in a study -------------------------------------------------------------------

PLACE = "config/studies/mine.yaml: experiments: one"
EXPERIMENTS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "unknown key": ({"sparsites": [0.9]}, ["unknown key 'sparsites'", "did you mean 'sparsities'?"]),
    "unknown data set": (
        {"dataset": "cifar11"}, ["unknown data set 'cifar11'", "did you mean 'cifar10'?"]
    ),
    "data set a path": ({"dataset": "../x"}, ["unknown data set '../x'", "allowed: cifar10"]),
    "data set a number": ({"dataset": 10}, ["dataset: expected text, got 10"]),
    "REPAIR at blocks without blocks": (
        {"model": "vgg11", "connectivity": "line-blocks"},
        ["connectivity: line-blocks: corrections: repair-blocks: vgg11 has no blocks"],
    ),
    "everything withheld": (
        {"validation": 50_000}, ["validation: 50,000 of the 50,000 training images of cifar10"]
    ),
    "a number withheld twice": (
        {"dataset": "cifar10+validation=5", "validation": 5}, ["expected a number behind"]
    ),
    "a number withheld in words": ({"dataset": "cifar10+validation=x"}, ["expected a number behind"]),
    "unknown model": ({"model": "resnet21"}, ["unknown model 'resnet21'", "'resnet20'"]),
    "unknown method": ({"methods": ["naif"]}, ["methods: unknown method 'naif'", "'naive'"]),
    "unknown recipe": ({"sparse": "spars"}, ["sparse: unknown sparse recipe 'spars'"]),
    "unknown setting": (
        {"dense": {"recipe": "dense", "epohcs": 3}}, ["dense: unknown key 'epohcs'", "'epochs'"]
    ),
    "setting out of bounds": (
        {"sparse": {"recipe": "sparse", "momentum": 1}}, ["sparse: momentum: 1.0 is not allowed"]
    ),
    "sparsity 0": ({"sparsities": [0]}, ["sparsities[0]: 0.0 is not allowed", "(0, 1)"]),
    "sparsity 1": ({"sparsities": [0.5, 1]}, ["sparsities[1]: 1.0 is not allowed", "(0, 1)"]),
    "sparsity in percent": ({"sparsities": [90]}, ["sparsities[0]: 90.0 is not allowed"]),
    "sparsity negative": ({"sparsities": [-0.5]}, ["sparsities[0]: -0.5 is not allowed"]),
    "sparsity no number": ({"sparsities": [float("nan")]}, ["sparsities[0]: nan is not allowed"]),
    "sparsity text": ({"sparsities": ["0.9"]}, ["sparsities[0]: expected a number, got '0.9'"]),
    "sparsity too fine": ({"sparsities": [0.1234567]}, ["sparsities: 0.1234567: at most six"]),
    "sparsity tiny": ({"sparsities": [1e-7]}, ["sparsities: 1e-07: at most six digits"]),
    "sparsity nearly 1": ({"sparsities": [0.9999999]}, ["at most six digits"]),
    "sparsity twice": ({"sparsities": [0.9, 0.90]}, ["sparsities: every value may stand once"]),
    "no list of sparsities": ({"sparsities": 0.9}, ["sparsities: expected a list, got 0.9"]),
    "rewind epoch at T": ({"rewind_epochs": [200]}, ["rewind_epochs: 200 must lie below T = 200"]),
    "rewind epoch beyond a changed T": (
        {"dense": {"recipe": "dense-svhn", "epochs": 40}, "rewind_epochs": [40]},
        ["rewind_epochs: 40 must lie below T = 40"],
    ),
    "rewind epoch negative": ({"rewind_epochs": [-1]}, ["rewind_epochs[0]: -1 is not allowed"]),
    "rewind epoch real": ({"rewind_epochs": [1.5]}, ["expected a whole number, got 1.5"]),
    "rewind epoch huge": ({"rewind_epochs": [10**30]}, ["rewind_epochs[0]:", "too large"]),
    "matching epoch beyond T": ({"matching_epochs": [201]}, ["201 must not exceed T = 200"]),
    "matching epoch 0": ({"matching_epochs": [0]}, ["matching_epochs[0]: 0 is not allowed"]),
    "impossible width": ({"width": 0.3}, ["width:", "16 x width must be a whole number"]),
    "width 0": ({"width": 0}, ["width: 0.0 is not allowed"]),
    "width infinite": ({"width": float("inf")}, ["width: inf is not allowed"]),
    "width huge": ({"width": 1e300}, ["width: 1e+300 is not allowed"]),
    "width too small": ({"width": 1 / 32}, ["1 or more"]),
    "one seed twice in a pair": ({"pairs": [[0, 0]]}, ["pairs: [0, 0]: a and b must be different"]),
    "pair twice": ({"pairs": [[0, 1], [0, 1]]}, ["pairs: every value may stand once"]),
    "pair of three": ({"pairs": [[0, 1, 2]]}, ["pairs[0]: expected 2 values"]),
    "pair no list": ({"pairs": [0, 1]}, ["pairs[0]: expected a list, got 0"]),
    "seed negative": ({"pairs": [[0, -1]]}, ["pairs[0][1]: -1 is not allowed"]),
    "no pairs": ({"pairs": []}, ["pairs: at least one pair [a, b] of seeds"]),
    "method twice": ({"methods": ["lth", "lth"]}, ["methods: every value may stand once"]),
    "no replicates": ({"replicates": 0}, ["replicates: 0 is not allowed"]),
    "replicates without end": ({"replicates": 10**12}, ["replicates: 1000000000000 is not allowed"]),
    "mask of other shapes": (
        {"mask_from": {"dataset": "cifar100"}},
        ["mask_from: cifar100 and cifar10 differ in channels, size or classes: (3, 32, 100)"],
    ),
    "mask of unknown data": ({"mask_from": {"dataset": "x"}}, ["mask_from: unknown data set 'x'"]),
    "mask's data a list": ({"mask_from": {"dataset": ["svhn"]}}, ["unknown data set ['svhn']"]),
    "mask's unknown recipe": (
        {"mask_from": {"dense": "desne"}}, ["mask_from: dense: unknown dense recipe 'desne'"]
    ),
    "mask's unknown key": ({"mask_from": {"data": "svhn"}}, ["mask_from: unknown key 'data'"]),
    "mask_from text": ({"mask_from": "svhn"}, ["mask_from: expected a mapping"]),
    "IMP rewinds beyond T": (
        {"imp": {"recipe": "imp-rewind", "rewind_epoch": 200}},
        ["imp: rewind_epoch must lie below T = 200"],
    ),
    "extends nothing": ({"extends": "two"}, ["extends: unknown experiment 'two'"]),
    "extends itself": ({"extends": "one"}, ["extends: 'one' leads back to itself"]),
}  # fmt: skip


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_each_mistake_in_an_experiment_is_one_line(name: str) -> None:
    wrong, words = EXPERIMENTS[name]
    refused(lambda: config({"one": BASE | wrong}), PLACE, *words)


CONNECTED = {"kind": "interpolation", "experiments": ["one"]}
PLANE = {"kind": "plane", "experiments": ["one"], "sparsity": 0.8, "rewind_epoch": 10}
GRID = {"kind": "rewind-grid", "experiments": ["one"]}
DIVERSE = {"kind": "diversity", "experiments": ["one"], "sparsity": 0.8, "rewind_epoch": 10,
           "imp_seeds": [0, 2]}  # fmt: skip
OUTPUTS: dict[str, tuple[object, list[str]]] = {
    "no mapping": ("rewind-grid", ["expected a mapping"]),
    "no kind": ({"experiments": ["one"]}, ["unknown kind None", "allowed: accuracy-vs-alignment"]),
    "unknown kind": (GRID | {"kind": "grid"}, ["unknown kind 'grid'", "rewind-grid"]),
    "two metrics in a figure": (
        GRID | {"kind": "accuracy-vs-rewind", "metrics": ["top1", "top5"]},
        ["one of top1, top5 and validation"],
    ),
    "two metrics by matching epoch": (
        GRID | {"kind": "early-matching", "metrics": ["top1", "top5"]}, ["one of top1, top5 and validation"]
    ),
    "no metrics": (GRID | {"metrics": []}, ["metrics: name at least one"]),
    "unknown metric": (GRID | {"metrics": ["top3"]}, ["unknown value 'top3'", "top1, top5"]),
    "kind a list": (GRID | {"kind": ["plane"]}, ["unknown kind ['plane']"]),
    "unknown key": (GRID | {"sparsity": [0.8]}, ["unknown key 'sparsity'", "'sparsities'"]),
    "no experiments": ({"kind": "rewind-grid"}, ["experiments: name at least one"]),
    "unknown experiment": (GRID | {"experiments": ["on"]}, ["unknown experiment 'on'", "'one'"]),
    "experiment twice": (GRID | {"experiments": ["one", "one"]}, ["every value may stand once"]),
    "sparsity not declared": (GRID | {"sparsities": [0.9]}, ["sparsities: 0.9 is not declared by"]),
    "rewind epoch not declared": (GRID | {"rewind_epochs": [5]}, ["rewind_epochs: 5 is not declared"]),
    "validation without images": (
        GRID | {"metrics": ["validation"]}, ["'one' withholds no images", "as validation"]
    ),
    "method not declared": (GRID | {"methods": ["random-permutation"]}, ["is not declared"]),
    "experiment without cells": (GRID | {"experiments": ["empty"]}, ["'empty' declares no sparse"]),
    "curves without pairs": (CONNECTED | {"experiments": ["none"]}, ["'none' declares no pairs"]),
    "barriers without pairs": (
        {"kind": "imp-barrier", "experiments": ["none"]}, ["'none' declares no pairs"]
    ),
    "other correction": (CONNECTED | {"corrections": ["repiar"]}, ["unknown value 'repiar'"]),
    "correction not measured": (
        CONNECTED | {"experiments": ["few"], "corrections": ["repair"]},
        ["connectivity recipe 'few': corrections: unknown correction 'repair'", "allowed: none"],
    ),
    "split not measured": (
        CONNECTED | {"experiments": ["few"], "corrections": ["none"], "split": "train"},
        ["connectivity recipe 'few': splits: unknown split 'train'", "allowed: test"],
    ),
    "barrier's split not measured": (
        {"kind": "imp-barrier", "experiments": ["few"]}, ["splits: unknown split 'train'"]
    ),
    "plane's correction not measured": (
        PLANE | {"experiments": ["few"]}, ["corrections: unknown correction 'reset'"]
    ),
    "plane's method not declared": (PLANE | {"method": "perm"}, ["method: unknown method 'perm'"]),
    "plane's run not declared": (PLANE | {"sparsity": 0.9}, ["declares no run at sparsity 0.9"]),
    "plane without permutation": (PLANE | {"method": "naive"}, ["declares no run"]),
    "plane's pair": (PLANE | {"pair": 3}, ["pair: the experiment has 2 pairs"]),
    "diversity of one": (DIVERSE, ["'one' gives 1 runs for 'lth'", "at least 2"]),
    "diversity of what is not declared": (
        DIVERSE | {"sparsity": 0.7}, ["declares no run at sparsity 0.7 and rewind epoch 10"]
    ),
    "diversity of an unknown block": (
        DIVERSE | {"block_sparsities": {"oen": 0.8}}, ["unknown block 'oen'", "'one'"]
    ),
    "diversity's seeds twice": (DIVERSE | {"imp_seeds": [0, 0]}, ["every value may stand once"]),
    "claims on nothing": ({"kind": "claims"}, ["outputs: name at least one"]),
    "claims on the unknown": (
        {"kind": "claims", "outputs": ["table_x"]}, ["outputs: unknown table or figure 'table_x'"]
    ),
    "a line of a network that it does not fit": (
        {"kind": "interpolation", "experiments": ["mlp"]},
        ["connectivity: line: corrections: repair does not fit 'mlp'", "allowed: none, reset"],
    ),
    "claims on claims": ({"kind": "claims", "outputs": ["out"]}, ["unknown table or figure 'out'"]),
    "claims on reuse": (
        {"kind": "claims", "outputs": ["fine"], "reuse": ["x"]}, ["reuse: unknown experiment 'x'"]
    ),
}  # fmt: skip


def _with_output(name: str, entry: object) -> Config:
    own = recipes()
    own["connectivity"]["few"] = {"corrections": ["none"], "splits": ["test"]}
    experiments = {
        "one": BASE,
        "empty": BASE | {"sparsities": []},
        "none": {"dataset": "digits"},
        "few": BASE | {"connectivity": "few"},
        "mlp": BASE | {"model": "mlp", "dataset": "digits"},
    }
    return config(experiments, {"fine": GRID, name: entry}, recipes=own)


@pytest.mark.parametrize("name", OUTPUTS)
def test_each_mistake_in_a_table_or_figure_is_one_line(name: str) -> None:
    wrong, words = OUTPUTS[name]
    place = "config/studies/mine.yaml: outputs: out"
    refused(lambda: _with_output("out", wrong), place, *words)


@pytest.mark.parametrize("kind", [n for n, kind in kinds.KINDS.items() if issubclass(kind, Cells)])
def test_an_output_of_cells_without_runs_is_refused(kind: str) -> None:
    wrong = {"kind": kind, "experiments": ["empty"]}
    refused(lambda: _with_output("out", wrong), "'empty' declares no sparse runs")


@pytest.mark.parametrize("name", sorted(kinds.RULES))
def test_no_output_takes_the_name_of_a_target(name: str) -> None:
    refused(lambda: _with_output(name, GRID), f"{name!r} is a target of the workflow")


NAMED = re.compile(r"(?m)^(?:rule|use rule \w+ as) (\w+)(?::| with:)")


def test_the_names_of_all_rules_are_taken() -> None:
    files = [ROOT / "Snakefile", *(ROOT / "workflow" / "rules").glob("*.smk")]
    rules = {name for file in files for name in NAMED.findall(file.read_text())}
    assert {"all", "tables", "sparse"} <= rules == kinds.RULES


def test_every_kind_of_output_is_declared_in_some_study() -> None:
    shown = {
        output.kind
        for name in ("tiny", "paper", "sharma-tiny")
        for output in read(ROOT, {"study": name}).outputs.values()
    }
    assert shown == kinds.KINDS.keys()


WHOLE: dict[str, tuple[dict[str, Any], list[str]]] = {
    "empty study": ({"study": None}, ["config/studies/mine.yaml: key 'experiments' is missing"]),
    "study a list": ({"study": [1]}, ["config/studies/mine.yaml: expected a mapping"]),
    "study text": ({"study": "x"}, ["config/studies/mine.yaml: expected a mapping"]),
    "unknown section": ({"study": STUDY | {"output": {}}}, ["unknown key 'output'", "'outputs'"]),
    "no experiments": ({"study": {"experiments": {}}}, ["experiments: declare at least one"]),
    "experiments a list": ({"study": {"experiments": [BASE]}}, ["experiments: expected a mapping"]),
    "experiment a number": ({"study": {"experiments": {"one": 1}}}, ["one: expected a mapping"]),
    "experiment's name a path": (
        {"study": {"experiments": {"../one": BASE}}}, ["name '../one' is not allowed"]
    ),
    "experiment's name a number": ({"study": {"experiments": {1: BASE}}}, ["expected text as key"]),
    "output's name a path": (
        {"study": STUDY | {"outputs": {"/etc/x": GRID}}}, ["outputs: name '/etc/x' is not allowed"]
    ),
    "title a list": ({"study": STUDY | {"title": ["x"]}}, ["title: expected text"]),
    "unknown protocol": (
        {"main": {"study": "mine", "protocol": "papre"}},
        ["config.yaml: unknown protocol 'papre'", "did you mean 'paper'? allowed: authors-code"],
    ),
    "protocol a number": ({"main": {"study": "mine", "protocol": 1}}, ["protocol: expected text"]),
    "unknown key in config.yaml": ({"main": {"studdy": "x"}}, ["config.yaml: unknown key 'studdy'"]),
    "study's name a path": ({"main": {"study": "../x"}}, ["study: name '../x' is not allowed"]),
    "study's name a stage": ({"main": {"study": "sparse"}}, ["the name of a folder of runs"]),
    "study's name the data's": ({"main": {"study": "data"}}, ["the name of a folder of runs"]),
    "device": ({"main": {"study": "mine", "device": "gpu"}}, ["device: unknown value 'gpu'"]),
    "results empty": ({"main": {"study": "mine", "results": ""}}, ["results: '' is not allowed"]),
    "results a command": (
        {"main": {"study": "mine", "results": "x; rm -rf ~"}}, ["results: 'x; rm -rf ~' is not"]
    ),
    "results a pattern": ({"main": {"study": "mine", "results": "{x}"}}, ["results: '{x}' is not"]),
    "data root": ({"main": {"study": "mine", "data_root": "a\nb"}}, ["no name of a folder"]),
    "data sets a list": ({"datasets": [1]}, ["config/datasets.yaml: expected a mapping"]),
    "data set's name a path": ({"datasets": {"../x": {}}}, ["name '../x' is not allowed"]),
    "data set's name taken": ({"datasets": {"cifar10": {}}}, ["the name of a built-in data set"]),
    "data set a list": ({"datasets": {"x": [1]}}, ["datasets.yaml: x: expected a mapping"]),
    "data set's key no text": ({"datasets": {"x": {1: 2}}}, ["expected text as key"]),
    "data set's unknown key": (
        {"datasets": {"x": {"knid": 1}}}, ["x: unknown key 'knid'; did you mean 'kind'"]
    ),
    "data set without path": ({"datasets": {"x": {"kind": "npz"}}}, ["'path' is missing"]),
    "tolerance of an unknown model": (
        {"recipes": recipes() | {"protocols": {"paper": {"sparsity_tolerance": {"resnet2": 0.1}}}}},
        ["sparsity_tolerance: unknown model 'resnet2'", "'resnet20'"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WHOLE)
def test_each_mistake_elsewhere_is_one_line(name: str) -> None:
    parts, words = WHOLE[name]
    refused(lambda: Config(raw(**parts)).outputs, *words)


OWN = {"kind": "npz", "path": "own.npz", "classes": 10, "channels": 1, "size": 8, "train_images": 50,
       "test_images": 20, "mean": [0.5], "std": [0.5], "flip": False, "pad": 1}  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("classes", 10**400), ("classes", 1), ("classes", True), ("channels", 1.0), ("size", "8"),
        ("mean", [10**400]), ("mean", [float("nan")]), ("mean", [0.5, 0.5]), ("mean", 0.5),
        ("std", [0]), ("std", [float("inf")]), ("std", ["x"]), ("flip", 1), ("pad", 9),
        ("pad", -1), ("path", ""), ("path", "a\nb"), ("path", ["x"]), ("kind", "pickle"),
        ("kind", ["npz"]), ("train_images", None), ("mean", [[[[]]]]),
    ],
)  # fmt: skip
def test_a_data_set_of_ones_own_is_checked(key: str, value: object) -> None:
    assert config(datasets={"own": OWN}).datasets["own"].classes == 10
    refused(
        lambda: config(datasets={"own": OWN | {key: value}}), "config/datasets.yaml: own: ", key
    )


def test_masks_are_taken_from_data_of_the_same_shape_only() -> None:
    datasets = {"own": OWN, "turned": OWN, "other": OWN | {"classes": 9}}
    experiment = BASE | {"dataset": "own", "mask_from": {"dataset": "turned"}}
    assert (
        config({"one": experiment}, datasets=datasets).experiments["one"].mask_dataset == "turned"
    )
    experiment |= {"mask_from": {"dataset": "other"}}
    refused(lambda: config({"one": experiment}, datasets=datasets), "(1, 8, 9) and (1, 8, 10)")


# -- on disk and on the command line -------------------------------------------------------


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The files of the workflow, to be changed."""
    for name in ("Snakefile", "config.yaml", "environment.yml"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("config", "workflow", "profiles"):
        shutil.copytree(ROOT / name, tmp_path / name)
    return tmp_path


def test_every_study_is_read_under_every_protocol() -> None:
    for study in (ROOT / "config" / "studies").glob("*.yaml"):
        for protocol in ("paper", "authors-code"):
            found = read(ROOT, {"study": study.stem, "protocol": protocol})
            assert found.outputs and found.experiments


def test_files_that_are_missing_or_broken(checkout: Path) -> None:
    refused(
        lambda: read(checkout, {"study": "bad"}), "unknown study 'bad'", "allowed: cells-digits, "
    )
    refused(lambda: read(checkout, {"study": "../../x"}), "unknown study '../../x'")
    refused(lambda: read(checkout, {"study": 5}), "study: expected text, got 5")
    refused(lambda: read(checkout, {"study": "a\nb"}), r"unknown study 'a\nb'")
    refused(lambda: read(checkout, {"stdy": "demo"}), "unknown key 'stdy'", "did you mean 'study'?")
    refused(lambda: read(checkout, {"protocol": None}), "protocol: expected text")
    study = checkout / "config" / "studies" / "demo.yaml"
    for content, words in [
        (b"", "key 'experiments' is missing"),
        (b"\x80\x81", "not text in UTF-8"),
        (b"a: 1\na: 2", "line 2: not valid YAML: key 'a' stands twice"),
        (b"experiments: !!python/object/apply:os.system [id]", "tag"),
        (b"experiments: &x {one: *x}", "recursive"),
    ]:
        study.write_bytes(content)
        refused(lambda: read(checkout), "demo.yaml", words)
    study.unlink()
    refused(lambda: read(checkout), "unknown study 'demo'", "allowed:", "sharma-tiny, thesis, tiny")
    for name in ("config/datasets.yaml", "config/recipes.yaml", "config.yaml"):
        (checkout / name).unlink()
        if "recipes" in name or name == "config.yaml":
            refused(lambda: read(checkout, {"study": "tiny"}), f"{name}: no such file")
    refused(lambda: read(checkout / "nowhere"), "no such file")


SEED = "dense/digits/resnet20-w0.5/dense-digits/seed0"


def test_a_mistake_in_a_study_ends_the_call_before_any_job(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the Snakefile begins with; the message that it prints as one line."""
    study = checkout / "config" / "studies" / "demo.yaml"
    changed = study.read_text().replace("[0.95, 0.97]", "[0.8, 1.5]")
    assert changed != study.read_text()
    study.write_text(changed)
    before = sorted(checkout.rglob("*"))
    monkeypatch.chdir(checkout)
    refused(lambda: begin(checkout, {}), "config/studies/demo.yaml: ", "1.5")
    assert sorted(checkout.rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["-n", "--config", "study=bad"], "error: command line: unknown study 'bad'"),
        (["-n", "results/sparse/mnist/x/metrics.json"], "error: "),
        ([], "error: say how many processors jobs may use: snakemake -c2"),
        (["-c1", "tabels"], "error: 'tabels': neither a table"),
        (["-c1", f"results/{SEED}"], f"error: 'results/{SEED}' is no file that a job makes; "),
        (
            ["-c1", "--config", "study=tiny", "tables"],
            "error: 'tables' stands behind --config, where KEY=VALUE is expected; targets come first: "
            "snakemake tables -c1 --config study=tiny",
        ),
    ],
)
def test_the_command_line_tells_a_mistake_in_one_line(
    checkout: Path, words: list[str], expected: str
) -> None:
    done = forks.called("snakemake", *words, folder=checkout, environment=environment())
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 1
    assert len(lines) == 1 and lines[0].startswith(expected), done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert not (checkout / "results").exists()


def test_a_submitted_study_is_read_as_it_was(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = read(checkout)
    path = freeze(before, checkout / "frozen")
    monkeypatch.setenv(FROZEN, str(path))
    (checkout / "config" / "studies" / "demo.yaml").unlink()
    after = frozen()
    assert after is not None and after.raw == before.raw
    assert after.experiments == before.experiments and after.outputs == before.outputs


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "5",
        "{}",
        '{"main": {}}',
        "{",
        "\x00",
        "[" * 100_000,
        json.dumps(raw() | {"study": 5}),
    ],
    ids=["empty", "list", "number", "mapping", "parts missing", "cut", "binary", "deep", "changed"],
)
def test_a_damaged_submitted_study_is_refused(
    content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "study.json"
    path.write_text(content)
    monkeypatch.setenv(FROZEN, str(path))
    refused(frozen)


# -- experiments ---------------------------------------------------------------------------


def test_an_experiment_extends_another() -> None:
    found = config({"one": BASE, "two": {"extends": "one", "width": 4}}).experiments
    assert (found["two"].width, found["two"].pairs) == (4.0, ((0, 1), (2, 3)))
    assert found["one"].width == 1.0


def test_the_rounds_of_the_paper() -> None:
    assert [rounds_for(s) for s in (0.8, 0.9, 0.95, 0.97)] == [8, 11, 14, 16]
    assert [rounds_for(1 - 0.8**n) for n in range(1, 30)] == list(range(1, 30))
    assert rounds_for(0.999999, 0.01) == 1375  # the most that bounds allow
    assert rounds_for(0.5, 0.99) == 1
    assert rounds_for(1e-12) == 1  # a path names a chain of one round or more


def test_a_tolerance_stops_at_the_first_round_within_it() -> None:
    assert [mask_target(s, 0.2, 0.005) for s in (0.8, 0.9, 0.95, 0.97)] == [
        "S0.80", "S0.90", "P13", "S0.97",
    ]  # fmt: skip
    assert mask_target(0.95, 0.2, 0) == "S0.95"
    assert mask_target(0.95, 0.2, 0.2) == "P7"  # 1 - 0.8^7 = 0.79 is the first above 0.75
    assert mask_target(0.1, 0.2, 0.5) == "S0.10"  # one round is the least
    for sparsity in (0.5, 0.8, 0.95, 0.999):
        for tolerance in (0, 0.001, 0.005, 0.1):
            target = mask_target(sparsity, 0.2, tolerance)
            reached = 1 - 0.8 ** target_rounds(target, 0.2)
            assert reached >= sparsity - tolerance - 1e-9
            assert target_rounds(target, 0.2) <= rounds_for(sparsity)
            assert target.startswith("S") or 1 - 0.8 ** (int(target[1:]) - 1) < sparsity - tolerance


def test_cells_are_the_product_of_what_is_declared() -> None:
    one = config({"one": BASE | {"matching_epochs": [50, 200], "replicates": 2}}).experiments["one"]
    cells = list(one.cells())
    # 2 pairs x 2 sparsities x 2 rewind epochs x (lth + naive + permuted at 2 epochs) x 2 replicates
    assert len(cells) == len(set(cells)) == 2 * 2 * 2 * (1 + 1 + 2) * 2
    for cell in cells:
        a, b = cell.pair
        lth = cell.method == "lth"
        assert (cell.run.init.seed, cell.run.mask.dense.seed) == (a if lth else b, a)
        assert (cell.run.match is not None) == (cell.method == "permuted")
        assert (cell.run.rewind, cell.run.epochs) == (cell.rewind_epoch, 200 - cell.rewind_epoch)
        if cell.run.match:  # at T there is one matching, whether T is asked for or nothing
            assert cell.run.match.epoch == {50: 50, 200: None}[cell.matching_epoch]
            assert (cell.run.match.a.seed, cell.run.match.b.seed) == (a, b)
    assert len(list(one.cells((0.8,), (10,), ("lth",)))) == 4


def test_a_mask_from_other_data_is_named_by_it() -> None:
    experiment = BASE | {
        "dataset": "svhn", "dense": "dense-svhn", "mask_from": {"dataset": "cifar10", "dense": "dense"}
    }  # fmt: skip
    for cell in config({"one": experiment}).experiments["one"].cells():
        assert (cell.run.init.dataset, cell.run.init.recipe) == ("svhn", "dense-svhn")
        assert (cell.run.mask.dense.dataset, cell.run.mask.dense.recipe) == ("cifar10", "dense")
        assert cell.run.epochs == 50 - cell.rewind_epoch
        assert "/imp-ft@cifar10@dense/" in cell.run.key


# -- protocols -----------------------------------------------------------------------------

CHAIN = {"extends": "one", "model": "vgg11"}
FIGURES = {
    "figure_3": {"kind": "interpolation", "experiments": ["one"]},
    "figure_4a": {"kind": "imp-barrier", "experiments": ["one"]},
}


def _under(protocol: str, **own: Any) -> dict[str, str]:
    """Digests of a study's runs by path, under a protocol of the repository or one of one's own."""
    every = recipes()
    every["protocols"]["own"] = own
    return digests(graph({"one": BASE, "vgg": CHAIN}, FIGURES, protocol=protocol, recipes=every))


def _stages(paths: set[str]) -> set[str]:
    return {path.split("/")[0] for path in paths}


def test_the_authors_rewind_epoch_is_one_epoch_later_and_as_many_sparse_epochs() -> None:
    text = config(protocol="paper").experiments["one"].cells()
    code = config(protocol="authors-code").experiments["one"].cells()
    for ours, theirs in zip(text, code, strict=True):
        assert (ours.rewind_epoch, ours.method) == (theirs.rewind_epoch, theirs.method)
        assert (ours.run.rewind, ours.run.epochs) == (ours.rewind_epoch, 200 - ours.rewind_epoch)
        assert (theirs.run.rewind, theirs.run.epochs) == (ours.rewind_epoch + 1, ours.run.epochs)


def test_the_offset_counts_towards_T() -> None:
    experiment = {"one": BASE | {"rewind_epochs": [199]}}
    assert config(experiment).experiments["one"].rewind_epochs == (199,)
    refused(
        lambda: config(experiment, protocol="authors-code"),
        PLACE, "rewind_epochs: 199 (200 trained) must lie below T = 200",
    )  # fmt: skip


def test_the_settings_of_the_authors_code_reach_the_recipes() -> None:
    text, code = (config(protocol=name) for name in ("paper", "authors-code"))
    (ours, theirs) = (c.recipes.resolve("imp", c.experiments["one"].imp) for c in (text, code))
    assert (ours.momentum, ours.weight_decay, ours.prunable) == (0.9, 5e-4, "all")
    assert (theirs.momentum, theirs.weight_decay, theirs.prunable) == (0, 0, "no-shortcut")
    assert (ours.lr, ours.epochs) == (theirs.lr, theirs.epochs) == (0.01, 50)
    (ours, theirs) = (c.recipes.resolve("match", c.experiments["one"].match) for c in (text, code))
    assert (ours.taps, ours.std, ours.similarity) == ("last", "pooled", "correlation")
    assert (theirs.taps, theirs.std, theirs.similarity) == ("authors", "batch-mean", "correlation")
    for kind in ("dense", "sparse", "connectivity"):
        assert getattr(text.experiments["one"], kind) == getattr(code.experiments["one"], kind)
    # A method with a matching recipe of its own is under the protocol too.
    methods = {"one": BASE | {"methods": ["random-permutation"]}}
    (way,) = config(methods, protocol="authors-code").experiments["one"].ways.values()
    assert way.match == "random+std=batch-mean+taps=authors"


def test_95_percent_on_resnet20_alone_stops_early_in_the_authors_code() -> None:
    experiments = {"one": BASE | {"sparsities": [0.8, 0.9, 0.95, 0.97]}, "vgg": CHAIN}
    found = config(experiments, protocol="authors-code").experiments
    targets = {n: [e.mask(0, s).target for s in e.sparsities] for n, e in found.items()}
    assert targets == {
        "one": ["S0.80", "S0.90", "P13", "S0.97"], "vgg": ["S0.80", "S0.90", "S0.95", "S0.97"],
    }  # fmt: skip
    assert config(experiments).experiments["one"].mask(0, 0.95).target == "S0.95"


def test_withheld_images_are_withheld_from_every_run_of_an_experiment() -> None:
    """The data set's name says so, in every path; without the setting nothing is another."""
    experiments = {"one": BASE, "apart": BASE | {"validation": 200}}
    found = config(experiments)
    graph = Graph(found)
    ours, whole = (
        graph.closure([
            *(cell.run for cell in found.experiments[name].cells()),
            *(Curve(match, found.experiments[name].connectivity)
              for _, _, match in found.experiments[name].matchings()),
        ])
        for name in ("apart", "one")
    )  # fmt: skip
    assert {dense.dataset for run in ours for dense in run.networks} == {"cifar10+validation=200"}
    assert {dense.dataset for run in whole for dense in run.networks} == {"cifar10"}
    assert len(ours) == len(whole) and len({run.stage for run in ours}) >= 6
    assert graph.facts("cifar10+validation=200")["train_images"] == 49_800
    alone = Graph(config({"one": BASE}))
    assert [alone.digest(run) for run in whole] == [graph.digest(run) for run in whole]
    for run in ours:  # asked for by its path, in a study that declares none of them
        assert alone.digest(parse(run.stage, run.key)) == graph.digest(run)


def test_masks_from_other_data_withhold_none_of_it() -> None:
    def of(dataset: str) -> tuple[str, str]:
        entry = BASE | {"dataset": "svhn", "mask_from": {"dataset": dataset}, "validation": 9}
        one = config({"one": entry}).experiments["one"]
        return one.dataset, one.mask_dataset

    assert of("cifar10") == ("svhn+validation=9", "cifar10")
    assert of("svhn") == ("svhn+validation=9", "svhn+validation=9")


@pytest.mark.parametrize(
    ("switch", "differing"),
    [
        ({"rewind_offset": 1}, {"sparse", "snapshot"}),
        ({"imp": {"momentum": 0}}, {"imp", "mask", "solution", "sparse", "imp-barrier"}),
        (
            {"imp": {"prunable": "no-shortcut"}},
            {"imp", "mask", "solution", "sparse", "imp-barrier"},
        ),
        ({"sparsity_tolerance": {"resnet20": 0.005}}, {"imp", "mask", "sparse"}),
        ({"match": {"taps": "authors"}}, {"match", "sparse", "curve"}),
        ({"match": {"std": "batch-mean"}}, {"match", "sparse", "curve"}),
        ({"sparse": {"lr": 0.5}}, {"sparse"}),
        ({"connectivity": {"points": 3}}, {"curve", "imp-barrier"}),
        (
            {"dense": {"lr": 0.5}},
            {"dense", "imp", "mask", "match", "solution", "sparse", "curve", "imp-barrier"},
        ),
        ({"title": "another"}, set()),
        ({"correction": "none", "barrier_at": 0.5, "barrier_split": "test"}, set()),
    ],
)  # fmt: skip
def test_protocols_share_every_run_on_which_they_do_not_differ(
    switch: dict[str, Any], differing: set[str]
) -> None:
    text, own = _under("paper"), _under("own", **switch)
    shared = text.keys() & own.keys()
    assert all(text[path] == own[path] for path in shared)
    different = _stages((text.keys() | own.keys()) - shared)
    assert different <= differing
    if switch == {"sparsity_tolerance": {"resnet20": 0.005}}:
        # One round less, in a block that exists; the cells of other sparsities and of VGG11 stay.
        alone = text.keys() - own.keys()
        assert alone and all("/resnet20-w1/" in p and "/S0.95" in p for p in alone)
    else:
        assert different == differing
    if switch == {"match": {"taps": "authors"}}:
        assert all("/permuted." in p for p in text.keys() - own.keys() if p.startswith("sparse/"))


def test_what_both_protocols_of_a_table_share() -> None:
    experiments = {"one": BASE | {"rewind_epochs": [9, 10, 11]}}
    text, code = (digests(graph(experiments, protocol=p)) for p in ("paper", "authors-code"))
    shared = text.keys() & code.keys()
    assert shared == {
        *(f"dense/cifar10/resnet20-w1/dense/seed{seed}" for seed in range(4)),
        # k = 10 of the code is 11 epochs of training, as k = 11 of the text is
        *(f"snapshot/cifar10/resnet20-w1/dense/seed{seed}/epoch11" for seed in range(4)),
    }
    assert all(text[path] == code[path] for path in shared)


def test_tables_of_the_papers_protocol_lie_above_those_of_others() -> None:
    assert config(protocol="paper").scope == "mine"
    assert config(protocol="authors-code").scope == "mine/authors-code"


# -- the declared runs can be made ---------------------------------------------------------


@pytest.mark.parametrize("protocol", ["paper", "authors-code"])
def test_every_declared_run_can_be_made(protocol: str) -> None:
    experiments = {"one": BASE, "vgg": CHAIN, "rewound": BASE | {"imp": "imp-rewind"}}
    study = graph(experiments, FIGURES, protocol=protocol)
    runs = study.closure(
        cell.run for one in study.config.experiments.values() for cell in one.cells()
    )
    for run in runs:
        study.check(run)
        assert study.settings(run)["run"] == run.key
    assert any(isinstance(run, ImpBlock) for run in runs) and any(
        isinstance(r, Sparse) for r in runs
    )


def test_a_configuration_does_not_change_what_it_was_made_of() -> None:
    whole = raw()
    before = copy.deepcopy(whole)
    assert Config(whole).outputs
    assert whole == before


def test_an_offset_moves_all_seeds_of_a_study_and_nothing_else() -> None:
    """Pairs and the seeds of ensembles, whether the study names them or leaves them to the kind."""
    plain, moved = (read(ROOT, {"study": "tiny", "seed_offset": by}) for by in (0, 100))
    for name, experiment in plain.experiments.items():
        pairs = tuple((a + 100, b + 100) for a, b in experiment.pairs)
        assert moved.experiments[name] == replace(experiment, pairs=pairs)
    seeds = {
        key: value.imp_seeds for key, value in moved.outputs.items() if value.kind == "diversity"
    }
    assert seeds == {"table_diversity": (100, 102)}
    paper = read(ROOT, {"study": "paper", "seed_offset": 7}).outputs["table_1"]
    assert paper.imp_seeds == tuple(seed + 7 for seed in Diversity.imp_seeds)
    with pytest.raises(UserError, match="command line: seed_offset"):
        read(ROOT, {"study": "tiny", "seed_offset": -1})
