"""Times are set right where content is as it was recorded, and nowhere else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from small import Tiny, rewrite

from pipeline.artifacts.record import Records
from pipeline.artifacts.times import Times
from pipeline.runs import Run
from pipeline.study.settled import wanted


@pytest.fixture
def block(fresh: Tiny) -> Run:
    """A pruning block with the dense run before it, whose weights were then touched."""
    run = fresh.block()
    fresh.make(run)
    later = fresh.path(run).stat().st_mtime + 1000
    os.utime(weights(fresh), (later, later))
    return run


def weights(study: Tiny) -> Path:
    return study.path(study.dense(), "weights.safetensors")


def settle(study: Tiny, run: Run) -> None:
    closure = wanted(study.graph, study.graph.closure([run]))
    Times(Records(study.results)).settle(closure[-1], lambda: closure)


def in_order(study: Tiny, run: Run) -> bool:
    """Whether nothing that the run has made is older than what it has read."""
    oldest = min(study.path(run, name).stat().st_mtime_ns for name in run.files)
    read = [study.results / file.path for file in study.graph.inputs(run).values()]
    return all(path.stat().st_mtime_ns <= oldest for path in read)


def test_a_touched_input_gets_its_time_back(fresh: Tiny, block: Run) -> None:
    before = {name: fresh.path(block, name).read_bytes() for name in block.files}
    assert not in_order(fresh, block)
    settle(fresh, block)
    assert in_order(fresh, block)
    assert before == {name: fresh.path(block, name).read_bytes() for name in block.files}


def test_an_input_whose_content_changed_keeps_its_time(fresh: Tiny, block: Run) -> None:
    path = weights(fresh)
    moment = path.stat().st_mtime_ns
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(path, ns=(moment, moment))
    settle(fresh, block)
    assert path.stat().st_mtime_ns == moment and not in_order(fresh, block)


def test_an_input_that_was_made_again_otherwise_keeps_its_time(fresh: Tiny, block: Run) -> None:
    record = Records(fresh.results).record_of(block.folder)
    assert record is not None
    rewrite(fresh.folder(block), parents=dict.fromkeys(record.parents, "0" * 64))
    settle(fresh, block)
    assert not in_order(fresh, block)


def test_clocks_of_two_machines_may_differ(fresh: Tiny, block: Run) -> None:
    """The dense run's machine says that it was finished after the block that was made of it."""
    rewrite(fresh.folder(fresh.dense()), finished="2050-01-01T00:00:00Z")
    settle(fresh, block)
    assert in_order(fresh, block)
