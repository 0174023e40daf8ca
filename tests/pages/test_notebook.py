"""The notebooks of the documentation, executed: on the results of a small study, and without any."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from small import REPOSITORY, Tiny

DOCS = REPOSITORY / "docs"


@pytest.mark.parametrize("path", sorted(DOCS.rglob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_its_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert cell.cell_type != "code" or (not cell.outputs and cell.execution_count is None)


def executed(notebook: nbformat.NotebookNode, monkeypatch: pytest.MonkeyPatch) -> tuple[str, int]:
    """What the cells of a notebook print, and how many pictures they draw."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    resources = {"metadata": {"path": str(DOCS)}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
    outputs = [o for cell in notebook.cells if cell.cell_type == "code" for o in cell.outputs]
    pictures = [o.data["image/png"] for o in outputs if "image/png" in o.get("data", {})]
    assert all(len(picture) > 5000 for picture in pictures)
    return "".join(o.get("text", "") for o in outputs), len(pictures)


def test_the_notebook_of_results_draws_its_figures(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    for method in ("lth", "naive", "permuted"):
        for sparsity in (0.5, 0.6):
            tiny.make(tiny.cell(method, sparsity=sparsity).run)
    notebook = nbformat.read(DOCS / "interop.ipynb", as_version=4)
    (parameters,) = (c for c in notebook.cells if "parameters" in c.metadata.get("tags", ()))
    assert set(parameters.source.split()) >= {"STUDY", "ROOT"}
    parameters.source = f"STUDY, ROOT = 'tiny', {str(tiny.root)!r}"
    assert executed(notebook, monkeypatch)[1] == 2


def test_the_notebook_of_aligning_lowers_the_barrier_and_moves_the_mask(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    notebook = nbformat.read(DOCS / "align.ipynb", as_version=4)
    said, pictures = executed(notebook, monkeypatch)
    (line,) = re.findall(r"barrier of the error: ([\d.]+) points, aligned ([\d.]+)", said)
    before, after = map(float, line)
    assert after < before
    (moved,) = re.findall(r"pruned to 90.0 %, then moved: logits differ by (\S+)", said)
    assert float(moved) < 1e-4 and pictures == 1
