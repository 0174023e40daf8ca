"""Every published number has a target, and the thesis' targets are the paper's runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from studies import ROOT

from pipeline.errors import UserError
from pipeline.report import published, works
from pipeline.study.config import Config, read
from pipeline.study.graph import Graph


def numbers(config: Config) -> set[str]:
    return {place.number for place in works.places(config)}


def test_every_table_and_figure_of_both_works_is_a_target(paper: Graph, thesis: Graph) -> None:
    assert numbers(paper.config) >= {f"Table {n}" for n in range(1, 16)}
    # Figure 2, and the thesis' 3.4, are diagrams
    assert numbers(paper.config) >= {f"Figure {n}" for n in (1, *range(3, 13))}
    ours = {f"Table 4.{n}" for n in range(1, 17)} | {f"Figure 4.{n}" for n in range(1, 11)}
    assert numbers(thesis.config) >= ours | {f"Figure 3.{n}" for n in (1, 2, 3)}


def test_every_published_cell_has_one_target_in_each_work_that_prints_it(
    paper: Graph, thesis: Graph
) -> None:
    cells = published.cells()
    for graph, column in ((paper, "paper_table"), (thesis, "thesis_table")):
        ends = [o.published for o in graph.config.outputs.values() if o.kind != "diversity"]
        assert sorted(filter(None, ends)) == sorted(cells[column].dropna().unique())


def test_what_both_works_print_shows_the_same_runs_with_the_same_settings(
    paper: Graph, thesis: Graph
) -> None:
    entries = yaml.safe_load((ROOT / "config/studies/thesis.yaml").read_text())["outputs"]
    same = {name: entry["extends"] for name, entry in entries.items() if "extends" in entry}
    assert len(same) == 15 + 3 + 8 + 1  # tables, Figure 12 in three parts, figures, 4.7c
    for ours, theirs in same.items():
        found, known = (
            {run: graph.digest(run) for run in graph.outputs([name])}
            for graph, name in ((thesis, ours), (paper, theirs))
        )
        assert found == known, ours
        assert thesis.config.outputs[ours].kind == paper.config.outputs[theirs].kind


def test_a_row_of_the_page_has_the_numbers_of_both_works() -> None:
    rows = {row[0]: row for row in works.rows(ROOT) if row[0]}
    cells = published.cells()
    for theirs, own in cells[["paper_table", "thesis_table"]].dropna().drop_duplicates().to_numpy():
        row = rows[f"Table {theirs}"]
        assert row[1] == f"Table {own}" and row[3].split()[0] == str(
            (cells["paper_table"] == theirs).sum()
        )
        assert row[5] == f"`table_{own.replace('.', '_')}`"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("extends: papre", "unknown study 'papre'; did you mean 'paper'"),
        ("extends: mine", "leads back to itself"),
        ("outputs: {t: {extends: table_x}}", "unknown table or figure 'table_x'"),
        ("extends: other", "'mine' leads back to itself"),
    ],
)
def test_a_study_that_extends_nothing_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "config.yaml").write_text("study: mine\n")
    studies = tmp_path / "config" / "studies"
    studies.mkdir(parents=True)
    (tmp_path / "config" / "recipes.yaml").write_text((ROOT / "config/recipes.yaml").read_text())
    (studies / "paper.yaml").write_text((ROOT / "config/studies/paper.yaml").read_text())
    (studies / "other.yaml").write_text("extends: mine\n")
    (studies / "mine.yaml").write_text(text + "\n")
    with pytest.raises(UserError, match=re.escape(words)):
        read(tmp_path)


def test_a_study_has_the_experiments_and_not_the_outputs_of_another(thesis: Graph) -> None:
    raw = thesis.config.raw["study"]
    assert "resnet20-w16-cifar100" in raw["experiments"] and "table_5" not in raw["outputs"]
    assert raw["outputs"]["table_4_7"]["kind"] == "rewind-grid"  # whole in itself, for its jobs
