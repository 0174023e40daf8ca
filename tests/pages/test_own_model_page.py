"""The how-to page of a network of one's own, followed from its network to its table and its Python."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from micro import copy_workflow, on_few_images, served
from test_own_model import BLOCKS, NETS


def test_the_how_to_works_as_it_is_written(tmp_path: Path) -> None:
    copy_workflow(tmp_path)
    on_few_images(tmp_path, 256, "dense-tiny", "imp-ft-tiny", "sparse-tiny")
    (tmp_path / "nets.py").write_text(NETS)
    for language, text in BLOCKS:
        if language == "yaml":
            (tmp_path / text.splitlines()[0].removeprefix("# ")).write_text(text)
    variables = served()
    (command,) = (text for language, text in BLOCKS if language == "sh")
    done = subprocess.run(
        command, shell=True, cwd=tmp_path, env=variables, capture_output=True, text=True,
        timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    table = (tmp_path / "results" / "own" / "tables" / "table_small.md").read_text()
    assert "perm." in table and (tmp_path / "results/own/figures/figure_small.png").stat().st_size
    # the pieces of Python after the first, as a reader runs them beside the Snakefile
    rest = "\n".join(text for language, text in BLOCKS if language == "python" and text != NETS)
    check = "\nassert not any(n.training for n in (dense, early, moved, sparse))\n"
    done = subprocess.run(
        [sys.executable, "-c", rest + check], cwd=tmp_path, env=variables, capture_output=True,
        text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    names = re.findall(r"Group\(name='(\w+)'", done.stdout)
    assert names == ["stem", "inner", "hidden"] and done.stdout.endswith("{}\n")
