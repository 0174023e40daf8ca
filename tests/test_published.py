"""The published numbers: the very files, and what they say as cells."""

import hashlib
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from studies import BASE, config, refused

from pipeline.report import published
from pipeline.study.outputs.diversity import Diversity
from pipeline.study.outputs.early_matching import EarlyMatching
from pipeline.study.outputs.rewind_grid import RewindGrid

DIGESTS = {
    "published_dense.csv": "2eb276c1b0736e76cf5c8eb1697910b23d78b32ee825742f93014bde120f2066",
    "published_diversity.csv": "e68130668f0274b852e80d35a12547a9232fa2680620c2b3fd42d974bfb43e21",
    "published_results.csv": "5691545156ad3a1ef1e22bc0026caeaa962fc7e393bfed6fe06133121bdd06bc",
}
# Where the files came from, when that folder lies beside the repository.
ORIGINALS = Path(__file__).resolve().parents[2] / "shared" / "paper"


@pytest.mark.parametrize("name", DIGESTS)
def test_files_are_the_published_ones_byte_for_byte(name):
    content = resources.files("pipeline.report.published").joinpath(name).read_bytes()
    assert hashlib.sha256(content).hexdigest() == DIGESTS[name]
    if ORIGINALS.is_dir():
        assert content == (ORIGINALS / name).read_bytes()


def test_cells_count_and_shape():
    cells = published.cells()
    assert len(cells) == 718
    assert cells["mean"].between(0, 100).all()
    # Table 10 alone has no spread: a single run.
    assert (cells["n"] == np.where(cells["paper_table"] == "10", 1, 3)).all()
    counts = cells["paper_table"].value_counts()
    assert {label: counts[label] for label in ("5", "6", "7", "9", "10", "14", "15")} == {
        "5": 108, "6": 108, "7": 60, "9": 42, "10": 54, "14": 60, "15": 28,
    }  # fmt: skip


def test_table_by_paper_or_thesis_number():
    table = published.table("5")
    assert set(table["width"]) == {1.0}
    assert published.table("4.7")["mean"].tolist() == table["mean"].tolist()
    assert set(published.table("4.2")["dataset"]) == {"svhn"}
    with pytest.raises(KeyError, match="no published table '2'"):
        published.table("2")


def test_matching_at_200_is_matching_at_the_end_and_repeats_table_5():
    early = published.table("15")
    assert set(early["matching_epoch"].dropna()) == {5.0, 20.0, 50.0, 100.0}
    end = early[early["matching_epoch"].isna()]
    grid = published.table("5")
    grid = grid[grid["rewind_epoch"] == 20]
    keys = ["sparsity", "method"]
    both = end.merge(grid, on=keys, suffixes=("_15", "_5"))
    assert len(both) == 12
    assert (both["mean_15"] == both["mean_5"]).all()


def test_diversity_and_dense():
    diversity = published.diversity().set_index(["dataset", "method"])
    assert len(diversity) == 10
    assert diversity.loc[("cifar10", "permuted"), "ensemble_accuracy"] == 91.75
    dense = published.dense()
    assert dense["test_accuracy_mean"].tolist() == [92.76, 78.37, 92.88, 95.95]
    assert dense["n"].isna().tolist() == [False, False, True, True]


def test_curves_of_sharma_are_whole_and_say_how_well_they_were_read():
    curves = published.sharma()
    keys = [name for name in curves if name not in ("value", "reading_error")]
    assert len(curves) == 361 and not curves.duplicated(keys).any()
    assert curves.groupby("figure").size().to_dict() == {
        "14": 96 + 48 + 24, "15": 45 + 32, "17": 52, "18": 52, "21": 12,
    }  # fmt: skip
    assert set(curves["reading_error"]) == {0.005, 0.02}
    fractions = curves[curves["metric"] != "loss"]["value"]
    assert fractions.between(0, 1).all() and (curves["value"] > 0).all()
    # every line of a curve over widths has all six of them
    lines = curves[curves["figure"] == "14"].groupby([*keys[1:3], *keys[4:8]], dropna=False)
    assert (lines.size() == 6).all()


def test_points_that_two_images_show_agree_but_for_one():
    """VGG-16 at the end under a permutation of t: as curves along training end, and against t.

    At t = 5 the two images show 0.83 and 0.75, further apart than either may be misread.
    """
    curves = published.sharma()
    end = curves[(curves["arm"] == "end") & (curves["metric"] == "error")]
    along = curves[(curves["arm"] == "along") & (curves["epoch"] == 150)]
    keys = ["model", "width", "split", "matching_epoch"]
    both = end.merge(along, on=keys, suffixes=("_end", "_along"))
    apart = (both["value_end"] - both["value_along"]).abs()
    fits = apart <= both["reading_error_end"] + both["reading_error_along"]
    assert dict(zip(both["matching_epoch"], fits, strict=True)) == {
        3: True, 5: False, 10: True, 20: True,
    }  # fmt: skip


# -- what a study may name -------------------------------------------------------------------------


def test_a_study_may_name_exactly_the_tables_that_were_published() -> None:
    cells = published.cells()
    tables = {*cells["paper_table"].dropna(), *cells["thesis_table"].dropna()}
    diversity = pd.read_csv(
        resources.files("pipeline.report.published") / "published_diversity.csv", dtype=str
    )
    for kind, known in (
        (RewindGrid, tables),
        (EarlyMatching, tables),
        (Diversity, {*diversity["paper_table"], *diversity["thesis_table"]}),
    ):
        assert sorted(kind.numbers) == sorted(known)


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ({"kind": "rewind-grid", "published": "16"}, ("published", "'16'", "15")),
        ({"kind": "rewind-grid", "published": "1"}, ("published", "'1'")),
        ({"kind": "cost", "published": "5"}, ("no numbers were published", "'cost'")),
        ({"kind": "interpolation", "published": "5"}, ("no numbers were published",)),
    ],
)
def test_a_table_that_was_not_published_is_told_when_the_study_is_read(
    output: dict[str, Any], words: tuple[str, ...]
) -> None:
    outputs = {"shown": output | {"experiments": ["one"]}}
    refused(lambda: config({"one": BASE}, outputs=outputs).outputs, "outputs: shown", *words)
