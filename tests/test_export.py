"""All runs in one line: a frame, a CSV, a Parquet file; the same rows in each."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pytest
from small import Tiny
from studies import refused

from pipeline import results
from pipeline.commands import export, main


@pytest.fixture
def root(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the small study, with a dense and a sparse run, as the current folder."""
    tiny.make(tiny.cell("naive").run)
    monkeypatch.chdir(tiny.root)
    return tiny.root


def test_the_study_of_config_yaml_is_meant_where_none_is_named(root: Path, tiny: Tiny) -> None:
    runs = results.load()
    assert list(runs.columns) == results.COLUMNS
    pd.testing.assert_frame_equal(runs, results.load("tiny", "paper"))
    (row,) = runs[runs["path"] == tiny.cell("naive").run.path()].to_dict("records")[:1]
    assert row["status"] == "ok" and row["method"] == "naive" and row["sparsity"] == 0.6
    assert "missing" in set(runs["status"])
    other = results.load(protocol="authors-code")
    assert set(other["protocol"]) == {"authors-code"}


def test_results_are_found_from_another_folder(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = results.load()
    monkeypatch.chdir(tmp_path)
    relative = os.path.relpath(root)
    pd.testing.assert_frame_equal(results.load(root=relative), here)
    pd.testing.assert_frame_equal(results.load(root=root), here)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_file_holds_the_frame(
    root: Path, tmp_path: Path, ending: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"runs.{ending}"
    main(["export", str(path), "--study", "tiny"])
    runs = results.load("tiny")
    missing = int((runs["status"] == "missing").sum())
    assert capsys.readouterr().out == f"{path}: {len(runs)} rows, {missing} of them missing\n"
    assert 0 < missing < len(runs)
    found = pd.read_csv(path) if ending == "csv" else pd.read_parquet(path)
    pd.testing.assert_frame_equal(found, runs, check_dtype=False)


def test_what_cannot_be_written_is_one_line(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = results.load("tiny")
    refused(lambda: export.encoded(runs, ".xlsx"), ".csv or .parquet", "'.xlsx'")

    def absent(*arguments: object, **options: object) -> None:
        raise ImportError("no engine")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", absent)
    refused(lambda: export.encoded(runs, ".parquet"), "pip install pyarrow")
    with pytest.raises(SystemExit) as ended:
        main(["export", str(tmp_path / "runs.parquet"), "--study", "tiny"])
    assert ended.value.code == 1 and not list(tmp_path.iterdir())
