"""``show``: one run's settings, ancestors, state with its reason, log and numbers."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml
from small import RECIPES, Tiny, write_study

from pipeline.commands import main, parser
from pipeline.runs import Run


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tiny:
    """A small study of one's own, that may be edited, as the current folder."""
    write_study(tmp_path / "own")
    monkeypatch.chdir(tmp_path / "own")
    return Tiny(Path(), Path("results"))


def shown(run: Run, capsys: pytest.CaptureFixture[str]) -> list[str]:
    capsys.readouterr()
    main(["show", f"results/{run.folder}"])
    return capsys.readouterr().out.splitlines()


def edit(**dense: object) -> None:
    """Change settings of the dense recipe ``tiny``."""
    recipes = yaml.safe_load(RECIPES)
    recipes["dense"]["tiny"] |= dense
    Path("config/recipes.yaml").write_text(yaml.safe_dump(recipes))


def test_a_run_that_is_missing_done_damaged_and_stale(
    own: Tiny, capsys: pytest.CaptureFixture[str]
) -> None:
    run = own.dense()
    lines = shown(run, capsys)
    assert "run       dense seed 0 (resnet20×0.25 on few, tiny)" in lines
    assert "state     missing" in lines and "epochs    4" in lines
    assert "  lr = 0.08" in lines and "numbers" not in lines

    own.make(run)
    log = own.results / "logs" / f"{run.folder}.log"
    log.parent.mkdir(parents=True)
    log.write_text("epoch 1/4\n")
    lines = shown(run, capsys)
    assert "state     done" in lines and f"log       {log}" in lines
    assert any(line.startswith("  test_accuracy = ") for line in lines)

    weights = own.path(run, "weights.safetensors")
    content = weights.read_bytes()
    weights.unlink()
    assert "state     missing: weights.safetensors" in shown(run, capsys)
    weights.write_bytes(content)

    edit(lr=0.04, momentum=0.5)
    lines = shown(run, capsys)
    place = lines.index("state     stale: its settings, or those of a run before it, were changed")
    assert lines[place + 1 : place + 3] == [
        "          recipe.lr: made with the default, now 0.04",
        "          recipe.momentum: made with the default, now 0.5",
    ]
    assert lines[place + 3].startswith("log ")


def test_a_run_is_stale_through_its_parent_and_says_which(
    own: Tiny, capsys: pytest.CaptureFixture[str]
) -> None:
    block = own.block()
    own.make(block)
    edit(lr=0.04)
    lines = shown(block, capsys)
    dense = own.dense().folder
    assert f"          start: from another {dense}" in lines
    assert not any("recipe." in line for line in lines)
    assert f"  stale    results/{dense}" in lines


def test_a_damaged_record_is_refused_in_one_line(
    own: Tiny, capsys: pytest.CaptureFixture[str]
) -> None:
    run = own.dense()
    own.make(run)
    path = own.path(run, "provenance.json")
    path.write_text('{"digest": "0"}')
    with pytest.raises(SystemExit):
        shown(run, capsys)
    text = capsys.readouterr().err
    assert text.startswith(f"error: {path}: damaged; ") and text.count("\n") == 1


def test_help_says_what_how_and_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    from pipeline.commands import COMMANDS

    with pytest.raises(SystemExit):
        main(["--help"])
    whole = capsys.readouterr().out
    for name, module in COMMANDS.items():
        assert re.search(rf"^    {name}\b", whole, re.MULTILINE)
        with pytest.raises(SystemExit):
            main([name, "--help"])
        text = capsys.readouterr().out
        assert f"example:\n  python -m pipeline {module.EXAMPLE}\n" in text
        given = parser().parse_args(shlex.split(module.EXAMPLE, comments=True))
        assert given.command == name
        own = next(a for a in parser()._actions if a.choices).choices[name]  # type: ignore[index]
        silent = [action.dest for action in own._actions if not action.help]
        assert silent == [], f"{name}: {silent} say nothing"
