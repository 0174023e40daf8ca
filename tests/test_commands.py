"""The commands that list, compare, clear up and begin: what they say, and what they refuse."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from small import MAIN, RECIPES, REPOSITORY, STUDY, Tiny, rewrite, write_study

from pipeline.commands import main
from pipeline.runs import Run
from pipeline.study.config import RESERVED, read
from pipeline.study.graph import Graph

TABLE = {"kind": "rewind-grid", "experiments": ["tiny"], "rewind_epochs": [0]}


def with_a_table(root: Path) -> Path:
    study = yaml.safe_load(STUDY) | {"outputs": {"table_tiny": TABLE}}
    return write_study(root, study=yaml.safe_dump(study))


@pytest.fixture
def own(tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch) -> Tiny:
    """A small study of one's own with a table, that may be edited, as the current folder."""
    monkeypatch.chdir(with_a_table(tmp_path / "own"))
    return Tiny(Path(), Path("results"), kept)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, kept: Path) -> Path:
    """The results of all runs that the table shows."""
    study = Tiny(
        with_a_table(tmp_path_factory.mktemp("made")), tmp_path_factory.mktemp("results"), kept
    )
    for run in shown(study):
        study.make(run)
    return study.results


@pytest.fixture
def full(own: Tiny, made: Path) -> Tiny:
    """The study with all runs of its table."""
    shutil.copytree(made, own.results)
    return own


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What a command prints."""
    capsys.readouterr()
    main(words)
    return capsys.readouterr().out


def told(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line with which a command refuses, with status 1."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(words)
    text = capsys.readouterr().err
    assert ended.value.code == 1 and text.startswith("error: ") and text.count("\n") == 1, text
    return text


def edit(**dense: object) -> None:
    """Change settings of the dense recipe ``tiny``."""
    recipes = yaml.safe_load(RECIPES)
    recipes["dense"]["tiny"] |= dense
    Path("config/recipes.yaml").write_text(yaml.safe_dump(recipes))


def shown(own: Tiny) -> list[Run]:
    """The runs that the table shows."""
    return own.graph.outputs(["table_tiny"])


# -- what is there -----------------------------------------------------------------------------


def test_list_names_all_that_a_study_may_name(
    own: Tiny, capsys: pytest.CaptureFixture[str]
) -> None:
    text = said(capsys, "list")
    for word in (
        "tiny", "table_tiny", "tiny-rewind", "authors-code", "permuted", "few", "resnet20", "all",
    ):  # fmt: skip
        assert re.search(rf"\b{word}\b", text), word
    assert "tiny-rewind" not in said(capsys, "list", "methods")
    assert "did you mean 'methods'" in told(capsys, "list", "methodes")


def test_stale_says_what_was_changed_and_what_is_not_whole(
    own: Tiny, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shown(own)[0]
    own.make(run)
    count = len(own.graph.closure(shown(own)))
    assert said(capsys, "stale", "tables") == f"0 of {count} runs are stale or incomplete\n"
    own.path(run, "history.csv").unlink()
    text = said(capsys, "stale", "tables")
    assert f"results/{run.folder}: missing: history.csv\n" in text
    assert f"1 of {count} runs" in text
    edit(momentum=0.5)
    text = said(capsys, "stale", "tables")
    dense = own.dense().folder
    assert f"results/{dense}: stale" in text
    assert "  recipe.momentum: made with the default, now 0.5\n" in text
    assert "snakemake -c2 --config study=tiny" in text


def test_stale_sees_a_parent_of_another_content(
    own: Tiny, capsys: pytest.CaptureFixture[str]
) -> None:
    block = own.block()
    own.make(block)
    other = Tiny(own.root, Path("elsewhere"))
    other.make(other.dense(1))
    files = yaml.safe_load(other.path(other.dense(1), "provenance.json").read_text())["files"]
    rewrite(own.folder(own.dense()), files=files)
    text = said(capsys, "stale", f"results/{block.path()}")
    assert f"results/{block.folder}: stale" in text and "another version of dense/" in text


def test_diff_tells_settings_ancestors_and_numbers_apart(
    own: Tiny, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = own.cell("lth").run, own.cell("naive", k=1).run
    for run in (first, second):
        own.make(run)
    lines = said(capsys, "diff", *(f"results/{run.folder}" for run in (first, second))).splitlines()
    assert lines[0] == f"a results/{first.folder}: done"
    assert f"  b {own.dense(1).folder}" in lines
    (line,) = [line for line in lines if line.startswith("  test_accuracy: ")]
    a, b, difference = map(float, re.findall(r"[-+]?\d+\.?\d*(?:e[-+]\d+)?", line))
    assert difference == pytest.approx(b - a, abs=1e-4)
    same = said(capsys, "diff", *[f"results/{first.folder}"] * 2)
    assert same.count("  the same\n") == 4
    edit(lr=0.04)
    text = said(capsys, "diff", f"results/{own.dense().folder}", f"results/{own.dense(2).folder}")
    assert "  recipe.lr: a the default, b 0.04\n" in text  # b is not there: as it would be made


def test_show_says_where_a_table_is_from(own: Tiny, capsys: pytest.CaptureFixture[str]) -> None:
    run = shown(own)[0]
    own.make(run)
    text = said(capsys, "show", "results/tiny/tables/table_tiny.csv")
    assert "snakemake table_tiny -c2 --config study=tiny\n" in text
    assert f"  done     results/{run.folder}\n" in text and "1 done, " in text
    assert "--study other" in told(capsys, "show", "results/other/tables/table_tiny.csv")
    assert "did you mean 'table_tiny'" in told(capsys, "show", "results/tiny/tables/tabel_tiny.md")


def test_show_refuses_a_damaged_file(own: Tiny, capsys: pytest.CaptureFixture[str]) -> None:
    run = own.dense()
    own.make(run)
    path = own.path(run, "metrics.json")
    path.write_text(path.read_text().replace("dense", "danse", 1))
    text = told(capsys, "show", f"results/{run.folder}")
    assert f"{path}: content changed" in text and "rm '" in text


# -- a table -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["metrics.json", "history.csv", "provenance.json"])
def test_a_table_without_partial_refuses_whatever_file_of_a_run_is_gone(
    full: Tiny, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert "±" in said(capsys, "table", "table_tiny")
    full.path(shown(full)[0], name).unlink()
    text = told(capsys, "table", "table_tiny")
    assert "1 run is missing" in text and "snakemake table_tiny -c2 --config study=tiny" in text
    if name == "provenance.json":  # a number without its record is believed by nobody
        assert "has no provenance.json" in told(capsys, "table", "table_tiny", "--partial")
    else:
        said(capsys, "table", "table_tiny", "--partial")


def test_after_a_changed_recipe_the_command_that_mends_names_the_table(
    full: Tiny, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(lr=0.04)
    text = told(capsys, "table", "table_tiny")
    assert "other settings" in text and "mend it: snakemake table_tiny -c2" in text


# -- clearing up -------------------------------------------------------------------------------


def test_gc_lists_with_sizes_and_removes_what_no_study_needs(
    own: Tiny, capsys: pytest.CaptureFixture[str]
) -> None:
    needed, alone = own.dense(), own.dense(17)
    for run in (needed, alone):
        own.make(run)
    log = own.results / "logs" / f"{alone.folder}.log"
    log.parent.mkdir(parents=True)
    log.write_text("epoch 1\n")
    size = sum(path.stat().st_size for path in own.folder(alone).iterdir())
    text = said(capsys, "gc")
    assert text.count("results/dense") == 1 and f"results/{alone.folder}\n" in text
    assert f"{size / 1000:.0f} kB" in text and own.path(alone).exists()
    assert said(capsys, "gc", "--delete").endswith("removed\n")
    assert not own.folder(alone).exists() and not log.exists() and own.path(needed).exists()
    assert said(capsys, "gc") == "0 runs, 0 B, that no study needs\n"


def test_gc_knows_what_every_study_needs_under_every_protocol(
    own: Tiny, capsys: pytest.CaptureFixture[str]
) -> None:
    other = yaml.safe_load(STUDY)
    other["experiments"] = {"more": other["experiments"]["tiny"] | {"pairs": [[17, 18]]}}
    Path("config/studies/other.yaml").write_text(yaml.safe_dump(other))
    own.make(own.dense(17))
    authors = Graph(read(Path(), {"study": "tiny", "protocol": "authors-code"}))
    cell = next(iter(authors.config.experiments["tiny"].cells((0.6,), (0,), ("lth",))))
    own.path(cell.run).parent.mkdir(parents=True)
    own.path(cell.run).write_text("{}")
    assert said(capsys, "gc").startswith("0 runs")
    Path("config/studies/broken.yaml").write_text("experiments: 3\n")
    assert "broken" in told(capsys, "gc", "--delete")


# -- words -------------------------------------------------------------------------------------


def test_every_command_takes_the_keys_of_config_yaml_as_snakemake_does(
    own: Tiny, capsys: pytest.CaptureFixture[str]
) -> None:
    own.make(own.dense())
    path = own.dense().path()
    assert "state     done" in said(capsys, "show", path)
    assert "state     missing" in said(capsys, "show", path, "--config", "results=elsewhere")
    text = told(capsys, "table", "table_tiny", "--config", "results=elsewhere", "study=tiny")
    assert "--config study=tiny results=elsewhere" in text
    assert "expected KEY=VALUE, got 'elsewhere'" in told(capsys, "list", "--config", "elsewhere")
    assert "did you mean 'results'" in told(capsys, "list", "--config", "result=x")


def test_what_is_given_on_the_command_line_is_not_blamed_on_a_file(
    own: Tiny, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (
        ["--study", "tinny"], ["--protocol", "papper"], ["--config", "results=a b"],
        ["--config", "device=gpu"],
    ):  # fmt: skip
        assert told(capsys, "list", *words).startswith("error: command line: ")
    Path("config.yaml").write_text(MAIN.replace("study: tiny", "study: tinny"))
    assert told(capsys, "list").startswith("error: config.yaml: unknown study 'tinny'")


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        ("dense/few/resnet20-w0.25/tiny/sed0", "'sed0' is no seed<s>"),
        ("dense/few/resnet20-w0.250/tiny/seed0", "'resnet20-w0.250' is no <model>-w<width>"),
        ("dense/few/resnet20-w0.25/tiny", "seed<s> is missing behind 'tiny'"),
        ("dense/few/resnet20-w0.25/tiny/seed0/more", "'more' is too much"),
        ("dens/few/resnet20-w0.25/tiny/seed0", "neither a table or figure"),
    ],
)
def test_a_wrong_path_is_told_by_its_wrong_part(
    own: Tiny, capsys: pytest.CaptureFixture[str], path: str, fault: str
) -> None:
    assert fault in told(capsys, "show", path)


def test_a_cell_of_an_unknown_key_or_value_is_told_with_what_is_near(
    own: Tiny, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = ["trace", "table_tiny", "--cell"]
    assert "did you mean 'method'" in told(capsys, *trace, "metod=lth")
    assert "did you mean 'naive'" in told(capsys, *trace, "method=naif")


@pytest.mark.parametrize("every", ["-5", "0", "nan", "often"])
def test_watch_refuses_what_is_no_pace(own: Tiny, every: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["watch", "--every", every])
    assert ended.value.code == 2


def test_export_into_a_folder_that_is_not_there_is_refused(
    own: Tiny, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "there is no folder nowhere" in told(capsys, "export", "nowhere/runs.csv")
    assert not Path("nowhere").exists()


# -- a new study, and the tools around ---------------------------------------------------------


def test_a_new_study_is_commented_and_valid_and_named_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("config.yaml", "config"):
        subprocess.run(["cp", "-r", str(REPOSITORY / name), str(tmp_path)], check=True)
    monkeypatch.chdir(tmp_path)
    assert "snakemake -c2 --config study=mine" in said(capsys, "new-study", "mine")
    config = read(Path(), {"study": "mine"})
    demo = Graph(read(Path(), {"study": "demo"}))
    graph = Graph(config)
    runs = graph.closure(graph.outputs(config.outputs))
    assert runs and set(runs) <= set(demo.closure(demo.outputs(demo.config.outputs)))
    text = Path("config/studies/mine.yaml").read_text()
    assert text.count("#") > 12
    assert "is there already" in told(capsys, "new-study", "mine")
    assert Path("config/studies/mine.yaml").read_text() == text
    assert "not allowed" in told(capsys, "new-study", "a/b")
    assert "folder of runs" in told(capsys, "new-study", sorted(RESERVED)[0])


def make(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "-C", str(folder), *words], env=os.environ | variables, capture_output=True,
        text=True, check=False,
    )  # fmt: skip


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What make needs to install, without an environment."""
    for name in ("Makefile", "requirements", "pyproject.toml"):
        subprocess.run(["cp", "-r", str(REPOSITORY / name), str(tmp_path)], check=True)
    return tmp_path


def python(path: Path, version: tuple[int, int]) -> Path:
    """A Python that says that it is of another version."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'#!/bin/sh\nexec {sys.executable} -c "import sys; sys.version_info = {version}\n$2"\n'
    )
    path.chmod(0o755)
    return path


def test_a_python_that_is_too_old_is_told_before_an_environment_is_made(clone: Path) -> None:
    old = python(clone / "old", (3, 10))
    for name in (str(old), "no-such-python"):
        done = make(clone, "install", PYTHON=name)
        assert done.returncode and "older than Python 3.11" in done.stderr
        assert not (clone / ".venv").exists()


def test_an_environment_of_another_version_is_made_anew(clone: Path) -> None:
    python(clone / ".venv/bin/python", (3, 11))
    for name in ("run", "dev"):
        (clone / f".venv/.installed-{name}").touch()
    assert "-m venv" not in make(clone, "-n", "install").stdout
    new = python(clone / "new", (3, 12))
    assert f"{new} -m venv .venv" in make(clone, "-n", "install", PYTHON=str(new)).stdout
    same = python(clone / "same", (3, 11))
    assert "-m venv" not in make(clone, "-n", "install", PYTHON=str(same)).stdout
    python(clone / ".venv/bin/python", (3, 9))
    assert "-m venv .venv" in make(clone, "-n", "install").stdout


def test_make_help_names_every_target() -> None:
    text = (REPOSITORY / "Makefile").read_text()
    (phony,) = re.findall(r"^\.PHONY: (help .*)$", text, re.MULTILINE)
    said = make(REPOSITORY, "help").stdout
    for target in phony.split()[1:]:
        assert re.search(rf"^make {target} +\S", said, re.MULTILINE), target
