"""A network of the user's own, in every stage and from the how-to; what is refused, and how."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from small import REPOSITORY, STUDY, Tiny, seeded, write_study
from studies import BASE, config, recipes, refused
from torch import nn

from pipeline import interop, models
from pipeline.artifacts.store import read_csv, read_json, read_tensors
from pipeline.catalog.networks import Entry, OwnNetwork, own_network
from pipeline.models import prunable_parameters
from pipeline.report.figures.mask_sparsity import layers_of
from pipeline.runs import Curve, Dense
from pipeline.study.cost import Costs
from pipeline.study.graph import Graph

PAGE = REPOSITORY / "docs" / "how-to" / "own-model.md"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS: list[tuple[str, str]] = FENCE.findall(PAGE.read_text())
NETS = next(text for language, text in BLOCKS if language == "python")
ALLOWED = {"factory": "own_nets:small", "base": 16, "allow_code": True}

#: What is wrong with each of these is told when the network is built.
WRONG = """
import numpy as np
import torch
from torch import nn

def linear(channels, size, classes, **options):
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * size * size, classes, **options))

def fails(width, classes, channels, size):
    raise ValueError("no such\\nwidth")

def nothing(**options):
    return None

def wants(other):
    return other

def numpy(width, classes, channels, size):
    found = linear(channels, size, classes)
    found[1].weight.data.fill_(float(np.random.default_rng().random()))
    return found

def shared(width, classes, channels, size):
    a, b = nn.Linear(channels * size * size, classes), nn.Linear(classes, classes)
    c = nn.Linear(classes, classes)
    c.weight = b.weight
    return nn.Sequential(nn.Flatten(), a, b, c)

def lazy(width, classes, channels, size):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(classes))

def double(width, classes, channels, size):
    return linear(channels, size, classes, dtype=torch.float64)

def meta(width, classes, channels, size):
    return linear(channels, size, classes, device="meta")

def empty(width, classes, channels, size):
    return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(channels * size * size))

def shape(width, classes, channels, size):
    return linear(channels, size, classes + 1)

def reads(width, classes, channels, size):
    return linear(channels + 1, size, classes)

def dropout(width, classes, channels, size):
    return nn.Sequential(linear(channels, size, classes), nn.Dropout(0.1))

class View(nn.Module):
    def __init__(self, classes, channels, size):
        super().__init__()
        self.conv = nn.Conv2d(channels, 4, 3, padding=1)
        self.out = nn.Linear(4 * size * size, classes)

    def forward(self, images):
        return self.out(self.conv(images).view(len(images), -1))

def view(width, classes, channels, size):
    return View(classes, channels, size)

constant = 3
"""


@pytest.fixture
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with the how-to's network in a file and wrong ones in another."""
    (tmp_path / "own_nets.py").write_text(NETS)
    (tmp_path / "own_wrong.py").write_text(WRONG)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in ("own_nets", "own_wrong", "own_broken"):
        sys.modules.pop(name, None)


def model(factory: str = "own_nets:small", **changes: Any) -> OwnNetwork:
    return own_network("mine", Entry(**(ALLOWED | {"factory": factory} | changes)))


def build(own: OwnNetwork, seed: int | None = 0, width: float = 0.5) -> nn.Module:
    generator = None if seed is None else seeded(seed)
    return models.build(own, width=width, classes=10, channels=1, size=8, generator=generator)


# -- building it -----------------------------------------------------------------------------------


def test_initial_bits_depend_on_the_given_generator_alone(nets: Path) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = build(model()).state_dict()
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    second, other = build(model()).state_dict(), build(model(), seed=1).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["stem.weight"], other["stem.weight"])


def test_a_network_without_generator_shows_that_nothing_was_loaded(nets: Path) -> None:
    images = torch.randn(4, 1, 8, 8)
    empty, full = build(model(), None), build(model())
    assert empty.eval()(images).isnan().all()
    empty.load_state_dict(full.state_dict())
    assert torch.equal(empty.eval()(images), full.eval()(images))


def test_the_initialisation_is_the_functions_own(nets: Path) -> None:
    seed = int(torch.randint(2**62, (), generator=seeded(5)))
    ours = build(model(), seed=5).state_dict()
    from own_nets import small  # type: ignore[import-not-found]

    torch.manual_seed(seed)
    theirs = small(width=0.5, classes=10, channels=1, size=8).state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_no_code_runs_unless_it_is_allowed(nets: Path) -> None:
    refused(lambda: build(model(allow_code=False)), "mine", "own_nets:small", "allow_code: true")
    assert "own_nets" not in sys.modules


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        ("own_absent:make", ("cannot be imported", "own_absent")),
        ("own_broken:make", ("cannot be imported", "SyntaxError")),
        ("own_wrong:absent", ("cannot be imported", "absent")),
        ("own_wrong:constant", ("is not a function",)),
        ("own_wrong:fails", ("ValueError: no such width",)),
        ("own_wrong:wants", ("TypeError", "width")),
        ("own_wrong:nothing", ("NoneType", "torch.nn.Module")),
        ("own_wrong:numpy", ("other weights", "draw from torch only")),
        ("own_wrong:shared", ("2.weight and 3.weight",)),
        ("own_wrong:lazy", ("lazy",)),
        ("own_wrong:double", ("torch.float64", "expected torch.float32")),
        ("own_wrong:meta", ("make the network on the CPU",)),
        ("own_wrong:empty", ("nothing to prune",)),
        ("own_wrong:shape", ("(2, 11)", "(2, 10)")),
        ("own_wrong:reads", ("fails on images [2, 1, 8, 8]", "RuntimeError")),
        ("own_wrong:dropout", ("random numbers in training",)),
        ("own_wrong:view", ("Use .reshape",)),
    ],
)
def test_what_cannot_be_trained_repeatably_is_refused_in_one_line(
    nets: Path, factory: str, words: tuple[str, ...]
) -> None:
    (nets / "own_broken.py").write_text("def make(:\n")
    refused(lambda: build(model(factory)), "config/models.yaml: mine: ", factory, *words)


# -- the study -------------------------------------------------------------------------------------


def study(entry: dict[str, Any] | None = None, name: str = "mine", **changes: Any) -> Graph:
    experiment = BASE | {"model": name, "width": 0.5} | changes
    return Graph(config({"one": experiment}, models={name: entry or ALLOWED}))


def test_a_study_accepts_the_name_and_refuses_what_is_not_allowed() -> None:
    assert study().config.experiments["one"].model == "mine"
    place = "experiments: one"
    refused(lambda: study(ALLOWED | {"allow_code": False}), place, "allow_code: true", "mine")
    refused(lambda: study(width=0.3), place, "whole number")
    refused(lambda: config({"one": BASE | {"model": "mine"}}), place, "unknown model 'mine'")
    where = "config/models.yaml"
    refused(lambda: study(name="my-net"), where, "my-net")
    refused(lambda: study(name="vgg11"), where, "built-in")
    refused(lambda: study(ALLOWED | {"fabric": 1}), where, "fabric", "factory")
    refused(lambda: study({"base": 16}), where, "'factory' is missing")
    for factory in ("nets", "nets.small", "nets:small()", "../nets:small", ":small", "a b:c"):
        refused(
            lambda factory=factory: study(ALLOWED | {"factory": factory}), where, "module:function"
        )
    # an entry that no experiment uses need not be allowed
    config(models={"mine": ALLOWED | {"allow_code": False}})


def test_a_matching_that_no_network_of_ones_own_can_follow_is_refused_before_anything_runs() -> (
    None
):
    """Of its streams the trace knows one place each: whoever asks, study, method or path."""
    every = recipes()
    every["match"]["every"] = {"taps": "all"}
    every["methods"]["wide"] = {"init": "b", "permute": True, "match": "every"}
    words = ("match: every", "taps: all", "'mine'", "allowed: last, authors")

    def made(**changes: Any) -> Graph:
        experiment = BASE | {"model": "mine", "width": 0.5} | changes
        return Graph(config({"one": experiment}, models={"mine": ALLOWED}, recipes=every))

    refused(lambda: made(match="every"), "experiments: one", *words)
    refused(lambda: made(methods=["wide"]), "experiments: one", *words)
    run = made().config.experiments["one"].matching((0, 1), recipe="every")
    refused(lambda: made().digest(run), run.folder, *words)
    made(model="resnet20", match="every")


def test_the_digest_holds_factory_and_version_and_nothing_else_of_the_entry() -> None:
    def digest(**changes: Any) -> str:
        graph = study(ALLOWED | changes)
        return graph.digest(next(graph.config.experiments["one"].cells()).run)

    assert digest() == digest(parameters=5, forward_flops=7, base=32)
    assert len({digest(), digest(version=2), digest(factory="other:small")}) == 3
    plain = Graph(config({"one": BASE}))
    assert "model" not in plain.settings(plain.config.experiments["one"].dense_run(0))


def test_costs_are_estimates_of_the_entry_and_say_where_there_are_none() -> None:
    for counts, basis in (
        ({}, "unknown"),
        ({"parameters": 1000, "forward_flops": 4_000}, "assumed"),
    ):
        graph = study(ALLOWED | counts)
        run = graph.config.experiments["one"].dense_run(0)
        costs = Costs(graph, "cpu")
        assert costs.network_bytes(run) == 4 * (counts.get("parameters", 0) // 4)
        assert costs.rate(run).basis == basis and costs.seconds(run) > 0
        assert graph.config.models["mine"].forward_flops(2, 32) == (
            4 * counts.get("forward_flops", 0)
        )


# -- every stage -----------------------------------------------------------------------------------


@pytest.fixture
def own(nets: Path) -> Tiny:
    """The small study on the how-to's network."""
    return Tiny(write(nets / "study"), nets / "results")


def write(root: Path, **changes: Any) -> Path:
    experiment = yaml.safe_load(STUDY)["experiments"]["tiny"] | {"model": "mine", "width": 0.5}
    write_study(root, study=yaml.safe_dump({"experiments": {"tiny": experiment | changes}}))
    (root / "config" / "models.yaml").write_text(json.dumps({"mine": ALLOWED}))
    return root


def test_it_works_in_every_stage(own: Tiny, capsys: pytest.CaptureFixture[str]) -> None:
    cell = own.cell("permuted", k=1)
    folder = own.make(cell.run)
    assert read_json(folder / "metrics.json")["status"] == "ok"
    match = cell.run.match
    assert match is not None
    permutation = read_tensors(own.path(match, "permutation.safetensors"))
    assert {name: len(index) for name, index in permutation.items()} == {
        "stem": 8, "inner": 8, "hidden": 32,
    }  # fmt: skip
    assert not any(torch.equal(index, torch.arange(len(index))) for index in permutation.values())
    own.make(own.solution())
    curve = own.make(Curve(match, own.config.experiments["tiny"].connectivity))
    assert {row["correction"] for row in read_csv(curve / "curve.csv")} == {"none", "repair"}
    # interop: a's weights moved by the permutation compute what a computes
    dense = own.folder(match.a)
    images = torch.randn(4, 1, 8, 8)
    refused(lambda: interop.network(dense), "own_nets:small", "allow_code=True")
    a = interop.network(dense, allow_code=True)
    moved = interop.network(dense, permuted_by=own.folder(match), allow_code=True)
    assert torch.allclose(a(images), moved(images), atol=1e-4)
    assert not torch.equal(a.state_dict()["hidden.weight"], moved.state_dict()["hidden.weight"])
    sparse = interop.network(folder, allow_code=True)
    pruned = [sparse.state_dict()[name] for name in prunable_parameters(sparse, "all")]
    zeros, entries = (
        sum(int(f(t)) for t in pruned) for f in (lambda t: (t == 0).sum(), torch.numel)
    )
    assert zeros == round(0.6 * entries)
    # the frames list its layers in the network's order
    layers = layers_of(own.config, own.config.experiments["tiny"])
    assert layers == prunable_parameters(a, "all")


PARTS = """
import torch
from torch import nn

class Parts(nn.Module):
    def __init__(self, units, classes, channels):
        super().__init__()
        self.one, self.two = (nn.Conv2d(channels, units, 3, padding=1) for _ in range(2))
        self.norm, self.act = nn.BatchNorm2d(2 * units), nn.ReLU()
        self.grouped = nn.Conv2d(units, units, 3, padding=1, groups=2)
        self.token = nn.Conv2d(2 * units, units, 4, 4)
        self.heads = nn.MultiheadAttention(units, 2, batch_first=True)
        self.classifier = nn.Linear(units, classes)

    def forward(self, images):
        left = torch.relu(self.grouped(torch.relu(self.one(images))))
        both = torch.cat([left, torch.relu(self.two(images))], 1)
        tokens = self.token(self.act(self.norm(both))).flatten(2).transpose(1, 2)
        tokens = tokens + self.heads(tokens, tokens, tokens, need_weights=False)[0]
        return self.classifier(tokens.mean(1))

def parts(width, classes, channels, size):
    return Parts(round(16 * width), classes, channels)
"""


def test_parts_of_an_axis_blocks_and_heads_work_in_every_stage(nets: Path) -> None:
    (nets / "own_nets.py").write_text(PARTS)
    own = Tiny(write(nets / "study"), nets / "results")
    entry = {"mine": ALLOWED | {"factory": "own_nets:parts"}}
    (nets / "study" / "config" / "models.yaml").write_text(json.dumps(entry))
    own = Tiny(nets / "study", nets / "results")
    cell = own.cell("permuted", k=1)
    assert read_json(own.make(cell.run) / "metrics.json")["status"] == "ok"
    match = cell.run.match
    assert match is not None
    permutation = read_tensors(own.path(match, "permutation.safetensors"))
    assert {name: len(index) for name, index in permutation.items()} == {
        "one.blocks": 2, "one": 8, "grouped": 8, "two": 8, "token": 8, "heads[0:16].blocks": 2,
        "heads[0:16]": 8, "heads[16:24]": 8,
    }  # fmt: skip
    quality = read_json(own.path(match, "metrics.json"))["groups"]
    assert quality.keys() == permutation.keys()
    own.make(Curve(match, own.config.experiments["tiny"].connectivity))
    a = interop.network(own.folder(match.a), allow_code=True)
    moved = interop.network(own.folder(match.a), permuted_by=own.folder(match), allow_code=True)
    images = torch.randn(4, 1, 8, 8)
    assert torch.allclose(a(images), moved(images), atol=1e-4)


def test_an_untraceable_network_is_refused_before_it_is_trained(own: Tiny, nets: Path) -> None:
    text = NETS.replace(
        "features = max_pool2d", "stream = stream.roll(1, 1)\n        features = max_pool2d"
    )
    assert text != NETS
    (nets / "own_nets.py").write_text(text)
    refused(lambda: own.run(Dense("few", "mine", "0.5", "tiny", 0)), "node roll", "units of stem")
    # a study that permutes nothing does not need its groups
    plain = Tiny(write(nets / "plain", methods=["lth", "naive"]), nets / "other")
    assert read_json(plain.make(plain.cell("lth").run) / "metrics.json")["status"] == "ok"
