"""What the report is made of: names, captions, settings, and the page that Snakemake renders."""

from __future__ import annotations

from pathlib import Path

import pytest
from small import STUDY, Tiny, write_study

from pipeline.report import about
from pipeline.report.archive import targets
from pipeline.study.config import Config, read
from pipeline.study.graph import Graph
from pipeline.study.settings import ALGORITHM
from pipeline.study.targets import Targets

ROOT = Path(__file__).parents[1]
OUTPUTS = """
outputs:
  table_5: {kind: rewind-grid, title: A grid, experiments: [tiny], published: "5", note: Read this.}
  table_4_2: {kind: rewind-grid, title: A grid, experiments: [tiny]}
  table_12: {kind: hyperparameters, title: A list, experiments: [tiny]}
  figure_4a: {kind: interpolation, title: A line, experiments: [tiny]}
  figure_4b:
    {kind: plane, title: A plane, experiments: [tiny], sparsity: 0.6, rewind_epoch: 1, pair: 2,
     correction: none}
  figure_4: {kind: group, title: Both, outputs: [figure_4a, figure_4b]}
  one: {kind: mask-sparsity, title: The same, experiments: [tiny]}
  two: {kind: matching-quality, title: The same, experiments: [tiny], optional: true}
  untitled: {kind: matching-quality, experiments: [tiny]}
  claims: {kind: claims, title: Claims, outputs: [table_5, figure_4a]}
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """The small study with outputs of several kinds."""
    monkeypatch.chdir(write_study(tmp_path, study=STUDY.replace("outputs: {}", OUTPUTS)))
    return read(tmp_path)


def test_names_in_the_menu(config: Config) -> None:
    targets = Targets(Graph(config))
    names = {name: targets.label(name) for name in config.outputs}
    assert names == {
        "table_5": "Table \u20075: A grid", "table_4_2": "Table \u20074.2: A grid",
        "table_12": "Table 12: A list", "figure_4a": "Figure \u20074a: A line",
        "figure_4b": "Figure \u20074b: A plane", "figure_4": "Figure \u20074: Both",
        "one": "The same (one)", "two": "The same (two)", "untitled": "untitled", "claims": "Claims",
    }  # fmt: skip


@pytest.mark.parametrize("study", [path.stem for path in (ROOT / "config/studies").glob("*.yaml")])
def test_names_are_distinct(study: str) -> None:
    """Of two entries of one name in a category the menu shows one."""
    own = Targets(Graph(read(ROOT, {"study": study})))
    for what in ("table", "figure"):
        labels = [own.label(name) for name in own.names(what)]
        assert len(set(labels)) == len(labels)


@pytest.mark.parametrize("what", ["table", "figure"])
def test_a_raised_number_makes_tables_or_figures_again_and_no_run(
    config: Config, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    outputs, graph = config.outputs, Graph(config)
    targets = Targets(graph)
    runs = graph.closure(graph.outputs(outputs))
    before = {n: targets.spec(n) for n in outputs if outputs[n].what != "group"}
    digests = {run: graph.digest(run) for run in runs}
    monkeypatch.setitem(ALGORITHM, what, ALGORITHM[what] + 1)
    changed = {name for name in before if targets.spec(name) != before[name]}
    figures = {name for name in before if outputs[name].what == "figure"}
    assert changed == (figures if what == "figure" else before.keys() - figures) != set()
    assert {run: Graph(config).digest(run) for run in runs} == digests


def test_captions(config: Config) -> None:
    own = Targets(Graph(config))
    said = {name: own.caption(name) for name in config.outputs}
    assert said["table_5"].startswith("A grid. Test accuracy in %")
    assert said["table_5"].endswith("Read this. Protocol: paper. Seeds: 2 pairs (a–b): 0–1, 0–2.")
    assert "Seeds" not in said["table_12"]  # recipes have none
    assert said["figure_4b"].endswith("Seeds: 1 pair (a–b): 0–2.")
    assert said["claims"].endswith("Seeds: 2 pairs (a–b): 0–1, 0–2.")


def test_what_the_report_shows(config: Config) -> None:
    shown = [path.removeprefix("results/tiny/") for path in targets(config)]
    assert shown == [
        "about/experiments.html", "about/settings.html", "about/provenance.html",
        "tables/table_5.html", "tables/table_5.comparison.html", "tables/table_4_2.html",
        "tables/table_12.html", "tables/claims.html", "figures/figure_4a.svg",
        "figures/figure_4b.svg", "figures/one.svg", "figures/untitled.svg",
    ]  # fmt: skip


def test_settings_list_what_is_in_use_resolved(tiny_root: Path) -> None:
    config = read(tiny_root, {"protocol": "authors-code"})
    tidy = about.settings(config).tidy
    value = tidy.set_index(["group", "name", "setting"])["value"]
    assert value["Dense training", "tiny", "lr"] == "0.08"
    assert value["Dense training", "tiny", "trunk"] == "0, 2"
    assert value["Pruning", "tiny+prunable=no-shortcut", "prunable"] == "no-shortcut"
    assert value["Protocol", "authors-code", "rewind_offset"] == "1"
    assert "tiny-all" not in set(tidy["name"])  # no experiment uses it
    changed = tidy.set_index(["name", "setting"])["changed"]
    assert changed["tiny+prunable=no-shortcut", "prunable"] == "true"
    assert changed["tiny", "momentum"].eq("false").all()
    assert (tidy["help"] != "").sum() > 40


def test_provenance_counts_runs_that_are_there(config: Config, tmp_path: Path) -> None:
    before = about.provenance(config)
    assert before.tidy["missing"].eq(before.tidy["runs"]).all()
    assert "No run is there yet." in before.notes
    own = Tiny(tmp_path, config.results.resolve())
    own.run(own.dense(0))
    found = about.provenance(config)
    dense = found.tidy.set_index("stage").loc["dense"]
    assert (dense["runs"], dense["missing"], dense["epochs"], dense["seeds"]) == (
        3,
        2,
        4,
        "0, 1, 2",
    )
    assert dense["seconds"] >= dense["train_seconds"] > 0
    assert any(note.startswith("Software: Python 3.") for note in found.notes)
