"""Settings and YAML files: what is well formed is read, all else is one clear line."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from studies import ROOT, one_line, refused

from pipeline.catalog.schema import (
    FRACTION,
    LARGEST,
    Bounds,
    choose,
    describe,
    extended,
    mapping,
    option,
    parse,
    quote,
    without_defaults,
)
from pipeline.errors import UserError
from pipeline.study import strict_yaml
from pipeline.study.strict_yaml import parse_yaml, read_yaml


@dataclass(frozen=True)
class Sample:
    count: int = option(help="must be given", bounds=Bounds(1, 100))
    rate: float = option(0.5, "a number", FRACTION)
    free: float = option(0.0, "any finite number")
    flag: bool = option(False, "true or false")
    name: str = option("x", "text")
    way: Literal["up", "down"] = option("up", "one of two")
    limit: int | None = option(None, "a whole number or nothing", Bounds(0))
    pair: tuple[int, int] = option((0, 1), "two whole numbers")
    many: tuple[float, ...] = option((), "numbers in (0, 1)", FRACTION, unique=True)
    ways: tuple[Literal["up", "down"], ...] = option((), "of the two", unique=True)
    table: dict[str, float] | None = option(None, "numbers by name", FRACTION)
    keyed: dict[Literal["this", "that"], Any] | None = option(None, "anything, by two names")


FULL = {
    "count": 3, "rate": 0.25, "free": -7, "flag": True, "name": "y", "way": "down", "limit": None,
    "pair": [4, 2], "many": [0.1, 0.2], "ways": ["down"], "table": {"m": 0.5}, "keyed": {"this": 1},
}  # fmt: skip


def test_every_type_is_read_as_declared() -> None:
    found = parse(Sample, FULL, "f")
    assert found == Sample(
        count=3, rate=0.25, free=-7.0, flag=True, name="y", way="down", limit=None, pair=(4, 2),
        many=(0.1, 0.2), ways=("down",), table={"m": 0.5}, keyed={"this": 1},
    )  # fmt: skip
    assert type(found.free) is float
    assert parse(Sample, {"count": 1}, "f") == Sample(count=1)


BAD = {
    "unknown key, with spelling": ({"cuont": 3}, ["unknown key 'cuont'", "did you mean 'count'?"]),
    "missing key": ({}, ["key 'count' is missing"]),
    "no mapping": ([1], ["expected a mapping", "a list"]),
    "key no text": ({1: 2}, ["expected text as key", "a whole number"]),
    "text for number": ({"count": "3"}, ["count: expected a whole number, got '3' (text)"]),
    "true for number": ({"count": True}, ["count: expected a whole number", "true/false"]),
    "true for real": ({"rate": True}, ["rate: expected a number"]),
    "real for whole": ({"count": 3.0}, ["count: expected a whole number, got 3.0 (a number)"]),
    "number for flag": ({"flag": 1}, ["flag: expected true or false"]),
    "number for text": ({"name": 5}, ["name: expected text, got 5"]),
    "nothing for number": ({"count": None}, ["count: expected a whole number", "nothing"]),
    "too small": ({"count": 0}, ["count: 0 is not allowed; expected a number in [1, 100]"]),
    "too large": ({"count": 101}, ["count: 101 is not allowed"]),
    "end point": ({"rate": 1}, ["rate: 1.0 is not allowed; expected a number in (0, 1)"]),
    "not a number": ({"rate": float("nan")}, ["rate: nan is not allowed"]),
    "infinite": ({"free": float("inf")}, ["free: inf is not allowed", "finite"]),
    "huge": ({"free": 10**400}, ["free:", "too large"]),
    "beyond printing": ({"free": 1 << 20000}, ["free: a number of 20001 bits is too large"]),
    "beyond 15 digits": ({"limit": LARGEST}, ["limit:", "up to 15 digits"]),
    "other choice": ({"way": "dwon"}, ["way: unknown value 'dwon'", "did you mean 'down'?"]),
    "list for choice": ({"way": ["up"]}, ["way: unknown value ['up']"]),
    "true for choice": ({"way": True}, ["way: unknown value True"]),
    "text for list": ({"many": "0.1"}, ["many: expected a list"]),
    "mapping for list": ({"many": {"a": 1}}, ["many: expected a list", "a mapping"]),
    "item out of bounds": ({"many": [0.1, 2]}, ["many[1]: 2.0 is not allowed"]),
    "item twice": ({"many": [0.1, 1e-1]}, ["many: every value may stand once"]),
    "too few items": ({"pair": [1]}, ["pair: expected 2 values, got [1]"]),
    "nested too deep": ({"pair": [1, [2]]}, ["pair[1]: expected a whole number, got [2]"]),
    "list for mapping": ({"table": [0.5]}, ["table: expected a mapping"]),
    "entry out of bounds": ({"table": {"m": 5}}, ["table: 'm': 5.0 is not allowed"]),
    "key with a line feed": ({"table": {"a\nb": 5}}, [r"table: 'a\nb': 5.0 is not allowed"]),
    "key not among the two": ({"keyed": {"these": 1}}, ["unknown key 'these'", "'this'"]),
    "unprintable key": ({"a\nb\x1b[31m": 1}, ["unknown key"]),
    "long key": ({"k" * 100_000: 1}, ["unknown key"]),
    "long text": ({"count": "k" * 100_000}, ["count: expected a whole number"]),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_each_mistake_is_one_line_that_says_where_and_what(name: str) -> None:
    wrong, words = BAD[name]
    if isinstance(wrong, dict) and wrong and "count" not in wrong:
        wrong = {**wrong, "count": 1}
    refused(lambda: parse(Sample, wrong, "file: place"), "file: place", *words)


def _deep(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


def _laughs(levels: int) -> list[Any]:
    value: list[Any] = ["ha"] * 10
    for _ in range(levels):
        value = [value] * 10
    return value


def _circle() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    "value",
    [_deep(100_000), _laughs(12), _circle(), 1 << 30_000, [1 << 30_000], "\n" * 99, {1: {}}],
    ids=["deep", "laughs", "circle", "huge", "huge inside", "line feeds", "mapping"],
)
def test_any_value_is_described_at_once_in_a_short_line(value: object) -> None:
    start = time.process_time()
    for text in (quote(value), describe(value)):
        assert one_line(text) and len(text) < 100
    assert time.process_time() - start < 0.5


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(sorted(FULL)),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
            max_leaves=5,
        ),
    )
)
def test_whatever_stands_for_the_values_nothing_but_a_user_error_comes(raw: dict[str, Any]) -> None:
    try:
        parse(Sample, FULL | raw, "place")
    except UserError as error:
        assert one_line(str(error)) and str(error).startswith("place: ")


def test_values_equal_to_the_default_are_left_out_however_they_were_given() -> None:
    assert without_defaults(parse(Sample, {"count": 3, "rate": 0.5, "pair": [0, 1]}, "f")) == {
        "count": 3
    }
    assert without_defaults(parse(Sample, FULL, "f")).keys() == FULL.keys() - {"limit"}


def test_a_setting_added_with_a_default_changes_nothing() -> None:
    @dataclass(frozen=True)
    class Later(Sample):
        added: str = field(default="as before")

    before = parse(Sample, FULL, "f")
    after = parse(Later, FULL, "f")
    assert without_defaults(after) == without_defaults(before)
    assert without_defaults(replace(after, added="new")) != without_defaults(before)


def test_choose_names_the_place_and_the_nearest() -> None:
    assert choose("a", ["a", "b"], "w", "letter") == "a"
    message = refused(lambda: choose("aple", {"apple": 1, "pear": 2}, "w", "fruit"))
    assert message == "w: unknown fruit 'aple'; did you mean 'apple'? allowed: apple, pear"
    refused(lambda: choose(None, [], "w", "fruit"), "allowed: nothing")
    refused(lambda: choose(["apple"], ["apple"], "w", "fruit"), "unknown fruit ['apple']")


def test_extends_lays_an_entry_over_another() -> None:
    entries = {
        "a": {"x": 1, "y": 1}, "b": {"extends": "a", "y": 2}, "c": {"extends": "b", "z": 3},
        "self": {"extends": "self"}, "p": {"extends": "q"}, "q": {"extends": "p"},
        "lost": {"extends": "aa"}, "odd": {"extends": ["a"]}, "flat": 5,
    }  # fmt: skip
    assert extended("c", entries, "f", "entry") == {"x": 1, "y": 2, "z": 3}
    refused(lambda: extended("self", entries, "f", "entry"), "f: self: extends", "leads back")
    refused(lambda: extended("p", entries, "f", "entry"), "f: q: extends: 'p' leads back")
    refused(lambda: extended("lost", entries, "f", "entry"), "unknown entry 'aa'", "did you mean")
    refused(lambda: extended("odd", entries, "f", "entry"), "unknown entry ['a']")
    refused(lambda: extended("flat", entries, "f", "entry"), "f: flat: expected a mapping")
    assert mapping(None, "f") == {}


def test_a_chain_of_extends_has_no_limit() -> None:
    entries: dict[str, Any] = {f"e{i}": {"extends": f"e{i + 1}"} for i in range(3000)}
    entries["e3000"] = {"x": 1}
    assert extended("e0", entries, "f", "entry") == {"x": 1}


# -- YAML ----------------------------------------------------------------------------------


def test_numbers_are_read_as_people_write_them() -> None:
    found = parse_yaml("[5e-4, 1e-1, 0.10, 1E3, .5, 3, -2, 1_000]", "f")
    assert found == [5e-4, 0.1, 0.1, 1000.0, 0.5, 3, -2, 1000]
    assert [type(x) for x in found] == [float] * 5 + [int] * 3


def test_merge_keys_are_laid_under_the_own_ones_the_first_going_before() -> None:
    text = "a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc: {<<: [*a, *b], z: 3}\nd: {z: 4, <<: *b}"
    assert parse_yaml(text, "f") == {
        "a": {"x": 1, "y": 1}, "b": {"y": 2, "z": 2}, "c": {"x": 1, "y": 1, "z": 3},
        "d": {"y": 2, "z": 4},
    }  # fmt: skip


INVALID = {
    "key twice": ("a: 1\nb: 2\na: 3", ["f, line 3", "key 'a' stands twice"]),
    "key twice, nested": ("x:\n  a: 1\n  a: 1", ["f, line 3", "key 'a' stands twice"]),
    "key a number": ("a:\n  5: 1", ["f, line 2", "key 5 is not text"]),
    "key true": ("yes: 1", ["key True is not text"]),
    "key nothing": ("~: 1", ["key None is not text"]),
    "key a list": ("? [a]\n: 1", ["key ['a'] is not text"]),
    "key a mapping": ("? {a: 1}\n: 1", ["is not text"]),
    "open bracket": ("a: [1,", ["f, line 1", "not valid YAML"]),
    "open quote": ("a: 'x", ["not valid YAML"]),
    "tab": ("a:\n\t- b", ["f, line 2"]),
    "binary": ("\x00\x01PNG", ["not valid YAML"]),
    "two documents": ("a: 1\n---\nb: 2", ["another document"]),
    "unknown alias": ("a: *b", ["undefined alias"]),
    "impossible date": ("a: 2020-13-45", ["not valid YAML"]),
    "number of 5000 digits": ("a: " + "9" * 5000, ["not valid YAML"]),
    "deep nesting": ("[" * 20_000, ["not valid YAML"]),
    "list in itself": ("a: &a [*a]", ["recursive"]),
    "mapping in itself": ("a: &a {b: *a}", ["recursive"]),
    "merge of itself": ("a: &a {<<: *a}", ["recursive"]),
    "merge of a number": ("a: {<<: 3}", ["merges mappings only"]),
    "merge of numbers": ("a: {<<: [3]}", ["merges mappings only"]),
    "escape": ('a: "\\q"', ["not valid YAML"]),
    "tag": ("a: !thing b", ["tag '!thing' is not allowed"]),
    "known tag": ("a: !!int ''", ["tag", "is not allowed"]),
    "set": ("!!set {a}", ["tag", "is not allowed"]),
}


@pytest.mark.parametrize("name", INVALID)
def test_invalid_yaml_is_one_line(name: str) -> None:
    text, words = INVALID[name]
    refused(lambda: parse_yaml(text, "f"), "f", *words)


def test_a_text_means_the_same_in_either_of_the_readers() -> None:
    files = [path.read_text() for path in (ROOT / "config").rglob("*.yaml")]
    assert len(files) > 15
    for text in [*files, *(text for text, _ in INVALID.values())]:
        found = []
        for loader in (strict_yaml._Fast, strict_yaml._Telling):
            try:
                found.append(repr(yaml.load(text, loader)))  # noqa: S506
            except (yaml.YAMLError, ValueError, RecursionError):
                found.append("refused")
        assert found[0] == found[1], text[:200]


@pytest.mark.parametrize(
    "attack",
    [
        "!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ['{}']]",
        "!!python/object/apply:os.system ['touch {}']",
        "!!python/object/new:os.system ['touch {}']",
        "!!python/name:os.system",
        "!!python/module:antigravity",
        "&x !!python/object/apply:os.system ['touch {}']",
        "!<tag:yaml.org,2002:python/object/apply:os.system> ['touch {}']",
    ],
)
@pytest.mark.parametrize("place", ["{}", "a: {}", "? {}\n: 1", "a: [1, {}]", "<<: {}"])
def test_nothing_in_a_file_runs(attack: str, place: str, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    text = place.replace("{}", attack.replace("{}", str(mark)))
    refused(lambda: parse_yaml(text, "f"), "tag", "is not allowed")
    assert not mark.exists()


def test_bombs_cost_neither_time_nor_memory() -> None:
    start = time.process_time()
    lines = ["a0: &a0 {x: 1, y: 2}"]
    tens = [", ".join([f"*a{i}"] * 10) for i in range(30)]
    merges = [*lines, *(f"a{i + 1}: &a{i + 1} {{<<: [{tens[i]}], k{i}: 1}}" for i in range(30))]
    lists = [*lines, *(f"a{i + 1}: &a{i + 1} [{tens[i]}]" for i in range(30))]
    assert len(parse_yaml("\n".join(merges), "f")["a30"]) == 32
    bomb = parse_yaml("\n".join(lists), "f")
    refused(lambda: parse(Sample, {"count": bomb["a30"]}, "f"), "count: expected a whole number")
    refused(lambda: parse(Sample, bomb, "f"), "unknown key 'a0'")
    assert time.process_time() - start < 2


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    refused(lambda: read_yaml(tmp_path / "none.yaml"), "none.yaml: no such file")
    refused(lambda: read_yaml(tmp_path), "cannot be read")
    (tmp_path / "binary.yaml").write_bytes(bytes(range(256)))
    refused(lambda: read_yaml(tmp_path / "binary.yaml"), "binary.yaml: cannot be read: not text")
    (tmp_path / "empty.yaml").write_text("")
    assert read_yaml(tmp_path / "empty.yaml") is None


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="ab01:-[]{}&*!<>?|'\"%@#,. \n\t~=", max_size=30))
def test_any_text_is_read_or_refused_in_one_line(text: str) -> None:
    try:
        parse_yaml(text, "f")
    except UserError as error:
        assert one_line(str(error)) and str(error).startswith("f")
