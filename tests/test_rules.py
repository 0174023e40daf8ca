"""The rules of runs: each names what its runs read, by role, and the files that they leave."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import pytest

from pipeline.runs import STAGES, ImpBlock, Mask, Solution
from pipeline.study.config import read
from pipeline.study.graph import Graph

ROOT = Path(__file__).parents[1]
RULE = re.compile(r"(?m)^use rule run as (\w+) with:\n((?: .*\n|\n)+)")
TEXTS = [path.read_text() for path in sorted((ROOT / "workflow" / "rules").glob("*.smk"))]
#: The lines of the rule of each stage.
RULES = {
    "".join(re.findall(r'stage="(.+)"', lines)): (name, lines)
    for text in TEXTS
    for name, lines in RULE.findall(text)
}


def test_every_stage_has_a_rule_of_its_name() -> None:
    assert RULES.keys() == STAGES.keys()
    assert all(name == stage.replace("-", "_") for stage, (name, _) in RULES.items())


@pytest.mark.parametrize("stage", STAGES)
def test_a_rule_names_the_files_that_its_runs_leave(stage: str) -> None:
    _, lines = RULES[stage]
    assert tuple(re.findall(r'f"\{RUN\}/(.+)"', lines)) == STAGES[stage].files


def test_a_rule_names_the_roles_in_which_its_runs_read() -> None:
    """All of them, and none that no run has."""
    roles: dict[str, set[str]] = defaultdict(set)
    for study in (ROOT / "config" / "studies").glob("*.yaml"):
        graph = Graph(read(ROOT, {"study": study.stem}))
        runs = graph.closure(graph.outputs(graph.config.outputs))
        blocks = [run for run in runs if isinstance(run, ImpBlock)]
        # No output shows a solution of a chain that rewinds.
        solutions = [Solution(Mask(run.dense, run.recipe, "P1")) for run in blocks]
        for run in runs + solutions:
            roles[run.stage] |= {role.rstrip("0123456789") for role in graph.inputs(run)}
    named = {
        stage: set(re.findall(r"\w+", "".join(re.findall(r"\*\*reads\((.+)\)", lines))))
        for stage, (_, lines) in RULES.items()
    }
    assert named == roles
