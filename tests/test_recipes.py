"""Recipes and labels: one label per meaning, whatever way it was written."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from studies import BASE, STUDY, config, digests, graph, recipes, refused

from pipeline.errors import UserError
from pipeline.runs.form import LABEL
from pipeline.study import recipes as module
from pipeline.study.recipes import LONGEST, Library
from pipeline.study.settings import RECIPES, Protocol, SparseSettings
from pipeline.study.strict_yaml import parse_yaml

PLAIN = Protocol()


def library(**sections: Any) -> Library:
    return Library(recipes() | sections, "recipes.yaml")


LIBRARY = library()


def label(kind: str, reference: object, protocol: Protocol = PLAIN) -> str:
    return LIBRARY.label(kind, reference, protocol, "here")


# -- labels --------------------------------------------------------------------------------


def test_a_label_is_the_recipe_and_what_differs_from_it_sorted() -> None:
    assert label("sparse", "sparse") == "sparse"
    assert label("sparse", {"recipe": "sparse"}) == "sparse"
    changed = {"momentum": 0, "recipe": "sparse", "lr": 0.05, "keep_weights": False}
    assert label("sparse", changed) == "sparse+keep_weights=false+lr=0.05+momentum=0"
    assert label("match", {"recipe": "activations", "images": 100}) == "activations+images=100"
    assert label("match", {"recipe": "activations-imagenet", "images": None}).endswith(
        "+images=null"
    )


def test_changes_equal_to_the_recipes_own_values_vanish() -> None:
    own = {"recipe": "sparse", "lr": 0.02, "momentum": 0.9, "batch_size": 128, "schedule": "cosine"}
    assert label("sparse", own) == "sparse"
    assert (
        label("dense", {"recipe": "dense", "trunk": [0, 5, 10, 15, 20, 25, 50, 75, 100]}) == "dense"
    )
    protocol = Protocol(imp={"momentum": 0})
    assert label("imp", {"recipe": "imp-ft", "momentum": 0.9}, protocol) == "imp-ft"
    assert label("imp", {"recipe": "imp-ft", "lr": 0.01}, protocol) == "imp-ft+momentum=0"


@pytest.mark.parametrize(
    "texts",
    [
        ["0.10", "0.1", "1e-1", ".1", "0.100"],
        ["1e-4", "0.0001"],
        ["2", "2.0", "2e0"],
        ["0", "-0.0"],
    ],
)
def test_a_number_has_one_label_and_one_digest_however_it_is_written(texts: list[str]) -> None:
    key = "weight_decay" if texts[0] == "0" else "lr"
    found = set()
    for text in texts:
        reference = parse_yaml(f"{{recipe: sparse, {key}: {text}}}", "f")
        study = graph({"one": BASE | {"sparse": reference}})
        found.add((study.config.experiments["one"].sparse, tuple(digests(study).items())))
    assert len(found) == 1


def test_a_value_swapped_with_another_gives_another_label_and_digest() -> None:
    def made(**changes: Any) -> dict[str, str]:
        return digests(graph({"one": BASE | {"sparse": {"recipe": "sparse", **changes}}}))

    first, second = made(lr=0.5, momentum=0.1), made(lr=0.1, momentum=0.5)
    for left, right in ((first, second), (second, first)):
        own = [path for path in left if path.startswith("sparse/")]
        assert own and not any(path in right for path in own)
        assert not {left[path] for path in own} & set(right.values())
        assert {path for path in left if path not in own} == {p for p in right if p in left}


def test_a_value_swapped_inside_a_recipe_is_noticed_by_the_digest_alone() -> None:
    study = recipes()
    study["sparse"]["sparse"] = {"lr": 0.5, "momentum": 0.1}
    first = digests(graph(recipes=study))
    study["sparse"]["sparse"] = {"lr": 0.1, "momentum": 0.5}
    second = digests(graph(recipes=study))
    assert first.keys() == second.keys()
    changed = {path for path in first if first[path] != second[path]}
    assert changed == {path for path in first if path.startswith("sparse/")} != set()


#: Values to change settings to, by type; each within the bounds that settings declare.
def _values(hint: Any, name: str) -> st.SearchStrategy[Any]:
    if get_origin(hint) is Literal:
        return st.sampled_from(get_args(hint))
    if hint is bool:
        return st.booleans()
    if hint is int:
        return st.integers(3, 9) if name in ("points", "grid") else st.integers(1, 9)
    if hint is float:
        unit = ("momentum", "fraction")
        return st.floats(0.01, 0.9) if name in unit else st.floats(1e-9, 1e9)
    return st.none() | st.integers(1, 10**9)  # int | None


@st.composite
def changes(draw: st.DrawFn) -> tuple[str, str, dict[str, Any]]:
    """A kind, a recipe of it, and some settings changed (lists cannot be)."""
    kind = draw(st.sampled_from(sorted(RECIPES)))
    name = draw(st.sampled_from(LIBRARY.names(kind)))
    hints = get_type_hints(RECIPES[kind])
    free = [key for key in hints if get_origin(hints[key]) is not tuple]
    chosen = draw(st.lists(st.sampled_from(sorted(free)), unique=True, max_size=3))
    return kind, name, {key: draw(_values(hints[key], key)) for key in chosen}


@settings(max_examples=300, deadline=None)
@given(changes())
def test_a_label_parses_back_to_the_settings_and_stands_in_a_path(
    drawn: tuple[str, str, dict[str, Any]],
) -> None:
    kind, name, change = drawn
    try:
        found = label(kind, {"recipe": name, **change})
    except UserError:  # settings that do not fit together, such as a trunk beyond the end
        return
    assert LIBRARY.resolve(kind, found) == replace(LIBRARY.resolve(kind, name), **change)
    assert re.fullmatch(LABEL, found)
    # Every order and any repetition of what holds anyway give the same label.
    reverse = dict(reversed(change.items()))
    assert label(kind, reverse | {"recipe": name}) == found


@settings(max_examples=200, deadline=None)
@given(changes(), changes())
def test_two_settings_never_share_a_label(
    first: tuple[str, str, dict[str, Any]], second: tuple[str, str, dict[str, Any]]
) -> None:
    kind, name, change = first
    other = second[2] if second[0] == kind else {}
    found = []
    for one in (change, other):
        try:
            text = label(kind, {"recipe": name, **one})
        except UserError:
            return
        found.append((text, replace(LIBRARY.resolve(kind, name), **one)))
    assert (found[0][0] == found[1][0]) == (found[0][1] == found[1][1])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sparse+lr=0.020", ["write it as 'sparse'"]),
        ("sparse+lr=0.10", ["write it as 'sparse+lr=0.1'"]),
        ("sparse+momentum=0.5+lr=0.1", ["write it as 'sparse+lr=0.1+momentum=0.5'"]),
        ("sparse+lr=0.1+lr=0.1", ["write it as 'sparse+lr=0.1'"]),
        ("sparse+lr", ["expected key=value after '+', got 'lr'"]),
        ("sparse+", ["expected key=value"]),
        ("sparse+rate=1", ["unknown key 'rate'"]),
        ("sparse+lr=fast", ["lr: expected a number, got 'fast'"]),
        ("sparse+lr=-1", ["lr: -1.0 is not allowed"]),
        ("sparse+lr=NaN", ["lr: nan is not allowed"]),
        ("sparse+lr=" + "9" * 5000, ["lr: expected a number"]),
        ("sparse+lr=" + "[" * 5000, ["lr: expected a number"]),
        ("spars", ["unknown sparse recipe 'spars'", "did you mean 'sparse'?"]),
        ("", ["unknown sparse recipe ''"]),
        ("../sparse", ["unknown sparse recipe"]),
    ],
)
def test_labels_in_any_other_spelling_are_refused(text: str, words: list[str]) -> None:
    refused(lambda: LIBRARY.resolve("sparse", text), *words)


@pytest.mark.parametrize(
    ("kind", "reference", "words"),
    [
        ("sparse", "sprase", ["here: unknown sparse recipe 'sprase'", "did you mean"]),
        ("sparse", "sparse+lr=0.1", ["unknown sparse recipe"]),
        ("sparse", None, ["here: expected the name of a recipe"]),
        ("sparse", 5, ["here: expected a mapping"]),
        ("sparse", ["sparse"], ["here: expected a mapping"]),
        ("sparse", {"lr": 0.1}, ["expected the name of a recipe under 'recipe'"]),
        ("sparse", {"recipe": ["sparse"]}, ["unknown sparse recipe ['sparse']"]),
        ("sparse", {"recipe": None}, ["unknown sparse recipe None"]),
        ("sparse", {"recipe": "sparse", "momemtum": 1}, ["did you mean 'momentum'?"]),
        ("sparse", {"recipe": "sparse", "lr": "0.1"}, ["lr: expected a number"]),
        ("sparse", {"recipe": "sparse", 5: 1}, ["expected text as key"]),
        (
            "dense",
            {"recipe": "dense", "trunk": [0, 1]},
            ["trunk: a list cannot be changed in place"],
        ),
        (
            "dense",
            {"recipe": "dense", "epochs": 100},
            ["trunk: epochs must lie below epochs = 100"],
        ),
        ("imp", {"recipe": "imp-ft", "rewind_epoch": 3}, ["rewind_epoch goes with style: rewind"]),
        ("connectivity", {"recipe": "line", "corrections": []}, ["must name at least one"]),
    ],
)
def test_references_that_name_no_settings_are_refused(
    kind: str, reference: object, words: list[str]
) -> None:
    refused(lambda: label(kind, reference), *words)


def test_a_label_too_long_for_a_path_asks_for_a_recipe() -> None:
    many = {"lr": 0.123456789, "momentum": 0.123456789, "weight_decay": 0.123456789,
            "warmup_epochs": 123456789, "batch_size": 123456789}  # fmt: skip
    refused(
        lambda: label("sparse", {"recipe": "sparse", **many}), "add a recipe with 'extends: sparse'"
    )
    # Two labels, two names and a seed stand in one file name.
    assert 2 * LONGEST + 40 + 10 < 255


# -- what is added later -------------------------------------------------------------------


def test_a_setting_added_with_a_default_changes_no_label_and_no_digest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    study = {"one": BASE | {"sparse": {"recipe": "sparse", "lr": 0.05}}}
    before = digests(graph(study))

    @dataclass(frozen=True)
    class Later(SparseSettings):
        dropout: float = 0.0
        anneal: str | None = None

    monkeypatch.setitem(module.RECIPES, "sparse", Later)
    assert len(fields(Later)) == len(fields(SparseSettings)) + 2
    assert digests(graph(study)) == before
    study["one"] |= {"sparse": {"recipe": "sparse", "lr": 0.05, "dropout": 0.5}}
    after = digests(graph(study))
    assert {p for p in before if p not in after} == {p for p in before if p.startswith("sparse/")}


# -- the file ------------------------------------------------------------------------------


def test_recipes_extend_each_other() -> None:
    svhn, dense = LIBRARY.resolve("dense", "dense-svhn"), LIBRARY.resolve("dense", "dense")
    assert svhn == replace(dense, epochs=50, trunk=(0, 10, 20))


LONG = "n" * 41
WRONG = {
    "unknown section": ({"sparce": {}}, ["unknown key 'sparce'", "did you mean 'sparse'?"]),
    "section a list": ({"sparse": ["a"]}, ["recipes.yaml: sparse: expected a mapping"]),
    "recipe a number": ({"sparse": {"a": 5}}, ["recipes.yaml: sparse: a: expected a mapping"]),
    "name a path": ({"sparse": {"../x": {}}}, ["name '../x' is not allowed"]),
    "name hidden": ({"sparse": {".x": {}}}, ["name '.x' is not allowed"]),
    "name with a line feed": ({"sparse": {"a\nb": {}}}, [r"name 'a\nb' is not allowed"]),
    "name with a change": ({"sparse": {"a+lr=1": {}}}, ["name 'a+lr=1' is not allowed"]),
    "name empty": ({"sparse": {"": {}}}, ["name '' is not allowed"]),
    "name long": ({"sparse": {LONG: {}}}, ["is not allowed"]),
    "name no text": ({"sparse": {5: {}}}, ["expected text as key"]),
    "parent's name a path": (
        {"sparse": {"a": {"extends": "b\n"}, "b\n": {}}}, [r"name 'b\n' is not allowed"]
    ),
    "unknown setting": ({"sparse": {"a": {"epohcs": 1}}}, ["sparse: a: unknown key 'epohcs'"]),
    "wrong type": ({"dense": {"a": {"epochs": "ten"}}}, ["dense: a: epochs: expected a whole number"]),
    "no epochs": ({"dense": {"a": {"epochs": 0}}}, ["epochs: 0 is not allowed"]),
    "negative rate": ({"dense": {"a": {"lr": -1}}}, ["lr: -1.0 is not allowed"]),
    "infinite rate": ({"dense": {"a": {"lr": float("inf")}}}, ["lr: inf is not allowed"]),
    "trunk beyond T": ({"dense": {"a": {"epochs": 5, "trunk": [0, 5]}}}, ["below epochs = 5"]),
    "trunk without 0": ({"dense": {"a": {"trunk": [1]}}}, ["must contain 0"]),
    "trunk twice": ({"dense": {"a": {"trunk": [0, 0]}}}, ["every value may stand once"]),
    "extends itself": ({"dense": {"a": {"extends": "a"}}}, ["dense: a: extends: 'a' leads back"]),
    "extends in a circle": (
        {"dense": {"a": {"extends": "b"}, "b": {"extends": "a"}}}, ["leads back to itself"]
    ),
    "extends nothing": ({"dense": {"a": {"extends": "b"}}}, ["unknown recipe 'b'"]),
    "extends a list": ({"dense": {"a": {"extends": ["a"]}}}, ["unknown recipe ['a']"]),
    "too small prunes": ({"imp": {"a": {"fraction": 1e-9}}}, ["fraction: 1e-09 is not allowed"]),
    "method without init": ({"methods": {"m": {}}}, ["methods: m: key 'init' is missing"]),
    "method's other init": ({"methods": {"m": {"init": "c"}}}, ["init: unknown value 'c'"]),
    "a's mask permuted for a": (
        {"methods": {"m": {"init": "a", "permute": True}}}, ["permute goes with init: b"]
    ),
    "random mask permuted": (
        {"methods": {"m": {"init": "b", "permute": True, "mask": "shuffled"}}},
        ["m: mask: shuffled has no units that could be permuted"],
    ),
    "matching without permuting": (
        {"methods": {"m": {"init": "b", "match": "random"}}}, ["match goes with permute: true"]
    ),
    "method's unknown recipe": (
        {"methods": {"m": {"init": "b", "permute": True, "match": "rnadom"}}},
        ["methods: m: match: unknown match recipe 'rnadom'", "did you mean 'random'?"],
    ),
    "method's empty recipe": (
        {"methods": {"m": {"init": "b", "permute": True, "match": ""}}}, ["unknown match recipe ''"]
    ),
    "method's colour": (
        {"methods": {"m": {"init": "b", "color": "red"}}}, ["color: expected #rrggbb, got 'red'"]
    ),
    "protocol's unknown switch": ({"protocols": {"p": {"rewind": 1}}}, ["unknown key 'rewind'"]),
    "protocol's unknown setting": (
        {"protocols": {"p": {"imp": {"mometum": 0}}}}, ["p: imp: unknown key 'mometum'"]
    ),
    "protocol's setting of wrong type": (
        {"protocols": {"p": {"imp": {"momentum": "0"}}}}, ["p: imp: momentum: expected a number"]
    ),
    "protocol's list": ({"protocols": {"p": {"imp": [1]}}}, ["p: imp: expected a mapping"]),
    "protocol's tolerance": (
        {"protocols": {"p": {"sparsity_tolerance": {"resnet20": 1}}}}, ["1.0 is not allowed"]
    ),
    "protocol's alpha": ({"protocols": {"p": {"barrier_at": 2}}}, ["barrier_at: 2.0 is not allowed"]),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_each_mistake_in_the_recipes_is_one_line(name: str) -> None:
    sections, words = WRONG[name]
    refused(lambda: library(**sections), "recipes.yaml", *words)


def test_a_protocols_list_cannot_change_a_recipe_in_place() -> None:
    own = recipes()
    own["protocols"]["paper"] |= {"dense": {"trunk": [0, 1]}}
    refused(lambda: config(recipes=own, study=STUDY), "trunk: a list cannot be changed in place")


def test_no_recipes_at_all() -> None:
    for nothing in (None, {}):
        refused(lambda nothing=nothing: config(recipes=nothing), "unknown protocol 'paper'")
    refused(lambda: config(recipes=[1]), "config/recipes.yaml: expected a mapping")
