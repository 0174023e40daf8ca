"""The command that aligns two files of weights: what it writes, and what it refuses."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from small import REPOSITORY, same
from test_alignment import trained

from pipeline import Alignment, align, pruning
from pipeline.artifacts.store import write_tensors
from pipeline.commands import main
from pipeline.data import load
from pipeline.evaluation import Images
from pipeline.models import build
from pipeline.weights import sparse_state

MODEL = "test_alignment:convolutional"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Weights of two networks, those of b as sparse ones are kept; the repository is here."""
    monkeypatch.chdir(REPOSITORY)
    states = [trained("convolutional", seed).state_dict() for seed in (0, 1)]
    write_tensors(tmp_path / "a.safetensors", states[0])
    mask = pruning.full({name: t for name, t in states[1].items() if t.ndim > 1})
    write_tensors(tmp_path / "b.safetensors", sparse_state(states[1], mask))
    return str(tmp_path / "a.safetensors"), str(tmp_path / "b.safetensors")


def call(files: tuple[str, str], output: Path, *more: str) -> None:
    words = ["--model", MODEL, "--data", "digits", "--points", "5", "--output", str(output)]
    main(["align", *files, *words, *more])


def test_it_writes_what_the_library_finds(
    files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call(files, tmp_path / "out", "--matcher", "weights", "--match", "starts=2", "--seed", "3")
    a, b = trained("convolutional", 0), trained("convolutional", 1)
    data = load("digits", "nowhere")
    train, test = (Images(split, data.mean, data.std, 500) for split in (data.train, data.test))
    wanted = align(a, b, train, matcher="weights", starts=2, seed=3)
    found = Alignment.load(tmp_path / "out" / "permutation.safetensors", a, b)
    assert same(found.permutation, wanted.permutation) and found.quality == wanted.quality
    page = (tmp_path / "out" / "report.md").read_text()
    assert page in capsys.readouterr().out
    before, after = (wanted.barrier(test, points=5, permuted=p) for p in (False, True))
    line = next(row for row in page.splitlines() if row.startswith("| none |"))
    assert line.split(" | ")[1:3] == [f"{before:.3f}", f"{after:.3f}"]
    assert [f"| merged, {c} |" in page for c in ("none", "reset", "repair")] == [True] * 3
    groups = re.findall(r"^\| `(.+?)` \| (\d+)", page, re.MULTILINE)
    assert {name: int(size) for name, size in groups} == wanted.spec.sizes


def test_a_built_in_network_goes_by_its_name(files: tuple[str, str], tmp_path: Path) -> None:
    model = build("mlp", width=0.125, classes=10, channels=1, size=8, generator=None)
    state = {name: t.nan_to_num(0.1) for name, t in model.state_dict().items()}
    write_tensors(tmp_path / "mlp.safetensors", state)
    both = [str(tmp_path / "mlp.safetensors")] * 2
    words = ["--model", "mlp", "--with", "width=0.125", "--data", "digits", "--points", "3"]
    main(["align", *both, *words, "--output", str(tmp_path / "out"), "--images", "100"])
    assert "no barrier" in (tmp_path / "out" / "report.md").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--model", "nowhere:network"], "cannot be imported"),
        (["--model", "test_alignment:nothing"], "cannot be imported"),
        (["--model", "resnet21"], "did you mean 'resnet20"),
        (["--model", "mlp"], "does not fit mlp"),
        (["--model", "mlp", "--with", "depth=3"], "takes width alone"),
        (["--with", "depth=3"], "fails"),
        (["--data", "digit"], "--data"),
        (["--matcher", "magic"], "unknown value 'magic'"),
        (["--match", "starts"], "expected KEY=VALUE"),
        (["--match", "starts=no"], "starts"),
        (["--points", "4"], "odd"),
        (["--points", "1"], "3 or more"),
        (["--images", "0"], "1 or more"),
    ],
)
def test_a_mistake_is_told_in_one_line(
    words: list[str], said: str, files: tuple[str, str], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    with pytest.raises(SystemExit) as ended:
        call(files, tmp_path / "out", *words)
    text = capsys.readouterr().err
    assert ended.value.code == 1 and said in text
    assert text.startswith("error: ") and text.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_weights_that_are_not_there_are_told(
    files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        call((files[0], str(tmp_path / "none.safetensors")), tmp_path / "out")
    assert "no such file" in capsys.readouterr().err
