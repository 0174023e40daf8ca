"""Numbers of further works are data: what stands in a file of cells can be compared with and judged."""

from __future__ import annotations

import math
import sys
from types import ModuleType
from typing import Any

import pandas as pd
import pytest
import synthetic
from studies import BASE, config, refused

from pipeline.report import claims, published
from pipeline.report.claims import accuracy
from pipeline.report.claims.judge import STATED
from pipeline.report.comparison import build
from pipeline.report.shown import Shown
from pipeline.study.graph import Graph
from pipeline.study.outputs.rewind_grid import RewindGrid
from pipeline.study.targets import Targets
from pipeline.study.works import COLUMNS, Works

HEAD = (
    "work,table,dataset,model,width,sparsity,method,rewind_epoch,matching_epoch,metric,mean,std,n"
)
ROW = "An example,2,cifar10,resnet20,1,0.95,naive,10,,top1,88.4,1.1,3"
KNOWN = (["cifar10"], ["resnet20"], ["lth", "naive", "permuted"])
OUTPUTS = {"shown": {"kind": "rewind-grid", "experiments": ["one"], "published": "example 2"}}


def text(*rows: str) -> str:
    return "\n".join([HEAD, *rows, ""])


def work_of(frame: pd.DataFrame) -> str:
    """A file of a work that prints just what stands in a frame of published cells."""
    whole = {"rewind_epoch": int, "matching_epoch": "Int64"}
    return frame.assign(work="Again", table="1")[list(COLUMNS)].astype(whole).to_csv(index=False)


def rows_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The cells of such a file, of tables that have each cell once."""
    once = frame[frame["paper_table"] != "15"].dropna(subset="paper_table")
    known = [set(frame[name]) for name in ("dataset", "model", "method")]
    return Works.read({"again": work_of(once)}, *known).rows("again")


def changed(**fields: str) -> str:
    row = dict(zip(HEAD.split(","), ROW.split(","), strict=True)) | fields
    return ",".join(row.values())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", ("columns: expected work,",)),
        (HEAD.replace("std", "spread"), ("columns", "spread")),
        (text(ROW[:-2]), ("line 2", "12 fields, not 13")),
        (text(ROW, ROW), ("line 3", "the cell of line 2 again")),
        (text(changed(dataset="cifar")), ("line 2", "unknown dataset 'cifar'", "cifar10")),
        (text(changed(model="vgg")), ("line 2", "unknown model 'vgg'")),
        (text(changed(method="rigl")), ("line 2", "unknown method 'rigl'", "naive")),
        (text(changed(mean="88,4")), ("line 2", "14 fields")),
        (text(changed(mean="high")), ("line 2", "mean: expected a number, got 'high'")),
        (text(changed(mean="nan")), ("line 2", "mean")),
        (text(changed(mean="101")), ("line 2", "mean", "[0, 100]")),
        (text(changed(mean="")), ("line 2", "key 'mean' is missing")),
        (text(changed(sparsity="95")), ("line 2", "sparsity")),
        (text(changed(rewind_epoch="1.5")), ("line 2", "rewind_epoch: expected a whole number")),
        (text(changed(metric="top3")), ("line 2", "metric", "top1")),
        (text(changed(n="1")), ("line 2", "std: one run has no spread")),
        (text(changed(n="0")), ("line 2", "n: 0 is not allowed")),
        (text(changed(work='"An')), ("line 2",)),
    ],
)
def test_a_row_that_is_no_cell_is_told_with_its_line(content: str, words: tuple[str, ...]) -> None:
    refused(
        lambda: Works.read({"example": content}, *KNOWN), "config/published/example.csv", *words
    )


@pytest.mark.parametrize("name", ["2nd", "An-Example", "a.b", "x" * 41])
def test_a_name_that_can_be_no_module_is_refused(name: str) -> None:
    refused(lambda: Works.read({name: text(ROW)}, *KNOWN), f"config/published/{name}.csv")


def test_a_table_of_a_work_can_be_named_and_no_other() -> None:
    works = {"example": text(ROW, changed(table="A.1"))}
    found = config({"one": BASE}, OUTPUTS, works=works)
    assert found.works.labels == ["example 2", "example A.1"]
    for label in ("example 3", "example", "other 2"):
        outputs = {"shown": OUTPUTS["shown"] | {"published": label}}
        refused(lambda o=outputs: config({"one": BASE}, o, works=works), f"'{label}'", "example 2")
    outputs = {"shown": {"kind": "cost", "experiments": ["one"], "published": "example 2"}}
    refused(lambda: config({"one": BASE}, outputs, works=works), "no numbers were published")


def test_a_work_that_repeats_a_table_of_the_paper_is_compared_as_the_paper_is() -> None:
    found = config({"one": BASE}, works={"again": work_of(published.table("5"))})
    shown = Shown("table", works=found.works)
    runs = synthetic.runs_of("5")
    theirs = build(RewindGrid(published="again 1"), shown, runs)
    paper = build(RewindGrid(published="5"), Shown("table"), runs)
    assert theirs.tidy.equals(paper.tidy)
    assert "Again Table 1" in " ".join([theirs.title, *theirs.notes, *map(str, theirs.layout)])


def test_an_unknown_spread_and_an_end_of_training_stay_so() -> None:
    works = Works.read({"example": text(changed(std="", n="1"))}, *KNOWN)
    (cell,) = published.cells_of(works.rows("example 2")).to_dict("records")
    assert math.isnan(cell["std"]) and math.isnan(cell["matching_epoch"]) and cell["n"] == 1


def test_new_numbers_are_a_reason_to_write_what_names_them_and_nothing_else() -> None:
    outputs: dict[str, Any] = OUTPUTS | {"plain": {"kind": "rewind-grid", "experiments": ["one"]}}

    def specs(*rows: str) -> tuple[dict[str, Any], dict[str, Any]]:
        targets = Targets(Graph(config({"one": BASE}, outputs, works={"example": text(*rows)})))
        return targets.spec("shown"), targets.spec("plain")

    before, after = specs(ROW), specs(changed(mean="88.5"))
    assert before[0] != after[0] and before[1] == after[1]
    none = Targets(Graph(config({"one": BASE}, {"plain": outputs["plain"]}))).spec("plain")
    assert none == before[1]


# -- claims ------------------------------------------------------------------------------------


@pytest.fixture
def again(monkeypatch: pytest.MonkeyPatch) -> str:
    """A work with a module of one claim, which the paper makes, too."""
    name = f"{claims.__name__}.again"
    monkeypatch.setitem(sys.modules, name, ModuleType(name))
    (one,) = [s for s in STATED[accuracy.__name__] if s.id == "permuted-at-least-naive"]
    monkeypatch.setitem(STATED, name, [one])
    return "again"


def test_the_claims_of_a_work_are_a_page_of_their_own(again: str) -> None:
    before = claims.on_published()
    (claim,) = claims.on_work(again, published.cells_of(rows_of(published.cells())))
    paper = next(c for c in before if c.id == claim.id)
    pd.testing.assert_frame_equal(claim.rows[:9], paper.rows[:9])
    assert claim.p < paper.p  # one test in place of many
    after = claims.on_published()
    assert [(c.id, c.verdict, str(c.p)) for c in after] == [
        (c.id, c.verdict, str(c.p)) for c in before
    ]


def test_runs_are_judged_on_the_claims_of_a_work_alone(again: str) -> None:
    runs = synthetic.runs_of("5")
    (claim,) = claims.on_results(runs, work=again)
    paper = next(c for c in claims.on_results(runs) if c.id == claim.id)
    assert claim.parts == paper.parts and claim.of == paper.of


def test_a_work_without_claims_is_told_when_the_study_is_read() -> None:
    outputs: dict[str, Any] = OUTPUTS | {
        "judged": {"kind": "claims", "outputs": ["shown"], "work": "example"}
    }
    works = {"example": text(ROW)}
    refused(
        lambda: config({"one": BASE}, outputs, works=works),
        "outputs: judged: work", "src/pipeline/report/claims/example.py",
    )  # fmt: skip
    outputs["judged"] |= {"work": "other"}
    refused(lambda: config({"one": BASE}, outputs, works=works), "unknown work 'other'", "example")
    refused(
        lambda: claims.on_work("measures", published.cells_of(rows_of(published.cells()))),
        "states no claim",
    )
