"""The notebook of the documentation, executed on the results of a small study."""

from __future__ import annotations

import nbformat
import pytest
from nbclient import NotebookClient
from small import REPOSITORY, Tiny

NOTEBOOK = REPOSITORY / "docs" / "interop.ipynb"


def test_the_notebook_is_kept_without_its_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert cell.cell_type != "code" or (not cell.outputs and cell.execution_count is None)


def test_the_notebook_draws_its_figures(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    for method in ("lth", "naive", "permuted"):
        for sparsity in (0.5, 0.6):
            tiny.make(tiny.cell(method, sparsity=sparsity).run)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    (parameters,) = (c for c in notebook.cells if "parameters" in c.metadata.get("tags", ()))
    assert set(parameters.source.split()) >= {"STUDY", "ROOT"}
    parameters.source = f"STUDY, ROOT = 'tiny', {str(tiny.root)!r}"
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    resources = {"metadata": {"path": str(NOTEBOOK.parent)}}
    NotebookClient(notebook, timeout=120, kernel_name="python3", resources=resources).execute()
    pictures = [
        output.data["image/png"]
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]
    assert len(pictures) == 2 and all(len(picture) > 5000 for picture in pictures)
