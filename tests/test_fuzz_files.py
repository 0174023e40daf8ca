"""Thousands of broken files beside a run: each is told in one line, and none is taken for whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small import Tiny, write_study

from pipeline.artifacts import finished, store
from pipeline.artifacts.record import PROVENANCE, record_of, recorded, verify, write
from pipeline.commands.check import damaged
from pipeline.errors import UserError
from pipeline.results import Results
from pipeline.runs import STAGES, parse
from pipeline.study.state import States

MANY = settings(
    max_examples=300, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    | st.sampled_from(["../../x", "metrics.json", "/etc/passwd", "\x00"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """One dense run with its record, made of nothing."""
    root = write_study(tmp_path_factory.mktemp("fuzz"))
    own = Tiny(root, root / "results")
    run = own.dense()
    for name in STAGES["dense"].files:
        store.write_atomic(own.path(run, name), b"x")
    content = {"status": "ok", "digest": own.graph.digest(run), "test_accuracy": 50.0}
    store.write_json(own.path(run, "metrics.json"), content)
    write(own.folder(run), own.graph.settings(run), STAGES["dense"].files, {"data/facts": "0" * 64})
    return own


def told(call: Callable[[], Any]) -> bool:
    """Whether a call raised a UserError of one line; anything else is an error of ours."""
    try:
        call()
    except UserError as error:
        assert str(error) and "\n" not in str(error)
        return True
    return False


def readers(study: Tiny) -> list[Callable[[], Any]]:
    """Everything that reads the record of a run, or its metrics."""
    run = study.dense()
    path = study.path(run)
    return [
        lambda: verify(path, study.graph.digest(run)),
        lambda: list(damaged(study.results)),
        lambda: States(study.graph).why(run),
        lambda: Results(study.config).metrics(run),
        lambda: Results(study.config).provenance(run).get("seconds"),
        lambda: recorded(path),
        lambda: finished.take_back(study.results, run.folder, ["gone"], "digest"),
    ]


def test_the_run_that_is_broken_below_is_whole(study: Tiny) -> None:
    assert not any(told(call) for call in readers(study))
    assert list(damaged(study.results)) == []


@MANY
@given(data=st.data())
def test_any_record_is_read_or_told_in_one_line(study: Tiny, data: st.DataObject) -> None:
    path = study.path(study.dense(), PROVENANCE)
    before = path.read_bytes()
    record = json.loads(before)
    try:
        how = data.draw(st.sampled_from(["value", "entry", "whole", "bytes", "cut"]))
        if how == "value":
            record[data.draw(st.sampled_from(sorted(record)))] = data.draw(VALUES)
        elif how == "entry":
            kind = data.draw(st.sampled_from(["files", "parents", "settings"]))
            record[kind][data.draw(st.sampled_from([*record[kind], "x"]))] = data.draw(VALUES)
        elif how == "whole":
            record = data.draw(VALUES)
        content = json.dumps(record).encode()
        if how == "bytes":
            place = data.draw(st.integers(0, len(before) - 1))
            content = before[:place] + data.draw(st.binary(min_size=1, max_size=4)) + before[place:]
        elif how == "cut":
            content = before[: data.draw(st.integers(0, len(before) - 3))]
        path.write_bytes(content)
        for call in readers(study):
            told(call)
        try:
            one, two = (store.canonical(json.loads(each)) for each in (content, before))
            same = one == two  # true is no 1
        except (ValueError, RecursionError):
            same = False
        assert same or list(damaged(study.results)), content
        assert (record_of(path.parent) is not None) == same, content
    finally:
        path.write_bytes(before)


@MANY
@given(st.binary(max_size=60) | st.text(max_size=40).map(str.encode), st.integers(0, 200))
def test_any_metrics_are_refused_unless_they_are_those_of_the_run(
    study: Tiny, content: bytes, place: int
) -> None:
    path = study.path(study.dense())
    before = path.read_bytes()
    try:
        for broken in (content, before[:place] + content + before[place + len(content) :]):
            path.write_bytes(broken)
            assert told(lambda: Results(study.config).metrics(study.dense())) == (broken != before)
            assert bool(list(damaged(study.results))) == (broken != before)
    finally:
        path.write_bytes(before)


@MANY
@given(st.binary(max_size=200) | st.text(max_size=80).map(str.encode))
def test_any_table_of_values_is_read_or_told(tmp_path_factory: Any, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(content)
    if not told(lambda: store.read_csv(path)):
        assert all(None not in row for row in store.read_csv(path))
    told(lambda: store.read_json(path))
    told(lambda: store.read_tensors(path))
    told(lambda: store.read_info(path))


@MANY
@given(st.text(max_size=30))
def test_no_name_leaves_the_results_folder(study: Tiny, name: str) -> None:
    """Any text asked for as a run is refused, or lies below the results."""
    for stage in STAGES:
        try:
            run = parse(stage, name)
        except UserError as error:
            assert "\n" not in str(error)
            continue
        inside = (study.results / run.folder).resolve()
        assert inside.is_relative_to(Path(study.results).resolve())
