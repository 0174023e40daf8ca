"""Thousands of broken studies: each is read, or refused in one line; nothing else ever happens."""

from __future__ import annotations

import copy
import datetime
import time
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from studies import ROOT, one_line, plain, raw, recipes

from pipeline.artifacts.store import canonical
from pipeline.errors import UserError, brief
from pipeline.runs import parse
from pipeline.study.config import Config
from pipeline.study.graph import Graph
from pipeline.study.strict_yaml import parse_yaml

REFUSED, READ = "refused", "read"
QUICK = settings(
    deadline=None, database=None, suppress_health_check=list(HealthCheck), print_blob=False
)


def _whole() -> dict[str, Any]:
    """A valid study with every section and kind of output, and recipes of every kind."""
    study = parse_yaml((ROOT / "config" / "studies" / "tiny.yaml").read_text(), "tiny.yaml")
    datasets = parse_yaml((ROOT / "config" / "datasets.yaml").read_text(), "datasets.yaml")
    every = recipes()
    for kind in ("dense", "imp", "sparse", "connectivity"):
        kept = ("tiny", "imagenet", "sharma")  # protocols and sweeps name the latter two
        every[kind] = {n: e for n, e in every[kind].items() if any(word in n for word in kept)}
    every["dense"]["dense"] = {"extends": "dense-tiny", "epochs": 5}
    every["protocols"]["paper"] |= {"imp": {"momentum": 0.5}, "sparsity_tolerance": {"vgg11": 0.01}}
    experiments = {
        name: study["experiments"][name] for name in ("half", "early", "diverse", "reuse")
    }
    half = experiments["half"] | {
        "sparse": {"recipe": "sparse-tiny", "lr": 0.05},
        "imp": "imp-ft-tiny",
    }
    experiments |= {"half": half, "rewound": {"extends": "half", "imp": "imp-rewind-tiny"}}
    outputs = {
        name: entry
        for name, entry in study["outputs"].items()
        if set(entry.get("experiments", ["half"])) <= experiments.keys()
    }
    outputs["claims"] = {"kind": "claims", "outputs": ["table_grid"], "reuse": ["reuse"]}
    study = {"title": "fuzz", "experiments": experiments, "outputs": outputs}
    return raw(main={"study": "fuzz"}, study=study, datasets=datasets, recipes=every)


WHOLE = _whole()


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths to every value of a tree; those of the study itself come twice."""
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, inner in items:
        yield (*path, key)
        if path[:1] == ("study",):
            yield (*path, key)
        yield from _places(inner, (*path, key))


PLACES = sorted(_places(WHOLE), key=str)
STRANGE: list[Any] = [
    None, True, False, 0, -1, 1, 2, 10**9, 10**15, 10**400, -(10**400), 1 << 20000, 0.0, -0.0, 0.5,
    1.0, 1.5, -0.5, 1e-300, 5e-324, 1e300, float("nan"), float("inf"), -float("inf"), "", " ", "x",
    "..", "../x", "/etc/passwd", "a\nb", "a\x00b", "\x1b[31m", "é", "‮", "{key}", "$(id)", "`id`",
    "sparse+lr=0.1", "+", "=", "@", "half", "paper", "0.9", "1e3", "x" * 10_000, [], {}, [[]], [{}],
    {"": 1}, {1: 2}, {None: None}, {"recipe": "x"}, {"extends": "half"}, ["half"], [0, 0], [0.5, 0.5],
    [[0, 1]], [[0, 0]], [[0, 1, 2]], [[[0, 1]]], [0.1, 0.9, 1.1], list(range(1000)), b"bytes",
    datetime.date(2025, 1, 1), datetime.datetime(2025, 1, 1), {1, 2}, (1, 2), 1j,
]  # fmt: skip


def _strange() -> list[Any]:
    """Values that unfold without end, or nearly."""
    circle: list[Any] = []
    circle.append(circle)
    knot: dict[str, Any] = {}
    knot["extends"] = knot
    laughs: Any = ["ha"]
    for _ in range(30):
        laughs = [laughs] * 10
    deep: Any = {}
    for _ in range(5000):
        deep = {"x": deep}
    return [circle, knot, laughs, deep]


STRANGE += _strange()


@st.composite
def typing_slips(draw: st.DrawFn, word: str) -> str:
    """A word with letters dropped, doubled, exchanged or added."""
    place = draw(st.integers(0, len(word)))
    return draw(
        st.sampled_from(
            [
                word[:place] + word[place + 1 :],
                word[:place] + word[place : place + 1] + word[place:],
                word[:place]
                + word[place + 1 : place + 2]
                + word[place : place + 1]
                + word[place + 2 :],
                word[:place] + draw(st.characters()) + word[place:],
                word.upper(),
                f"{word} ",
            ]
        )
    )


def _extreme(draw: st.DrawFn, value: Any) -> Any:
    """A value of the same type, at or beyond the edge of what makes sense."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return draw(st.sampled_from([value + 1, value * 1000, -value, 0]) | st.integers())
    if isinstance(value, float):
        return draw(st.sampled_from([1 - value, value * 100, -value]) | st.floats())
    if isinstance(value, str):
        return draw(typing_slips(value) | st.text(max_size=8))
    if isinstance(value, list):
        return draw(st.sampled_from([value * 2, value[:-1], [*value, value], value[::-1], [value]]))
    if isinstance(value, dict):
        return draw(st.sampled_from([list(value), list(value.items()), {"x": value}, [value]]))
    return value


@st.composite
def broken(draw: st.DrawFn) -> dict[str, Any]:
    """The valid whole with one to three changes."""
    whole = plain(WHOLE)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(PLACES))
        parent: Any = whole
        try:
            for key in path[:-1]:
                parent = parent[key]
            value = parent[path[-1]]
        except (KeyError, IndexError, TypeError):  # an earlier change took it away
            continue
        if not isinstance(parent, dict | list):
            continue
        key = path[-1]
        match draw(
            st.sampled_from(["drop", "rename", "replace", "extreme", "extreme", "move", "add"])
        ):
            case "drop":
                del parent[key]
            case "rename" if isinstance(parent, dict):
                odd = st.sampled_from([None, 5, "", "../x", "a\nb", "k" * 500, ("a", 1)])
                renamed = draw(typing_slips(str(key)) | odd)
                parent[renamed] = parent.pop(key)
            case "replace":
                parent[key] = draw(st.sampled_from(STRANGE))
            case "move":
                other: Any = whole
                for step in draw(st.sampled_from(PLACES)):
                    if not isinstance(other, dict | list):
                        break
                    other = other.get(step) if isinstance(other, dict) else other[-1:]
                parent[key] = copy.copy(other)
            case "add" if isinstance(value, dict):
                names = [
                    "extends",
                    "recipe",
                    "kind",
                    "lr",
                    "epochs",
                    "mask_from",
                    "trunk",
                    "sparsity",
                ]
                value[draw(st.sampled_from(names))] = draw(st.sampled_from(STRANGE))
            case _:
                parent[key] = _extreme(draw, value)
    return whole


def outcome(whole: Any) -> str:
    """What a configuration comes to; all that was read can be submitted, named and planned."""
    try:
        found = Config(whole)
        outputs = found.outputs
    except UserError as error:
        assert one_line(str(error)), str(error)
        return REFUSED
    assert canonical(found.raw)
    graph = Graph(found)
    runs = [cell.run for one in found.experiments.values() for cell in islice(one.cells(), 5)]
    runs += [
        run for output in outputs.values() for run in islice(output.needs(found.experiments), 5)
    ]
    for run in runs:
        assert parse(run.stage, run.key) == run
        assert max(len(part) for part in run.key.split("/")) < 250
        assert graph.digest(run)
    return READ


def test_the_study_that_is_broken_below_is_whole() -> None:
    assert outcome(WHOLE) == READ


def test_thousands_of_malformed_studies_are_refused_in_one_line_each() -> None:
    count: Counter[str] = Counter()
    start = time.process_time()

    @settings(QUICK, max_examples=3000)
    @given(broken())
    def run(whole: dict[str, Any]) -> None:
        begun = time.process_time()
        count[outcome(whole)] += 1
        assert time.process_time() - begun < 2

    run()
    assert count[REFUSED] >= 2000, count
    assert time.process_time() - start < 120


TEXT = (ROOT / "config" / "studies" / "demo.yaml").read_text()
JUNK = ["\t", "\x00", "é", "{", "}", "[", "]", ":", ": ", "- ", "&a ", "*a", "*digits", "<<: ", "!!x ",
        "!!python/object/apply:os.system [id]", "'", '"', "|", ">", "#", "---\n", "...\n", "\n", "  ",
        "%", "@", "`", "~", "null", ".nan", "-.inf", "1e999", "0x", "9" * 5000, "? "]  # fmt: skip


def outcome_of_text(text: str) -> str:
    """What reading a study's text ends in; a refusal is one bounded line."""
    try:
        study = parse_yaml(text, "demo.yaml")
    except UserError as error:
        assert one_line(str(error)), str(error)
        return REFUSED
    return outcome(raw(main={"study": "demo"}, study=study))


@pytest.mark.parametrize("sign", ["*", "&a *", "!", "!!", "%", "@", "? ", "- !<", "\x1b", '"'])
def test_what_yaml_says_of_a_huge_word_is_one_bounded_line(sign: str) -> None:
    assert outcome_of_text(f"a: {sign}{'9' * 5000}\n") == REFUSED


def test_what_other_software_says_is_one_bounded_printable_line() -> None:
    said = brief(ValueError("first\n second\x1b[2J " + "9" * 5000))
    assert said.startswith("first second?[2J 999") and said.endswith("...") and len(said) == 300
    assert brief(ValueError()) == "ValueError" and brief("  one\ttwo ") == "one two"


@settings(QUICK, max_examples=500)
@given(st.data())
def test_a_study_file_cut_and_mixed_is_read_or_refused_in_one_line(data: st.DataObject) -> None:
    text = TEXT
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        end = min(len(text), start + data.draw(st.integers(0, 40)))
        piece = data.draw(st.sampled_from([*JUNK, "", text[start:end] * 2]))
        text = text[:start] + piece + text[end:]
    outcome_of_text(text)
