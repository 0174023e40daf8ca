"""A study's tables, figures and page in a folder of their own."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from small import RECIPES, REPOSITORY, STUDY, Tiny, write_study

from pipeline.commands import main

OUTPUTS = """outputs:
  table_grid: {kind: rewind-grid, title: A grid, experiments: [tiny], published: "5"}
  table_difference: {kind: paired-difference, title: Differences, experiments: [tiny]}
  table_barriers: {kind: barriers, title: Barriers, experiments: [tiny]}
  table_never: {kind: rewind-grid, experiments: [rewound], optional: true}
  figure_line: {kind: interpolation, title: A line, experiments: [tiny], corrections: [none]}
"""


@pytest.fixture
def own(tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch) -> Tiny:
    """One small experiment with three runs of a cell made, as the current folder."""
    study = STUDY.replace("outputs: {}", OUTPUTS).replace("[0, 1], [0, 2]", "[0, 1]")
    write_study(tmp_path / "own", RECIPES, study)
    monkeypatch.chdir(tmp_path / "own")
    return Tiny(Path(), Path("results"), kept)


def test_missing_runs_are_refused_or_shown(own: Tiny, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["evidence", "docs/mine"])
    said = capsys.readouterr().err
    assert "runs are missing" in said and "--partial" in said and said.count("\n") == 1
    assert not Path("docs").exists()
    main(["evidence", "docs/mine", "--partial"])
    page = Path("docs/mine/README.md").read_text()
    assert re.search(r"\*\*\d+ runs are missing\*\*", page) and "--study tiny --partial\n" in page


PACKS = sorted((REPOSITORY / "docs/evidence").glob("*/runs"))


@pytest.mark.parametrize("runs", PACKS, ids=[pack.parent.name for pack in PACKS])
def test_a_page_of_the_documentation_is_what_its_runs_give(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but the pictures, whose bits depend on the fonts of the machine."""
    there, study = runs.parent, runs.parent.name
    shutil.copy(there / "conclusion.md", tmp_path)
    monkeypatch.chdir(REPOSITORY)
    kept = str(runs.relative_to(REPOSITORY))
    unfinished = ["--partial"] if "runs are missing**" in (there / "README.md").read_text() else []
    main(["evidence", str(tmp_path), "--study", study, "--from", kept, *unfinished])
    files = {path.name for path in there.iterdir() if path.is_file()}
    assert files == {path.name for path in tmp_path.iterdir()} and len(files) > 10
    for name in files - {"README.md"}:
        if not name.endswith(".png"):
            assert (tmp_path / name).read_text() == (there / name).read_text(), name
    page = (tmp_path / "README.md").read_text().replace(str(tmp_path), f"docs/evidence/{study}")
    assert page.partition("## What")[2] == (there / "README.md").read_text().partition("## What")[2]


def test_missing_runs_are_counted_once(own: Tiny, capsys: pytest.CaptureFixture[str]) -> None:
    """One curve gives many rows of the barriers' table; a run is a side of two differences."""
    for name, missing in (("table_barriers", 1), ("table_difference", 12)):
        with pytest.raises(SystemExit):
            main(["table", name])
        assert f"error: {name}: {missing} run" in capsys.readouterr().err


def test_the_folder_holds_what_the_page_shows_and_keeps_the_conclusion(own: Tiny) -> None:
    for run in own.graph.closure(own.graph.outputs(["table_difference", "table_barriers"])):
        own.make(run)
    folder = Path("docs/mine")
    folder.mkdir(parents=True)
    (folder / "conclusion.md").write_text("Words of one's own.\n")
    main(["evidence", str(folder)])
    page = (folder / "README.md").read_text()
    assert "missing**" not in page and "Words of one's own." in page
    linked = set(re.findall(r"\]\(([^)]+)\)", page))
    assert {"table_grid.csv", "table_grid.comparison.csv", "figure_line.png"} <= linked
    assert all((folder / name).stat().st_size for name in linked)
    assert {path.suffix for path in folder.iterdir()} == {".md", ".csv", ".png"}  # no weights
    assert "table_never" not in page

    # every number on the page is that of the runs
    cells = pd.read_csv(folder / "table_difference.csv")
    row = cells[(cells["first"] == "permuted") & (cells["second"] == "naive")].iloc[0]
    runs = {
        method: own.cell(method, sparsity=row["sparsity"], k=int(row["rewind_epoch"])).run
        for method in ("permuted", "naive")
    }
    from pipeline.results import Results

    accuracy = {m: Results(own.config).metrics(run)["test_accuracy"] for m, run in runs.items()}  # type: ignore[index]
    assert row["difference"] == pytest.approx(accuracy["permuted"] - accuracy["naive"])
    barriers = pd.read_csv(folder / "table_barriers.csv")
    assert set(barriers["correction"]) == {"none", "repair"} and barriers["mean"].notna().all()

    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    main(["evidence", str(folder)])
    assert before == {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_page_is_made_from_a_pack_without_weights(
    own: Tiny, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same tables and figures; runs are added to it, and what was changed in it is refused."""
    runs = own.graph.closure(own.graph.outputs(["table_difference", "table_barriers"]))
    for run in runs[:3]:
        own.make(run)
    main(["pack", "kept", "--light"])
    assert f"kept: 3 runs added; it holds 3 of {len(runs)}\n" in capsys.readouterr().out
    for run in runs:
        own.make(run)
    main(["pack", "kept", "--light"])
    added = f"kept: {len(runs) - 3} runs added; it holds {len(runs)} of {len(runs)}\n"
    assert added in capsys.readouterr().out
    assert {path.suffix for path in Path("kept").rglob("*") if path.is_file()} == {".json", ".csv"}
    main(["evidence", "docs/mine"])
    shutil.rmtree("results")
    main(["evidence", "docs/packed", "--from", "kept"])
    names = {path.name for path in Path("docs/mine").iterdir()}
    assert names == {path.name for path in Path("docs/packed").iterdir()}
    for name in names - {"README.md"}:
        assert Path("docs/mine", name).read_bytes() == Path("docs/packed", name).read_bytes(), name
    assert "evidence docs/evidence/tiny --study tiny --from kept" in (
        Path("docs/packed/README.md").read_text()
    )
    for changed in Path("kept").rglob("metrics.json"):
        changed.write_text(changed.read_text().replace("0.", "1."))
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["evidence", "docs/packed", "--from", "kept"])
    said = capsys.readouterr().err
    assert "content changed since it was written" in said and said.count("\n") == 1
    with pytest.raises(SystemExit):
        main(["evidence", "docs/packed", "--from", "elsewhere"])
    assert capsys.readouterr().err == "error: elsewhere: no such folder\n"
