"""The trial of a network: what cannot live through a study is refused before anything is trained."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from micro import Checkout
from small import RECIPES, STUDY, Tiny, write_study
from studies import refused

from pipeline.artifacts.store import read_json, write_json
from pipeline.commands.check import Check, problems
from pipeline.pruning import full, global_magnitude
from pipeline.runs import Curve, Dense, Match
from pipeline.runs.trial import Trial
from pipeline.stages.trial import hold
from pipeline.study import trials
from pipeline.study.cost import Costs
from pipeline.symmetry import trace

NETS = """
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

def conv(i, o):
    return nn.Conv2d(i, o, 3, padding=1)

def net(channels, classes, first=None, norm=None, last=None):
    return nn.Sequential(
        first or conv(channels, 6), norm or nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), last or nn.Linear(6, classes),
    )

def plain(width, classes, channels, size): return net(channels, classes)

# weights that are made of others
def spectral(width, classes, channels, size): return net(channels, classes, spectral_norm(conv(channels, 6)))
def weight(width, classes, channels, size): return net(channels, classes, weight_norm(conv(channels, 6)))
def cut(width, classes, channels, size):
    return net(channels, classes, prune.l1_unstructured(conv(channels, 6), "weight", 0.5))
def linear(width, classes, channels, size):
    return net(channels, classes, last=spectral_norm(nn.Linear(6, classes)))
def parametrised(width, classes, channels, size):
    return net(channels, classes, last=parametrizations.weight_norm(nn.Linear(6, classes)))

# BatchNorm that REPAIR cannot correct
def no_stats(width, classes, channels, size):
    return net(channels, classes, norm=nn.BatchNorm2d(6, track_running_stats=False))
def no_affine(width, classes, channels, size):
    return net(channels, classes, norm=nn.BatchNorm2d(6, affine=False))
def no_norm(width, classes, channels, size):
    return net(channels, classes, nn.Conv2d(channels, 6, 3, bias=False), nn.Identity())

class Own(nn.Module):
    def __init__(self, channels, classes):
        super().__init__()
        self.body = net(channels, classes)
        self.prepare(classes)
    def prepare(self, classes): pass
    def forward(self, x): return self.body(x)

class Unused(Own):
    def prepare(self, classes): self.norm = nn.BatchNorm2d(3)
def unused(width, classes, channels, size): return Unused(channels, classes)

# what cannot be written and read back
class Expanded(Own):
    def prepare(self, classes): self.register_buffer("gain", torch.ones(1).expand(classes))
    def forward(self, x): return self.body(x) * self.gain
def expanded(width, classes, channels, size): return Expanded(channels, classes)

class Unsaved(Own):
    def prepare(self, classes):
        self.register_buffer("gain", torch.ones(classes), persistent=False)
    def forward(self, x):
        if self.training:
            self.gain += 0.1
        return self.body(x) * self.gain
def unsaved(width, classes, channels, size): return Unsaved(channels, classes)

class Counting(Own):
    def prepare(self, classes): self.steps = 0
    def forward(self, x):
        self.steps += self.training
        return self.body(x) * (1 + self.steps)
def counting(width, classes, channels, size): return Counting(channels, classes)

class Moved(Own):
    _version = 2
    def prepare(self, classes): self.gain = nn.Parameter(torch.linspace(1, 2, classes))
    def _load_from_state_dict(self, state, prefix, metadata, *rest):
        if metadata.get("version") is None:  # as files of an old version had it
            state[prefix + "gain"] = state[prefix + "gain"].flip(0)
        super()._load_from_state_dict(state, prefix, metadata, *rest)
    def forward(self, x): return self.body(x) * self.gain
def moved(width, classes, channels, size): return Moved(channels, classes)

# a path that only training takes
class Train(nn.Module):
    def __init__(self, channels, classes, extra):
        super().__init__()
        self.one, self.extra, self.relu = conv(channels, 6), extra, nn.ReLU()
        self.out = nn.Linear(6, classes)
    def forward(self, x):
        h = self.relu(self.one(x))
        if self.training:
            h = h + self.extra(h)
        return self.out(h.mean((2, 3)))
def training_conv(width, classes, channels, size): return Train(channels, classes, conv(6, 6))
class Shuffled(nn.Module):
    def forward(self, x): return x.roll(1, 1)
def training_roll(width, classes, channels, size): return Train(channels, classes, Shuffled())
def training_scale(width, classes, channels, size): return Train(channels, classes, nn.Identity())
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with networks in a file."""
    (tmp_path / "trial_nets.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("trial_nets", None)


def study(
    place: Path, factory: str, corrections: str = "none, reset, repair", **changes: Any
) -> Tiny:
    """The small study on one of the networks."""
    entry = {"factory": f"trial_nets:{factory}", "base": 8, "allow_code": True}
    experiment = yaml.safe_load(STUDY)["experiments"]["tiny"]
    experiment |= {"model": "mine", "width": 1} | changes
    root = write_study(
        place / factory / "study",
        recipes=RECIPES.replace("corrections: [none, repair]", f"corrections: [{corrections}]"),
        study=yaml.safe_dump({"experiments": {"tiny": experiment}}),
    )
    (root / "config" / "models.yaml").write_text(json.dumps({"mine": entry}))
    return Tiny(root, place / factory / "results")


def first(own: Tiny) -> Dense:
    return own.config.experiments["tiny"].dense_run(0)


# -- what is refused, and before which run ---------------------------------------------------------


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        ("spectral", ("weight of 0 ", "no parameter of its own")),
        ("weight", ("weight of 0 ",)),
        ("cut", ("weight of 0 ",)),
        ("linear", ("weight of 5 ",)),
        ("parametrised", ("weight of 5 ",)),
        ("expanded", ("gain", "clone it")),
        ("unsaved", ("read back", "evaluation mode", "persistent")),
        ("counting", ("read back", "evaluation mode")),
        ("moved", ("read back", "gain")),
        ("no_stats", ("REPAIR needs running statistics in 1", "leave repair out")),
        ("no_affine", ("REPAIR needs a bias in 1", "leave repair out")),
        ("no_norm", ("REPAIR needs a bias in 0", "leave repair out")),
        ("unused", ("REPAIR fails", "leave repair out")),
        ("training_conv", ("in training, though not in evaluation", "extra.weight")),
        ("training_roll", ("in training, though not in evaluation",)),
    ],
)
def test_what_a_later_stage_would_end_on_is_refused_before_the_first_training(
    place: Path, factory: str, words: tuple[str, ...]
) -> None:
    own = study(place, factory)
    told = refused(lambda: own.run(first(own)), "mine", *words)
    assert len(told) < 500
    assert not own.path(first(own)).exists() and not own.path(first(own), "history.csv").exists()
    assert told in set(problems(own.config, results=False))


@pytest.mark.parametrize("factory", ["plain", "training_scale"])
def test_a_network_that_lives_through_its_trial_lives_through_the_study(
    place: Path, factory: str
) -> None:
    corrections = "none, reset, repair"
    own = study(place, factory, corrections)
    cell = own.cell("permuted", k=1)
    assert cell.run.match is not None
    for run in (cell.run, Curve(cell.run.match, own.config.experiments["tiny"].connectivity)):
        assert read_json(own.make(run) / "metrics.json")["status"] == "ok"


@pytest.mark.parametrize(
    ("factory", "changes"),
    [
        ("no_stats", {"corrections": "none, reset"}),
        ("no_norm", {"corrections": "none"}),
        ("unused", {"corrections": "none, reset"}),
        ("training_conv", {"methods": ["lth", "naive"]}),
    ],
)
def test_what_the_study_does_not_ask_for_is_no_obstacle(
    place: Path, factory: str, changes: dict[str, Any]
) -> None:
    own = study(place, factory, **changes)
    assert read_json(own.run(first(own)) / "metrics.json")["status"] == "ok"


# -- where it is kept ------------------------------------------------------------------------------


def test_a_trial_is_made_once_and_again_when_the_code_changes(place: Path) -> None:
    own = study(place, "plain")
    path = trials.place(own.config, first(own))
    hold(own.config, first(own), keep=False)
    assert not path.exists() and trials.untried(own.config, [first(own)]) == [first(own)]
    found = hold(own.config, first(own))
    assert (
        found.done and found == trials.read(path) and not trials.untried(own.config, [first(own)])
    )
    mark = path.stat().st_mtime_ns
    assert hold(own.config, own.config.experiments["tiny"].dense_run(1)) == found
    assert path.stat().st_mtime_ns == mark
    (place / "trial_nets.py").write_text(NETS + "# changed\n")
    assert trials.place(own.config, first(own)) != path
    path.write_text("{}")  # cut off, or of another version
    assert trials.read(path) is None


def test_what_a_trial_finds_depends_on_the_network_alone(place: Path) -> None:
    before = torch.get_rng_state()
    own = study(place, "plain")
    found = hold(own.config, first(own))
    assert torch.equal(before, torch.get_rng_state())
    state = torch.nn.Sequential(torch.nn.Conv2d(1, 6, 3), torch.nn.Linear(6, 10))
    weights = [p.numel() for p in state.parameters() if p.dim() > 1]
    without = {"no-shortcut": sum(weights), "no-head": weights[0]}
    assert found.prunable == {"all": sum(weights), **without}
    assert found.parameters == sum(p.numel() for p in state.parameters()) + 12
    assert found.activations == 3 * 6 * 64 + 6 + 6 + 10 and found.problems == {}


@pytest.mark.parametrize(("model", "width"), [("resnet20", 0.25), ("vgg11", 0.125)])
def test_built_in_networks_live_through_their_trial(place: Path, model: str, width: float) -> None:
    own = Tiny(write_study(place / "study"), place / "results")
    dense = Dense("few", model, f"{width:g}", "tiny", 0)
    found = hold(own.config, dense)
    assert (
        found.done and not found.problems and found.prunable["all"] >= found.prunable["no-shortcut"]
    )


def test_runs_after_the_trial_trace_and_prove_nothing_again(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = study(place, "plain")
    cell = own.cell("permuted", k=1)
    match = cell.run.match
    assert isinstance(match, Match)
    own.make(match)

    def again(*words: object, **more: object) -> None:
        raise AssertionError("proven again")

    monkeypatch.setattr(trace, "permutation_spec", again)
    own.make(cell.run)
    # groups that are not those of the trial are proven, whatever it says
    path = trials.place(own.config, match.b)
    write_json(path, read_json(path) | {"groups": "0"})
    with pytest.raises(AssertionError, match="proven again"):
        own.run(match)


# -- numbers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("sparsity", [0.5, 0.9, 0.99, 0.999])
def test_a_sparsity_is_refused_exactly_where_no_mask_can_be_cut(
    place: Path, sparsity: float
) -> None:
    """Against the cuts themselves, of networks with a few weights more or less."""
    own = study(place, "plain", sparsities=[sparsity])
    run = own.mask(sparsity)
    fraction = own.graph.recipe(run).fraction
    for entries in (2, 3, 7, 50, 99, 101, 500, 1001):
        weights = {"w": torch.arange(1, entries + 1.0)}
        mask, can = full(weights), True
        try:
            for _ in range(run.prunes(own.graph) - 1):
                zeros = int((~mask["w"]).sum())
                mask = global_magnitude(weights, mask, zeros + round(fraction * (entries - zeros)))
            global_magnitude(weights, mask, round(sparsity * entries))
        except Exception:
            can = False
        trial = Trial(entries, 0, {"all": entries, "no-shortcut": entries}, done=True)
        assert (run.obstacle(own.graph, trial) is None) == can, entries


def test_more_sparsity_than_there_are_weights_is_told_before_the_first_training(
    place: Path,
) -> None:
    own = study(place, "plain", sparsities=[0.9999])
    refused(lambda: own.run(first(own)), "mine", "S=0.9999", "114 weights")


def test_jobs_ask_for_the_memory_of_the_trial_until_it_is_kept(place: Path) -> None:
    own = study(place, "plain")
    costs = Costs(own.graph, "cpu")
    base = costs.memory_mb(own.cell("naive").run)
    path = trials.place(own.config, first(own))
    # begun, and killed
    trials.keep(trials.size_file(path), Trial(parameters=57_000_000, activations=1_000_000))
    # as measured: the trial of torchvision's AlexNet takes 4,700 MB
    trying = costs.memory_mb(first(own))
    assert 4_700 < trying < 9_400
    assert base < costs.memory_mb(own.cell("naive").run) < trying
    large = Trial(parameters=57_000_000, activations=100_000_000)
    trials.keep(trials.size_file(path), large)
    trying = costs.memory_mb(first(own))
    trials.keep(path, replace(large, done=True))
    assert costs.memory_mb(own.cell("naive").run) < costs.memory_mb(first(own)) < trying


# -- what a recipe or an output asks ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ("batch_size: 1024", ("batch_size 1,024", "512 training images of few")),
        ("warmup_epochs: 4", ("warmup_epochs 4", "T = 4")),
    ],
)
@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_recipes_that_do_not_fit_data_or_epochs_are_told_by_the_check(
    tmp_path: Path, kind: str, recipe: str, words: tuple[str, ...]
) -> None:
    recipes = yaml.safe_load(RECIPES)
    recipes[kind]["tiny"] |= yaml.safe_load(recipe)
    experiment = yaml.safe_load(STUDY)["experiments"]["tiny"]
    root = write_study(
        tmp_path / "study",
        yaml.safe_dump(recipes),
        yaml.safe_dump({"experiments": {"t": experiment}}),
    )
    own = Tiny(root, tmp_path / "results")
    found = [line for line in problems(own.config, results=False) if words[0] in line]
    assert found and all(word in line for line in found for word in words)
    assert all(line.startswith(kind) or kind == "dense" for line in found)


def test_check_says_what_it_looked_at_and_nothing_else(place: Path) -> None:
    own = study(place, "plain")
    check = Check(own.config)
    assert list(check.problems(results=False)) == []
    assert check.fine == [
        "data few read", "network mine×1 on few tried", f"{own.results} can be written",
    ]  # fmt: skip
    own.run(first(own))
    check = Check(own.config)
    assert list(check.problems(results=True)) == [] and check.fine[-1] == "1 run verified"


@pytest.mark.workflow
def test_a_workflow_refuses_a_network_before_any_job(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path / "checkout")
    folder = checkout.folder
    (folder / "trial_nets.py").write_text(NETS)
    entry = {"factory": "trial_nets:no_stats", "base": 8, "allow_code": True}
    (folder / "config" / "models.yaml").write_text(json.dumps({"mine": entry}))
    micro = yaml.safe_load((folder / "config" / "studies" / "micro.yaml").read_text())
    for experiment in micro["experiments"].values():
        experiment |= {"model": "mine", "width": 1, "methods": ["lth", "permuted"]}
    name = next(iter(micro["experiments"]))
    micro["outputs"] = {"figure_lines": {"kind": "interpolation", "experiments": [name]}}
    (folder / "config" / "studies" / "micro.yaml").write_text(yaml.safe_dump(micro))
    done = checkout.snakemake("figure_lines")
    told = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode and len(told) == 1 and "REPAIR needs running statistics" in told[0]
    assert not (folder / "results" / "dense").exists()
